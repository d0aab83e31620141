"""Measure what predicting a mammogram costs beside the network: seconds of CPU and peak memory, at native size.

The network is replaced by one that only makes 100 masks of what it is shown, discs of 10 to 100 pixels in radius, so
that what is measured is ours: resizing, merging, run-length codes, PNG. Each case runs in a process of its own.
Type: python examples/benchmarks/predict.py
"""

import resource
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import numpy as np
import torch
from torch import Tensor, nn

from mammoprep import panoptic
from mammoprep_model import inference
from mammoprep_model.checkpoint import RunConfig
from mammoprep_model.config import ModelConfig, Preset, TrainConfig
from mammoprep_model.data import Picture
from mammoprep_model.segmenter import Prediction

NATIVE, STORED = (3500, 2800), (1024, 819)
QUERIES = 100
CATEGORIES = panoptic.make_categories(["BI-RADS 3", "BI-RADS 4", "BI-RADS 5"])
CASES: Mapping[str, tuple[tuple[int, int], inference.Options]] = {
    "stored size": (STORED, inference.Options()),
    "native size": (NATIVE, inference.Options()),
    "native size, --tiles 2": (NATIVE, inference.Options(tiles=2)),
    "native size, --tiles 2 --flip": (NATIVE, inference.Options(tiles=2, flip=True)),
}


class Discs(nn.Module):
    """A network's masks without the network."""

    def predict(self, images: Tensor) -> list[Prediction]:
        """Give 100 masks a view."""
        random = torch.Generator().manual_seed(0)
        y, x = (torch.arange(side)[:, None] for side in images.shape[2:])
        place = torch.rand(QUERIES, 2, 1, generator=random) * torch.tensor(images.shape[2:])[:, None]
        radius = 10 ** (1 + torch.rand(QUERIES, 1, 1, generator=random))
        distance = torch.hypot((place[:, 0] - y.T)[:, :, None], (place[:, 1] - x.T)[:, None])
        masks = (radius - distance).clamp(-6, 6)
        logits = 6 * torch.randn(QUERIES, len(CATEGORIES) + 1, generator=random)
        logits[:, -1] += 12  # most are "no object"
        scores = logits.softmax(-1)[:, :-1]
        maps = torch.einsum("qc,qhw->chw", scores, masks.sigmoid()).clamp(0, 1)
        return [Prediction(masks, scores, maps) for _ in images]


def measure(case: str) -> str:
    """Predict one image and give a line of the table."""
    size, options = CASES[case]
    grey = np.zeros(size, np.uint16)
    grey[:, : size[1] // 2] = 20000
    preset = Preset("discs", "", ModelConfig(), TrainConfig(size=max(STORED), batch_size=1))
    facts = {"dataset": "", "data_hash": "", "folds_hash": "", "fold": 0, "seed": 0, "weights": {}, "versions": {}}
    config = RunConfig(preset=preset, categories=CATEGORIES, device="cpu", git_commit=None, **facts)
    picture = Picture(1, "image", lambda: grey)
    before, begun = peak(), process_time()
    with TemporaryDirectory() as folder:
        inference.predict(Discs(), [picture], out=Path(folder) / "out", config=config, options=options)
    return f"{case:32} {process_time() - begun:6.1f} s of CPU   peak {peak():6.0f} MiB ({before:.0f} before)"


def peak() -> float:
    """Give the most memory that this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    for case in CASES:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            print(pool.submit(measure, case).result())
