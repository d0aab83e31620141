"""The parts that a network is built on: a diffusion model and encoders, pretrained or tiny and random."""

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mammoprep.errors import MammoprepError
from mammoprep.panoptic import read_json
from mammoprep_model import tiny, weights

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_NEW_IN_SWIN = ("hidden_states_norms.", "swin.layernorm.")


@dataclass(frozen=True)
class Diffusion:
    """A latent-diffusion model. `empty_prompt` (1, T, D) is the text encoding of ""."""

    unet: Any
    vae: Any
    empty_prompt: Tensor
    pretrained: bool

    @property
    def time_width(self) -> int:
        """Give the width of the UNet's time embedding."""
        width: int = self.unet.time_embedding.linear_2.out_features
        return width


@dataclass(frozen=True)
class SwinSource:
    """A Swin transformer with the outputs of its four stages, as transformers' SwinBackbone."""

    swin: Any
    pretrained: bool


@dataclass(frozen=True)
class Encoders:
    """An image and a text encoder whose embeddings have `width` numbers."""

    image: "ImageEncoder"
    text: Callable[[Sequence[str]], Tensor]
    width: int
    pretrained: bool


class ImageEncoder(nn.Module):
    """Embed images for the captioner; `model` maps normalised pixels (B, 3, size, size) to embeddings (B, D)."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, model: nn.Module, *, size: int, mean: Sequence[float] = CLIP_MEAN, std: Sequence[float] = CLIP_STD
    ) -> None:
        super().__init__()
        self.model = model
        self.size = size
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) in [0, 1], resized to a square, to embeddings (B, D), not normalised."""
        resized = F.interpolate(images, (self.size, self.size), mode="bicubic", antialias=True).clamp(0, 1)
        embeddings: Tensor = self.model((resized - self.mean) / self.std)
        return embeddings


def load_diffusion(part: str, places: Mapping[str, str]) -> Diffusion:
    """Load the UNet, the VAE and the encoding of the empty prompt of `tiny` or a diffusers folder."""
    if part == "tiny":
        return Diffusion(tiny.unet(), tiny.vae(), tiny.empty_prompt(), pretrained=False)
    folder = _folder(part, places, layouts=("diffusers",))
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    with _reading(part, folder):
        unet = _from_diffusers(UNet2DConditionModel, folder / "unet")
        vae = _from_diffusers(AutoencoderKL, folder / "vae")
        empty_prompt = _empty_prompt(folder)
    _check_layout(part, folder, unet=unet, vae=vae)
    return Diffusion(unet, vae, empty_prompt, pretrained=True)


def is_swin(part: str) -> bool:
    """Tell a Swin transformer from a diffusion model by the name of the part."""
    return part == "tiny-swin" or (part != "tiny" and weights.source_of(part).layout == "swin")


def load_swin(part: str, places: Mapping[str, str]) -> SwinSource:
    """Load a Swin transformer as a backbone of four stages from a transformers folder.

    The norms behind the stages are new: a classifier has none. `tiny-swin` is small and random.
    """
    if part == "tiny-swin":
        return SwinSource(tiny.swin(), pretrained=False)
    folder = _folder(part, places, layouts=("swin",))
    from transformers import SwinBackbone

    stages = [f"stage{number}" for number in range(1, 5)]
    with _reading(part, folder):
        swin = _from_folder(SwinBackbone, folder, new=_NEW_IN_SWIN, out_features=stages)
    return SwinSource(swin, pretrained=True)


def load_encoders(part: str, places: Mapping[str, str]) -> Encoders:
    """Load an image and a text encoder: `tiny`, a transformers CLIP, or BiomedCLIP in open_clip's layout."""
    if part == "tiny":
        image = ImageEncoder(tiny.ImageModel(), size=tiny.IMAGE_SIZE)
        return Encoders(image, tiny.TextModel(), tiny.WIDTH, pretrained=False)
    folder = _folder(part, places, layouts=("clip", "open_clip"))
    with _reading(part, folder):
        return _clip(folder) if weights.source_of(part).layout == "clip" else _biomedclip(folder)


def _folder(part: str, places: Mapping[str, str], *, layouts: Sequence[str]) -> Path:
    """Locate a part that must be of one of the layouts."""
    source = weights.source_of(part)
    if source.layout not in layouts:
        fitting = ["tiny", *(name for name, other in weights.SOURCES.items() if other.layout in layouts)]
        raise MammoprepError(f"{part} cannot be used here. Choose {', '.join(fitting)}.")
    return weights.locate(part, places)


def _biomedclip(folder: Path) -> Encoders:
    """Load a CLIP whose open_clip checkpoint holds timm's ViT and a BERT."""
    from transformers import BertTokenizer

    from mammoprep_model import biomedclip

    settings = read_json(folder / "open_clip_config.json", hint="It comes with the checkpoint.")
    pixels = settings.get("preprocess_cfg", {})
    state = _read_tensors(next(path for path in map(folder.joinpath, weights.OPEN_CLIP_WEIGHTS) if path.is_file()))
    vision = biomedclip.Vision(state)
    text = biomedclip.Text(
        state,
        tokenizer=BertTokenizer.from_pretrained(folder, local_files_only=True),
        context=settings["model_cfg"]["text_cfg"].get("context_length", 256),
    )
    mean, std = pixels.get("mean", CLIP_MEAN), pixels.get("std", CLIP_STD)
    image = ImageEncoder(vision, size=vision.size, mean=mean, std=std)
    return Encoders(image.eval(), text.eval(), vision.projection.out_features, pretrained=True)


def _clip(folder: Path) -> Encoders:
    """Load a CLIP from a transformers folder."""
    from transformers import CLIPModel, CLIPTokenizer

    model = _from_folder(CLIPModel, folder).eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    context = model.config.text_config.max_position_embeddings

    @torch.no_grad()
    def text(texts: Sequence[str]) -> Tensor:
        tokens = tokenizer(list(texts), padding=True, truncation=True, max_length=context, return_tensors="pt")
        states = model.text_model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        embeddings: Tensor = model.text_projection(states.pooler_output)
        return embeddings

    image = ImageEncoder(_ClipVision(model), size=model.config.vision_config.image_size)
    return Encoders(image.eval(), text, model.config.projection_dim, pretrained=True)


class _ClipVision(nn.Module):
    """The image half of transformers' CLIP."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.transformer = model.vision_model
        self.projection = model.visual_projection

    def forward(self, pixels: Tensor) -> Tensor:
        embeddings: Tensor = self.projection(self.transformer(pixels).pooler_output)
        return embeddings


@torch.no_grad()
def _empty_prompt(folder: Path) -> Tensor:
    """Encode the empty prompt with a diffusion model's own text encoder: (1, T, D)."""
    from transformers import CLIPTextModel, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    encoder = _from_folder(CLIPTextModel, folder / "text_encoder").eval()
    length = encoder.config.max_position_embeddings
    tokens = tokenizer([""], padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    encoded: Tensor = encoder(tokens["input_ids"]).last_hidden_state
    return encoded


def _from_diffusers(architecture: Any, folder: Path) -> Any:
    """Load a diffusers model; .bin files are asked for where there is no other, which saves an alarming message."""
    safe = (folder / "diffusion_pytorch_model.safetensors").is_file()
    return _from_folder(architecture, folder, low_cpu_mem_usage=False, use_safetensors=safe)


def _from_folder(architecture: Any, folder: Path, *, new: tuple[str, ...] = (), **options: Any) -> Any:
    """Load a diffusers or transformers model in float32; a tensor that the folder lacks is a KeyError, but for `new`.

    Both libraries read .bin files with `weights_only=True`; what is missing they would fill with random numbers.
    """
    model, info = architecture.from_pretrained(folder, local_files_only=True, output_loading_info=True, **options)
    if missing := sorted(name for name in info["missing_keys"] if not name.startswith(new)):
        raise KeyError(missing[0])
    return model.float()


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors or a .bin file without unpickling objects."""
    if path.suffix == ".safetensors":
        return load_file(path)
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


@contextmanager
def _reading(part: str, folder: Path) -> Iterator[None]:
    """Say which part of which folder could not be read."""
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, pickle.UnpicklingError, SafetensorError) as error:
        reason = f"it has no {error.args[0]}" if isinstance(error, KeyError) else str(error).split("\n")[0]
        raise MammoprepError(f"{folder} is no readable {part}: {reason}. {weights.needs(part)}") from error


def _check_layout(part: str, folder: Path, *, unet: Any, vae: Any) -> None:
    """Refuse a diffusion model without the blocks of Stable Diffusion 1.x and 2.x that features are taken from."""
    blocks = [len(block.resnets) for block in unet.up_blocks]
    levels = [len(block.resnets) for block in vae.encoder.down_blocks]
    if blocks != [3] * 4 or levels != [2] * 4 or vae.config.latent_channels != unet.config.in_channels:
        raise MammoprepError(f"{folder} is another model: {part} needs the layout of Stable Diffusion 1.x or 2.x.")
