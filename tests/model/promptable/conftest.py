"""The settings that fit the SAM in miniature."""

import pytest

from mammoprep_model import zoo
from mammoprep_model.config import Preset
from mammoprep_model.settings import change

MODEL = ("size=64", "width=16", "layers=4", "heads=2", "hidden=32", "feedforward=32", "grid=4")
TRAIN = ("size=64", "crop=64", "stride=64")
ASSIGNMENTS = (*(f"model.{each}" for each in MODEL), *(f"train.{each}" for each in TRAIN))


@pytest.fixture
def assignments() -> tuple[str, ...]:
    """What makes a preset small."""
    return ASSIGNMENTS


@pytest.fixture
def small():
    """Give a preset of the family in small."""

    def make(name: str, *more: str) -> Preset:
        return change(zoo.preset(name), [*ASSIGNMENTS, *more])

    return make
