"""The parts that a network is built on: a diffusion model and encoders, pretrained or tiny and random."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mammoprep.errors import MammoprepError
from mammoprep.panoptic import read_json
from mammoprep_model import tensors, tiny, weight_files, weights
from mammoprep_model.attention import attend_within

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_VIT_EPSILON = 1e-6
"""What Google's vision transformers were trained with; their config.json says another."""
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
    """An image and a text encoder whose embeddings have `width` numbers.

    `scale` is the factor of their cosines with which they were trained.
    """

    image: "ImageEncoder"
    text: Callable[[Sequence[str]], Tensor]
    width: int
    pretrained: bool
    scale: float = 1.0


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
        embeddings: Tensor = self.model(self._pixels(images))
        return embeddings

    def within(self, images: Tensor, masks: Tensor) -> Tensor:
        """Embed what each mask shows: images (B, 3, H, W) and mask logits (B, Q, h, w) to embeddings (B, Q, D)."""
        inside = F.interpolate(masks, (self.size, self.size), mode="bilinear", align_corners=False) >= 0
        embeddings: Tensor = self.model.within(self._pixels(images), inside)  # type: ignore[operator]
        return embeddings

    def _pixels(self, images: Tensor) -> Tensor:
        resized = F.interpolate(images, (self.size, self.size), mode="bicubic", antialias=True).clamp(0, 1)
        return (resized - self.mean) / self.std


def load_diffusion(part: str, places: Mapping[str, str]) -> Diffusion:
    """Load UNet, VAE and the encoding of the empty prompt: `tiny`, a diffusers folder, or one file of CompVis."""
    if part == "tiny":
        return Diffusion(tiny.unet(), tiny.vae(), tiny.empty_prompt(), pretrained=False)
    place = _place(part, places, layouts=("diffusers",))
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    from mammoprep_model import originals

    with tensors.reading(part, place):
        if place.is_file():
            unet, vae, empty_prompt = originals.stable_diffusion(tensors.read(place))
        else:
            unet = from_diffusers(UNet2DConditionModel, place / "unet")
            vae = from_diffusers(AutoencoderKL, place / "vae")
            empty_prompt = _empty_prompt(place)
    check_layout(part, place, unet=unet, vae=vae)
    return Diffusion(unet, vae, empty_prompt, pretrained=True)


def is_swin(part: str) -> bool:
    """Tell a Swin transformer from a diffusion model by the name of the part."""
    return part == "tiny-swin" or (part != "tiny" and weights.source_of(part).layout == "swin")


def load_swin(part: str, places: Mapping[str, str]) -> SwinSource:
    """Load a Swin transformer as a backbone of four stages: a transformers folder, or one file of either layout.

    The norms behind the stages are new: a classifier has none. `tiny-swin` is small and random.
    """
    if part == "tiny-swin":
        return SwinSource(tiny.swin(), pretrained=False)
    place = _place(part, places, layouts=("swin",))
    from transformers import SwinBackbone, SwinConfig

    from mammoprep_model import originals

    with tensors.reading(part, place):
        state = originals.swin_state(tensors.read(place, weight_files.TRANSFORMERS))
        config = originals.swin_config(state) if place.is_file() else SwinConfig.from_pretrained(place)
        config.out_features = [f"stage{number}" for number in range(1, 5)]
        swin = tensors.model(SwinBackbone, config, state, new=_NEW_IN_SWIN)
    return SwinSource(swin, pretrained=True)


def random_vit(*, width: int, layers: int, heads: int) -> Any:
    """Give transformers' vision transformer at random, for patches of 16 pixels of images of 224."""
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        layer_norm_eps=_VIT_EPSILON,
    )
    return ViTModel(config, add_pooling_layer=False)


def load_vit(part: str, places: Mapping[str, str], *, width: int, layers: int, heads: int) -> Any:
    """Load a vision transformer of these sizes: a transformers folder, or a file beside its config.json."""
    place = _place(part, places, layouts=("vit",), else_="random")
    from transformers import ViTConfig, ViTModel

    with tensors.reading(part, place):
        config = ViTConfig.from_pretrained(place.parent if place.is_file() else place, layer_norm_eps=_VIT_EPSILON)
        vit = tensors.model(ViTModel, config, tensors.read(place, weight_files.TRANSFORMERS), new=("pooler.",))
    found = {"width": config.hidden_size, "layers": config.num_hidden_layers, "heads": config.num_attention_heads}
    if (config.patch_size, config.image_size) != (16, 224):
        raise MammoprepError(f"{place} is another model: {part} has patches of 16 pixels and images of 224.")
    if found != {"width": width, "layers": layers, "heads": heads}:
        settings = " ".join(f"--set model.{name}={size}" for name, size in found.items())
        raise MammoprepError(f"{place} holds a {part} of other sizes than this model. Say {settings}.")
    return vit


def load_mask_generator(part: str, places: Mapping[str, str]) -> dict[str, Tensor]:
    """Load the pixel decoder and the transformer of a whole Mask2Former, by `MaskGenerator`'s names of the tensors."""
    place = _place(part, places, layouts=("mask2former",))
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation

    with tensors.reading(part, place):
        config = Mask2FormerConfig.from_pretrained(place.parent if place.is_file() else place)
        state = tensors.read(place, weight_files.TRANSFORMERS)
        model = tensors.model(Mask2FormerForUniversalSegmentation, config, state).model
    halves = {"pixel_decoder": model.pixel_level_module.decoder, "transformer": model.transformer_module}
    return {f"{name}.{key}": value for name, half in halves.items() for key, value in half.state_dict().items()}


def load_encoders(part: str, places: Mapping[str, str]) -> Encoders:
    """Load an image and a text encoder: `tiny`, a transformers CLIP, or BiomedCLIP in open_clip's layout."""
    if part == "tiny":
        image = ImageEncoder(tiny.ImageModel(), size=tiny.IMAGE_SIZE)
        return Encoders(image, tiny.TextModel(), tiny.WIDTH, pretrained=False)
    place = _place(part, places, layouts=("clip", "open_clip"))
    with tensors.reading(part, place):
        return _clip(place) if weights.source_of(part).layout == "clip" else _biomedclip(place)


def _place(part: str, places: Mapping[str, str], *, layouts: Sequence[str], else_: str = "tiny") -> Path:
    """Locate a part that must be of one of the layouts."""
    source = weights.source_of(part)
    if source.layout not in layouts:
        fitting = [else_, *(name for name, other in weights.SOURCES.items() if other.layout in layouts)]
        raise MammoprepError(f"{part} cannot be used here. Choose {', '.join(fitting)}.")
    return weights.locate(part, places)


def _biomedclip(place: Path) -> Encoders:
    """Load a CLIP whose open_clip checkpoint holds timm's ViT and a BERT."""
    from transformers import BertTokenizer

    from mammoprep_model import biomedclip

    folder = place.parent if place.is_file() else place
    settings = read_json(folder / "open_clip_config.json", hint="It comes with the checkpoint.")
    pixels = settings.get("preprocess_cfg", {})
    state = tensors.read(place, weight_files.OPEN_CLIP)
    vision = biomedclip.Vision(state)
    text = biomedclip.Text(
        state,
        tokenizer=BertTokenizer.from_pretrained(folder, local_files_only=True),
        context=settings["model_cfg"]["text_cfg"].get("context_length", 256),
    )
    mean, std = pixels.get("mean", CLIP_MEAN), pixels.get("std", CLIP_STD)
    image = ImageEncoder(vision, size=vision.size, mean=mean, std=std)
    scale = float(state["logit_scale"].exp())
    return Encoders(image.eval(), text.eval(), vision.projection.out_features, pretrained=True, scale=scale)


def _clip(place: Path) -> Encoders:
    """Load a CLIP in transformers' layout."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    folder = place.parent if place.is_file() else place
    config = CLIPConfig.from_pretrained(folder)
    model = tensors.model(CLIPModel, config, tensors.read(place, weight_files.TRANSFORMERS)).eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    context = model.config.text_config.max_position_embeddings

    @torch.no_grad()
    def text(texts: Sequence[str]) -> Tensor:
        tokens = tokenizer(list(texts), padding=True, truncation=True, max_length=context, return_tensors="pt")
        states = model.text_model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        embeddings: Tensor = model.text_projection(states.pooler_output)
        return embeddings

    image = ImageEncoder(_ClipVision(model), size=model.config.vision_config.image_size)
    scale = float(model.logit_scale.detach().exp())
    return Encoders(image.eval(), text, model.config.projection_dim, pretrained=True, scale=scale)


class _ClipVision(nn.Module):
    """The image half of transformers' CLIP."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.transformer = model.vision_model
        self.projection = model.visual_projection

    def forward(self, pixels: Tensor) -> Tensor:
        embeddings: Tensor = self.projection(self.transformer(pixels).pooler_output)
        return embeddings

    def within(self, pixels: Tensor, inside: Tensor) -> Tensor:
        """Embed what each mask shows: pixels (B, 3, S, S) and masks (B, Q, S, S) of truth values to (B, Q, D)."""
        vision = self.transformer
        tokens = vision.pre_layrnorm(vision.embeddings(pixels))
        seen = attend_within(tokens, inside, layers=vision.encoder.layers)
        embeddings: Tensor = self.projection(vision.post_layernorm(seen))
        return embeddings


@torch.no_grad()
def _empty_prompt(folder: Path) -> Tensor:
    """Encode the empty prompt with a diffusion model's own text encoder: (1, T, D)."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    config = CLIPTextConfig.from_pretrained(folder / "text_encoder")
    encoder = tensors.model(
        CLIPTextModel, config, tensors.read(folder / "text_encoder", weight_files.TRANSFORMERS)
    ).eval()
    length = encoder.config.max_position_embeddings
    tokens = tokenizer([""], padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    encoded: Tensor = encoder(tokens["input_ids"]).last_hidden_state
    return encoded


def from_diffusers(architecture: Any, folder: Path) -> Any:
    """Load a diffusers model in float32; a tensor that the folder lacks is a KeyError.

    diffusers reads .bin files with `weights_only=True`; what is missing it would fill with random numbers.
    """
    found = weight_files.find(folder, weight_files.DIFFUSERS)
    name = found.name if found else ""
    model, info = architecture.from_pretrained(
        folder,
        local_files_only=True,
        output_loading_info=True,
        low_cpu_mem_usage=False,
        use_safetensors=".safetensors" in name,
        variant="fp16" if ".fp16." in name else None,
    )
    if missing := sorted(info["missing_keys"]):
        raise KeyError(missing[0])
    return model.float()


def check_layout(part: str, folder: Path, *, unet: Any, vae: Any) -> None:
    """Refuse a diffusion model without the blocks of Stable Diffusion 1.x and 2.x that features are taken from."""
    blocks = [len(block.resnets) for block in unet.up_blocks]
    levels = [len(block.resnets) for block in vae.encoder.down_blocks]
    if blocks != [3] * 4 or levels != [2] * 4 or vae.config.latent_channels != unet.config.in_channels:
        raise MammoprepError(f"{folder} is another model: {part} needs the layout of Stable Diffusion 1.x or 2.x.")
