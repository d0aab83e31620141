"""A latent-diffusion model goes to a diffusers folder and comes back; what others read of it is there."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mammoprep.errors import MammoprepError
from mammoprep_model import parts, weights
from mammoprep_model.pretrain import pipeline


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in one.state_dict().items())


def test_what_is_saved_comes_back(backbone: Path, tmp_path: Path) -> None:
    first = pipeline.load(backbone)
    pipeline.save(first, tmp_path / "again")
    second = pipeline.load(tmp_path / "again")
    assert all(same(getattr(first, name), getattr(second, name)) for name in ("unet", "vae", "text_encoder"))
    assert second.unet.dtype == torch.float32
    assert first.tokenizer("a cc")["input_ids"] == second.tokenizer("a cc")["input_ids"]
    assert second.tokenizer.model_max_length == second.text_encoder.config.max_position_embeddings
    assert second.scheduler.config.prediction_type == "epsilon"


def test_a_folder_says_nothing_of_where_it_was_made(backbone: Path, tmp_path: Path) -> None:
    pipeline.save(pipeline.load(backbone), tmp_path / "one")
    pipeline.save(pipeline.load(tmp_path / "one"), tmp_path / "other")
    folders = (tmp_path / "one", tmp_path / "other")
    one, other = ({path.name: path.read_bytes() for path in folder.rglob("*.*")} for folder in folders)
    assert one == other
    assert not any(str(tmp_path).encode() in content for content in one.values())


def test_the_segmenters_backbone_takes_the_folder(backbone: Path) -> None:
    assert weights.locate("mam-e", {"mam-e": str(backbone)}) == backbone
    loaded, own = parts.load_diffusion("mam-e", {"mam-e": str(backbone)}), pipeline.load(backbone)
    assert same(loaded.unet, own.unet)
    tokens = own.tokenizer([""], padding="max_length", max_length=77, return_tensors="pt")["input_ids"]
    assert torch.equal(loaded.empty_prompt, own.text_encoder(tokens).last_hidden_state)


def test_diffusers_knows_the_folder(backbone: Path) -> None:
    content = json.loads((backbone / "model_index.json").read_text())
    assert content["_class_name"] == "StableDiffusionPipeline"
    assert content["unet"] == ["diffusers", "UNet2DConditionModel"]
    assert content["text_encoder"] == ["transformers", "CLIPTextModel"]
    assert content["safety_checker"] == [None, None]


def test_saving_replaces_what_was_there(backbone: Path, tmp_path: Path) -> None:
    (tmp_path / "made" / "old").mkdir(parents=True)
    pipeline.save(pipeline.load(backbone), tmp_path / "made")
    assert not (tmp_path / "made" / "old").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


@pytest.mark.parametrize("part", ["unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"])
def test_a_missing_tensor_is_named(backbone: Path, tmp_path: Path, part: str) -> None:
    shutil.copytree(backbone, tmp_path / "base")
    path = tmp_path / "base" / f"{part}.safetensors"
    state = load_file(path)
    gone = sorted(state)[3]
    del state[gone]
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(MammoprepError, match=rf"it has no [\w.]*{gone.split('.', 1)[1]}"):
        pipeline.load(tmp_path / "base")


def test_a_folder_without_a_scheduler_is_refused(backbone: Path, tmp_path: Path) -> None:
    """What its UNet predicts would be guessed."""
    shutil.copytree(backbone, tmp_path / "base", ignore=shutil.ignore_patterns("scheduler"))
    with pytest.raises(MammoprepError, match=r"scheduler/scheduler_config\.json is missing"):
        weights.locate("sd-1.5", {"sd-1.5": str(tmp_path / "base")})
