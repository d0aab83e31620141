"""How well a diffusion network knows the mask at each time step, and how much of it the noised mask gives away.

The curves of "Analysing Diffusion Segmentation for Medical Images" (arXiv 2403.14440), on a run's validation images:
x_0 is estimated in one go at each t: from the true noised mask, as in training, and from noise alone, as at the start
of sampling.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep.panoptic import Panoptic
from mammoprep_model import checkpoint, data, zoo
from mammoprep_model.checkpoint import RunConfig
from mammoprep_model.diffusion.network import DiffusionSegmenter
from mammoprep_model.segmenter import Batch

SHOWN = 8
"""Time steps of the forward process that are drawn."""


@dataclass(frozen=True)
class Curve:
    """At each step: the mean squared error of x_0, coded 0 … 1, and the Dice of all lesions; None without lesions."""

    error: tuple[float, ...]
    dice: tuple[float | None, ...]


@dataclass(frozen=True)
class Analysis:
    """One run's curves at `steps`. `given`: x_t scaled back, without a network; None for both where there is no x_t.

    `forward` (K, H, W), from -1 or 0 to 1: the lesion channels of one noised mask at the steps `drawn`.
    """

    run: str
    preset: str
    objective: str
    dataset: str
    images: int
    time_steps: int
    steps: tuple[int, ...]
    noise: Curve
    true: Curve | None
    given: Curve | None
    drawn: tuple[int, ...]
    forward: NDArray[np.float32]

    def to_json(self) -> dict[str, Any]:
        """Give all but the drawn masks."""
        return {key: value for key, value in asdict(self).items() if key not in ("drawn", "forward")}


def analyse(run: Path, *, on: Path | None, images: int, points: int, device: str) -> Analysis:
    """Estimate the masks of a RUN's first validation images (at most `images`) at so many time steps, evenly spread.

    `on` is its data set where it was moved. Under the feed-forward objective there is one step, the last.
    """
    network, config = _load(run, device=device)
    source, chosen = _images(run, config, on=on, most=images)
    last = network.config.time_steps - 1
    is_diffusion = network.config.objective == "diffusion"
    steps = tuple(np.unique(np.linspace(0, last, points).round().astype(int)).tolist()) if is_diffusion else (last,)
    batches = list(_batches(source, chosen, config=config))
    sums: dict[str, list[_Sums]] = {}
    random = torch.Generator().manual_seed(config.seed)
    with torch.inference_mode():
        for step in steps:
            for name, found in _at(network, batches, step, random=random).items():
                sums.setdefault(name, []).append(found)
    drawn, forward = _forward(network, batches, random=random)
    curves = {name: _curve(each) for name, each in sums.items()}
    return Analysis(
        run=run.name,
        preset=config.preset.name,
        objective=network.config.objective,
        dataset=source.root.name,
        images=len(chosen),
        time_steps=last + 1,
        steps=steps,
        noise=curves["noise"],
        true=curves.get("true"),
        given=curves.get("given"),
        drawn=drawn,
        forward=forward,
    )


def _load(run: Path, *, device: str) -> tuple[DiffusionSegmenter, RunConfig]:
    family = zoo.family_of(checkpoint.read_run(run).preset.model)
    if family != "diffusion":
        raise MammoprepError(f"{run} is of the family {family}, which has no time steps. Name runs by diffusion.")
    network, config = checkpoint.load(run, device=device)
    if not isinstance(network, DiffusionSegmenter):
        raise TypeError(f"{type(network).__name__} is no DiffusionSegmenter")
    return network, config


def _images(run: Path, config: RunConfig, *, on: Path | None, most: int) -> tuple[Panoptic, list[int]]:
    """Give the data set, and the ids of the fold's first validation images; refuse folds made again since."""
    source = panoptic.load(on or Path(config.dataset))
    checkpoint.check_categories(config, source.categories, where=source.root)
    if panoptic.file_hash(source.root / "folds.json") != config.folds_hash:
        raise MammoprepError(
            f"{source.root / 'folds.json'} is not the one that {run} was trained with. Say --on that data set."
        )
    _, validation = panoptic.load_fold(source.root, config.fold)
    return source, sorted(validation)[:most]


def _batches(source: Panoptic, image_ids: Collection[int], *, config: RunConfig) -> Iterator[Batch]:
    """Yield the images whole, nothing left to chance."""
    train = config.preset.train
    side = -(-train.size // train.stride) * train.stride
    plain = replace(
        train, augment="none", view="whole", crop=side, lesion_crops=0.0, balance=False, class_weights="none"
    )
    images = data.TrainingImages(source, image_ids=image_ids, config=plain, seed=config.seed, once=True)
    for place in range(0, len(images), train.batch_size):
        yield images.batch(place).to(config.device)


@dataclass
class _Sums:
    """What adds up over images."""

    error: float = 0.0
    values: int = 0
    both: int = 0
    either: int = 0

    def add(self, found: Tensor, truth: Tensor, *, things: Tensor) -> None:
        """Take in estimates and coded masks (B, C, H, W), 0 … 1."""
        self.error += float((found - truth).double().square().sum())
        self.values += truth.numel()
        lesions, true = (things[each.argmax(dim=1)] for each in (found, truth))
        true = true & (truth.amax(dim=1) > 0)
        self.both += int((lesions & true).sum())
        self.either += int(lesions.sum()) + int(true.sum())


def _at(
    network: DiffusionSegmenter, batches: Collection[Batch], step: int, *, random: torch.Generator
) -> Mapping[str, _Sums]:
    """Estimate the masks of all images at one step, from each thing that there is to estimate them from."""
    config = network.config
    sums: dict[str, _Sums] = {}
    for batch in batches:
        clean = network.encode(batch)
        things = torch.tensor(network.is_thing, device=clean.device)
        steps = torch.full((len(clean),), step, device=clean.device)
        noise = torch.randn(clean.shape, generator=random).to(clean.device)
        condition = network.denoiser.condition(batch.images[:, :1])
        found = {"noise": network.estimate(noise, steps, condition)[0]}
        if config.objective == "diffusion":
            noised = network.process.noised(clean, steps, noise)
            found["true"] = network.estimate(noised, steps, condition)[0]
            found["given"] = network.process.clean(noised, steps, torch.zeros_like(noise)).clamp(config.low, 1)
        for name, estimate in found.items():
            shares = ((each - config.low) / (1 - config.low) for each in (estimate, clean))
            sums.setdefault(name, _Sums()).add(*shares, things=things)
    return sums


def _curve(sums: Collection[_Sums]) -> Curve:
    return Curve(
        error=tuple(each.error / each.values for each in sums),
        dice=tuple(2 * each.both / each.either if each.either else None for each in sums),
    )


def _forward(
    network: DiffusionSegmenter, batches: Collection[Batch], *, random: torch.Generator
) -> tuple[tuple[int, ...], NDArray[np.float32]]:
    """Noise the lesions of the image that has most of them, by the same noise at each step."""
    things = [place for place, is_thing in enumerate(network.is_thing) if is_thing]
    masks = torch.cat([network.encode(batch)[:, things].amax(dim=1) for batch in batches])
    clean = masks[int((masks == 1).flatten(1).sum(dim=1).argmax())]
    steps = torch.linspace(0, network.config.time_steps - 1, SHOWN).round().long()
    noise = torch.randn(clean.shape, generator=random).to(clean.device)
    clean, noise = (each.expand(SHOWN, 1, *clean.shape) for each in (clean, noise))
    noised = network.process.noised(clean, steps.to(clean.device), noise)
    return tuple(steps.tolist()), noised[:, 0].cpu().numpy()
