"""What a training can stop with and go on from: state.pt beside the weights that predict."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mammoprep_model import checkpoint
from mammoprep_model.optimizer import Average
from mammoprep_model.schedule import Schedule
from mammoprep_model.segmenter import Segmenter
from mammoprep_model.validation import Validation


@dataclass(frozen=True)
class Kept:
    """What a checkpoint keeps of a training."""

    network: Segmenter
    optimizer: torch.optim.Optimizer
    average: Average | None
    schedule: Schedule
    validation: Validation
    device: str


def random_state(device: str) -> dict[str, torch.Tensor]:
    """Give the state of torch's random numbers on the CPU, and on the GPU where `device` is one."""
    state = {"cpu": torch.get_rng_state()}
    return {**state, "cuda": torch.cuda.get_rng_state(device)} if device.startswith("cuda") else state


def set_random_state(state: dict[str, torch.Tensor], device: str) -> None:
    """Put a state back; one that was saved without a GPU leaves the GPU's as it is."""
    torch.set_rng_state(state["cpu"])
    if device.startswith("cuda") and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


@contextmanager
def averaged(average: Average | None) -> Iterator[None]:
    """Put the average, where there is one, in the place of the weights for a while."""
    last = average.put_in() if average else {}
    try:
        yield
    finally:
        if average:
            average.take_out(last)


def save(kept: Kept, *, run: Path, step: int, position: int) -> None:
    """Write a checkpoint: model.safetensors has the best weights, or the average, or the last; state.pt goes on."""
    state = {
        "step": step,
        "position": position,
        "optimizer": kept.optimizer.state_dict(),
        "random": random_state(kept.device),
        "network": checkpoint.tensors_of(kept.network),
        "average": None if kept.average is None else kept.average.weights,
        "schedule": kept.schedule.state(),
        "validation": kept.validation.state(),
    }
    best = kept.validation.best
    if best:
        checkpoint.save(run, best.tensors, state=state)
        return
    with averaged(kept.average):
        checkpoint.save(run, checkpoint.tensors_of(kept.network), state=state)


def settle(kept: Kept) -> None:
    """Leave the weights in the network that predict: the best, or the average, or the last."""
    if kept.validation.best:
        kept.network.load_trained(kept.validation.best.tensors)
    elif kept.average:
        kept.average.put_in()


def restore(kept: Kept, *, run: Path) -> tuple[int, int]:
    """Put the run's checkpoint back and give its (step, position); (0, 0) where there is none yet.

    An average that begins with the resumption begins at the checkpoint's weights.
    """
    state: dict[str, Any] | None = checkpoint.load_state(run)
    if state is None:
        return 0, 0
    checkpoint.restore(kept.network, state["network"], where=run / "state.pt")
    kept.optimizer.load_state_dict(state["optimizer"])
    if kept.average:
        own = dict(checkpoint.module_of(kept.network).named_parameters())
        kept.average.restore(state["average"] or {name: own[name] for name in kept.average.weights})
    kept.schedule.restore(state["schedule"])
    kept.validation.restore(state["validation"])
    set_random_state(state["random"], kept.device)
    return state["step"], state["position"]
