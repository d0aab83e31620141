"""What a run trains on and writes where: said, and refused where it cannot be, before anything is written."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep.panoptic import Panoptic
from mammoprep_model import checkpoint, provenance, weights
from mammoprep_model.checkpoint import RunConfig
from mammoprep_model.config import Preset
from mammoprep_model.log import Draw, Step
from mammoprep_model.optimizer import with_steps
from mammoprep_model.pretrain import leakage
from mammoprep_model.schedule import needs_loss

Fold = int | Literal["all"]


@dataclass(frozen=True)
class Session:
    """What is said about one call and not about the run: where it computes, how it treats an old RUN, who listens.

    `weights` maps parts to the folders or hub ids that their pretrained weights come from, {fold} the fold's number; so
    many `jobs` are folds trained side by side. `draw` makes the pictures that TensorBoard shows.
    """

    weights: Mapping[str, str] = field(default_factory=dict)
    device: str = "auto"
    resume: bool = False
    overwrite: bool = False
    jobs: int = 1
    draw: Draw | None = None
    on_step: Callable[[Step], None] | None = None
    on_predict: Callable[[int, int, int], None] | None = None
    on_note: Callable[[str], None] | None = None

    def note(self, text: str) -> None:
        """Say something that is no error to whoever listens."""
        if self.on_note:
            self.on_note(text)


DEFAULTS = Session()


@dataclass(frozen=True)
class Job:
    """One fold's training: `run` takes the run's files, `predictions` those of the validation images."""

    config: RunConfig
    run: Path
    predictions: Path
    train_ids: frozenset[int]
    val_ids: frozenset[int]

    @property
    def is_finished(self) -> bool:
        """Tell whether the fold was trained to its end with these settings: predictions are written last."""
        if not (self.predictions / "panoptic.json").is_file():
            return False
        before, now = checkpoint.read_run(self.run).preset, self.config.preset
        return (before.name, before.model, before.train) == (now.name, now.model, now.train)


def check_out(out: Path, *, fold: Fold, session: Session) -> None:
    """Refuse a folder that cannot be resumed, or that would be written over without a word."""
    if session.resume:
        before = checkpoint.read_choices(out).fold
        if before != fold:
            raise MammoprepError(f"{out} was started with --fold {before}, not {fold}. Name another --out.")
    elif (out / "run.json").is_file() and not session.overwrite:
        raise MammoprepError(f"{out} holds a run. Say --resume to continue it, --overwrite to start anew, or --out.")
    else:
        panoptic.check_vacant(out, overwrite=session.overwrite)


def with_places(session: Session, *, out: Path) -> Session:
    """Remember where a resumed run's parts lay, for folds too that it had not reached; places named now go first."""
    if not session.resume:
        return session
    return replace(session, weights={**checkpoint.read_choices(out).weights, **session.weights})


def plan(source: Panoptic, *, out: Path, preset: Preset, fold: Fold, seed: int, session: Session) -> list[Job]:
    """Say what each fold trains on and writes where."""
    count = len(panoptic.load_folds(source.root))
    config = RunConfig(
        preset=preset,
        categories=source.categories,
        dataset=str(source.root),
        data_hash=provenance.data_hash(source.root),
        folds_hash=panoptic.file_hash(source.root / "folds.json"),
        fold=0,
        seed=seed,
        weights=session.weights,
        device=str(checkpoint.pick_device(session.device)),
        versions=provenance.versions(),
        git_commit=provenance.git_commit(),
    )
    jobs = []
    for k in range(count) if fold == "all" else [fold]:
        train_ids, val_ids = (frozenset(ids) for ids in panoptic.load_fold(source.root, k))
        _check_images(source, {*train_ids, *val_ids})
        if needs_loss(preset.train) and not val_ids:
            raise MammoprepError(
                f"{source.root / 'folds.json'}: fold {k} has no validation images, whose loss this training needs."
                " Make the folds again, or say --set train.schedule=milestones --set train.keep=last."
            )
        _check_lesions(source, fold=k, train_ids=train_ids, val_ids=val_ids, validates=preset.train.validate_every > 0)
        run = out / f"fold-{k}" if fold == "all" else out
        resolved = replace(preset, train=with_steps(preset.train, images=len(train_ids)))
        own = replace(config, fold=k, preset=resolved, weights=weights.of_fold(session.weights, k))
        if session.resume:
            _check_same(own, run=run)
        jobs.append(Job(own, run, out / f"fold-{k}" / "predictions", train_ids, val_ids))
    return jobs


def _check_images(source: Panoptic, image_ids: set[int]) -> None:
    unknown = image_ids - {image.id for image in source.images}
    if unknown:
        path = source.root / "folds.json"
        raise MammoprepError(f"{path} names image {min(unknown)}, which panoptic.json lacks. Make the folds again.")


def _check_lesions(
    source: Panoptic, *, fold: int, train_ids: frozenset[int], val_ids: frozenset[int], validates: bool
) -> None:
    """Refuse a fold without a lesion to learn, or without one by which weights could be chosen."""
    path = source.root / "folds.json"
    if train_ids and not _lesions(source, train_ids):
        raise MammoprepError(
            f"{path}: none of the {len(train_ids)} training images of fold {fold} has a lesion, so there is nothing to"
            " learn. Make the folds again, or convert the data set with other labels."
        )
    if validates and not _lesions(source, val_ids):
        raise MammoprepError(
            f"{path}: none of the {len(val_ids)} validation images of fold {fold} has a lesion, so no PQ can choose the"
            " weights. Say --set train.validate_every=0 (and train.patience=0), or make the folds again."
        )


def _lesions(source: Panoptic, image_ids: frozenset[int]) -> set[int]:
    """Give the thing classes that some images show."""
    things = {category.id for category in source.things}
    segments = (segment for image in source.images if image.id in image_ids for segment in image.segments)
    return {segment.category_id for segment in segments if not segment.iscrowd} & things


def remarks(source: Panoptic, jobs: Sequence[Job]) -> list[str]:
    """Say which lesion classes a fold cannot learn, which folds cannot be scored, and whose scores are flattered."""
    found = []
    for job in jobs:
        shown = _lesions(source, job.train_ids)
        unseen = ", ".join(category.name for category in source.things if category.id not in shown)
        if unseen:
            found.append(f"Fold {job.config.fold}: no training image shows {unseen}, which will not be learnt.")
        if not _lesions(source, job.val_ids):
            found.append(f"Fold {job.config.fold}: no validation image has a lesion, so PQ and AP say nothing of it.")
        config = job.config
        found += leakage.remarks(
            config.weights, data_hash=config.data_hash, folds_hash=config.folds_hash, fold=config.fold
        )
    return found


def _check_same(config: RunConfig, *, run: Path) -> None:
    """Refuse to resume with another model or other data."""
    if not (run / "run.json").is_file():  # a fold that `all` had not reached
        return
    before = checkpoint.read_run(run)
    checkpoint.check_categories(before, config.categories, where=Path(config.dataset))
    compared = {
        "model": (before.preset.name, config.preset.name),
        "model setting": (before.preset.model, config.preset.model),
        "seed": (before.seed, config.seed),
        "fold": (before.fold, config.fold),
        "data set": (before.data_hash, config.data_hash),
        "folds.json": (before.folds_hash, config.folds_hash),
    }
    for name, (old, new) in compared.items():
        if old != new:
            raise MammoprepError(f"{run} was started with another {name}. Repeat that one, or name another --out.")
    versions = [{"versions": {**each.versions, "gpu": ""}} for each in (before, config)]
    panoptic.refuse_other(*versions, where=run)


def begin(out: Path, jobs: Sequence[Job], *, fold: Fold, session: Session) -> None:
    """Make room for a new run; the run.json of all folds lists them."""
    if not session.resume:
        panoptic.discard(out)
    if fold == "all":
        with panoptic.writing(out):
            out.mkdir(parents=True, exist_ok=True)
        checkpoint.write_folds(out, replace(jobs[0].config, weights=session.weights), folds=len(jobs))


def open_run(job: Job) -> None:
    """Write run.json; predictions of an earlier state go, so that those present are always the run's last word.

    What a killed process was writing beside goes too.
    """
    panoptic.discard(job.predictions)
    with panoptic.writing(job.run):
        job.run.mkdir(parents=True, exist_ok=True)
        for path in (*job.run.glob("*.partial"), *job.run.glob("validation-*")):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    checkpoint.write_run(job.run, job.config)
