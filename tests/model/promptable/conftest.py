"""A SAM in miniature, as facebook/sam-vit-large is published, and the settings that fit it."""

from pathlib import Path

import pytest
import torch
from torch import nn

from mammoprep_model import zoo
from mammoprep_model.config import Preset
from mammoprep_model.promptable import sam
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


@pytest.fixture(scope="session")
def sam_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SAM as transformers saves it, whose masks are mostly full and sure."""
    torch.manual_seed(8)
    root = tmp_path_factory.mktemp("sam-vit-l")
    model = sam.make(change(zoo.preset("sam-ft"), [*ASSIGNMENTS, "model.backbone=random"]).model, {}).model
    for name, parameter in model.named_parameters():
        if "shared" not in name:
            nn.init.normal_(parameter, std=0.1)
    nn.init.constant_(model.mask_decoder.iou_prediction_head.proj_out.bias, 0.7)
    nn.init.constant_(model.mask_decoder.upscale_conv2.bias, 1.0)
    for head in model.mask_decoder.output_hypernetworks_mlps:
        nn.init.constant_(head.proj_out.bias, 0.5)
    model.save_pretrained(root)
    return root
