"""Values of a pretraining: what `--set` names, what cannot be used, the way through JSON."""

import json
from dataclasses import asdict, replace

import pytest

from mammoprep.errors import MammoprepError, UnknownNameError
from mammoprep_model import settings
from mammoprep_model.pretrain import recipe
from mammoprep_model.pretrain.recipe import PretrainConfig


def test_the_defaults_are_mam_es() -> None:
    config = recipe.BASES["sd-1.5"]
    stage = config.diffusion
    assert (config.size, config.fit) == (512, "crop")
    assert (stage.learning_rate, stage.warmup_steps, stage.steps) == (1e-6, 0, 10_000)
    assert (stage.micro_batch, stage.batch_size) == (16, 16 * 16)


def test_settings_are_changed_by_name() -> None:
    changed = settings.change(PretrainConfig(), ["size=256", "diffusion.lr=2e-5", "diffusion.mixed_precision=no"])
    assert (changed.size, changed.diffusion.learning_rate, changed.diffusion.mixed_precision) == (256, 2e-5, False)
    with pytest.raises(UnknownNameError, match=r"diffusion\.ema"):
        settings.change(PretrainConfig(), ["diffusion.emma=0.9"])
    with pytest.raises(MammoprepError, match=r"Write it as diffusion\.lr=1e-4"):
        settings.change(PretrainConfig(), ["diffusion.lr"])


def test_values_come_back_from_json() -> None:
    config = settings.change(PretrainConfig(), ["fit=pad", "diffusion.steps=7"])
    assert settings.from_json(PretrainConfig, json.loads(json.dumps(asdict(config)))) == config


@pytest.mark.parametrize(
    ("assignment", "line"),
    [
        ("size=100", "size = 100 cannot be used: it must be a multiple of 64"),
        ("empty_prompts=1.5", "from 0 to 1"),
        ("sample_every=0", "sample_every = 0 cannot be used: it must be 1 or more"),
        ("guidance=0.5", "1 or more"),
        ("samples=-1", "0 or more"),
        ("diffusion.micro_batch=7", "a divisor of batch_size, 256"),
        ("diffusion.micro_batch=0", "a divisor of batch_size, 256"),
        ("diffusion.lr=0", "diffusion.learning_rate = 0.0 cannot be used: it must be positive"),
        ("diffusion.ema=1", "at least 0 and below 1"),
        ("diffusion.steps=-1", "0 or more"),
    ],
)
def test_what_cannot_be_used_is_said(assignment: str, line: str) -> None:
    with pytest.raises(MammoprepError, match=line):
        recipe.check(settings.change(PretrainConfig(), [assignment]))


def test_the_defaults_can_be_used() -> None:
    for config in recipe.BASES.values():
        recipe.check(config)
        recipe.check(replace(config, samples=0))
    assert {base: [*recipe.stages(config)] for base, config in recipe.BASES.items()} == {
        "sd-1.5": ["diffusion"],
        "compact": ["autoencoder", "diffusion"],
    }


@pytest.mark.parametrize(
    ("assignment", "line"),
    [
        ("sizes.unet=80,160,320,300", r"sizes\.unet = \(80, 160, 320, 300\) .* multiples of head and groups"),
        ("sizes.vae=32,64,128,100", "multiples of groups"),
        ("sizes.text_heads=5", "sizes.text = 192 cannot be used: it must be a multiple of text_heads"),
        ("sizes.groups=0", "multiples of head and groups"),
        ("autoencoder.lr=-1", r"autoencoder\.learning_rate = -1\.0"),
        ("distance_images=1", "0, or 2 or more"),
    ],
)
def test_what_a_small_model_cannot_use_is_said(assignment: str, line: str) -> None:
    with pytest.raises(MammoprepError, match=line):
        recipe.check(settings.change(recipe.BASES["compact"], [assignment]))


def test_stages_come_in_their_order_and_only_those_with_steps() -> None:
    compact = recipe.BASES["compact"]
    assert [*recipe.stages(compact)] == ["autoencoder", "diffusion"]
    assert [*recipe.stages(settings.change(compact, ["autoencoder.steps=0"]))] == ["diffusion"]
    assert [*recipe.stages(recipe.BASES["sd-1.5"])] == ["diffusion"]
    with pytest.raises(UnknownNameError):  # a base with an autoencoder of its own has none to train
        settings.change(recipe.BASES["sd-1.5"], ["autoencoder.steps=3"])
