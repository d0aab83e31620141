"""Measure m-odise at its full size on one GPU: the paper's way of running it, then ours, a measure more in each row.

The weights are random and of the published sizes, so no file is needed; what is measured does not hang on their values.
Training is one image a step: loss, backward pass, clipping, AdamW. Prediction is one image of 1024 x 832.
The paper's way: float32, windows one after the other, three copies of BiomedCLIP held (one of them is asked), attention
with its weights written out, the UNet's weights with gradients that nobody uses, UNet and VAE run to their ends, no
cache. Both ways recompute the UNet's activations in the backward pass. TF32 is as torch sets it: on in convolutions.
The cache lies in the folder for temporary files; memory is what torch had allocated at most, weights and all.

Type: python examples/benchmarks/train_gpu.py            (one GPU, under 8 minutes)
      python examples/benchmarks/train_gpu.py --small    (any machine: the same road on a small network, no figures)
"""

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from unittest.mock import patch

import torch
from torch import Tensor, nn

from mammoprep.panoptic import make_categories
from mammoprep_model import data, parts, speed, tiny, zoo
from mammoprep_model.caches import Cache, open_cache
from mammoprep_model.config import ModelConfig, TrainConfig
from mammoprep_model.odise import backbone
from mammoprep_model.odise.network import Odise, wire
from mammoprep_model.optimizer import make_optimizer
from mammoprep_model.segmenter import Batch

CATEGORIES = make_categories(["BI-RADS 3", "BI-RADS 4", "BI-RADS 5"])
VIEWS = 4
"""Different training images."""


@dataclass(frozen=True)
class Way:
    """How the network is run; the defaults are the paper's."""

    copies: int = 3
    unet_gradients: bool = True
    to_the_end: bool = True
    together: bool = False
    fused: bool = False
    mixed: bool = False
    halves: bool = False
    channels_last: bool = False
    cached: bool = False
    compiled: bool = False


MEASURES = {
    "one BiomedCLIP": {"copies": 1},
    "no gradients of the UNet's weights": {"unet_gradients": False},
    "nothing behind the last taps": {"to_the_end": False},
    "windows together": {"together": True},
    "fused attention": {"fused": True},
    "bfloat16 autocast": {"mixed": True},
    "frozen weights in bfloat16": {"halves": True},
    "channels-last": {"channels_last": True},
    "cache of frozen answers": {"cached": True},
    "torch.compile": {"compiled": True},
}


@dataclass(frozen=True)
class Scale:
    """What is measured on which device: sides of training images, size of the predicted one, seconds a figure."""

    device: str
    model: ModelConfig
    sides: tuple[int, int]
    predicted: tuple[int, int]
    seconds: float
    diffusion: Callable[[], parts.Diffusion]
    encoders: Callable[[], parts.Encoders]
    copy: Callable[[], nn.Module]


def diffusion() -> parts.Diffusion:
    """Give Stable Diffusion 1.x: UNet, VAE and an encoding of the empty prompt."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
    )
    return parts.Diffusion(UNet2DConditionModel(cross_attention_dim=768), vae, torch.randn(1, 77, 768), pretrained=True)


class Vision(nn.Module):
    """BiomedCLIP's ViT-B/16 with its projection to 512 numbers."""

    def __init__(self) -> None:
        from transformers import ViTConfig, ViTModel

        super().__init__()
        self.transformer = ViTModel(ViTConfig(), add_pooling_layer=False)
        self.projection = nn.Linear(768, 512, bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Embed pixels (B, 3, 224, 224)."""
        return self.projection(self.transformer(pixels).last_hidden_state[:, 0])


def encoders() -> parts.Encoders:
    """Give the image half; texts are encoded once, before training, by what is not kept."""
    image = parts.ImageEncoder(Vision(), size=224)
    return parts.Encoders(image.eval(), lambda texts: torch.randn(len(texts), 512), 512, pretrained=True)


def whole_clip() -> nn.Module:
    """Give both halves of BiomedCLIP."""
    from transformers import BertConfig, BertModel

    return nn.ModuleList([Vision(), BertModel(BertConfig(), add_pooling_layer=False)])


FULL = Scale("cuda", zoo.preset("m-odise").model, (512, 1024), (1024, 832), 5.0, diffusion, encoders, copy=whole_clip)
SMALL = Scale(
    "cpu",
    replace(zoo.preset("tiny").model, backbone_frozen=True, window=64, checkpointing=True),
    (64, 128),
    (128, 64),
    0.0,
    lambda: parts.Diffusion(tiny.unet(), tiny.vae(), tiny.empty_prompt(), pretrained=True),
    lambda: parts.load_encoders("tiny", {}),
    copy=lambda: nn.ModuleList([tiny.ImageModel(), tiny.TextModel()]),
)


def build(way: Way, scale: Scale) -> tuple[Odise, torch.optim.Optimizer, list[nn.Module]]:
    """Give the network, its optimiser and what else is held."""
    with ExitStack() as stack:
        stack.enter_context(torch.device(scale.device))
        if way.to_the_end:
            for cut in ("_cut_unet", "_cut_decoder"):
                stack.enter_context(patch.object(backbone, cut))
        source, clip = scale.diffusion(), scale.encoders()
        network = wire(scale.model, categories=CATEGORIES, source=source, image=clip, text=clip)
        held = [scale.copy().requires_grad_(False) for _ in range(way.copies - 1)]
    network.to(scale.device)
    optimizer = make_optimizer(network, TrainConfig())
    network.backbone.unet.requires_grad_(way.unet_gradients)
    if not way.together:
        network._features = partial(window_by_window, network)
    if not way.fused:
        write_attention_out(network)
    if way.halves:
        speed.to_bfloat16(network)
    if way.channels_last:
        speed.to_channels_last(network)
    if way.compiled:
        speed.compile_blocks(network)
    return network, optimizer, held


def window_by_window(network: Odise, images: Tensor, _: Sequence[object]) -> tuple[Tensor, ...]:
    """Run captioner and backbone once a window."""
    size, window = (images.shape[2], images.shape[3]), network.config.window
    windows = backbone.cut(images, window=window).split(len(images))
    seen = [network.backbone(each, *network.captioner(each)) for each in windows]
    return tuple(backbone.merge(torch.cat(maps), size, window=window) for maps in zip(*seen, strict=True))


def write_attention_out(network: Odise) -> None:
    """Let diffusion model and mask generator compute attention as matrices, as the published code does."""
    from diffusers.models.attention_processor import AttnProcessor

    network.backbone.unet.set_attn_processor(AttnProcessor())
    network.backbone.vae.set_attn_processor(AttnProcessor())
    for module in network.mask_generator.modules():
        if isinstance(module, nn.MultiheadAttention):
            module.register_forward_pre_hook(
                lambda _, inputs, named: (inputs, {**named, "need_weights": True}), with_kwargs=True
            )


@dataclass(frozen=True)
class Views:
    """A few training images with three lesions, breast and background each."""

    side: int

    def batch(self, position: int) -> Batch:
        """Give the image at a position of the endless stream."""
        generator = torch.Generator().manual_seed(position % VIEWS)
        images = torch.rand(1, 1, self.side, self.side, generator=generator).repeat(1, 3, 1, 1)
        masks = torch.zeros(5, self.side, self.side)
        masks[3, :, : self.side // 2], masks[4, :, self.side // 2 :] = 1, 1
        for number in range(3):
            at, length = self.side * (1 + 2 * number) // 8, self.side // 10
            masks[number, at : at + length, at // 2 : at // 2 + length] = 1
        return Batch(images, (masks,), (torch.arange(5),), (position % VIEWS,))


def autocast(way: Way, scale: Scale) -> torch.autocast:
    """Give the precision of a way."""
    return torch.autocast(scale.device, torch.bfloat16, enabled=way.mixed)


def training(way: Way, scale: Scale, side: int) -> str:
    """Measure training steps on images of side x side pixels."""
    network, optimizer, held = build(way, scale)
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    with TemporaryDirectory() as folder:
        cache = Cache()
        if way.cached:
            config = TrainConfig(size=side, crop=side, augment="none", cache_gib=4)
            with autocast(way, scale):
                cache, _ = open_cache(network, folder=Path(folder), config=config, images=VIEWS)
        stream = data.stream(Views(side), range(10**6), then=cache.read)  # type: ignore[arg-type]

        def step() -> None:
            batch = next(stream)
            with autocast(way, scale):
                losses = network.loss(cache.fill(batch.to(scale.device)))
            optimizer.zero_grad(set_to_none=True)
            torch.stack([*losses.values()]).sum().backward()
            nn.utils.clip_grad_norm_(trained, 0.01)
            optimizer.step()

        return measure(step, scale, warm_up=2 * VIEWS if way.cached else 2)


def prediction(way: Way, scale: Scale) -> str:
    """Measure the prediction of one image."""
    network, _, held = build(replace(way, unet_gradients=False), scale)
    network.eval()
    image = torch.rand(1, 3, *scale.predicted, device=scale.device)

    def step() -> None:
        with torch.inference_mode(), autocast(way, scale):
            network.predict(image)

    return measure(step, scale, warm_up=2)


def measure(step: Callable[[], None], scale: Scale, *, warm_up: int) -> str:
    """Give images a second and the peak of allocated memory in GiB; on a CPU only that it ran."""
    on_gpu = scale.device == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    for _ in range(warm_up):
        step()
    wait = torch.cuda.synchronize if on_gpu else nullcontext
    wait()
    start, steps = perf_counter(), 0
    while steps == 0 or perf_counter() - start < scale.seconds:
        step()
        wait()
        steps += 1
    rate = steps / (perf_counter() - start)
    return f"{rate:7.2f} {torch.cuda.max_memory_allocated() / 2**30:6.1f}" if on_gpu else "    ran"


@contextmanager
def room(scale: Scale) -> Iterator[None]:
    """Leave the GPU empty behind."""
    try:
        yield
    finally:
        gc.collect()
        torch.compiler.reset()
        if scale.device == "cuda":
            torch.cuda.empty_cache()


def figure(work: Callable[[], str], scale: Scale) -> str:
    """Give a cell of the table."""
    with room(scale):
        try:
            return work()
        except torch.OutOfMemoryError:
            return "out of memory"


def main(scale: Scale) -> None:
    """Print a row a way as soon as it is measured."""
    torch.manual_seed(0)
    if scale.device == "cuda":
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; images/s and peak GiB, one image a step")
    sides = [f"training {side}²" for side in scale.sides]
    titles = [*sides, "prediction {} x {}".format(*scale.predicted)]
    print(f"{'':38}" + "".join(f"{title:>26}" for title in titles))
    way = Way()
    for name, change in {"the paper's way": {}, **MEASURES}.items():
        way = replace(way, **change)
        works = [*(partial(training, way, scale, side) for side in scale.sides), partial(prediction, way, scale)]
        row = "".join(f"{figure(work, scale):>26}" for work in works)
        print(f"{('+ ' if change else '') + name:38}{row}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["--small"]):
        sys.exit(__doc__)
    if not sys.argv[1:] and not torch.cuda.is_available():
        print("torch sees no CUDA GPU: nothing is measured. --small runs the same road on a CPU.", file=sys.stderr)
        sys.exit(2)
    main(SMALL if sys.argv[1:] else FULL)
