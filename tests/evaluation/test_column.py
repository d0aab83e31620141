import math
import sqlite3
from types import SimpleNamespace

import numpy as np
import pytest

from mammoprep.errors import MammoprepError
from mammoprep.evaluation import column
from mammoprep.evaluation.cases import Cases
from mammoprep.evaluation.column import Column, blocks
from mammoprep.evaluation.counting import ExactSum
from mammoprep.evaluation.scores import report, score
from mammoprep.evaluation.statistics import intervals
from mammoprep.evaluation.tabulate import tabulate, tabulate_each
from mammoprep.evaluation.tally import tally

MASS = ["mm..", "mm..", "...."]
SHIFTED = [".mm.", ".mm.", "...."]
BLANK = ["....", "....", "...."]


@pytest.fixture
def small(monkeypatch):
    """Let every block be of two rows, and every column a file."""
    monkeypatch.setattr(column, "BLOCK", 2)
    monkeypatch.setattr(column, "_IN_MEMORY", 1)
    monkeypatch.setattr("mammoprep.evaluation.tabulate.BATCH", 3)


@pytest.fixture
def filled(small):
    values = np.arange(21, dtype=np.int16).reshape(7, 3)
    rows = Column(np.int16, (3,))
    for part in (values[:1], values[1:6], values[6:6], values[6:]):
        rows.append(part)
    return rows, values


@pytest.mark.parametrize(
    "index",
    [
        slice(None),
        slice(2, 5),
        slice(5, 2),
        np.array([True, False, False, True, True, False, True]),
        np.zeros(7, dtype=bool),
        (slice(None), 1),
        (slice(1, 4), [0, 2]),
        (np.array([True, False, False, True, True, False, True]), 2),
    ],
)
def test_column_is_indexed_as_an_array(filled, index):
    rows, values = filled
    np.testing.assert_array_equal(rows[index], values[index])
    assert rows[index].dtype == values.dtype
    assert rows[index].shape == values[index].shape


def test_column_is_an_array_to_numpy(filled):
    rows, values = filled
    assert (rows.shape, len(rows), rows.dtype) == ((7, 3), 7, np.int16)
    np.testing.assert_array_equal(np.asarray(rows), values)
    assert np.asarray(rows, np.float64).dtype == np.float64
    assert [(place.start, place.stop) for place in blocks(rows)] == [(0, 2), (2, 4), (4, 6), (6, 7)]
    assert [*blocks(values)] == [*blocks(rows)]


def test_empty_column_has_its_shape():
    rows = Column(np.float64, (2, 2))
    assert rows[:].shape == rows[np.zeros(0, dtype=bool)].shape == (0, 2, 2)
    assert [*blocks(rows)] == []


def test_rows_of_one_number_are_a_flat_column():
    rows = Column(np.uint32)
    rows.append(np.array([5, 6]))
    assert rows[:].tolist() == [5, 6]


def test_sum_of_ious_does_not_hang_on_order_or_grouping():
    """0.1 + 0.2 + 0.3 is another float from the left than from the right."""
    values = np.random.default_rng(0).uniform(0.05, 1, (1000, 2))
    whole, parts = ExactSum((1, 2)), ExactSum((1, 2))
    whole.add(0, values)
    for part in np.array_split(values[::-1], 13):
        parts.add(0, part)
    np.testing.assert_array_equal(whole.total(), parts.total())
    assert whole.total()[0].tolist() == [math.fsum(column) for column in values.T.tolist()]


def test_report_is_the_same_with_small_blocks(write, scene, request):
    """Nine images, in blocks of two rows on disk and batches of three images, give the same JSON."""
    drawn = [(MASS, MASS), (MASS, SHIFTED), (BLANK, MASS), (MASS, BLANK), (SHIFTED, MASS)] * 2
    pair = write(*(scene(*each) for each in drawn[:9]))
    before, found = score(tally(*pair)).to_json(), intervals([tabulate(tally(*pair), matching="paper")], resamples=20)
    request.getfixturevalue("small")
    assert score(tally(*pair)).to_json() == before
    assert intervals([tabulate(tally(*pair), matching="paper")], resamples=20) == found


def test_images_of_a_stream_are_made_once(write, scene):
    """A table is made from them as they come; a second pass finds nothing left."""
    pair = write(*[scene(MASS, SHIFTED)] * 3)
    streamed = tally(*pair, keep=False)
    tables = tabulate_each(streamed, ("one-to-one", "paper"))
    assert [*streamed.images] == []
    for matching, table in tables.items():
        found = report(table, not_given=streamed.not_given, matching=matching)
        assert found.to_json() == score(tally(*pair), matching=matching).to_json()


def test_full_disk_is_one_line(filled, monkeypatch):
    rows, values = filled

    def refuse(content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rows._file, "write", refuse)
    with pytest.raises(MammoprepError, match=r"could not be written: .*No space left.* set TMPDIR"):
        rows.append(values)
    assert len(rows) == len(values)


def test_full_disk_under_the_cases_is_one_line(monkeypatch):
    cases = Cases()
    monkeypatch.setattr(cases, "_base", SimpleNamespace(executemany=_full))
    with pytest.raises(MammoprepError, match="disk is full"):
        cases.add_semantic(["a"])


def _full(*_):
    raise sqlite3.OperationalError("database or disk is full")
