"""Train any Segmenter on a fold: a loop to read from top to bottom; it stops and resumes without a trace."""

import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Literal

import torch
from torch import nn

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep.panoptic import Panoptic
from mammoprep_model import caches, checkpoint, data, inference, provenance, settings
from mammoprep_model.checkpoint import RunConfig
from mammoprep_model.config import Preset
from mammoprep_model.interrupts import Stopped, stop_requests
from mammoprep_model.log import Log, PeakMemory, Step
from mammoprep_model.optimizer import Average, learning_rate, make_optimizer, set_rate, with_steps
from mammoprep_model.segmenter import Batch, Segmenter
from mammoprep_model.validation import Validation

Fold = int | Literal["all"]


@dataclass(frozen=True)
class Session:
    """What is said about one call and not about the run: where it computes, how it treats an old RUN, who listens.

    `weights` maps parts to the folders or hub ids that their pretrained weights come from.
    """

    weights: Mapping[str, str] = field(default_factory=dict)
    device: str = "auto"
    resume: bool = False
    overwrite: bool = False
    on_step: Callable[[Step], None] | None = None
    on_predict: Callable[[int, int], None] | None = None
    on_note: Callable[[str], None] | None = None


@dataclass(frozen=True)
class _Job:
    """One fold's training: `run` takes the run's files, `predictions` those of the validation images."""

    config: RunConfig
    run: Path
    predictions: Path
    train_ids: frozenset[int]
    val_ids: frozenset[int]


def train(
    dataset: Path, *, out: Path, preset: Preset, fold: Fold = 0, seed: int = 0, session: Session = Session()
) -> Path:
    """Train on a fold of a DATASET, predict its validation images, and give the RUN folder.

    One fold: `out` holds run.json, model.safetensors, state.pt and log.csv, and `out/fold-<k>/predictions`.
    `all`: each `out/fold-<k>` holds those four files and predictions/; `out/run.json` lists the folds.
    With `session.resume` a run goes on as if it had never stopped; only `preset.train` may differ from its start.

    Raises `Stopped` after Ctrl-C or SIGTERM, `MammoprepError` where the loss is no longer finite.
    """
    settings.check(preset.train)
    if preset.train.cpu_threads:
        torch.set_num_threads(preset.train.cpu_threads)
    source = panoptic.load(dataset)
    _check_out(out, fold=fold, session=session)
    jobs = _plan(source, out=out, preset=preset, fold=fold, seed=seed, session=session)
    for job in jobs:
        if session.resume and _is_finished(job):
            continue
        images = data.TrainingImages(source, image_ids=job.train_ids, config=job.config.preset.train, seed=seed)
        network = checkpoint.untrained(job.config)
        if job is jobs[0] and not session.resume:
            shutil.rmtree(out, ignore_errors=True)
        _open_run(job, out=out, folds=len(jobs))
        validation = Validation(source, job.val_ids, config=job.config, run=job.run)
        _fit(network, images, validation, job=job, session=session)
        inference.predict(
            network,
            data.pictures(source, job.val_ids),
            out=job.predictions,
            config=job.config,
            options=inference.Options(on_progress=session.on_predict),
        )
    return out


def _fit(
    network: Segmenter, images: data.TrainingImages, validation: Validation, *, job: _Job, session: Session
) -> None:
    """Run the steps that are left, from the run's checkpoint where there is one; leave the weights that predict."""
    config, device = job.config.preset.train, job.config.device
    module = checkpoint.module_of(network).train()
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = make_optimizer(module, config)
    average = Average(module, decay=config.ema) if config.ema else None
    kept = _Kept(network, optimizer, average, validation)
    step, position = _restore(kept, run=job.run) if session.resume else (0, 0)
    left = 0 if validation.is_over else config.steps - step
    starts = range(position, position + left * config.batch_size, config.batch_size)
    memory, cache = PeakMemory(device), _open_cache(network, len(images), job=job, session=session)
    with stop_requests() as is_stopping, Log(job.run, after=step) as log:
        begun = perf_counter()
        for batch in data.stream(images, starts, then=cache.read):
            step += 1
            set_rate(optimizer, learning_rate(step, config))
            with _autocast(job.config):
                losses = network.loss(cache.fill(batch.to(device)))
            total = torch.stack([*losses.values()])
            values = dict(zip(losses, total.tolist(), strict=True))
            _check_finite(values, step=step, batch=batch, run=job.run)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(total.sum())
            norm = nn.utils.clip_grad_norm_(trained, config.clip_norm)
            _check_finite({"gradient": float(norm)}, step=step, batch=batch, run=job.run)
            optimizer.step()
            if average:
                average.update()

            position += config.batch_size
            begun, seconds = perf_counter(), perf_counter() - begun
            report = Step(
                fold=job.config.fold,
                number=step,
                steps=config.steps,
                losses=values,
                learning_rate=learning_rate(step, config),
                images_per_second=config.batch_size / seconds,
                peak_memory=memory.mebibytes(),
            )
            log.write(report)
            if session.on_step:
                session.on_step(report)
            if validation.is_due(step):
                with _averaged(average):
                    validation.look(network, step=step)
            stopping, over = is_stopping(), validation.is_over
            if stopping or over or step == config.steps or step % config.checkpoint_every == 0:
                _save(kept, run=job.run, step=step, position=position)
            if stopping:
                raise Stopped(f"Stopped after step {step} of {config.steps}; {job.run} holds the checkpoint.")
            if over:
                break
    if validation.best:
        network.load_trained(validation.best.tensors)
    elif average:
        average.put_in()


def _autocast(config: RunConfig) -> torch.autocast:
    mixed = config.preset.train.mixed_precision and config.device != "cpu"
    return torch.autocast("cuda", torch.bfloat16, enabled=mixed)


def _open_cache(network: Segmenter, images: int, *, job: _Job, session: Session) -> caches.Cache:
    """Open the cache that all folds of a run share, and say what it will hold."""
    folder = job.predictions.parents[1] / "cache"
    with _autocast(job.config):
        cache, line = caches.open_cache(network, folder=folder, config=job.config.preset.train, images=images)
    if line and session.on_note:
        session.on_note(line)
    return cache


def _check_finite(values: Mapping[str, float], *, step: int, batch: Batch, run: Path) -> None:
    wrong = [name for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        images = ", ".join(str(number) for number in batch.image_ids)
        kept = "the last checkpoint is kept" if (run / "state.pt").is_file() else "there was no checkpoint yet"
        raise MammoprepError(
            f"Step {step} stopped: {', '.join(wrong)} not finite on images {images}; {kept} in {run}."
            " Lower train.lr or train.clip_norm with --set."
        )


@dataclass(frozen=True)
class _Kept:
    """What a checkpoint keeps of a training."""

    network: Segmenter
    optimizer: torch.optim.Optimizer
    average: Average | None
    validation: Validation


@contextmanager
def _averaged(average: Average | None) -> Iterator[None]:
    """Put the average, where there is one, in the place of the weights for a while."""
    last = average.put_in() if average else {}
    try:
        yield
    finally:
        if average:
            average.take_out(last)


def _save(kept: _Kept, *, run: Path, step: int, position: int) -> None:
    """Write a checkpoint: model.safetensors has the best weights, or the average, or the last; state.pt goes on."""
    state = {
        "step": step,
        "position": position,
        "optimizer": kept.optimizer.state_dict(),
        "random": torch.get_rng_state(),
        "cuda_random": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "network": checkpoint.tensors_of(kept.network),
        "average": None if kept.average is None else kept.average.weights,
        "validation": kept.validation.state(),
    }
    best = kept.validation.best
    if best:
        checkpoint.save(run, best.tensors, state=state)
        return
    with _averaged(kept.average):
        checkpoint.save(run, checkpoint.tensors_of(kept.network), state=state)


def _restore(kept: _Kept, *, run: Path) -> tuple[int, int]:
    """Put the run's checkpoint back and give its (step, position); (0, 0) where there is none yet.

    An average that begins with the resumption begins at the checkpoint's weights.
    """
    state = checkpoint.load_state(run)
    if state is None:
        return 0, 0
    checkpoint.restore(kept.network, state["network"], where=run / "state.pt")
    kept.optimizer.load_state_dict(state["optimizer"])
    if kept.average:
        own = dict(checkpoint.module_of(kept.network).named_parameters())
        kept.average.restore(state["average"] or {name: own[name] for name in kept.average.weights})
    kept.validation.restore(state["validation"])
    torch.set_rng_state(state["random"])
    if torch.cuda.is_available() and len(state["cuda_random"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda_random"])
    return state["step"], state["position"]


def _check_out(out: Path, *, fold: Fold, session: Session) -> None:
    """Refuse a folder that cannot be resumed, or that would be written over without a word."""
    if session.resume:
        before = checkpoint.read_choices(out).fold
        if before != fold:
            raise MammoprepError(f"{out} was started with --fold {before}, not {fold}. Name another --out.")
    elif (out / "run.json").is_file() and not session.overwrite:
        raise MammoprepError(f"{out} holds a run. Say --resume to continue it, --overwrite to start anew, or --out.")
    else:
        panoptic.check_vacant(out, overwrite=session.overwrite)


def _plan(source: Panoptic, *, out: Path, preset: Preset, fold: Fold, seed: int, session: Session) -> list[_Job]:
    """Say what each fold trains on and writes where, before anything is written."""
    path = source.root / "folds.json"
    count = len(panoptic.load_folds(source.root))
    config = RunConfig(
        preset=preset,
        categories=source.categories,
        dataset=str(source.root),
        data_hash=provenance.data_hash(source.root),
        folds_hash=panoptic.file_hash(path),
        fold=0,
        seed=seed,
        weights=session.weights,
        device=str(checkpoint.pick_device(session.device)),
        versions=provenance.versions(),
        git_commit=provenance.git_commit(),
    )
    jobs = []
    for k in range(count) if fold == "all" else [fold]:
        train_ids, val_ids = panoptic.load_fold(source.root, k)
        unknown = {*train_ids, *val_ids} - {image.id for image in source.images}
        if unknown:
            raise MammoprepError(f"{path} names image {min(unknown)}, which panoptic.json lacks. Make the folds again.")
        run = out / f"fold-{k}" if fold == "all" else out
        resolved = replace(preset, train=with_steps(preset.train, images=len(train_ids)))
        own = replace(config, fold=k, preset=resolved)
        agreed = _agree(own, run=run) if session.resume else own
        jobs.append(_Job(agreed, run, out / f"fold-{k}" / "predictions", frozenset(train_ids), frozenset(val_ids)))
    return jobs


def _agree(config: RunConfig, *, run: Path) -> RunConfig:
    """Refuse to resume with another model or other data; give the config with the weights named at the start."""
    if not (run / "run.json").is_file():  # a fold that `all` had not reached
        return config
    before = checkpoint.read_run(run)
    compared = {
        "model": (before.preset.name, config.preset.name),
        "model setting": (before.preset.model, config.preset.model),
        "seed": (before.seed, config.seed),
        "fold": (before.fold, config.fold),
        "set of categories": (before.categories, config.categories),
        "data set": (before.data_hash, config.data_hash),
        "folds.json": (before.folds_hash, config.folds_hash),
    }
    for name, (old, new) in compared.items():
        if old != new:
            raise MammoprepError(f"{run} was started with another {name}. Repeat that one, or name another --out.")
    return replace(config, weights={**before.weights, **config.weights})


def _is_finished(job: _Job) -> bool:
    """Tell whether a fold was trained to its end with these settings: predictions are written last."""
    if not (job.predictions / "panoptic.json").is_file():
        return False
    return checkpoint.read_run(job.run).preset == job.config.preset


def _open_run(job: _Job, *, out: Path, folds: int) -> None:
    """Write run.json; predictions of an earlier state go, so that those present are always the run's last word."""
    shutil.rmtree(job.predictions, ignore_errors=True)
    with panoptic.writing(job.run):
        job.run.mkdir(parents=True, exist_ok=True)
    if job.run != out:
        checkpoint.write_folds(out, job.config, folds=folds)
    checkpoint.write_run(job.run, job.config)
