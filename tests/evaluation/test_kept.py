"""An evaluation that was killed goes on where it was, to the same figures; other inputs are refused by name."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep.evaluation import kept, results, runs
from mammoprep.evaluation.kept import Part
from mammoprep.evaluation.runs import Options, evaluate
from mammoprep.evaluation.tabulate import tabulate
from mammoprep.evaluation.tally import tally

BLANK = ["....", "....", "...."]
LESION = ["mm..", "mm..", "...."]
SHIFTED = [".mm.", ".mm.", "...."]


class Stop(KeyboardInterrupt):
    """A Ctrl-C that no test run takes for its own."""


@pytest.fixture
def pair(write, scene):
    """Twenty images: hit, shifted, missed, falsely found, and so on; two calls' worth."""
    shown = [(LESION, LESION), (LESION, SHIFTED), (LESION, BLANK), (BLANK, LESION)]
    return write(*(scene(*each) for each in itertools.islice(itertools.cycle(shown), 20)))


def arrays(table):
    named = [*results._arrays_of(table)]
    return {name: np.asarray(values[:] if len(np.shape(values)) else values).tolist() for name, values in named}


def test_a_tally_comes_back_to_the_last_digit(pair):
    whole = tally(*pair)
    back = replace(whole, images=[kept.from_json(kept.to_json(image)) for image in whole.images])
    assert repr(arrays(tabulate(back, matching="paper"))) == repr(arrays(tabulate(whole, matching="paper")))


def stopped(pair, out, *, after=16):
    """Stop an evaluation after so many images."""

    def report(done, total):
        if done > after:
            raise Stop

    with pytest.raises(Stop), kept.keeping(out, resume=False) as keeper:
        evaluate(*pair, options=Options(keeper=keeper, resamples=0), on_progress=report)


def test_what_is_kept_is_not_compared_again(pair, tmp_path, monkeypatch):
    whole = evaluate(*pair, options=Options(resamples=20))
    stopped(pair, tmp_path / "out")
    asked = []
    monkeypatch.setattr(runs, "tally", lambda *paths, **named: asked.append(named["skip"]) or tally(*paths, **named))
    with kept.keeping(tmp_path / "out", resume=True) as keeper:
        found = evaluate(*pair, options=Options(keeper=keeper, resamples=20))
    assert asked == [16]
    assert found.report.to_json() == whole.report.to_json()
    assert repr(arrays(found.tables[0])) == repr(arrays(whole.tables[0]))
    assert not panoptic.lock_of(tmp_path / "out").exists()


def test_without_resume_it_begins_anew(pair, tmp_path):
    stopped(pair, tmp_path / "out")
    with kept.keeping(tmp_path / "out", resume=False) as keeper:
        assert kept.count(keeper.begin([Part(*pair)], {}), 0) == 0


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (lambda truth, guess: (guess / "semantic" / "case-3.png").unlink(), "parts 0 predictions semantic/ = "),
        (lambda truth, guess: (guess / "instances.json").write_text("[]"), r"parts 0 predictions instances\.json = "),
        (lambda truth, guess: (truth / "cases.csv").write_text(""), r"parts 0 dataset cases\.csv = \w+, now e3b0c442"),
    ],
)
def test_inputs_that_changed_are_refused_by_name(pair, tmp_path, change, difference):
    stopped(pair, tmp_path / "out")
    change(*pair)
    with pytest.raises(MammoprepError, match=difference), kept.keeping(tmp_path / "out", resume=True) as keeper:
        evaluate(*pair, options=Options(keeper=keeper, resamples=0))


def test_another_option_is_refused_by_name(pair, tmp_path):
    stopped(pair, tmp_path / "out")
    options = Options(missing_as_empty=True, resamples=0)
    with (
        pytest.raises(MammoprepError, match="options missing_as_empty = False, now True"),
        kept.keeping(tmp_path / "out", resume=True) as keeper,
    ):
        evaluate(*pair, options=replace(options, keeper=keeper))


def test_a_second_evaluation_into_the_same_folder_is_refused(tmp_path):
    with (
        kept.keeping(tmp_path / "out", resume=False),
        pytest.raises(MammoprepError, match=r"Another process is writing \S+/out\."),
        kept.keeping(tmp_path / "out", resume=True),
    ):
        pass


def test_an_error_before_the_first_image_leaves_nothing(pair, tmp_path):
    (pair[1] / "panoptic.json").write_text("{")
    with pytest.raises(MammoprepError), kept.keeping(tmp_path / "out", resume=False) as keeper:
        evaluate(*pair, options=Options(keeper=keeper))
    assert not panoptic.lock_of(tmp_path / "out").exists()
