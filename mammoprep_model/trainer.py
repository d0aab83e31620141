"""Train any Segmenter on a fold: a loop to read from top to bottom; it stops and resumes without a trace."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import torch

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep.panoptic import Panoptic
from mammoprep_model import caches, checkpoint, data, inference, plan, settings, side_by_side, state
from mammoprep_model.config import Preset
from mammoprep_model.descent import Descent, autocast, out_of_memory
from mammoprep_model.interrupts import Stopped, stop_requests
from mammoprep_model.log import Log, PeakMemory, Step
from mammoprep_model.optimizer import Average, make_optimizer
from mammoprep_model.plan import DEFAULTS, Fold, Job, Session
from mammoprep_model.prompts import Prompted, prompted
from mammoprep_model.ranks import Ranks
from mammoprep_model.schedule import Schedule, needs_loss
from mammoprep_model.segmenter import Segmenter
from mammoprep_model.state import Kept
from mammoprep_model.validation import Validation


def train(
    dataset: Path, *, out: Path, preset: Preset, fold: Fold = 0, seed: int = 0, session: Session = DEFAULTS
) -> Path:
    """Train on a fold of a DATASET, predict its validation images, and give the RUN folder.

    One fold: `out` holds run.json, model.safetensors, state.pt and log.csv, and `out/fold-<k>/predictions`.
    `all`: each `out/fold-<k>` holds those four files and predictions/; `out/run.json` lists the folds.
    With `session.resume` a run goes on as if it had never stopped; only `preset.train` may differ from its start. A
    process that is killed leaves what it goes on from; two processes cannot write the same `out`.
    Under torchrun all processes train one network; the first of them writes and is listened to.

    Raises `Stopped` after Ctrl-C or SIGTERM, `MammoprepError` where the loss is no longer finite.
    """
    settings.check(preset.train)
    with Ranks(session.device) as ranks, _held(out) if ranks.is_first else nullcontext():
        if not ranks.is_first:
            session = replace(session, on_step=None, on_predict=None, on_note=None)
        source = panoptic.load(dataset)
        plan.check_out(out, fold=fold, session=session)
        session = plan.with_places(session, out=out)
        jobs = plan.plan(source, out=out, preset=preset, fold=fold, seed=seed, session=session)
        _check_processes(jobs, session=session, ranks=ranks)
        for remark in plan.remarks(source, jobs):
            session.note(remark)
        left = ranks.gather([job for job in jobs if not (session.resume and job.is_finished)])[0]
        for job in left:
            _prompted(source, job)  # or say now what its prompts lack
        if session.jobs > 1 and len(left) > 1:
            _untrained(left[0], on="cpu")
            plan.begin(out, jobs, fold=fold, session=session)
            side_by_side.train(left, train_one=_train_alone, session=session)
            return out
        for job in left:
            network = _untrained(job, on=job.config.device)
            if job is left[0] and ranks.is_first:
                plan.begin(out, jobs, fold=fold, session=session)
            _train_fold(network, job, session=session, ranks=ranks)
    return out


def _held(run: Path) -> AbstractContextManager[object]:
    """Keep other processes from writing a run."""
    return panoptic.locked(panoptic.lock_of(run))


def _check_processes(jobs: list[Job], *, session: Session, ranks: Ranks) -> None:
    """Refuse what cannot be dealt to processes."""
    ranks.share(jobs[0].config.preset.train.batch_size)
    if session.jobs > 1 and ranks.size > 1:
        raise MammoprepError("--jobs trains a fold in each process, torchrun a fold in all of them. Leave one out.")
    if session.jobs > 1 and len(jobs) == 1:
        raise MammoprepError("--jobs trains folds side by side. Say --fold all with it, or leave it out.")


def _untrained(job: Job, *, on: str) -> Segmenter:
    """Build a fold's network; a part of it that is missing is said here."""
    train = job.config.preset.train
    if train.cpu_threads:
        torch.set_num_threads(train.cpu_threads)
    network = checkpoint.untrained(replace(job.config, device=on))
    if train.steps and not any(each.requires_grad for each in checkpoint.module_of(network).parameters()):
        raise MammoprepError("Nothing of this network is trained. Say --set train.steps=0 for a RUN of it as it is.")
    return network


def _train_alone(job: Job, session: Session) -> None:
    """Train a fold in a process of its own."""
    with _held(job.run), Ranks(session.device) as ranks:  # held too where the process that started this one was killed
        _train_fold(_untrained(job, on=job.config.device), job, session=session, ranks=ranks)


def _train_fold(network: Segmenter, job: Job, *, session: Session, ranks: Ranks) -> None:
    """Train a fold, then predict its validation images."""
    if ranks.is_first:
        counted = replace(job.config, trained_parameters=checkpoint.trained_parameters(network))
        plan.open_run(replace(job, config=counted))
    source = panoptic.load(Path(job.config.dataset))
    memory = PeakMemory(job.config.device)
    try:
        if job.config.preset.train.steps:
            _fit(network, source, job=job, memory=memory, session=session, ranks=ranks)
        elif ranks.is_first:
            checkpoint.save(job.run, checkpoint.tensors_of(network), state={})
        if ranks.is_first:
            _predict(network, source, job=job, session=session)
    except torch.OutOfMemoryError as error:
        raise out_of_memory(job.config, memory, images=1) from error  # as few as steps and predictions try in the end
    except (OSError, panoptic.UnwritableError) as error:
        reason = error.reason if isinstance(error, panoptic.UnwritableError) else error.strerror
        raise MammoprepError(
            f"Training into {job.run} was broken off: {reason}. When that is mended, say --resume to go on from the"
            " last checkpoint."
        ) from error
    ranks.gather(None)


def _predict(network: Segmenter, source: Panoptic, *, job: Job, session: Session) -> None:
    """Write the predictions of a fold's validation images."""
    on_predict, fold = session.on_predict, job.config.fold
    options = inference.Options(
        batch_size=job.config.preset.train.micro_batch or None,
        existing="overwrite",  # of an interrupted run; finished ones are gone by now
        on_progress=on_predict and (lambda done, total: on_predict(fold, done, total)),
    )
    found = _prompted(source, job)
    options = replace(options, facts=found.facts)
    inference.predict(network, found.pictures, out=job.predictions, config=job.config, options=options)


def _prompted(source: Panoptic, job: Job) -> Prompted:
    """Give the validation images with what the network is told of them."""
    pictures = data.pictures(source, job.val_ids)
    return prompted(pictures, job.config.preset.model, categories=source.categories, dataset=source)


def _fit(network: Segmenter, source: Panoptic, *, job: Job, memory: PeakMemory, session: Session, ranks: Ranks) -> None:
    """Run the steps that are left, from the run's checkpoint where there is one; leave the weights that predict."""
    config = job.config.preset.train
    dealt = replace(config, batch_size=ranks.share(config.batch_size))
    images = data.TrainingImages(source, image_ids=job.train_ids, config=dealt, seed=job.config.seed)
    validation = Validation(source, job.val_ids, config=job.config, run=job.run)
    module = checkpoint.module_of(network).train()
    average = Average(module, decay=config.ema) if config.ema else None
    schedule = Schedule(config, images=len(images))
    kept = Kept(network, make_optimizer(module, config), average, schedule, validation, job.config.device)
    step, position = state.restore(kept, run=job.run) if session.resume else (0, 0)
    ranks.copy_first(parameter.data for parameter in module.parameters() if parameter.requires_grad)
    cache = _open_cache(network, len(images), job=job, session=session)
    descent = Descent(kept, job=job, memory=memory, ranks=ranks, cache=cache, note=session.note)
    left = 0 if validation.is_over or schedule.is_over else config.steps - step
    first = position + ranks.rank * dealt.batch_size
    starts = range(first, first + left * config.batch_size, config.batch_size)
    with stop_requests() as is_stopping, _log(job, after=step, session=session, ranks=ranks) as log:
        if log:
            validation.write()
        begun = perf_counter()
        for batch in data.stream(images, starts, then=cache.read):
            step += 1
            losses = descent.step(batch, number=step)
            position += config.batch_size
            begun, seconds = perf_counter(), perf_counter() - begun
            report = Step(
                fold=job.config.fold,
                number=step,
                steps=config.steps,
                losses=losses,
                learning_rate=schedule.rate(step),
                images_per_second=config.batch_size / seconds,
                peak_memory=memory.mebibytes(),
            )
            if log:
                log.write(report)
            if session.on_step:
                session.on_step(report)
            if log and validation.is_due(step):
                with state.averaged(average):
                    validation.look(network, step=step, log=log)
            if schedule.add(report.total, position=position):
                loss = _validation_loss(kept, job=job, step=step, size=descent.size, log=log)
                schedule.close_epoch(ranks.gather(loss)[0])
            stopping, over = ranks.any(is_stopping(), validation.is_over or schedule.is_over)
            if log and (stopping or over or step == config.steps or step % config.checkpoint_every == 0):
                state.save(kept, run=job.run, step=step, position=position)
            if stopping:
                ranks.gather(None)  # torchrun ends the others as soon as one has ended
                raise Stopped(f"Stopped after step {step} of {config.steps}; {job.run} holds the checkpoint.")
            if over:
                session.note(
                    f"Fold {job.config.fold}: training ends after step {step} of {config.steps}, for it got no better."
                )
                break
    state.settle(kept)


def _validation_loss(kept: Kept, *, job: Job, step: int, size: int, log: Log | None) -> float | None:
    """Measure the loss of the validation images where a schedule needs it, in the process that writes."""
    if log is None or not needs_loss(job.config.preset.train):
        return None
    with state.averaged(kept.average), autocast(job.config):
        return kept.validation.measure(kept.network, step=step, size=size, log=log)


def _open_cache(network: Segmenter, images: int, *, job: Job, session: Session) -> caches.Cache:
    """Open the cache that all folds of a run share, and say what it will hold."""
    folder = job.predictions.parents[1] / "cache"
    with autocast(job.config):
        cache, line = caches.open_cache(network, folder=folder, config=job.config.preset.train, images=images)
    if line:
        session.note(line)
    return cache


def _log(job: Job, *, after: int, session: Session, ranks: Ranks) -> AbstractContextManager[Log | None]:
    """Open the log of a fold in the process that writes."""
    return Log(job.run, after=after, draw=session.draw) if ranks.is_first else nullcontext()
