"""The learning rate of every step, and what the epochs of a training decide: when it falls, when training ends."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mammoprep_model.config import TrainConfig
from mammoprep_model.optimizer import learning_rate

_LOWER = 1e-4
"""Share by which a validation loss must be lower than the lowest to count as such: torch's ReduceLROnPlateau."""


def needs_loss(config: TrainConfig) -> bool:
    """Tell whether a training needs the loss of the validation images after every epoch."""
    return config.schedule == "plateau" or config.keep == "best"


@dataclass
class _Lowest:
    """A loss that is watched: the lowest so far, and for how many epochs there was none."""

    loss: float = math.inf
    epochs: int = 0

    def see(self, loss: float, *, by: float = 0.0) -> None:
        """Take an epoch's loss in; it must be lower by a share."""
        if loss < self.loss * (1 - by):
            self.loss, self.epochs = loss, 0
        else:
            self.epochs += 1


@dataclass
class _Seen:
    """What a checkpoint keeps of the epochs: the one that runs (summed loss, steps), the lowest losses, the falls."""

    total: float = 0.0
    steps: int = 0
    falls: int = 0
    training: _Lowest = field(default_factory=_Lowest)
    validation: _Lowest = field(default_factory=_Lowest)


class Schedule:
    """Watches the epochs of a training on so many `images`: an epoch ends with the step that completes them."""

    def __init__(self, config: TrainConfig, *, images: int) -> None:
        self._config = config
        self._images = images
        self._seen = _Seen()

    def rate(self, step: int) -> float:
        """Give the learning rate of a step (from 1)."""
        return learning_rate(step, self._config) * 0.1**self._seen.falls

    def add(self, loss: float, *, position: int) -> bool:
        """Take a step's loss in; tell whether an epoch ends with the image before `position` of the stream."""
        self._seen.total += loss
        self._seen.steps += 1
        return position // self._images > (position - self._config.batch_size) // self._images

    def close_epoch(self, validation_loss: float | None) -> None:
        """End an epoch with its validation loss, where that is measured."""
        seen = self._seen
        seen.training.see(seen.total / seen.steps)
        seen.total, seen.steps = 0.0, 0
        if self._config.schedule == "plateau" and validation_loss is not None:
            seen.validation.see(validation_loss, by=_LOWER)
            if seen.validation.epochs > self._config.plateau_patience:
                seen.validation.epochs = 0
                seen.falls += 1

    @property
    def is_over(self) -> bool:
        """Tell whether the last `early_stop` epochs brought no lower training loss."""
        return 0 < self._config.early_stop <= self._seen.training.epochs

    def state(self) -> dict[str, Any]:
        """Give what a checkpoint keeps."""
        return asdict(self._seen)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        lowest = {name: _Lowest(**state[name]) for name in ("training", "validation")}
        self._seen = _Seen(**{**state, **lowest})
