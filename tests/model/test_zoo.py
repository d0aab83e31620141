import json
import subprocess
import sys
from dataclasses import asdict, replace

import pytest

from mammoprep.errors import MammoprepError
from mammoprep_model import settings, weights, zoo


def test_a_preset_is_found_by_its_name():
    assert zoo.preset("tiny").name == "tiny"


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(MammoprepError, match="There is no model 'm-odis'. Did you mean 'm-odise'"):
        zoo.preset("m-odis")


def test_m_odise_has_the_published_sizes():
    model = zoo.preset("m-odise").model
    assert (model.queries, model.decoder_layers, model.encoder_layers, model.hidden) == (100, 9, 6, 256)
    assert (model.class_weight, model.mask_weight, model.dice_weight, model.no_object_weight) == (2, 5, 5, 0.1)
    assert (model.points, model.oversample_ratio, model.importance_ratio, model.window) == (12544, 3, 0.75, 512)
    assert (model.backbone, model.image_encoder, model.text_encoder) == ("mam-e", "biomedclip", "biomedclip")


@pytest.mark.parametrize("preset", zoo.PRESETS.values(), ids=lambda preset: preset.name)
def test_every_part_of_a_preset_has_a_source(preset: zoo.Preset):
    assert set(preset.model.parts) <= set(weights.SOURCES)


def test_tiny_needs_no_weights():
    model = zoo.preset("tiny").model
    assert {model.backbone, model.image_encoder, model.text_encoder} == {"tiny"}
    assert not model.backbone_frozen


@pytest.mark.parametrize("preset", zoo.PRESETS.values(), ids=lambda preset: preset.name)
def test_a_preset_survives_json(preset: zoo.Preset):
    values = zoo.FAMILIES[zoo.family_of(preset.model)].values
    assert settings.from_json(values, json.loads(json.dumps(asdict(preset.model)))) == preset.model


@pytest.mark.parametrize(
    "values",
    [
        {"window": 500},
        {"queries": 0},
        {"heads": 0},
        {"hidden": 48},
        {"hidden": 64, "heads": 5},
        {"projection": 8},
        {"importance_ratio": 1.5},
        {"oversample_ratio": 0.5},
        {"prompt": "a lesion"},
        {"prompt": "{}|a lesion"},
        {"clip_prompt": "a photo"},
        {"clip_share": 1.5, "image_encoder": "clip", "text_encoder": "clip"},
        {"clip_share": 0.3},
        {"clip_share": 0.3, "image_encoder": "clip", "text_encoder": "biomedclip"},
        {"clip_share": 0.3, "image_encoder": "none", "text_encoder": "none"},
    ],
)
def test_values_that_make_no_model_are_refused(values: dict[str, float]):
    with pytest.raises(MammoprepError, match="A model cannot have these values"):
        replace(zoo.preset("tiny").model, **values)


def test_reading_the_zoo_imports_no_torch():
    code = "import sys, mammoprep_model.zoo, mammoprep_model.weights; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
