"""Count what a training step holds in a GPU's memory at most, on a machine that has none.

No number is computed: the step runs on tensors without content (torch's FakeTensorMode), loss, backward pass, clipping
and AdamW, and every tensor is counted from its birth to its death. Precision is as on a GPU in bfloat16: what CUDA's
autocast leaves in float32 (norms, softmax) is made so here, and attention runs in one operation. Beyond the tensors a
GPU holds the driver's context (about 0.5 GB), workspaces of convolutions, and gaps between blocks.

WHAT is a preset, or a stage of `mammoprep pretrain --base compact`; a setting is as theirs.

Type: python examples/benchmarks/train_memory.py m-odise|m-odise-compact|autoencoder|diffusion [SETTING=VALUE …]
"""

import sys
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary
from train_gpu import CATEGORIES, diffusion, encoders

from mammoprep_model import compact, losses, parts, settings, speed, zoo
from mammoprep_model.config import TrainConfig
from mammoprep_model.odise import mask_generator
from mammoprep_model.odise.network import wire
from mammoprep_model.optimizer import Average, make_optimizer
from mammoprep_model.pretrain import recipe
from mammoprep_model.pretrain.autoencoder import Autoencoder
from mammoprep_model.pretrain.diffusion import Diffusion
from mammoprep_model.pretrain.pipeline import Pipeline
from mammoprep_model.segmenter import Batch

IN_FLOAT32 = ("group_norm", "layer_norm", "softmax")
"""What CUDA's autocast computes in float32 and the CPU's does not."""


class Memory(TorchDispatchMode):
    """Counts the bytes of all storages that live; `peak` is the highest count."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known = WeakIdKeyDictionary()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._add(leaf.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        size = -(-storage.nbytes() // 512) * 512  # the least that torch's allocator gives
        self._known[storage] = size
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.now -= size


def in_float32(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Let a function compute in float32 under autocast."""

    def call(features: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return function(features.float() if torch.is_autocast_enabled("cpu") else features, *args, **kwargs)

    return call


def first_to_first(masks: Tensor, logits: Tensor, *, targets: losses.Targets, config: Any) -> losses.Pairs:
    """Match the first masks to the segments."""
    places = torch.arange(min(len(masks), len(targets.labels)))
    return losses.Pairs(places, places)


STAND_INS: Mapping[str, Callable[..., Any]] = {
    "match": first_to_first,
    "_present": losses.Targets,
    "_masses": lambda whole, **_: [1.0] * len(whole.labels),
}
"""What of the loss needs numbers; the tensors that these make are small."""


@contextmanager
def nothing_computed() -> Iterator[Memory]:
    """Let tensors have no content, and count them."""
    with ExitStack() as stack:
        for name, stand_in in STAND_INS.items():
            stack.enter_context(patch.object(losses, name, stand_in))
        for name in IN_FLOAT32:
            stack.enter_context(patch.object(functional, name, in_float32(getattr(functional, name))))
        stack.enter_context(
            patch.object(mask_generator, "_without_weights", lambda _, i, named: (i, {**named, "need_weights": False}))
        )
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        yield stack.enter_context(Memory())


@dataclass(frozen=True)
class Work:
    """What takes a step: its networks, their loss on some images, how many are computed at a time, and what is kept."""

    module: nn.Module
    loss: Callable[[], Mapping[str, Tensor]]
    optimizer: torch.optim.Optimizer
    images: int
    side: int
    average: Average | None = None


def small_diffusion() -> parts.Diffusion:
    """Give `compact` in its full size."""
    made = compact.make(seed=0)
    return parts.Diffusion(made.unet, made.vae, torch.randn(1, 77, compact.DEFAULT.text), pretrained=True)


BACKBONES = {"m-odise": diffusion, "m-odise-compact": small_diffusion}


def of_preset(name: str, changes: Sequence[str]) -> Work:
    """Wire a preset in its full size; its images have three lesions, breast and background."""
    preset = settings.change(zoo.preset(name), changes)
    with torch.device("meta"):
        source, clip = BACKBONES[name](), encoders()
        network = wire(preset.model, categories=CATEGORIES, source=source, image=clip, text=clip)
    speed.to_bfloat16(network)
    placed(network.train())
    network.mask_generator.eval()  # it has no dropout; transformers looks at the values of what it trains
    images, side = preset.train.micro_batch or preset.train.batch_size, preset.train.crop

    def loss() -> Mapping[str, Tensor]:
        masks = tuple(torch.ones(5, side, side) for _ in range(images))
        batch = Batch(torch.rand(images, 3, side, side), masks, (torch.arange(5),) * images, tuple(range(images)))
        return network.loss(batch)

    return Work(network, loss, make_optimizer(network, preset.train), images, side)


STAGES = {"autoencoder": Autoencoder, "diffusion": Diffusion}


def of_stage(name: str, changes: Sequence[str]) -> Work:
    """Give a stage of compact's pretraining; UNet, text encoder and VAE are on the GPU where they are needed."""
    values = settings.change(recipe.BASES["compact"], changes)
    config: recipe.StageConfig = getattr(values, name)
    with torch.device("meta"):
        made = compact.make(values.sizes, seed=0)
    made = Pipeline(made.unet, made.vae, made.text_encoder, made.tokenizer)  # with a noise schedule that has numbers
    stage = STAGES[name](made, checkpointing=config.checkpointing)
    module = placed(stage.module.train())
    optimizer = make_optimizer(module, TrainConfig(weight_decay=config.weight_decay))
    average = Average(module, decay=config.ema) if config.ema else None

    def loss() -> Mapping[str, Tensor]:
        images = torch.rand(config.micro_batch, 3, values.size, values.size)
        return stage.loss(images, ("",) * config.micro_batch, generator=torch.Generator())

    return Work(module, loss, optimizer, config.micro_batch, values.size, average)


def placed(network: nn.Module) -> nn.Module:
    """Give every parameter and buffer its place in memory."""
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            empty = torch.empty(parameter.shape, dtype=parameter.dtype)
            setattr(module, name, nn.Parameter(empty, requires_grad=parameter.requires_grad))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype))
    return network


def step(work: Work) -> None:
    """Take a training step, the images of which are computed in two goes."""
    for _ in range(2):  # the gradients of the first are there while the second is computed
        with torch.autocast("cpu", torch.bfloat16):
            terms = work.loss()
        torch.stack([*terms.values()]).sum().backward()
        del terms
    trained = [parameter for group in work.optimizer.param_groups for parameter in group["params"]]
    nn.utils.clip_grad_norm_(trained, 1.0)
    work.optimizer.step()
    if work.average:
        work.average.update()
    work.optimizer.zero_grad(set_to_none=True)


def main(name: str, changes: Sequence[str]) -> None:
    """Print the memory before the first step, and the peak of the second one, when AdamW has its moments."""
    with nothing_computed() as memory:
        work = of_stage(name, changes) if name in STAGES else of_preset(name, changes)
        print(f"{name}: {memory.now / 2**30:.2f} GiB of weights")
        for _ in range(2):
            memory.peak = 0
            step(work)
    print(f"{memory.peak / 2**30:.2f} GiB at most, with {work.images} of {work.side}² pixels at a time")


if __name__ == "__main__":
    what, *options = sys.argv[1:] or [""]
    if what not in (*BACKBONES, *STAGES):
        sys.exit(__doc__)
    main(what, options)
