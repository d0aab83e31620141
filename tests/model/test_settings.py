"""Values are set by name with their type; a wrong name or value is one line; JSON gives the same values back."""

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import pytest

from mammoprep.errors import MammoprepError, UnknownNameError
from mammoprep_model import settings, zoo
from mammoprep_model.config import ModelConfig, Preset, TrainConfig

TINY = zoo.preset("tiny")


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("train.lr=3e-4", 3e-4),
        ("train.learning_rate = 3e-4", 3e-4),
        ("train.steps=7", 7),
        ("train.flip=no", False),
        ("train.scale=0.5,1.5", (0.5, 1.5)),
        ("train.milestones=(0.1, 0.2)", (0.1, 0.2)),
        ("train.augment=flip", "flip"),
        ("train.class_weights=1,2.5", "1,2.5"),
        ("model.queries=3", 3),
        ("model.backbone=mam-e", "mam-e"),
    ],
)
def test_a_value_is_read_by_the_type_of_its_field(assignment: str, value: object) -> None:
    room, name = assignment.split("=")[0].strip().split(".")
    changed = getattr(settings.change(TINY, [assignment]), room)
    assert getattr(changed, "learning_rate" if name == "lr" else name) == value


def test_later_settings_win_and_others_stay() -> None:
    changed = settings.change(TINY, ["train.steps=7", "train.steps=9"])
    assert changed == replace(TINY, train=replace(TINY.train, steps=9))


@pytest.mark.parametrize(
    ("assignments", "length"),
    [
        (("train.steps=7",), (7, 0)),
        (("train.epochs=3", "train.steps=7"), (7, 0)),
        (("train.steps=7", "train.epochs=3"), (7, 3)),
        (("train.lr=1",), (9000, 1000)),
    ],
)
def test_steps_that_are_asked_for_end_a_training_counted_in_epochs(
    assignments: tuple[str, ...], length: tuple[int, float]
) -> None:
    """The preset `u-net` has 1,000 epochs, from which its steps follow."""
    changed = settings.change(zoo.preset("u-net"), assignments).train
    assert (changed.steps, changed.epochs) == length


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'train\.learning_rate'"):
        settings.change(TINY, ["train.learning_rat=1"])
    with pytest.raises(UnknownNameError, match=r"no setting 'name'"):
        settings.change(TINY, ["name=huge"])


@pytest.mark.parametrize(
    ("assignment", "reason"),
    [
        ("train.steps", "no setting. Write it"),
        ("train.steps=many", "no value for steps: it takes int"),
        ("train.steps=1.5", "it takes int"),
        ("train.flip=perhaps", "it takes bool"),
        ("train.scale=1", r"it takes tuple\[float, float\]"),
        ("train.augment=flop", "it takes none or flip or crop or lsj, now 'lsj'"),
    ],
)
def test_a_value_of_another_type_is_one_line(assignment: str, reason: str) -> None:
    with pytest.raises(MammoprepError, match=reason):
        settings.change(TINY, [assignment])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"crop": 100}, "multiple of train.stride"),
        ({"stride": 6}, "multiple of 4"),
        ({"fit": "stretch", "view": "windows"}, "pad where train.view is not whole"),
        ({"steps": -1}, "train.steps = -1"),
        ({"batch_size": -1}, "train.batch_size"),
        ({"scale": (2.0, 1.0)}, "train.scale"),
        ({"learning_rate": 0.0}, "train.learning_rate"),
        ({"clip_norm": -1.0}, "train.clip_norm"),
        ({"early_stop": -1}, "train.early_stop"),
        ({"plateau_patience": -1}, "train.plateau_patience"),
        ({"keep": "best", "validate_every": 5}, "last where train.validate_every is above 0"),
        ({"augment": "none", "crop": 512}, "crop or lsj where train.crop is below train.size"),
        ({"lesion_crops": 1.5}, "from 0 to 1"),
        ({"cache_gib": -1.0}, "train.cache_gib"),
        ({"class_weights": "rare"}, "none, inverse, or a positive number"),
    ],
)
def test_values_with_which_no_training_runs_are_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(MammoprepError, match=reason):
        settings.check(replace(TrainConfig(), **change))


@pytest.mark.parametrize("config", [TINY.model, TINY.train, ModelConfig(), TrainConfig()])
def test_configs_come_back_from_json(config: ModelConfig | TrainConfig) -> None:
    assert settings.from_json(type(config), json.loads(json.dumps(asdict(config)))) == config


def test_a_field_of_another_version_is_named() -> None:
    with pytest.raises(MammoprepError, match="TrainConfig has no field 'momentum'"):
        settings.from_json(TrainConfig, {"momentum": 1})


@dataclass(frozen=True)
class Part:
    blocks: tuple[int, ...] = (1, 2)
    kind: Literal["a", "b"] = "a"
    limit: float | None = None


@dataclass(frozen=True)
class Nested:
    part: Part = field(default_factory=Part)


def test_nested_values_lists_choices_and_none() -> None:
    preset: Any = Preset("x", "", Nested(), TrainConfig())  # type: ignore[arg-type]
    changed = settings.change(preset, ["model.part.blocks=3,4,5", "model.part.kind=b", "model.part.limit=0.5"])
    assert changed.model == Nested(Part((3, 4, 5), "b", 0.5))
    assert settings.change(changed, ["model.part.limit=none"]).model == Nested(Part((3, 4, 5), "b", None))
    assert settings.from_json(Nested, json.loads(json.dumps(asdict(changed.model)))) == changed.model
    with pytest.raises(MammoprepError, match="no value for kind"):
        settings.change(preset, ["model.part.kind=c"])
