"""What the training of a RUN came to, from its files: whether it is finished, its parameters, memory and seconds."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep_model import checkpoint


@dataclass(frozen=True)
class Cost:
    """What a fold's training took: trained parameters, the peak of GPU memory in MiB (None on a CPU), seconds of steps.

    `parameters` is None where an earlier version wrote the RUN.
    """

    parameters: int | None
    gpu_memory: float | None
    seconds: float


def of_run(run: Path) -> Cost:
    """Give what the RUN of one fold took."""
    config = checkpoint.read_run(run)
    rows = _log(run / "log.csv")
    memory = max((float(row["peak_memory_mib"]) for row in rows), default=None)
    return Cost(
        parameters=config.trained_parameters,
        gpu_memory=memory if config.device.startswith("cuda") else None,
        seconds=sum(config.preset.train.batch_size / float(row["images/s"]) for row in rows),
    )


def of_folds(costs: Sequence[Cost]) -> Cost:
    """Give the parameters of a network, the largest memory and the mean seconds of several folds."""
    memories = [cost.gpu_memory for cost in costs if cost.gpu_memory is not None]
    return Cost(costs[0].parameters, max(memories, default=None), fmean(cost.seconds for cost in costs))


def _log(path: Path) -> list[Mapping[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows: list[Mapping[str, str]] = list(csv.DictReader(file))
    if any(not row.get("images/s") or not row.get("peak_memory_mib") for row in rows):
        raise MammoprepError(f"{path} is no log of `mammoprep train`: a row lacks images/s or peak_memory_mib.")
    return rows


def finished_folds(run: Path) -> dict[int, Path]:
    """Give the RUN of each fold of a RUN; one that is not finished is an error."""
    hint = f"End it first: mammoprep train DATASET --out {run} --resume."
    content = panoptic.read_json(run / "run.json", hint="Name a RUN of `mammoprep train`.")
    if checkpoint.read_choices(run).fold != "all":
        parts = {checkpoint.read_run(run).fold: run}
    else:
        parts = {fold: run / f"fold-{fold}" for fold in content["folds"]}
    for fold, part in parts.items():
        places = (part / f"fold-{fold}" / "predictions", part / "predictions")
        if not any((place / "panoptic.json").is_file() for place in places):
            raise MammoprepError(f"{run} is not finished: fold {fold} has not been trained to its end. {hint}")
    return parts
