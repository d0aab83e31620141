import csv
import json
import re
import shutil
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest

from mammoprep.errors import MammoprepError
from mammoprep.evaluation.compare import MEASURES, Cell, Comparison, Difference, Row, compare, published_rows
from mammoprep.evaluation.layout import as_csv, as_latex, as_markdown
from mammoprep.evaluation.results import Result
from mammoprep.evaluation.runs import Options, evaluate
from mammoprep.evaluation.statistics import samples
from mammoprep.panoptic import make_categories

BLANK = ["....."] * 5
SQUARE = ["mmmm.", "mmmm.", "mmmm.", "mmmm.", "....."]
QUARTERS = ["mmnn.", "mmnn.", "oopp.", "oopp.", "....."]


def part(pixels):
    """Draw the first pixels of the square: IoU pixels / 16."""
    row = iter("m" * pixels + "." * (16 - pixels))
    return ["".join(next(row) for _ in range(4)) + "." for _ in range(4)] + BLANK[:1]


@pytest.fixture
def written(write, scene):
    """Write squares as truth and a drawing each as prediction, a patient each; give DATASET and PREDICTIONS."""

    def write_squares(drawn, patients):
        dataset, predictions = write(*(scene(SQUARE, predicted) for predicted in drawn))
        rows = [f"case-{n},{patient}" for n, patient in enumerate(patients[: len(drawn)], start=1)]
        (dataset / "cases.csv").write_text("\n".join(["image_id,patient_id", *rows, ""]))
        return dataset, predictions

    return write_squares


@pytest.fixture
def result(written):
    """Give the result of predictions; each image is a patient's own unless said."""

    def result_of(title, *drawn, patients="abcdefgh", matching="one-to-one", gone=None):
        dataset, predictions = written(drawn, patients)
        if gone:
            shutil.rmtree(predictions / gone)
        return scored(title, dataset, predictions, matching=matching)

    return result_of


def scored(title, *source, matching="one-to-one"):
    found = evaluate(*source, options=Options(matching=matching, resamples=0))
    return Result(title, found.report.to_json(), matching, found.tables)


@pytest.fixture
def runs(written, tmp_path):
    """Give a RUN of two folds for each list of four drawings: images 1 and 3 are validated in fold 0, 2 and 4 in 1."""

    def runs_of(*systems):
        for number, drawn in enumerate(systems):
            dataset, predictions = written(drawn, "abcd")
            folds = [{"train": [2, 4], "val": [1, 3]}, {"train": [1, 3], "val": [2, 4]}]
            (dataset / "folds.json").write_text(json.dumps({"k": 2, "folds": folds}))
            run = tmp_path / f"run-{number}"
            for fold in range(2):
                shutil.copytree(predictions, run / f"fold-{fold}" / "predictions")
            (run / "run.json").write_text(json.dumps({"dataset": str(dataset), "folds": [0, 1]}))
            yield scored(run.name, run)

    return lambda *systems: list(runs_of(*systems))


def difference(comparison, measure="PQ"):
    return next(d for d in comparison.differences if d.measure == measure)


def values(comparison, measure):
    return [(row.title, row.cells[measure].value, row.cells[measure].best) for row in comparison.rows]


def test_rows_and_best_by_hand(result):
    """A finds one of two squares: RQ 1/1.5, SQ 1; B both, with IoU 1/2 and 1/4: RQ 1, SQ and PQ 3/8.

    Of 32 pixels A has 16, B 12: Dice 32/48 and 24/44. AP counts both of B at IoU 0.1, half of A's.
    """
    found = compare([result("A", part(16), BLANK), result("B", part(8), part(4))], resamples=0)
    assert (found.threshold, found.images) == (0.1, 2)
    expected = {"RQ": (2 / 3, 1), "SQ": (1, 3 / 8), "PQ": (2 / 3, 3 / 8), "AP": (51 / 101, 1), "Dice": (2 / 3, 24 / 44)}
    for measure, (of_a, of_b) in expected.items():
        ours = [("A", pytest.approx(of_a), of_a > of_b), ("B", pytest.approx(of_b), of_b > of_a)]
        assert values(found, measure) == ours


def test_threshold_chooses_the_level(result):
    found = compare([result("A", part(8)), result("B", part(4))], threshold=0.25, resamples=0)
    assert values(found, "PQ") == [("A", 0.5, True), ("B", 0.0, False)]


def test_nothing_found_is_nobodys_best(result):
    found = compare([result("A", part(4)), result("B", part(4))], threshold=0.25, resamples=0)
    assert values(found, "PQ") == [("A", 0.0, False), ("B", 0.0, False)]


def test_same_titles_are_numbered(result):
    found = compare([result("A", part(8)), result("B", part(8)), result("A", part(4))], resamples=0)
    assert [row.title for row in found.rows] == ["A (1)", "B", "A (3)"]


def test_who_knew_the_truth_is_marked_and_rivals_only_its_like(result):
    """Its 16 of 16 pixels win nothing beside another's 4 of 16; among its like the better one wins."""
    better, worse = result("prompted", SQUARE), result("found", part(4))
    told = replace(better, scores={**better.scores, "knows_truth": True})
    comparison = compare([told, worse], resamples=0)
    assert [row.title for row in comparison.rows] == ["prompted †", "found"]
    assert [row.cells["PQ"].best for row in comparison.rows] == [False, True]
    assert comparison.to_json()["footnote"].startswith("† Predicted with prompts from the ground truth")
    assert "† Predicted with prompts" in as_markdown(comparison)
    assert "prompted $\\dagger$ &" in as_latex(comparison)
    assert comparison.rows[0].knows_truth
    assert [line["knows_truth"] for line in csv.DictReader(StringIO(as_csv(comparison)))] == ["1", "0"]
    alike = compare([told, replace(worse, scores={**worse.scores, "knows_truth": True})], resamples=0)
    assert [row.cells["PQ"].best for row in alike.rows] == [True, False]
    assert compare([better, worse], resamples=0).footnote is None


def test_difference_is_value_minus_value_of_the_first(result):
    drawn = {"A": (part(16), part(4), BLANK), "B": (part(8), part(8), part(8)), "C": (BLANK, part(12), QUARTERS)}
    found = compare([result(title, *maps) for title, maps in drawn.items()], resamples=20)
    first, *others = found.rows
    assert [(d.title, d.measure, d.value) for d in found.differences] == [
        (row.title, m, row.cells[m].value - first.cells[m].value) for row in others for m in MEASURES
    ]
    assert difference(found).value == pytest.approx(0.5 - 1.25 / 2.5)


def test_identical_results_differ_by_nothing_and_are_both_the_best(result):
    found = compare([result(title, part(16), part(4), BLANK) for title in "AB"], resamples=200)
    assert values(found, "PQ") == [("A", 0.5, True), ("B", 0.5, True)]
    assert [(d.value, d.low, d.high, d.clear) for d in found.differences] == [(0.0, 0.0, 0.0, False)] * 5


def test_better_for_every_patient_is_clearly_better(result):
    worse, better = (part(8), part(4), part(6), part(12)), (part(12), part(8), part(7), part(16))
    found = compare([result("A", *worse), result("B", *better)])
    assert difference(found).low > 0
    assert difference(found).clear


def test_interval_of_two_patients_by_hand(result):
    """Drawn are a twice, b twice or both: B minus A is then -1/4, 1/2 or 1/8, the first two a quarter of the time."""
    found = difference(compare([result("A", part(8), part(4)), result("B", part(4), part(12))]))
    assert (found.low, found.value, found.high, found.clear) == (-0.25, 0.125, 0.5, False)


def test_patients_are_drawn_alike_for_both(result):
    """A scores 1 and 1/2, B 3/16 less of each: however they are drawn, B is 3/16 below."""
    found = difference(compare([result("A", part(16), part(8)), result("B", part(13), part(5))]))
    assert [found.value, found.low, found.high] == pytest.approx([-3 / 16] * 3)


def test_images_of_one_patient_are_drawn_together(result):
    """B is better on one image and worse on the other of each patient: by patient nothing ever differs."""
    worse, better = (part(8), part(12), part(8), part(12)), (part(12), part(8), part(12), part(8))
    together, apart = (
        difference(compare([result("A", *worse, patients=of), result("B", *better, patients=of)]))
        for of in ("aabb", "abcd")
    )
    assert (together.low, together.high) == (0, 0)
    assert apart.low < 0 < apart.high


SYSTEMS = ([part(16), part(4), BLANK, QUARTERS], [part(8), part(8), part(12), part(3)])


@pytest.mark.parametrize("seed", [0, 7])
def test_interval_is_that_of_the_subtracted_samples(result, runs, seed):
    """Of one part, and of two folds, in each of which patients are drawn apart."""
    for pair in ([result(title, *maps) for title, maps in zip("AB", SYSTEMS, strict=True)], runs(*SYSTEMS)):
        found = compare(pair, threshold=0.25, resamples=100, seed=seed)
        drawn = [samples(side.tables, resamples=100, seed=seed) for side in pair]
        for measure in MEASURES:
            key, place = (("dice", "pooled"), ...) if measure == "Dice" else (("sweep", measure), (slice(None), 4))
            expected = np.percentile(drawn[1][key][place] - drawn[0][key][place], (2.5, 97.5))
            assert [difference(found, measure).low, difference(found, measure).high] == pytest.approx(expected)


def test_folds_give_mean_and_deviation(runs):
    """A: PQ of the folds 1/1.5 (one found, one missed) and (1/4 + 1/4)/3.5; B: 5/8 and (8 + 3)/16/2."""
    found = compare(runs(*SYSTEMS), resamples=10)
    for row, scores in zip(found.rows, ((1 / 1.5, 0.5 / 3.5), (5 / 8, 11 / 32)), strict=True):
        assert row.cells["PQ"].value == pytest.approx(np.mean(scores))
        assert row.cells["PQ"].std == pytest.approx(np.std(scores, ddof=1))
    assert found.images == 4


def test_measure_that_is_not_given_is_none(result):
    given, without = result("A", part(8), part(4)), result("B", part(12), part(8), gone="semantic")
    found = compare([given, without], resamples=10)
    assert values(found, "Dice") == [("A", 24 / 44, True), ("B", None, False)]
    assert difference(found, "Dice") == Difference("B", "Dice", None, None, None)
    assert difference(found, "PQ").value == pytest.approx(0.25)
    assert json.loads(json.dumps(found.to_json()))["results"][1]["Dice"] == {"value": None, "std": None, "best": False}


@pytest.mark.parametrize(("of", "reason"), [("", "cases.csv does not"), ("aa", "a bootstrap"), ("ab", "--resamples 0")])
def test_without_resamples_a_reason_is_given(result, of, reason):
    pair = [result(t, part(8), part(4), patients=of or ["", ""]) for t in "AB"]
    found = compare(pair, resamples=0 if of == "ab" else 10)
    assert (found.differences, found.to_json()["not_given"]) == ((), {"differences": found.reason})
    assert found.reason.startswith(reason)


def test_results_that_are_not_alike_are_refused(result, runs):
    first, run = result("A", part(8), part(4), part(8), part(4)), runs(SYSTEMS[0])[0]
    swapped = replace(run, title="swapped", tables=run.tables[::-1])
    renamed = replace(first.tables[0], categories=make_categories(["mass", "distortion"], ["background"]))
    pairs = {
        "images": (first, result("B", part(8), part(4))),
        "patients": (first, result("B", part(8), part(4), part(8), part(4), patients="abca")),
        "matching": (first, result("B", part(8), part(4), part(8), part(4), matching="paper")),
        "classes": (first, replace(first, title="B", tables=(renamed,))),
        "folds": (run, swapped),
    }
    for what, (one, other) in pairs.items():
        with pytest.raises(MammoprepError, match=f"^{one.title} and {other.title} were scored on other {what}. "):
            compare([one, other])
    with pytest.raises(MammoprepError, match="^A and run-0 were scored on other folds"):
        compare([first, first, run])


def test_one_result_is_refused(result):
    with pytest.raises(MammoprepError, match="One result cannot be compared"):
        compare([result("A", part(8))])


@pytest.mark.parametrize("threshold", [0.07, 0.0, 0.95, float("nan")])
def test_threshold_off_the_sweep_is_refused(result, threshold):
    with pytest.raises(MammoprepError, match="is not of the sweep"):
        compare([result("A", part(8)), result("B", part(8))], threshold=threshold)


def test_published_rows_are_those_of_the_paper(result):
    """They are never the best, though 25.44 % is more than our 3/16."""
    found = compare([result("A", QUARTERS), result("B", part(3))], resamples=0, published="cdd-cesm")
    row = next(row for row in found.published if row.title == "M-ODISE")
    assert row.cells["PQ"] == Cell(pytest.approx(0.2544), pytest.approx(0.0187))
    assert (row.source, row.threshold) == ("arXiv 2407.14326", 0.1)
    assert not any(cell.best for row in found.published for cell in row.cells.values())
    assert values(found, "PQ")[1] == ("B", 3 / 16, True)


def test_published_rows_have_what_the_source_gives():
    row = next(row for row in published_rows("cbis-ddsm") if row.title == "SAM-FT †")
    assert (row.cells["Dice"], row.cells["PQ"], row.threshold) == (Cell(pytest.approx(0.3984)), Cell(None), None)


@pytest.mark.parametrize(("name", "hint"), [("cdd-cesn", "'cdd-cesm'?"), ("x", "Known: cdd-cesm, vindr, cbis-ddsm.")])
def test_unknown_published_data_set_names_the_nearest(name, hint):
    with pytest.raises(MammoprepError, match=re.escape(hint)):
        published_rows(name)


def row_of(title, scores, std=None, best=(), **origin):
    return Row(title, {m: Cell(v, std, m in best) for m, v in zip(MEASURES, scores, strict=True)}, **origin)


OURS = (
    row_of("base_1 & 50%", (0.5, 0.25, 0.125, 0.75, None), best=("RQ", "AP")),
    row_of("new|{x}", (0.25, 1 / 3, 0.5, 0.5, None), std=0.0125, best=("SQ", "PQ")),
)
PAPERS = (row_of("M_ODISE", (0.9, None, 0.8, 0.7, 0.6), std=0.1, source="arXiv", threshold=0.1),)
CHANGED = ((-0.25, -0.3, -0.2), (1 / 12, -0.1, 0.2), (0.375, 0.0, 0.5), (-0.25, None, None), (None, None, None))
CHANGES = ["-25.00 [-30.00, -20.00] *", "+8.33 [-10.00, +20.00]", "+37.50 [+0.00, +50.00]", "-25.00", "–"]
DIFFERENCES = tuple(Difference("new|{x}", measure, *each) for measure, each in zip(MEASURES, CHANGED, strict=True))
WRITTEN = Comparison(0.25, 3, OURS, PAPERS, DIFFERENCES, reason=None)


def test_csv_reads_back_to_the_numbers():
    lines = list(csv.DictReader(StringIO(as_csv(WRITTEN))))
    heads = [("base_1 & 50%", "", "0.25"), ("new|{x}", "", "0.25"), ("M_ODISE", "arXiv", "0.1")]
    assert [(line["name"], line["source"], line["threshold"]) for line in lines] == heads
    none = [(None, None, None)] * 5
    for line, row, changed in zip(lines, (*OURS, *PAPERS), (none, CHANGED, none), strict=True):
        for measure, change in zip(MEASURES, changed, strict=True):
            texts = [line[f"{measure}{ending}"] for ending in ("", "_std", "_diff", "_diff_low", "_diff_high")]
            expected = [row.cells[measure].value, row.cells[measure].std, *change]
            assert [float(text) if text else None for text in texts] == expected


def test_markdown_has_the_best_in_bold_and_the_published_apart():
    ours, rest = as_markdown(WRITTEN).split("\n\narXiv, IoU 0.10, published: ")
    published, differences = rest.split("\n\nminus base_1 & 50%, percentage points, ")
    assert ours.splitlines()[2:] == [
        "|  | RQ | SQ | PQ | AP | Dice |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| base_1 & 50% | **50.00** | 25.00 | 12.50 | **75.00** | – |",
        "| new\\|{x} | 25.00 ± 1.25 | **33.33 ± 1.25** | **50.00 ± 1.25** | 50.00 ± 1.25 | – |",
    ]
    assert published.endswith("\n| M_ODISE | 90.00 ± 10.00 | – | 80.00 ± 10.00 | 70.00 ± 10.00 | 60.00 ± 10.00 |")
    assert differences.splitlines()[-1] == f"| new\\|{{x}} | {' | '.join(CHANGES)} |"


def test_latex_is_escaped_and_balanced():
    text = as_latex(WRITTEN)
    lines = [line for line in text.splitlines() if line.endswith("\\\\") and "multicolumn" not in line]
    assert text.count("\\begin{tabular}{lrrrrr}") == text.count("\\end{tabular}") == 1
    assert text.count("{") - text.count("\\{") == text.count("}") - text.count("\\}")
    assert [len(re.findall(r"(?<!\\)&", line)) for line in lines] == [5] * 5
    assert lines[1] == "base\\_1 \\& 50\\% & \\textbf{50.00} & 25.00 & 12.50 & \\textbf{75.00} & -- \\\\"
    assert "new|\\{x\\} & 25.00 $\\pm$ 1.25 & \\textbf{33.33 $\\pm$ 1.25}" in lines[2]
    signed = (
        " & ".join(CHANGES).replace("–", "--").replace(" -2", " $-$2").replace("[-", "[$-$").replace(", -", ", $-$")
    )
    assert lines[3].replace("& $-$25.00 [", "& -25.00 [") == f"new|\\{{x\\}} & {signed} \\\\"
    assert lines[4].startswith("M\\_ODISE & 90.00 $\\pm$ 10.00 & -- & ")
    assert re.search(r"minus base\\_1 \\& 50\\%, percentage points", text)
    assert text.isascii()


@pytest.mark.parametrize("wrong", ["x", [], {}, True, None])
def test_scores_that_are_damaged_are_one_line(result, wrong):
    first, second = result("first", part(8)), result("second", part(8))
    second.scores["sweep"] = {"PQ": wrong}
    with pytest.raises(MammoprepError, match=r"second: scores.json is damaged"):
        compare([first, second], threshold=0.5, resamples=0)
