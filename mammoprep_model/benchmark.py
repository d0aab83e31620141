"""Many presets on the same folds for the same time: how many steps each has, and their training one after another."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import ceil
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep_model import provenance, trainer, weights
from mammoprep_model.config import Preset, TrainConfig
from mammoprep_model.log import Step
from mammoprep_model.plan import Session
from mammoprep_model.schedule import needs_loss

NAME = "benchmark.json"
PROBED, WARM = 8, 3
"""Steps that tell a preset's speed, and how many of them are left out, for the first ones are slow."""
_FORWARD = 0.5
"""Share of a training step's time that the loss of as many validation images takes, at most."""


@dataclass(frozen=True)
class Task:
    """What is compared: the folds 0 … `folds` - 1 of a DATASET, and the seconds of training that all presets share."""

    dataset: Path
    out: Path
    folds: int
    seconds: float
    seed: int = 0

    def run(self, name: str, fold: int) -> Path:
        """Give the RUN of a preset and a fold."""
        return self.out / name / f"fold-{fold}"

    def predictions(self, name: str) -> dict[int, Path]:
        """Give the PREDICTIONS of each fold."""
        return {fold: self.run(name, fold) / f"fold-{fold}" / "predictions" for fold in range(self.folds)}


@dataclass(frozen=True)
class Length:
    """How long a preset trains on a fold: its measured seconds a step, the steps of an epoch, and what it was given."""

    seconds_a_step: float
    steps_an_epoch: int
    steps: int


class _Known(Exception):  # noqa: N818, it is no error
    """A preset's speed is known."""


def missing(preset: Preset, places: Mapping[str, str], *, folds: int) -> list[str]:
    """Give the parts of a preset that no place is named of and that the hub's cache lacks; named ones are checked."""
    for part in preset.model.parts:
        if part in places:
            for place in {weights.of_fold(places, fold)[part] for fold in range(folds)}:
                weights.locate(part, {part: place})
    return [part for part in preset.model.parts if part not in places and weights.cached(part) is None]


def begin(task: Task, presets: Mapping[str, Preset], *, session: Session) -> dict[str, Length]:
    """Measure each preset's speed and give it the steps that its share of the time allows; benchmark.json says so.

    With `session.resume` the steps are those chosen then; another task is refused. Raises MammoprepError where a share
    is too short for one epoch.
    """
    header = _header(task, presets)
    path = task.out / NAME
    if session.resume and path.is_file():
        content = panoptic.read_json(path, hint="Leave out --resume to begin.")
        panoptic.refuse_other(content["task"], header, where=task.out)
        return {name: Length(**length) for name, length in content["lengths"].items()}
    if task.out.exists() and (not task.out.is_dir() or any(task.out.iterdir())):
        raise MammoprepError(f"{task.out} is not empty. Say --resume to go on with a benchmark, or name another --out.")
    lengths = {}
    learners = sum(preset.train.steps > 0 for preset in presets.values())
    for name, preset in presets.items():
        if not preset.train.steps:  # it takes no step, whatever time there is
            lengths[name] = Length(0.0, 0, 0)
            continue
        session.note(f"{name}: measuring its speed.")
        lengths[name] = _length(task, preset, share=task.seconds / learners / task.folds, session=session)
    _check(task, lengths)
    with panoptic.writing(task.out):
        task.out.mkdir(parents=True, exist_ok=True)
    panoptic.write_json(path, {"task": header, "lengths": {name: asdict(each) for name, each in lengths.items()}})
    return lengths


def _header(task: Task, presets: Mapping[str, Preset]) -> dict[str, Any]:
    values = {name: {"model": asdict(each.model), "train": asdict(each.train)} for name, each in presets.items()}
    facts = {
        "data": provenance.data_hash(task.dataset),
        "folds_sha256": panoptic.file_hash(task.dataset / "folds.json"),
    }
    return {**facts, "folds": task.folds, "seconds": task.seconds, "seed": task.seed, "models": values}


def _length(task: Task, preset: Preset, *, share: float, session: Session) -> Length:
    """Train a few steps on the first fold and leave nothing of them."""
    train, val = panoptic.load_fold(task.dataset, 0)
    seconds = _speed(task, preset, session=session)
    if needs_loss(preset.train):
        seconds *= 1 + _FORWARD * len(val) / len(train)
    return Length(seconds, ceil(len(train) / preset.train.batch_size), int(share / seconds))


def _speed(task: Task, preset: Preset, *, session: Session) -> float:
    """Give the seconds of a step."""
    taken: list[float] = []

    def see(step: Step) -> None:
        taken.append(preset.train.batch_size / step.images_per_second)
        if len(taken) == PROBED:
            raise _Known

    probe = replace(preset, train=_with_steps(preset.train, 2 * PROBED))
    with TemporaryDirectory() as folder:
        own = replace(_own(session, preset), resume=False, on_step=see, on_predict=None)
        try:
            trainer.train(task.dataset, out=Path(folder) / "run", preset=probe, seed=task.seed, session=own)
        except _Known:
            return median(taken[WARM:])
    raise MammoprepError(f"{preset.name} ended before its speed was known. Give it no early stop: train.early_stop=0.")


def _own(session: Session, preset: Preset) -> Session:
    """Leave the places of parts that a preset has."""
    places = {part: place for part, place in session.weights.items() if part in preset.model.parts}
    return replace(session, weights=places)


def _with_steps(train: TrainConfig, steps: int) -> TrainConfig:
    """Give so many steps, a warm-up of a tenth of them at most, and four checkpoints or more."""
    return replace(
        train,
        steps=steps,
        epochs=0.0,
        warmup_steps=min(train.warmup_steps, steps // 10),
        checkpoint_every=min(train.checkpoint_every, max(1, steps // 4)),
    )


def _check(task: Task, lengths: Mapping[str, Length]) -> None:
    """Refuse a time that is too short for an epoch of each preset."""
    epochs = {name: each.seconds_a_step * each.steps_an_epoch for name, each in lengths.items() if each.steps_an_epoch}
    short = [name for name in epochs if lengths[name].steps < lengths[name].steps_an_epoch]
    if short:
        needed = ceil(max(epochs.values()) * task.folds * len(epochs) / 6) / 10
        told = ", ".join(f"{name} {epochs[name]:.1f} s" for name in short)
        share = task.seconds / len(epochs) / task.folds
        raise MammoprepError(
            f"--budget is too short: it gives each preset {share:.1f} s a fold, and one epoch would take {told}. Say"
            f" --budget {needed:g} or more, or leave presets out."
        )


def train(
    task: Task, presets: Mapping[str, Preset], lengths: Mapping[str, Length], *, sessions: Mapping[str, Session]
) -> None:
    """Train and predict every preset on every fold that is not complete yet, each from its checkpoint if it has one."""
    for name, preset in presets.items():
        long = replace(preset, train=_with_steps(preset.train, lengths[name].steps)) if lengths[name].steps else preset
        for fold in range(task.folds):
            run, session = task.run(name, fold), sessions[name]
            session = replace(_own(session, preset), resume=(run / "run.json").is_file())
            trainer.train(task.dataset, out=run, preset=long, fold=fold, seed=task.seed, session=session)


def check_folds(dataset: Path, folds: int) -> None:
    """Refuse more folds than there are."""
    count = len(panoptic.load_folds(dataset))
    if folds > count:
        raise MammoprepError(f"{dataset / 'folds.json'} has {count} folds, not {folds}. Say --folds {count} or fewer.")
