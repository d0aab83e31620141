"""What more than one test file needs: a small DATASET, and a network of two layers that keeps the contract."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mammoprep import panoptic

if TYPE_CHECKING:
    from mammoprep_model.config import Preset

CATEGORIES = panoptic.make_categories(["BI-RADS 3", "BI-RADS 4"])


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Write six images of 48 x 32 pixels with a lesion each, in three folds."""
    root = tmp_path / "dataset"
    for folder in ("images", "panoptic"):
        (root / folder).mkdir(parents=True)
    images = [_write_image(root, number) for number in range(1, 7)]
    panoptic.write_panoptic(root, categories=CATEGORIES, images=images)
    folds = [{"val": [k, k + 3], "train": [n for n in range(1, 7) if n not in (k, k + 3)]} for k in (1, 2, 3)]
    (root / "folds.json").write_text(json.dumps({"k": 3, "seed": 0, "folds": folds}))
    return root


def _write_image(root: Path, number: int) -> panoptic.Image:
    """A breast of 60 in the left half, and in it a square lesion, brighter in class 2 than in class 1."""
    ids = np.full((48, 32), 4, dtype=np.int32)
    ids[:, :16] = 3
    kind = 1 + number % 2
    ids[4 * number : 4 * number + 8, 4:12] = 1
    grey = np.choose(ids, [0, 100 + 60 * kind, 0, 60, 5]).astype(np.uint8)
    name = f"case-{number}"
    panoptic.write_png(root / "images" / f"{name}.png", grey)
    panoptic.write_ids(root / "panoptic" / f"{name}.png", ids)
    of_class = {1: kind, 3: 3, 4: 4}
    segments = tuple(
        panoptic.Segment(id_, label, int((ids == id_).sum()), panoptic.mask_box(ids == id_))
        for id_, label in of_class.items()
    )
    return panoptic.Image(number, name, 48, 32, segments)


@pytest.fixture
def parse() -> Callable[[Sequence[str]], None]:
    """Give what parses the words of a command line as the app does, and runs nothing."""
    import typer

    from mammoprep.cli import app

    def parse_words(words: Sequence[str]) -> None:
        command: Any = typer.main.get_command(app)
        context, name, rest = None, "mammoprep", list(words)
        while hasattr(command, "commands"):
            context = command.context_class(command, info_name=name, parent=context)
            name, command, rest = command.resolve_command(context, rest)
        command.make_context(name, list(rest), parent=context)

    return parse_words


@pytest.fixture
def small_preset() -> "Preset":
    """Give settings with which a training run takes a fraction of a second."""
    from mammoprep_model.config import ModelConfig, Preset, TrainConfig

    train = TrainConfig(
        size=64,
        crop=64,
        scale=(0.8, 1.2),
        steps=6,
        batch_size=2,
        learning_rate=1e-2,
        warmup_steps=2,
        clip_norm=1.0,
        mixed_precision=False,
        checkpoint_every=2,
    )
    return Preset("tiny", "two layers", ModelConfig(backbone="tiny"), train)


@pytest.fixture
def fake_network(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Put a network of two layers in the place of the real one; give the function that builds it."""
    import torch
    from torch import Tensor, nn
    from torch.nn import functional

    from mammoprep_model.segmenter import Batch, Prediction

    torch.set_num_threads(1)  # many tests at once are faster so

    class Fake(nn.Module):
        """One mask a category; its loss draws random numbers, as a loss on random points does."""

        def __init__(self, count: int) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.GroupNorm(2, 8), nn.Conv2d(8, count, 1))
            self.frozen = nn.Linear(2, 2).requires_grad_(False)

        def loss(self, batch: Batch) -> dict[str, Tensor]:
            logits = functional.interpolate(self.body(batch.images), scale_factor=4.0)
            terms = [logits.sum() * 0]
            for image, masks, labels in zip(logits, batch.masks, batch.labels, strict=True):
                chosen = image[labels] + 0.1 * torch.rand_like(masks)
                terms.append(
                    functional.binary_cross_entropy_with_logits(chosen, masks) if len(labels) else image.sum() * 0
                )
            total = torch.stack(terms).sum()
            return {"mask": total, "class": 0.01 * logits.square().mean()}

        @torch.no_grad()
        def predict(self, images: Tensor) -> list[Prediction]:
            logits = functional.interpolate(self.body(images), scale_factor=4.0)
            scores = 0.9 * torch.eye(logits.shape[1], device=images.device)
            return [Prediction(masks, scores, masks.softmax(0)) for masks in logits]

        def trained_state(self) -> dict[str, Tensor]:
            return dict(self.body.state_dict())

        def load_trained(self, state: Mapping[str, Tensor]) -> None:
            self.body.load_state_dict(dict(state))

    def build(config: object, *, categories: Sequence[panoptic.Category], weights: Mapping[str, str]) -> Fake:
        return Fake(len(categories))

    monkeypatch.setattr("mammoprep_model.odise.network.build", build)
    return build


@pytest.fixture
def write_xls() -> Callable[..., None]:
    """Give the writer of old workbooks."""
    from mammoprep.phantom import xls

    return xls.write


@pytest.fixture
def mammograms(tmp_path: Path) -> Path:
    """Write a DATASET of eight patients with two views each, 96 x 64 pixels; the first seven are lesion-free.

    The breast grows from image to image, its chest wall is on the right in every second one. Fold 0 validates on an
    image of patient 0 and on patient 7, who has the lesions.
    """
    root = tmp_path / "mammograms"
    for folder in ("images", "panoptic"):
        (root / folder).mkdir(parents=True)
    images, rows = [], []
    for number in range(1, 17):
        ids = np.full((96, 64), 4, dtype=np.int32)
        ids[20 - number : 70 + number, :30] = 3
        if number > 14:
            ids[40:50, 5:15] = 1
        ids = ids if number % 2 else ids[:, ::-1]
        name = f"case-{number}"
        texture = np.random.default_rng(number).integers(0, 40, ids.shape)
        panoptic.write_png(root / "images" / f"{name}.png", (np.isin(ids, (1, 3)) * (100 + texture)).astype(np.uint8))
        panoptic.write_ids(root / "panoptic" / f"{name}.png", ids)
        segments = tuple(
            panoptic.Segment(each, each, int((ids == each).sum()), panoptic.mask_box(ids == each))
            for each in np.unique(ids).tolist()
        )
        images.append(panoptic.Image(number, name, 96, 64, segments))
        maker = "SIEMENS" if number < 8 else "HOLOGIC, Inc."
        facts = (f"p{(number - 1) // 2}", "CC" if number % 2 else "MLO", "AB"[number > 7], maker, int(number < 15))
        rows.append(f'{name},{",".join(map(str, facts[:3]))},"{facts[3]}",{facts[4]}')
    panoptic.write_panoptic(root, categories=CATEGORIES, images=images)
    header = "image_id,patient_id,view,density,manufacturer,lesion_free"
    (root / "cases.csv").write_text("\n".join([header, *rows, ""]))
    folds = [{"val": [1, 15], "train": [3, 4, 16]}, {"val": [16], "train": [15]}]
    (root / "folds.json").write_text(json.dumps({"k": 2, "seed": 0, "folds": folds}))
    return root


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a random latent-diffusion model in tiny sizes, as a diffusers folder."""
    import torch

    from mammoprep_model import compact
    from mammoprep_model.pretrain import pipeline

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("bases") / "sd"
    pipeline.save(compact.make(compact.TINY, seed=5), root)
    return root
