"""Train the recipe `learned`: a small network that draws a lesion's outline from its box, and its patient-wise folds.

Usage: python examples/benchmarks/train_masks.py RAW WORK [FOLD …]     (RAW: a CDD-CESM folder; torch is needed)

Writes WORK/fold-K.npz, trained without the patients of fold K, for `pseudo_masks.py RAW WORK` to score on them, and
WORK/learned.npz, trained on all; FOLD is a number or `all`, default every one. About two minutes of one core each.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from outlined import FOLDS, Image, Lesion, folds, jittered, lesion_of, read
from torch import Tensor, nn
from torch.nn import functional

from mammoprep.pseudo_mask import learned

EPOCHS, BATCH, RATE = 100, 32, 4e-3
WIDTHS = (12, 24, 48, 48)
JITTER = 0.08
"""Sigma of the sides' moves, as shares of the box, in one half of what the network sees; the other has exact boxes."""
BLOBS = 120
"""Drawn bright lesions beside the outlines: without them so long a training forgets what a bright disc is."""
INSIDE = slice(learned.MARGIN, -learned.MARGIN)


def convolution(inputs: int, outputs: int, side: int = 3) -> nn.Sequential:
    """Give a convolution with batch normalisation and ReLU."""
    layer = nn.Conv2d(inputs, outputs, side, padding=side // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


class Network(nn.Module):
    """The network that `learned.run` runs, under the same names."""

    def __init__(self) -> None:
        super().__init__()
        a, b, c, d = WIDTHS
        for number, (inputs, outputs) in enumerate(((8, a), (a, b), (b, c), (c, d)), start=1):
            self.add_module(f"e{number}", nn.Sequential(convolution(inputs, outputs), convolution(outputs, outputs)))
        for number, (inputs, outputs) in enumerate(((b, a), (c, b), (d, c)), start=1):
            self.add_module(f"u{number}", convolution(inputs, outputs, 1))
            self.add_module(f"d{number}", nn.Sequential(convolution(outputs, outputs)))
        self.out = nn.Conv2d(a, 1, 1)
        self.drop = nn.Dropout2d(0.15)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (B, 8, G, G) to logits (B, G, G)."""
        part = dict(self.named_children())
        skipped = []
        for number in "123":
            skipped.append(part[f"e{number}"](x))
            x = functional.max_pool2d(skipped[-1], 2)
        x = self.drop(part["e4"](x))
        for number in "321":
            x = functional.interpolate(part[f"u{number}"](x), scale_factor=2, mode="nearest")
            x = part[f"d{number}"](x + skipped.pop())
        return self.out(x)[:, 0]


def blob(rng: np.random.Generator) -> Lesion:
    """Draw a bright round shape on dark ground: size, form, edge, contrast, grain and clouds are left to chance."""
    height = 256
    half = height * np.exp(rng.uniform(np.log(0.03), np.log(0.33)))
    stretch, turn = np.exp(rng.uniform(-0.4, 0.4)), rng.uniform(0, np.pi)
    y, x = np.mgrid[:height, :height] + 0.5 - height / 2 + rng.uniform(-0.1, 0.1, (2, 1, 1)) * height
    along, across = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    along, across = along * stretch, across / stretch
    angle = np.arctan2(across, along)
    waves = sum(rng.normal(0, 0.12 / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4, 5))
    outside = np.hypot(along, across) / half - 1 - rng.random() * waves
    shape = 1 / (1 + np.exp(np.clip(outside * 10 ** rng.uniform(0.7, 3), -50, 50)))
    clouds = cv2.resize(rng.normal(size=(6, 6)), (height, height), interpolation=cv2.INTER_CUBIC)
    ground = 0.3 * rng.random() * clouds + 0.2 * rng.random() ** 2 * rng.normal(size=(height, height))
    grey = rng.uniform(0.1, 0.5) + rng.uniform(0.05, 0.4) * (shape + ground)
    pixels = (np.clip(grey, 0, 1) * 65535).astype(np.uint16)
    return lesion_of(Image(pixels, pixels > 0, "none", "blob"), outside < 0)


def example(
    lesion: Lesion, white: NDArray[np.uint16], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give the features and the target (G, G) of a lesion, white on black: its box moved, turned, mirrored, noisy."""
    window = lesion.box
    if rng.random() < 0.5:
        box = jittered(lesion, share=JITTER, rng=rng)
        height, width = lesion.image.pixels.shape
        window = (max(0, int(box.x0)), max(0, int(box.y0)), min(width, int(box.x1)), min(height, int(box.y1)))
    points = learned.sample(lesion.image.pixels, window)
    target = learned.sample(white, window)
    (x0, y0, x1, y1), height = window, lesion.image.pixels.shape[0] * np.exp(rng.normal(0, 0.3))
    if rng.random() < 0.5:
        points, target, (x0, y0, x1, y1) = points.T, target.T, (y0, x0, y1, x1)
    if rng.random() < 0.5:
        points, target = points[:, ::-1], target[:, ::-1]
    if rng.random() < 0.5:
        points, target = points[::-1], target[::-1]
    slow = cv2.resize(rng.normal(size=(4, 4)).astype(np.float32), points.shape, interpolation=cv2.INTER_CUBIC)
    noise = rng.normal(0, 0.05) * slow + rng.normal(0, 0.08) * rng.random() * rng.normal(size=points.shape)
    points = (points + noise * points.std()).astype(np.float32)
    return learned.features(points, (x0, y0, x1, y1), height=height), np.ascontiguousarray(target)


def loss_of(logits: Tensor, target: Tensor) -> Tensor:
    """Give 1 - Dice and half the cross-entropy, of what lies in the box."""
    logits, target = logits[:, INSIDE, INSIDE], target[:, INSIDE, INSIDE]
    share = logits.sigmoid()
    dice = (2 * (share * target).sum((1, 2)) + 1) / (share.sum((1, 2)) + target.sum((1, 2)) + 1)
    return 1 - dice.mean() + 0.5 * functional.binary_cross_entropy_with_logits(logits, target)


def train(lesions: Sequence[Lesion]) -> Network:
    """Train a network; the same lesions give the same one."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    lesions = [*lesions, *(blob(rng) for _ in range(BLOBS))]
    whites = [lesion.truth() * np.uint16(65535) for lesion in lesions]
    network = Network().to(memory_format=torch.channels_last)
    steps = EPOCHS * -(-len(lesions) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.2)
    for epoch in range(EPOCHS):
        losses = []
        for chosen in np.array_split(rng.permutation(len(lesions)), -(-len(lesions) // BATCH)):
            features, targets = zip(*(example(lesions[number], whites[number], rng) for number in chosen), strict=True)
            images = torch.from_numpy(np.stack(features)).to(memory_format=torch.channels_last)
            loss = loss_of(network(images), torch.from_numpy(np.stack(targets)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1} of {EPOCHS}: loss {np.mean(losses):.3f}", file=sys.stderr, flush=True)
    return network.eval()


def arrays(network: Network) -> dict[str, NDArray[np.float16]]:
    """Give what `learned.load` reads: batch normalisation folded into the convolutions."""
    found = {"out.weight": network.out.weight, "out.bias": network.out.bias}
    for name, module in network.named_modules():
        if isinstance(module, nn.Sequential) and isinstance(module[0], nn.Conv2d):
            norm = module[1]
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            found[f"{name}.weight"] = module[0].weight * scale[:, None, None, None]
            found[f"{name}.bias"] = norm.bias - norm.running_mean * scale
    return {name: value.detach().numpy().astype(np.float16) for name, value in found.items()}


def main(raw: Path, work: Path, wanted: Sequence[str]) -> None:
    """Train what is wanted, and write it."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    lesions = read(raw)
    fold = folds(lesions)
    work.mkdir(parents=True, exist_ok=True)
    for name in wanted or [*map(str, range(FOLDS)), "all"]:
        seen = [lesion for lesion, number in zip(lesions, fold, strict=True) if str(number) != name]
        path = work / ("learned.npz" if name == "all" else f"fold-{name}.npz")
        np.savez_compressed(path, **arrays(train(seen)))
        print(f"{path}: {len(seen)} outlines of {len({lesion.image.patient for lesion in seen})} patients")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
