"""A Segment Anything Model on transformers' parts: an image once, then as many points on it as one likes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mammoprep.errors import MammoprepError
from mammoprep_model import tensors, weight_files, weights
from mammoprep_model.config import RANDOM
from mammoprep_model.promptable.config import PATCH, SamConfig

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of images in [0, 1]: SA-1B's, as SAM's image processor has them."""
MASKS = 3
"""Masks that a prompt gets: a point may mean a whole, a part or a part of that."""


class Sam(nn.Module):
    """Encode images, and outline what points lie on. `model` is transformers' SamModel."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: Any, *, size: int) -> None:
        super().__init__()
        self.model = model
        self.size = size
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)

    def encode(self, images: Tensor) -> Tensor:
        """Map images (B, 3, S, S) in [0, 1] to embeddings (B, D, S/16, S/16)."""
        if images.shape[2:] != (self.size, self.size):
            raise MammoprepError(
                f"This SAM sees squares of {self.size} pixels, not {images.shape[2]} x {images.shape[3]}. Say"
                f" --set train.size={self.size} --set train.crop={self.size} --set train.stride={self.size}."
            )
        embeddings: Tensor = self.model.vision_encoder((images - self.mean) / self.std).last_hidden_state
        return embeddings

    def outline(self, embedding: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Map an image's embedding (D, h, w) and prompts of P points (N, P, 2) to masks and their qualities.

        Points are x and y as shares of the image. Masks (N, 3, S/4, S/4) are logits, qualities (N, 3) the IoU that each
        says it has.
        """
        places = points[None] * self.size - 0.5  # SAM adds half a pixel
        prompts = self.model.prompt_encoder(
            input_points=places, input_labels=torch.ones_like(places[..., 0]), input_boxes=None, input_masks=None
        )
        return self._decode(embedding, *prompts)

    def outline_boxes(self, embedding: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Do the same for boxes (N, 4), x and y of their upper left and lower right corners as shares of the image."""
        places = boxes[None] * self.size - 0.5
        prompts = self.model.prompt_encoder(input_points=None, input_labels=None, input_boxes=places, input_masks=None)
        return self._decode(embedding, *prompts)

    def _decode(self, embedding: Tensor, sparse: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
        masks, qualities = self.model.mask_decoder(
            image_embeddings=embedding[None],
            image_positional_embeddings=self.model.get_image_wide_positional_embeddings(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )
        return masks[0], qualities[0]


def make(config: SamConfig, places: Mapping[str, str]) -> Sam:
    """Give a SAM of these sizes: at random, or from a transformers folder or a file beside its config.json.

    The places of points are random waves that stay as they are, as in SAM's own training.
    """
    from transformers import SamModel

    if config.backbone == RANDOM:
        model = SamModel(_values(config))
        nn.init.trunc_normal_(model.vision_encoder.get_parameter("pos_embed"), std=0.02)
    else:
        model = _load(config, places)
    sam = Sam(model, size=config.size).requires_grad_(not config.backbone_frozen)
    model.shared_image_embedding.requires_grad_(False)
    return sam


def _values(config: SamConfig) -> Any:
    """Give transformers' values of a SAM."""
    from transformers import SamConfig as Values

    quarters = sorted({quarter * config.layers // 4 - 1 for quarter in range(1, 5)} - {-1})
    vision = {
        "hidden_size": config.width,
        "output_channels": config.hidden,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "image_size": config.size,
        "patch_size": PATCH,
        "global_attn_indexes": quarters,
        "num_pos_feats": config.hidden // 2,
        "mlp_dim": 4 * config.width,
        "initializer_range": 0.02,
    }
    prompts = {"hidden_size": config.hidden, "image_size": config.size, "patch_size": PATCH}
    decoder = {"hidden_size": config.hidden, "mlp_dim": config.feedforward, "iou_head_hidden_dim": config.hidden}
    values: dict[str, Any] = {"vision_config": vision, "prompt_encoder_config": prompts, "mask_decoder_config": decoder}
    return Values(**values)


def sizes_of(place: Path) -> dict[str, Any]:
    """Read the sizes of a SAM from its config.json, by SamConfig's names."""
    from transformers import SamConfig as Values

    values: Any = Values.from_pretrained(place.parent if place.is_file() else place)
    vision, decoder = values.vision_config, values.mask_decoder_config
    return {
        "size": vision.image_size,
        "width": vision.hidden_size,
        "layers": vision.num_hidden_layers,
        "heads": vision.num_attention_heads,
        "hidden": decoder.hidden_size,
        "feedforward": decoder.mlp_dim,
    }


def _load(config: SamConfig, places: Mapping[str, str]) -> Any:
    """Load a SAM of these sizes."""
    from transformers import SamModel

    part = config.backbone
    if weights.source_of(part).layout != "sam":
        fitting = [RANDOM, *(name for name, source in weights.SOURCES.items() if source.layout == "sam")]
        raise MammoprepError(f"{part} cannot be used here. Choose {', '.join(fitting)}.")
    place = weights.locate(part, places)
    with tensors.reading(part, place):
        found = sizes_of(place)
        if any(getattr(config, name) != size for name, size in found.items()):
            settings = " ".join(f"--set model.{name}={size}" for name, size in found.items())
            raise MammoprepError(f"{place} holds a {part} of other sizes than this model. Say {settings}.")
        return tensors.model(SamModel, _values(config), tensors.read(place, weight_files.TRANSFORMERS))
