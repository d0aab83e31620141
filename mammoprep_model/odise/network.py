"""The ODISE family: captioner, backbone, mask generator and class head, built and wired."""

from collections.abc import Mapping, Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mammoprep.errors import MammoprepError, UnknownNameError
from mammoprep.panoptic import Category
from mammoprep_model import losses
from mammoprep_model.config import ModelConfig
from mammoprep_model.odise.backbone import Backbone, cut, merge
from mammoprep_model.odise.captioner import Captioner
from mammoprep_model.odise.class_head import ClassHead, names_of
from mammoprep_model.odise.mask_generator import MaskGenerator, Masks
from mammoprep_model.parts import Diffusion, Encoders, load_diffusion, load_encoders
from mammoprep_model.segmenter import Batch, Prediction


class Odise(nn.Module):
    """Segment images into masks with classes; it keeps the contract of `segmenter.Segmenter`."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        categories: Sequence[Category],
        diffusion: Diffusion,
        image_encoders: Encoders,
        text_encoders: Encoders,
    ) -> None:
        super().__init__()
        self.config = config
        self.captioner = Captioner(
            image_encoders.image,
            width=image_encoders.width,
            empty_prompt=diffusion.empty_prompt,
            time_width=diffusion.time_width if config.time_embedding else None,
        )
        self.backbone = Backbone(
            diffusion.unet,
            diffusion.vae,
            frozen=config.diffusion_frozen,
            projection=config.projection,
            window=config.window,
            checkpointing=config.checkpointing,
        )
        self.mask_generator = MaskGenerator(config)
        self.class_head = ClassHead(
            [text_encoders.text(names_of(category.name, synonyms=config.synonyms)) for category in categories],
            empty=text_encoders.text([""])[0],
            hidden=config.hidden,
        )
        pretrained = {
            "backbone.unet.": diffusion.pretrained,
            "backbone.vae.": diffusion.pretrained,
            "captioner.empty_prompt": diffusion.pretrained,
            "captioner.encoder.": image_encoders.pretrained,
            "class_head.text": text_encoders.pretrained,
        }
        self._given = tuple(prefix for prefix, given in pretrained.items() if given)
        self.train()

    def forward(self, images: Tensor) -> tuple[Masks, tuple[Tensor, ...]]:
        """Map images (B, 3, H, W) to sets of masks and, for each set, logits (B, Q, C + 1), "no object" last."""
        size, window = (images.shape[2], images.shape[3]), self.config.window
        windows = cut(images, window=window)
        prompt, time = self.captioner(windows)
        features = tuple(merge(part, size, window=window) for part in self.backbone(windows, prompt, time))
        generated = self.mask_generator(features)
        logits = tuple(
            self.class_head(queries, masks, generated.features)
            for queries, masks in zip(generated.queries, generated.masks, strict=True)
        )
        return generated, logits

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Give the weighted terms `class`, `mask` and `dice`; their sum is minimised."""
        generated, logits = self(batch.images)
        return losses.loss(generated.masks, logits, batch=batch, config=self.config)

    @torch.no_grad()
    def predict(self, images: Tensor) -> list[Prediction]:
        """Segment images (B, 3, H, W) in [0, 1], H and W multiples of 64."""
        generated, logits = self(images)
        scores = logits[-1].float().softmax(-1)[..., :-1]
        return [
            _prediction(masks, image_scores, size=(images.shape[2], images.shape[3]))
            for masks, image_scores in zip(generated.masks[-1].float(), scores, strict=True)
        ]

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the trained parts; frozen ones stay as they are for use."""
        super().train(mode)
        self.captioner.encoder.eval()
        if self.config.diffusion_frozen:
            self.backbone.unet.eval()
            self.backbone.vae.eval()
        return self

    def trained_state(self) -> dict[str, Tensor]:
        """Give what the named pretrained parts cannot give back: what is trained, and what was random."""
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        return {
            name: value
            for name, value in self.state_dict().items()
            if name in trained or not name.startswith(self._given)
        }

    def load_trained(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `trained_state` gave; a tensor too many, too few or of another shape is an error."""
        own = self.trained_state()
        for name in sorted(own.keys() | state.keys()):
            if name not in own or name not in state:
                whose = "model" if name in own else "saved weights"
                raise MammoprepError(f"The saved weights are another model's: only the {whose} has {name}.")
            if own[name].shape != state[name].shape:
                shapes = f"{tuple(state[name].shape)}, not {tuple(own[name].shape)}"
                raise MammoprepError(f"The saved weights are another model's: {name} has the shape {shapes}.")
        self.load_state_dict(state, strict=False)


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
    parts = (config.diffusion, config.image_encoder, config.text_encoder)
    for name in places:
        if name not in parts:
            raise UnknownNameError(name, kind="part of this model", known=sorted(set(parts) - {"tiny"}))
    image_encoders = load_encoders(config.image_encoder, places)
    same = config.text_encoder == config.image_encoder
    return Odise(
        config,
        categories=categories,
        diffusion=load_diffusion(config.diffusion, places),
        image_encoders=image_encoders,
        text_encoders=image_encoders if same else load_encoders(config.text_encoder, places),
    )
