"""Every layout of weights where every other one is expected: one line that says what, where and what to do."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from mammoprep.cli import main
from mammoprep.errors import MammoprepError
from mammoprep_model import checkpoint, parts, settings, trainer, weights, zoo
from mammoprep_model.promptable import sam
from mammoprep_model.trainer import Session

Places = Mapping[str, str]
LOAD: Mapping[str, Callable[[str, Places], object]] = {
    "diffusers": parts.load_diffusion,
    "clip": parts.load_encoders,
    "open_clip": parts.load_encoders,
    "swin": parts.load_swin,
    "mask2former": parts.load_mask_generator,
    "vit": lambda part, places: parts.load_vit(part, places, width=16, layers=2, heads=2),
    "sam": lambda _, places: sam.make(zoo.preset("sam-zs").model, places),
}
OWN = {
    "sam-vit-l": "of other sizes than this model. Say --set model.size=64",
    "sd-1.5": "is not a whole sd-1.5: scheduler/scheduler_config.json is missing",
}
"""What is said of the right layout, where anything is: the tiny SAM is no ViT-L, the tiny diffusion has no schedule."""
SMALL = (
    *("model.width=4", "model.levels=2", "model.head=4"),
    *("train.size=32", "train.crop=32", "train.epochs=0", "train.steps=0"),
)
COMMANDS = {
    "setr-ft": ("vit-l", "sam"),
    "sam-zs": ("sam-vit-l", "vit"),
    "m2f-swin-l": ("swin-l", "unet"),
    "m2f-sd": ("sd-1.3", "run"),
    "odise-mam-e": ("mam-e", "clip"),
}
"""A preset, and the part for which another layout is named."""


@pytest.fixture
def run_folder(dataset: Path, tmp_path: Path) -> Path:
    """A small U-Net as it starts."""
    preset = settings.change(zoo.preset("u-net"), SMALL)
    return trainer.train(dataset, out=tmp_path / "run", preset=preset, session=Session(device="cpu"))


@pytest.fixture
def folders(request: pytest.FixtureRequest, diffusers_folder: Path) -> dict[str, Path]:
    """All layouts, a RUN, and parts of a diffusion model, by name."""
    names = {layout: f"{layout}_folder" for layout in (*LOAD, "run")} | {"open_clip": "biomedclip_folder"}
    found = {layout: request.getfixturevalue(name) for layout, name in names.items()}
    return found | {part: diffusers_folder / part for part in ("unet", "vae", "text_encoder")}


def file_of(folder: Path) -> Path:
    """Give a file of weights of a folder."""
    return next(path for ending in ("*.safetensors", "*.bin") for path in sorted(folder.rglob(ending)))


@pytest.mark.parametrize("part", weights.SOURCES)
def test_every_other_layout_is_one_line_that_says_what_to_do(folders: dict[str, Path], part: str) -> None:
    """A folder, and a file out of it; only the layout that is meant is read."""
    layout = weights.SOURCES[part].layout
    for name, folder in folders.items():
        for place in (folder, file_of(folder)):
            is_right = name == layout and (place == folder or layout != "diffusers")
            if is_right and part not in OWN:
                LOAD[layout](part, {part: str(place)})
                continue
            with pytest.raises(MammoprepError) as caught:
                LOAD[layout](part, {part: str(place)})
            text = str(caught.value)
            assert "\n" not in text
            assert str(place if place.is_dir() else place.parent) in text
            assert (OWN[part] if is_right else f"{part}=FOLDER") in text


@pytest.mark.parametrize("model", COMMANDS)
def test_train_says_it_in_one_line_and_leaves_nothing(
    folders: dict[str, Path], dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str
) -> None:
    part, layout = COMMANDS[model]
    capsys.readouterr()
    words = ("train", dataset, "--model", model, "--out", tmp_path / "out", f"--weights={part}={folders[layout]}")
    encoder = [f"--weights=clip={folders['clip']}"] if "clip" in zoo.preset(model).model.parts else []
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in (*words, *encoder, "--device=cpu")])
    assert ended.value.code == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert f"say --weights {part}=FOLDER" in said[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "holds"),
    [
        ({"_class_name": "UNet2DConditionModel"}, "a UNet2DConditionModel of diffusers"),
        ({"model_type": "sam"}, "a sam of transformers"),
        ({"model_type": 3}, "config.json, pytorch_model.bin"),
        ([], "config.json, pytorch_model.bin"),
    ],
)
def test_what_config_json_says_it_is_is_said(vit_folder: Path, tmp_path: Path, content: Any, holds: str) -> None:
    folder = shutil.copytree(vit_folder, tmp_path / "vit")
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(MammoprepError, match=f"is no vit-l: it holds {holds}. Put"):
        weights.locate("vit-l", {"vit-l": str(folder)})


@pytest.mark.parametrize("value", [None, "wide", 7])
def test_a_value_of_config_json_that_cannot_be_is_one_line(vit_folder: Path, tmp_path: Path, value: Any) -> None:
    folder = shutil.copytree(vit_folder, tmp_path / "vit")
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, "hidden_size": value}))
    with pytest.raises(MammoprepError) as caught:
        LOAD["vit"]("vit-l", {"vit-l": str(folder)})
    assert "\n" not in str(caught.value)
    assert "is no readable vit-l" in str(caught.value)


def test_tensors_of_another_shape_are_one_line_that_names_both(
    vit_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(vit_folder, tmp_path / "vit")
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, "intermediate_size": 24}))
    with pytest.raises(MammoprepError, match=r"has the shape \(\d+,\), while its configuration asks for \(24,\)\. Put"):
        LOAD["vit"]("vit-l", {"vit-l": str(folder)})
    assert capsys.readouterr().err == ""  # neither a bar nor a report of transformers


def test_trained_parameters_of_another_family_do_not_fit_run_json(
    run_folder: Path, sam_folder: Path, dataset: Path
) -> None:
    shutil.copy(sam_folder / "model.safetensors", run_folder / "model.safetensors")
    with pytest.raises(MammoprepError, match=r"model.safetensors does not fit run.json.*Copy the run again."):
        checkpoint.load(run_folder, device="cpu")
