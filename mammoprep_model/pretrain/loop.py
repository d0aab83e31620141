"""Train one stage: a loop to read from top to bottom; it stops and resumes without a trace."""

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import Tensor, nn

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep_model import checkpoint, data, state
from mammoprep_model.config import TrainConfig
from mammoprep_model.interrupts import Stopped, stop_requests
from mammoprep_model.log import Log, PeakMemory, Step
from mammoprep_model.optimizer import Average, make_optimizer, set_rate
from mammoprep_model.pretrain.images import Shown
from mammoprep_model.pretrain.recipe import StageConfig
from mammoprep_model.pretrain.stage import Stage
from mammoprep_model.ranks import Ranks

_NOISE = 2
"""Keeps the noise of the losses apart from the other random streams of a seed."""


@dataclass(frozen=True)
class Work:
    """Where a stage is trained, and who listens.

    `folder` takes state.pt and log.csv. `look` is called with the number of every `look_every`-th step, and of the
    last one, in the process that writes, while the weights are those that would be the result.
    """

    folder: Path
    seed: int
    device: str
    ranks: Ranks
    on_step: Callable[[Step], None] | None = None
    look: Callable[[int], None] | None = None
    look_every: int = 1


@dataclass(frozen=True)
class _Kept:
    """What a checkpoint keeps."""

    trained: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    average: Average | None


def train(stage: Stage, images: data.Stream[Shown], *, config: StageConfig, work: Work) -> None:
    """Take the steps that are left, from the checkpoint in `work.folder` where there is one; leave the result in place.

    Images and noise of a step depend on the seed and the step alone, so that neither a stop nor the number of processes
    changes it, but for the order in which gradients are added up.
    """
    kept = _prepare(stage, config=config, device=work.device)
    step, ranks, share = _restore(kept, work.folder), work.ranks, _share(stage, config, work.ranks)
    ranks.copy_first(parameter.data for parameter in kept.trained.values())
    memory, begun = PeakMemory(work.device), perf_counter()
    first = step * config.batch_size + ranks.rank * share * config.micro_batch
    starts = (
        first + number * config.batch_size + go * config.micro_batch
        for number in range(config.steps - step)
        for go in range(share)
    )
    with stop_requests() as is_stopping, _log(work, after=step) as log:
        batches = data.stream(images, starts)
        while step < config.steps:
            step += 1
            losses = _step(stage, kept, islice(batches, share), config=config, work=work, number=step)
            begun, seconds = perf_counter(), perf_counter() - begun
            report = Step(
                fold=None,
                number=step,
                steps=config.steps,
                losses=losses,
                learning_rate=_rate(step, config),
                images_per_second=config.batch_size / seconds,
                peak_memory=memory.mebibytes(),
            )
            if log:
                log.write(report)
            if work.on_step:
                work.on_step(report)
            (stopping,) = ranks.any(is_stopping())
            if log and work.look and (step == config.steps or step % work.look_every == 0):
                with state.averaged(kept.average), _autocast(config, work.device):
                    work.look(step)
            if log and (stopping or step == config.steps or step % config.checkpoint_every == 0):
                _save(kept, work.folder, step=step)
            if stopping:
                ranks.gather(None)  # torchrun ends the others as soon as one has ended
                raise Stopped(f"Stopped after step {step} of {config.steps} of the {stage.name} stage.")
    if kept.average:
        kept.average.put_in()


def _prepare(stage: Stage, *, config: StageConfig, device: str) -> _Kept:
    """Bring a stage to its device, with an optimiser for what moves."""
    stage.module.to(device).train()
    trained = {name: each for name, each in stage.module.named_parameters() if each.requires_grad}
    values = TrainConfig(learning_rate=config.learning_rate, weight_decay=config.weight_decay)
    average = Average(stage.module, decay=config.ema) if config.ema else None
    return _Kept(trained, make_optimizer(stage.module, values), average)


def _share(stage: Stage, config: StageConfig, ranks: Ranks) -> int:
    """Give how many times a process computes `micro_batch` images in a step."""
    goes = config.batch_size // config.micro_batch
    if goes % ranks.size:
        raise MammoprepError(
            f"{stage.name}: the {goes} parts of a step cannot be dealt to {ranks.size} processes alike."
            f" Say --set {stage.name}.micro_batch=N so that batch_size / N is a multiple of {ranks.size}."
        )
    return goes // ranks.size


def _step(
    stage: Stage, kept: _Kept, batches: Iterable[Shown], *, config: StageConfig, work: Work, number: int
) -> dict[str, float]:
    """Take a step with this process's images; give the means of the loss terms over the images of all."""
    kept.optimizer.zero_grad(set_to_none=True)
    goes = config.batch_size // config.micro_batch
    sums: dict[str, Tensor] = {}
    for shown in batches:
        with _autocast(config, work.device):
            losses = stage.loss(
                shown.images.to(work.device), shown.prompts, generator=_generator(work.seed, shown.position)
            )
        torch.autograd.backward(torch.stack([*losses.values()]).sum() / goes)
        for name, value in losses.items():
            sums[name] = sums.get(name, 0) + value.detach() / goes
    said = work.ranks.gather({name: float(value) for name, value in sums.items()})
    means = {name: sum(each[name] for each in said) for name in said[0]}
    work.ranks.add(each.grad for each in kept.trained.values() if each.grad is not None)
    norm = float(nn.utils.clip_grad_norm_(kept.trained.values(), config.clip_norm or math.inf))
    _check_finite({**means, "gradient": norm}, stage=stage, step=number)
    set_rate(kept.optimizer, _rate(number, config))
    kept.optimizer.step()
    if kept.average:
        kept.average.update()
    return means


def _generator(seed: int, position: int) -> torch.Generator:
    """Give the stream of random numbers of the images that are computed from a position on."""
    start = np.random.SeedSequence((seed, _NOISE, position)).generate_state(1, np.uint32)
    return torch.Generator().manual_seed(int(start[0]))


def _rate(step: int, config: StageConfig) -> float:
    """Give the learning rate of a step (from 1)."""
    return config.learning_rate * (min(1.0, step / config.warmup_steps) if config.warmup_steps else 1.0)


def _check_finite(values: dict[str, float], *, stage: Stage, step: int) -> None:
    if wrong := [name for name, value in values.items() if not math.isfinite(value)]:
        raise MammoprepError(
            f"Step {step} of the {stage.name} stage stopped: {', '.join(wrong)} not finite. Lower {stage.name}.lr or"
            f" {stage.name}.clip_norm with --set; with --resume too, which goes on from the last checkpoint."
        )


def _save(kept: _Kept, folder: Path, *, step: int) -> None:
    """Write state.pt, whole or not at all; it is written straight to the disk, for it may be larger than the memory."""
    content = {
        "step": step,
        "weights": {name: each.detach() for name, each in kept.trained.items()},
        "average": None if kept.average is None else kept.average.weights,
        "optimizer": kept.optimizer.state_dict(),
    }
    with panoptic.replacing(folder / "state.pt") as beside:
        torch.save(content, beside)


@torch.no_grad()
def _restore(kept: _Kept, folder: Path) -> int:
    """Put a checkpoint back and give its step; 0 where there is none. A new average begins at its weights."""
    content = checkpoint.load_state(folder)
    if content is None:
        return 0
    for name, parameter in kept.trained.items():
        parameter.copy_(content["weights"][name])
    if kept.average:
        kept.average.restore(content["average"] or content["weights"])
    kept.optimizer.load_state_dict(content["optimizer"])
    step: int = content["step"]
    return step


def _log(work: Work, *, after: int) -> AbstractContextManager[Log | None]:
    """Open the log in the process that writes."""
    return Log(work.folder, after=after) if work.ranks.is_first else nullcontext()


def _autocast(config: StageConfig, device: str) -> torch.autocast:
    """Give the precision in which a stage computes."""
    return torch.autocast("cuda", torch.bfloat16, enabled=config.mixed_precision and device != "cpu")
