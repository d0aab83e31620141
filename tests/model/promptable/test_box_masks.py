"""Masks of boxes by Segment Anything, worked out on small maps, and `convert --recipe sam` on a random one."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mammoprep import panoptic, pseudo_mask
from mammoprep.cli import main
from mammoprep.errors import MammoprepError
from mammoprep.pseudo_mask import Prompted
from mammoprep.records import Box
from mammoprep_model import box_masks


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    return int(ended.value.code or 0)


def recipe_of(folder: Path) -> Prompted:
    facts = box_masks.at_hand({"sam-vit-l": str(folder)})
    return Prompted(**{**vars(facts), "place": str(facts.place)}, maker=box_masks.MAKER)


class Network:
    """A SAM of 4 x 4 logits for an image of 8 x 16 pixels; it notes what it is shown."""

    size = 16

    def __init__(self, masks: torch.Tensor, qualities: torch.Tensor) -> None:
        self.masks, self.qualities = masks, qualities
        self.images: list[torch.Tensor] = []
        self.boxes: list[list[float]] = []

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        self.images.append(images)
        return torch.zeros(1, 2, 1, 1)

    def outline_boxes(self, embedding: torch.Tensor, boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.boxes += boxes.tolist()
        return self.masks[None], self.qualities[None]


@pytest.fixture
def network() -> Network:
    """Three masks: nothing; the right half; everything. The second says that it is the best."""
    half = torch.where(torch.arange(4) < 2, -1.0, 1.0).expand(4, 4)
    masks = torch.stack([torch.full((4, 4), -1.0), half, torch.ones(4, 4)])
    return Network(masks, torch.tensor([0.2, 0.9, 0.5]))


def test_an_image_is_looked_at_once_and_its_best_mask_cut_to_the_box(network: Network) -> None:
    """The logits change sign between the second and the third of four columns: at x = 8 of 16."""
    outline = box_masks._Outliner(network, device="cpu")  # type: ignore[arg-type]
    pixels = np.full((8, 16), 65535, dtype=np.uint16)
    first = outline(pixels, (4, 2, 12, 6))
    assert first.shape == (4, 8)
    assert first.tolist() == 4 * [4 * [False] + 4 * [True]]
    assert not outline(pixels, (0, 0, 8, 8)).any()
    assert network.boxes == [[0.25, 0.25, 0.75, 0.75], [0, 0, 0.5, 1]]
    assert len(network.images) == 1
    outline(pixels.copy(), (0, 0, 8, 8))
    assert len(network.images) == 2
    assert network.images[0].shape == (1, 3, 16, 16)
    assert network.images[0].unique().tolist() == [1.0]


def test_logits_are_read_at_the_centres_of_the_pixels() -> None:
    """Two logits, 0 and 1, for four columns: their centres lie at 1 and 3, the pixels' at 0.5, 1.5, 2.5, 3.5."""
    found = box_masks.sampled(np.array([[0, 1], [0, 1]], dtype=np.float32), (0, 1, 4, 3), size=(4, 4))
    assert found.shape == (2, 4)
    assert found[0] == pytest.approx([0, 0.25, 0.75, 1], abs=0.02)


def test_the_largest_part_in_the_box_is_the_mask_and_nothing_is_an_ellipse(
    sam_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = np.zeros((10, 20), dtype=np.bool_)
    drawn[:2, :2] = drawn[5:8, 10:15] = True
    monkeypatch.setattr(pseudo_mask, "_outliner", lambda _: lambda *_: drawn)
    pixels, box = np.zeros((30, 40), dtype=np.uint16), Box(5, 5, 25, 15)
    found = pseudo_mask.segment(pixels, box, recipe=recipe_of(sam_folder))
    assert panoptic.mask_box(found.mask) == (15, 10, 5, 3)
    assert (found.method, found.threshold, found.fallback, int(found.mask.sum())) == ("sam", None, False, 15)
    drawn[:] = False
    empty = pseudo_mask.segment(pixels, box, recipe=recipe_of(sam_folder))
    assert (empty.method, empty.fallback) == ("ellipse", True)
    assert panoptic.mask_box(empty.mask) == (5, 5, 20, 10)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Five images of one's own with a box or two, and one without."""
    root = tmp_path / "raw"
    random = np.random.default_rng(5)
    rows = ["image,patient,class,xmin,ymin,xmax,ymax"]
    for number in range(1, 7):
        (root / "images").mkdir(parents=True, exist_ok=True)
        grey = np.zeros((60, 48), dtype=np.uint8)
        grey[:, :30] = random.integers(60, 200, (60, 30))
        panoptic.write_png(root / "images" / f"{number}.png", grey)
        rows += [f"{number}.png,p{number},mass,{4 + k},8,{20 + k},30" for k in range(number % 3)]
    (root / "boxes.csv").write_text("\n".join(rows) + "\n")
    return root


def test_convert_draws_by_sam_to_the_same_bytes_in_any_number_of_processes(
    raw: Path, sam_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("convert", "folder", raw, "--no-pseudonymise", "--recipe=sam", "--max-skipped=9")
    weights = f"--weights=sam-vit-l={sam_folder}"
    assert run(*command[:3], tmp_path / "one", *command[3:], weights, "--workers=1", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    digest = panoptic.file_hash(sam_folder / "model.safetensors")
    assert summary["recipe"].startswith("sam, weights ")
    assert digest[:12] in summary["recipe"]
    assert digest in (tmp_path / "one" / "manifest.json").read_text()
    assert summary["recipe_dice"] is None
    assert sum(summary["pseudo_masks"].values()) == 6
    assert summary["pseudo_masks"]["sam"] > 0
    assert summary["fallbacks"] == summary["pseudo_masks"].get("ellipse", 0)
    told = json.loads((tmp_path / "one" / "manifest.json").read_text())["options"]["recipe"]
    assert (told["network"], told["device"]) == ("sam", "cpu")
    assert f"{digest}  model.safetensors" in told["weights"]
    assert str(sam_folder) not in (tmp_path / "one" / "manifest.json").read_text()
    assert run("check", tmp_path / "one") == 0
    assert run(*command[:3], tmp_path / "two", *command[3:], weights, "--workers=2") == 0
    files = {path.relative_to(tmp_path / "one"): path for path in (tmp_path / "one").rglob("*") if path.is_file()}
    assert len(files) > 12
    for name, path in files.items():
        assert (tmp_path / "two" / name).read_bytes() == path.read_bytes(), name

    other = shutil.copytree(sam_folder, tmp_path / "other")
    (other / "config.json").write_text((other / "config.json").read_text() + "\n")
    capsys.readouterr()
    again = ("--resume", f"--weights=sam-vit-l={other}")
    assert run(*command[:3], tmp_path / "one", *command[3:], *again) == 2
    assert "options recipe weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--recipe=sam",), "--recipe sam needs Segment Anything, which is not at hand. Put config.json"),
        (("--recipe=sam", "--weights=sam-vit-l=/nowhere"), "There is no folder or file /nowhere."),
        (("--recipe=sam", "--weights=vit-l=FOLDER"), "There is no part of --recipe sam 'vit-l'."),
        (("--recipe=sam", "--weights=sam-vit-l=FOLDER", "--sigma=3"), "--sigma changes nothing under --recipe sam."),
        (("--recipe=sam", "--weights=sam-vit-l=TORN"), "is no readable sam-vit-l"),
        (
            ("--weights=sam-vit-l=FOLDER",),
            "--weights changes nothing under --recipe adaptive.",
        ),
    ],
)
def test_what_cannot_be_outlined_is_one_line(
    raw: Path,
    sam_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    line: str,
) -> None:
    monkeypatch.setattr("mammoprep_model.weights.cached", lambda part: None)
    torn = shutil.copytree(sam_folder, tmp_path / "torn")
    (torn / "model.safetensors").write_bytes(b"torn")
    named = [each.replace("FOLDER", str(sam_folder)).replace("TORN", str(torn)) for each in options]
    capsys.readouterr()
    assert run("convert", "folder", raw, tmp_path / "out", *named, "--workers=1") == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert line in said[-1]
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_without_the_extra_it_is_one_line(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mammoprep.cli.extra.lacking", lambda: ["torch"])
    assert run("convert", "folder", raw, tmp_path / "out", "--recipe=sam") == 2
    assert "needs torch" in capsys.readouterr().err


def test_a_gpu_that_is_full_is_one_line(sam_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    own = recipe_of(sam_folder).libraries
    monkeypatch.setattr("mammoprep_model.promptable.sam.make", full)
    with pytest.raises(MammoprepError, match="The GPU has no room for so many copies of SAM. Say --resume --workers 1"):
        box_masks.outliner(str(sam_folder), device="cpu", libraries=own)


def test_a_gpu_that_is_gone_is_one_line(sam_folder: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(MammoprepError, match="began on a GPU, and torch sees none here"):
        box_masks.outliner(str(sam_folder), device="cuda", libraries=recipe_of(sam_folder).libraries)


def test_a_worker_with_other_libraries_or_without_them_is_one_line(sam_folder: Path) -> None:
    recipe = recipe_of(sam_folder)
    with pytest.raises(MammoprepError, match="--recipe sam began with torch 0; a worker has torch "):
        pseudo_mask.prepare(replace(recipe, libraries="torch 0"))
    with pytest.raises(MammoprepError, match="A worker lacks mammoprep_mode. Type there: pip install"):
        pseudo_mask.prepare(replace(recipe, maker="mammoprep_mode:outliner"))
