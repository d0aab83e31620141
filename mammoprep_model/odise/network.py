"""The ODISE family: captioner, backbone, mask generator and class head, built and wired."""

import logging
from collections.abc import Mapping, Sequence
from typing import Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from mammoprep.errors import MammoprepError, UnknownNameError
from mammoprep.panoptic import Category
from mammoprep_model import losses
from mammoprep_model.config import RANDOM, ModelConfig
from mammoprep_model.odise.backbone import Backbone, cut, merge
from mammoprep_model.odise.captioner import Captioner, EmptyPrompt
from mammoprep_model.odise.class_head import ClassHead, LinearHead, encode, names_of
from mammoprep_model.odise.clip_head import ClipHead
from mammoprep_model.odise.mask_generator import MaskGenerator, Masks
from mammoprep_model.odise.swin import Swin
from mammoprep_model.parts import (
    Diffusion,
    Encoders,
    ImageEncoder,
    SwinSource,
    is_swin,
    load_diffusion,
    load_encoders,
    load_mask_generator,
    load_swin,
)
from mammoprep_model.saved import Saved
from mammoprep_model.segmenter import Batch, Prediction
from mammoprep_model.weights import place_of

NONE = "none"
"""A part that a model does without."""
_LOG = logging.getLogger(__name__)


class Odise(Saved):
    """Segment images into masks with classes; it keeps the contract of `segmenter.Segmenter`.

    A diffusion `backbone` sees windows of the image and a prompt, a Swin transformer sees the image whole; `given` are
    the names below which pretrained parts can give every tensor back.
    """

    pretrained = ("backbone.unet.", "backbone.vae.", "backbone.swin.")
    """Names below which the backbone keeps the weights that it comes with."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        backbone: Backbone | Swin,
        captioner: Captioner | EmptyPrompt | None,
        mask_generator: MaskGenerator,
        class_head: ClassHead | LinearHead,
        clip_head: ClipHead | None = None,
        given: Sequence[str],
    ) -> None:
        super().__init__()
        self.config = config
        self.captioner = captioner
        self.backbone = backbone
        self.mask_generator = mask_generator
        self.class_head = class_head
        self.clip_head = clip_head
        self.given = tuple(given)
        self.train()

    def forward(
        self, images: Tensor, frozen: Sequence[Mapping[str, Tensor] | None] = ()
    ) -> tuple[Masks, tuple[Tensor, ...]]:
        """Map images (B, 3, H, W) to sets of masks and, for each set, logits (B, Q, C + 1), "no object" last.

        `frozen` is what the method of that name gives for each image, where it is known for all of them.
        """
        generated = self.mask_generator(self._features(images, frozen))
        logits = tuple(
            self.class_head(queries, masks, generated.features)
            for queries, masks in zip(generated.queries, generated.masks, strict=True)
        )
        return generated, logits

    def _features(self, images: Tensor, frozen: Sequence[Mapping[str, Tensor] | None] = ()) -> tuple[Tensor, ...]:
        if self.captioner is None or isinstance(self.backbone, Swin):
            whole: tuple[Tensor, ...] = self.backbone(images)
            return whole
        size, window = (images.shape[2], images.shape[3]), self.config.window
        windows = cut(images, window=window)
        known = _by_window(frozen)
        prompt, time = self.captioner(windows, known.pop("embedding", None))
        features = self.backbone(windows, prompt, time, encoded=known if "latent" in known else None)
        return tuple(merge(part, size, window=window) for part in features)

    @torch.no_grad()
    def frozen(self, images: Tensor) -> list[dict[str, Tensor]]:
        """Give, for each image (B, 3, H, W), what a frozen VAE and the captioner's encoder make of its N windows.

        The entries are `embedding` (N, D), `latent` (N, 4, h/8, w/8) and the VAE's taps, the windows as in `cut`.
        """
        windows = cut(images, window=self.config.window)
        found: dict[str, Tensor] = {}
        if isinstance(self.captioner, Captioner):
            found["embedding"] = self.captioner.embed(windows)
        if isinstance(self.backbone, Backbone) and self.backbone.frozen:
            found |= self.backbone.encode(windows)
        return [{name: value[at :: len(images)] for name, value in found.items()} for at in range(len(images))]

    def frozen_state(self) -> dict[str, Tensor]:
        """Give the tensors of the captioner's encoder and of a frozen VAE."""
        names = ["captioner.encoder."]
        if isinstance(self.backbone, Backbone) and self.backbone.frozen:
            names.append("backbone.vae.")
        return {name: value for name, value in self.state_dict().items() if name.startswith(tuple(names))}

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Give the weighted terms `class`, `mask` and `dice`; their sum is minimised."""
        generated, logits = self(batch.images, batch.frozen)
        return losses.loss(generated.masks, logits, batch=batch, config=self.config)

    @torch.no_grad()
    def predict(self, images: Tensor) -> list[Prediction]:
        """Segment images (B, 3, H, W) in [0, 1], H and W multiples of 64."""
        generated, logits = self(images)
        scores = logits[-1].float().softmax(-1)[..., :-1]
        if self.clip_head is not None:
            encoder = cast(ImageEncoder, cast(Captioner, self.captioner).encoder)  # ModelConfig's rule
            scores = self.clip_head(scores, encoder.within(images, generated.masks[-1].float()))
        return [
            _prediction(masks, image_scores, size=(images.shape[2], images.shape[3]))
            for masks, image_scores in zip(generated.masks[-1].float(), scores, strict=True)
        ]

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the trained parts; frozen ones stay as they are for use."""
        super().train(mode)
        if isinstance(self.captioner, Captioner):
            self.captioner.encoder.eval()
        if self.config.backbone_frozen:
            for name in ("unet", "vae", "swin"):
                if hasattr(self.backbone, name):
                    getattr(self.backbone, name).eval()
        return self


def _by_window(frozen: Sequence[Mapping[str, Tensor] | None]) -> dict[str, Tensor]:
    """Lay what is known of each image's windows in the order of `cut`: nothing where an image's is not known."""
    known = [each for each in frozen if each]
    if not known or len(known) < len(frozen):
        return {}
    return {name: torch.stack([each[name] for each in known], dim=1).flatten(0, 1) for name in known[0]}


def _prediction(masks: Tensor, scores: Tensor, *, size: tuple[int, int]) -> Prediction:
    """Bring mask logits (Q, h, w) to the size of the image and merge them into maps of the categories."""
    full = F.interpolate(masks[None], size, mode="bilinear", align_corners=False)[0]
    maps = torch.einsum("qc,qhw->chw", scores, full.sigmoid()).clamp(0, 1)
    return Prediction(masks=full, scores=scores, maps=maps)


def build(config: ModelConfig, *, categories: Sequence[Category], weights: Mapping[str, str] | None = None) -> Odise:
    """Build a network for the categories of a data set, things before stuff.

    `weights` says where pretrained parts lie, as in `--weights mam-e=DIR`: a folder or a hub id by name of the part.
    """
    places = weights or {}
    for name in places:
        if name not in config.parts:
            raise UnknownNameError(name, kind="part of this model", known=sorted(config.parts))
    for part in config.parts:  # before the first of them is downloaded
        place_of(part, places)
    encoders: dict[str, Encoders | None] = {
        part: load_encoders(part, places)
        for part in dict.fromkeys((config.image_encoder, config.text_encoder))
        if part != NONE
    }
    image, text = encoders.get(config.image_encoder), encoders.get(config.text_encoder)
    load = load_swin if is_swin(config.backbone) else load_diffusion
    network = wire(config, categories=categories, source=load(config.backbone, places), image=image, text=text)
    if config.mask_generator != RANDOM:
        _start(network.mask_generator, config.mask_generator, places)
    return network


def _start(generator: MaskGenerator, part: str, places: Mapping[str, str]) -> None:
    """Let the mask generator begin as a trained one, and say which of its tensors could not."""
    random = generator.start_from(load_mask_generator(part, places))
    total = len(generator.state_dict())
    listed = f" Random: {', '.join(random)}." if random else ""
    _LOG.warning(
        "The mask generator starts with %d of its %d tensors from %s.%s", total - len(random), total, part, listed
    )


def wire(
    config: ModelConfig,
    *,
    categories: Sequence[Category],
    source: Diffusion | SwinSource,
    image: Encoders | None,
    text: Encoders | None,
) -> Odise:
    """Put the parts together: a captioner only for a diffusion model, texts only where there is an encoder of them."""
    given: dict[str, bool] = {}
    backbone: Backbone | Swin
    captioner: Captioner | EmptyPrompt | None = None
    if isinstance(source, SwinSource):
        backbone = Swin(source.swin, frozen=config.backbone_frozen)
        given["backbone.swin."] = source.pretrained
    else:
        captioner = _captioner(config, source, image)
        backbone = Backbone(
            source.unet,
            source.vae,
            frozen=config.backbone_frozen,
            projection=config.projection,
            window=config.window,
            checkpointing=config.checkpointing,
        )
        given |= dict.fromkeys(("backbone.unet.", "backbone.vae.", "captioner.empty_prompt"), source.pretrained)
        given["captioner.encoder."] = image is not None and image.pretrained
    generator = MaskGenerator(config, backbone.channels)  # before the head: a seed's random weights hang on the order
    head: ClassHead | LinearHead
    if text is None:
        head = LinearHead(len(categories), hidden=config.hidden)
    else:
        texts = _texts(config.prompt, categories, config=config, text=text)
        head = ClassHead(texts, empty=text.text([""])[0], hidden=config.hidden)
        given["class_head.text"] = text.pretrained
    clip_head = None
    if config.clip_share and text is not None:
        if not isinstance(captioner, Captioner):
            raise MammoprepError("model.clip_share needs the captioner's CLIP. Choose a diffusion model as backbone.")
        texts = _texts(config.clip_prompt, categories, config=config, text=text)
        clip_head = ClipHead(texts, scale=text.scale, share=config.clip_share)
    prefixes = [prefix for prefix, is_given in given.items() if is_given]
    return Odise(
        config,
        backbone=backbone,
        captioner=captioner,
        mask_generator=generator,
        class_head=head,
        clip_head=clip_head,
        given=prefixes,
    )


def _texts(prompt: str, categories: Sequence[Category], *, config: ModelConfig, text: Encoders) -> list[Tensor]:
    """Encode the names of each class in a prompt: (S, width) a class."""
    names = (names_of(category.name, synonyms=config.synonyms) for category in categories)
    return [encode(each, prompt=prompt, text=text.text) for each in names]


def _captioner(config: ModelConfig, source: Diffusion, image: Encoders | None) -> Captioner | EmptyPrompt:
    if image is None:
        return EmptyPrompt(source.empty_prompt)
    time_width = source.time_width if config.time_embedding else None
    return Captioner(image.image, width=image.width, empty_prompt=source.empty_prompt, time_width=time_width)
