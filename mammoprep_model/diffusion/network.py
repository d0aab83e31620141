"""The diffusion family: a network that draws masks from noise, or learns them at once, built and wired."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mammoprep.errors import MammoprepError
from mammoprep.panoptic import Category
from mammoprep_model import components
from mammoprep_model.diffusion import fuse, sampler
from mammoprep_model.diffusion.config import DiffusionConfig
from mammoprep_model.diffusion.dense import ImageFeatures
from mammoprep_model.diffusion.highway import Highway
from mammoprep_model.diffusion.process import Process
from mammoprep_model.diffusion.unet import Denoiser, make_unet
from mammoprep_model.saved import Saved
from mammoprep_model.segmenter import Batch, Prediction, Whole


class DiffusionSegmenter(Saved):
    """Segment images by masks with a channel a category; it keeps the contract of `segmenter.Segmenter`.

    A coded mask is x_0: 1 where a pixel is of the channel's category, `config.low` elsewhere. Under the feed-forward
    objective the network sees noise in the place of x_t, always at t = T - 1, and its output is x_0.
    """

    def __init__(self, config: DiffusionConfig, *, denoiser: Denoiser, categories: Sequence[Category]) -> None:
        super().__init__()
        self.config = config
        self.denoiser = denoiser
        self.process = Process(config.time_steps, low=config.low)
        self._is_thing = [category.isthing for category in categories]

    @property
    def is_thing(self) -> Sequence[bool]:
        """Tell of each channel whether it is a lesion class."""
        return self._is_thing

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Give the squared error, the variational bound and the highway's error, each where the model has it.

        Class weights weigh the channels in the squared error.
        """
        self._check_sides(batch.images)
        config, clean = self.config, self.encode(batch)
        whole = batch.whole or Whole(batch.labels, first=0)
        rows, total = slice(whole.first, whole.first + len(clean)), len(whole.labels)
        steps = torch.randint(config.time_steps, (total,), device=clean.device)[rows]
        noise = torch.randn(total, *clean.shape[1:], device=clean.device)[rows]
        given, target = self.process.noised(clean, steps, noise), noise
        if config.objective == "feed-forward":
            steps, given, target = torch.full_like(steps, config.time_steps - 1), noise, clean
        output, mask = self.denoiser(given, steps, self.denoiser.condition(batch.images[:, :1]))
        output = output.float()
        error = (output[:, : clean.shape[1]] - target).square()
        if batch.class_weights is not None:
            error = error * batch.class_weights.view(-1, 1, 1)
        terms = {"error": error.flatten(1).sum(1) if config.loss == "sum" else error.flatten(1).mean(1)}
        if config.learns_variance:
            predicted, share = output.chunk(2, dim=1)
            terms["bound"] = self.process.bound(clean, given, steps, noise=predicted, share=share)
        if mask is not None:
            terms["highway"] = config.highway_weight * (mask.float() - clean).square().flatten(1).mean(1)
        return {name: values.sum() / total for name, values in terms.items()}

    def _check_sides(self, images: Tensor) -> None:
        """Refuse sides that the UNet cannot halve as often as it does."""
        if any(side % self.config.stride for side in images.shape[2:]):
            raise MammoprepError(
                f"The UNet's {len(self.config.multipliers)} levels need images whose sides are multiples of"
                f" {self.config.stride}. Say --set train.stride={self.config.stride}, and train.crop a multiple of it."
            )

    def encode(self, batch: Batch) -> Tensor:
        """Give the coded masks (B, C, H, W) of a batch's segments; nothing is 1 where no segment is."""
        inside = batch.images.new_zeros(len(batch.images), len(self._is_thing), *batch.images.shape[2:])
        for image, masks, labels in zip(inside, batch.masks, batch.labels, strict=True):
            for mask, label in zip(masks, labels.tolist(), strict=True):
                image[label] = torch.maximum(image[label], mask)
        return self.config.low + (1 - self.config.low) * inside

    @torch.no_grad()
    def predict(self, images: Tensor) -> list[Prediction]:
        """Segment images (B, 3, H, W), one at a time, so that no image's samples hang on its batch."""
        self._check_sides(images)
        return [self._predict(image[None, :1]) for image in images]

    def _predict(self, image: Tensor) -> Prediction:
        samples = self.samples(image)
        maps = fuse.staple(samples) if self.config.fuse == "staple" else fuse.mean(samples)
        found = components.predict(maps.logit(eps=1e-6), is_thing=self._is_thing)
        return replace(found, maps=maps, uncertainty=fuse.spread(samples))

    def samples(self, image: Tensor) -> Tensor:
        """Draw S masks of an image (1, 1, H, W) as probabilities (S, C, H, W) that add up to 1 at each pixel.

        A channel's probability is its share of what all channels claim; what none claims is the last category's.
        """
        config, streams = self.config, sampler.generators(self.config)
        shape = (len(self._is_thing), *image.shape[2:])
        noise = sampler.start(shape, streams, device=image.device)
        condition = self.denoiser.condition(image).expand(config.samples, -1, -1, -1)
        if config.objective == "feed-forward":
            last = torch.full((config.samples,), config.time_steps - 1, device=image.device)
            drawn, _ = self.estimate(noise, last, condition)
        else:

            def denoise(noised: Tensor, steps: Tensor) -> tuple[Tensor, Tensor | None]:
                return self.estimate(noised, steps, condition)

            drawn = sampler.draw(denoise, noise, config=config, betas=self.process.betas, streams=streams)
        return self.decode(drawn)

    def estimate(self, noised: Tensor, steps: Tensor, condition: Tensor) -> tuple[Tensor, Tensor | None]:
        """Give the x_0 that x_t (B, C, H, W) at steps (B,) is taken to come from, and the variance's share or None.

        x_0 is kept in its range; `condition` is the denoiser's of the images.
        """
        output = self.denoiser(noised, steps, condition)[0].float()
        share = None
        if self.config.learns_variance:
            output, share = output.chunk(2, dim=1)
        clean = output if self.config.objective == "feed-forward" else self.process.clean(noised, steps, output)
        return clean.clamp(self.config.low, 1), share

    def decode(self, clean: Tensor) -> Tensor:
        """Turn x_0 (B, C, H, W) into probabilities."""
        claims = (clean - self.config.low) / (1 - self.config.low)
        claims[:, -1] += claims.sum(dim=1) == 0
        return claims / claims.sum(dim=1, keepdim=True)


def build(
    config: DiffusionConfig, *, categories: Sequence[Category], weights: Mapping[str, str] | None = None
) -> DiffusionSegmenter:
    """Build a network with random weights for the categories of a data set; none of its parts is pretrained."""
    if weights:
        raise MammoprepError(f"This model starts random: it has no part {min(weights)!r}. Leave --weights out.")
    config.check()
    channels = len(categories)
    out = channels * (1 + config.learns_variance)
    features = highway = None
    if config.condition == "add":
        features = ImageFeatures(blocks=config.dense_blocks, channels=config.dense_channels, out=config.channels)
    elif config.condition == "highway":
        stages = [config.channels * multiplier for multiplier in config.multipliers]
        highway = Highway(stages, channels=config.highway_channels, masks=channels)
    unet = make_unet(config, given=channels + (features is None), out=out)
    return DiffusionSegmenter(
        config, denoiser=Denoiser(unet, features=features, highway=highway), categories=categories
    )
