"""PREDICTIONS scored whole, a RUN folder fold by fold, each on its own validation images."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from mammoprep import panoptic
from mammoprep.errors import MammoprepError, MissingFileError
from mammoprep.evaluation import kept, uncertainty
from mammoprep.evaluation.explain import explain
from mammoprep.evaluation.kept import Keeper, Part
from mammoprep.evaluation.marks import knows_truth
from mammoprep.evaluation.matching import Matching
from mammoprep.evaluation.report import Report
from mammoprep.evaluation.scores import over_folds
from mammoprep.evaluation.scores import report as report_of
from mammoprep.evaluation.statistics import RESAMPLES, SEED, intervals
from mammoprep.evaluation.table import Table
from mammoprep.evaluation.tabulate import tabulate_each
from mammoprep.evaluation.tally import tally
from mammoprep.parallel import ONE, Workers


@dataclass(frozen=True, slots=True)
class Options:
    """How predictions are scored; `workers` changes no figure.

    `resamples` patients' bootstraps give the intervals (0: none), `explain` adds `explain_threshold`. With a `keeper`
    finished images outlive this process.
    """

    matching: Matching = "one-to-one"
    missing_as_empty: bool = False
    resamples: int = RESAMPLES
    seed: int = SEED
    explain: bool = False
    workers: Workers = ONE
    keeper: Keeper | None = None


DEFAULTS = Options()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The report, and what it was made from: data set, PREDICTIONS and table of each fold, or of the only part."""

    report: Report
    dataset: Path
    predictions: tuple[Path, ...]
    tables: tuple[Table, ...]


def evaluate(
    source: Path,
    predictions: Path | None = None,
    *,
    on: Path | None = None,
    options: Options = DEFAULTS,
    on_progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score PREDICTIONS for a DATASET, or a RUN on the validation images of each fold that it has predicted.

    `on` is the data set of a RUN where it is not the one that run.json names.
    """
    if predictions is not None:
        if on is not None:
            raise MammoprepError(
                "--on names the data set of a RUN. Beside PREDICTIONS the DATASET is the first argument."
            )
        scored = _evaluate([Part(source, predictions)], options=options, on_progress=on_progress)
        (report, table), *_ = scored
        return _with_intervals(report, source, (predictions,), (table,), options)
    dataset, folds = locate(source, on=on)
    found = evaluate_folds(dataset, folds, options=options, on_progress=on_progress)
    planned = _read_run(source).get("folds")
    absent = set(planned if isinstance(planned, list) else []) - folds.keys()
    reasons = {f"fold {fold}": "the run has no predictions of it" for fold in sorted(absent)}
    return replace(found, report=replace(found.report, not_given={**found.report.not_given, **reasons}))


def evaluate_folds(
    dataset: Path,
    predictions: Mapping[int, Path],
    *,
    options: Options = DEFAULTS,
    on_progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score the PREDICTIONS of each fold for its validation images."""
    parts = [Part(dataset, path, panoptic.load_fold(dataset, fold)[1]) for fold, path in predictions.items()]
    scored = _evaluate(parts, options=options, on_progress=on_progress)
    reports = [replace(report, fold=fold) for fold, (report, _) in zip(predictions, scored, strict=True)]
    tables = tuple(table for _, table in scored)
    return _with_intervals(over_folds(reports), dataset, tuple(predictions.values()), tables, options)


def evaluate_across(
    dataset: Path,
    predictions: Mapping[int, Path],
    *,
    options: Options = DEFAULTS,
    on_progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score the PREDICTIONS of each fold's network for all images of a DATASET that none of them was trained on.

    Lesion classes that the two collections do not share by name count as one. Scores are means over the networks,
    counts sums; `images` and `patients` are those of the data set.
    """
    parts = [Part(dataset, path, across=True) for path in predictions.values()]
    scored = _evaluate(parts, options=options, on_progress=on_progress)
    reports = [replace(report, fold=fold) for fold, (report, _) in zip(predictions, scored, strict=True)]
    whole = replace(over_folds(reports), images=reports[0].images, patients=reports[0].patients)
    return _with_intervals(whole, dataset, tuple(predictions.values()), tuple(table for _, table in scored), options)


def is_other(run: Path, dataset: Path) -> bool:
    """Tell whether a DATASET is another one than a RUN was trained on, and not that one moved."""
    content = _read_run(run)
    trained_on, named = content.get("manifest_sha256"), content.get("dataset")
    if not isinstance(trained_on, str) or (isinstance(named, str) and Path(named).resolve() == dataset.resolve()):
        return False
    manifest, maps = dataset / "manifest.json", dataset / "panoptic.json"
    if not maps.is_file():
        raise MissingFileError(maps, hint="Name a DATASET, as `mammoprep convert` writes it.")
    return panoptic.file_hash(manifest if manifest.is_file() else maps) != trained_on


def locate(run: Path, *, on: Path | None = None) -> tuple[Path, dict[int, Path]]:
    """Give the data set of a RUN, `on` where it was moved, and the predictions of each fold, in their order."""
    content = _read_run(run)
    dataset = on or _dataset(run, content.get("dataset"))
    _check_folds(run, dataset, content.get("folds_sha256"))
    return dataset, _folds(run)


def _evaluate(
    parts: Sequence[Part], *, options: Options, on_progress: Callable[[int, int], None] | None
) -> list[tuple[Report, Table]]:
    journal = options.keeper and options.keeper.begin(parts, {"missing_as_empty": options.missing_as_empty})
    scored = []
    for number, part in enumerate(parts):
        compared = tally(
            part.dataset,
            part.predictions,
            image_ids=part.image_ids,
            missing_as_empty=options.missing_as_empty,
            across=part.across,
            workers=options.workers,
            on_progress=on_progress,
            keep=False,
            skip=kept.count(journal, number) if journal else 0,
        )
        if journal:
            compared = kept.with_kept(compared, journal, number)
        tables = tabulate_each(compared, get_args(Matching) if options.explain else (options.matching,))
        report = report_of(tables[options.matching], not_given=compared.not_given, matching=options.matching)
        scored.append((_completed(report, part, tables, options), tables[options.matching]))
    return scored


def _completed(report: Report, part: Part, tables: Mapping[Matching, Table], options: Options) -> Report:
    """Add what the tables do not say: how maps of uncertainty do, and whether the predictions knew the truth."""
    unsure = uncertainty.score(
        part.dataset,
        part.predictions,
        image_ids=part.image_ids,
        missing_as_empty=options.missing_as_empty,
        across=part.across,
    )
    return replace(
        report,
        scores=replace(report.scores, uncertainty=unsure),
        explained=explain(tables) if options.explain else None,
        knows_truth=knows_truth(part.predictions),
    )


def _with_intervals(
    report: Report, dataset: Path, predictions: tuple[Path, ...], tables: tuple[Table, ...], options: Options
) -> Evaluation:
    if options.resamples:
        found = intervals(tables, resamples=options.resamples, seed=options.seed)
        given = {key: reason for key, reason in report.not_given.items() if key != "intervals"}
        if isinstance(found, str):
            report = replace(report, not_given={**given, "intervals": found})
        else:
            report = replace(report, not_given=given, intervals=found)
    return Evaluation(report, dataset, predictions, tables)


def _read_run(run: Path) -> dict[str, Any]:
    content = panoptic.read_json(run / "run.json", hint="Name a RUN, or a DATASET and its PREDICTIONS.")
    if not isinstance(content, dict):
        raise MammoprepError(f"{run / 'run.json'} was not written by `mammoprep train`. Name its RUN.")
    return content


def _dataset(run: Path, named: Any) -> Path:
    if not isinstance(named, str):
        raise MammoprepError(f"{run / 'run.json'} does not name its data set. Say --on DATASET.")
    if not Path(named).is_dir():
        raise MissingFileError(Path(named), hint=f"{run} was trained on it. Say --on DATASET if it was moved.")
    return Path(named)


def _check_folds(run: Path, dataset: Path, trained_on: Any) -> None:
    """Refuse folds that were made again since: the run would be scored on images that it has seen."""
    path = dataset / "folds.json"
    if trained_on and path.is_file() and panoptic.file_hash(path) != trained_on:
        raise MammoprepError(
            f"{path} is not the one that {run} was trained with. Say --on that data set, or train again."
        )


def _folds(run: Path) -> dict[int, Path]:
    """Find the predictions of each fold, in the order of the folds."""
    numbers = {path: re.fullmatch(r"fold-(\d+)", path.parent.name) for path in run.glob("fold-*/predictions")}
    found = {int(number[1]): path for path, number in numbers.items() if number}
    if not found:
        raise MammoprepError(f"{run} holds no fold-*/predictions. `mammoprep train` writes them at its end.")
    return dict(sorted(found.items()))
