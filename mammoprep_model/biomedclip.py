"""BiomedCLIP from its open_clip checkpoint: transformers' ViT and BERT with the checkpoint's own projections."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, ViTConfig, ViTModel

from mammoprep_model import tensors
from mammoprep_model.attention import attend_within

State = dict[str, Tensor]

HEAD_WIDTH = 64
"""Channels of an attention head, in the ViT-B and in BERT-base; a checkpoint does not say it."""
_VISION_NAMES = (
    (r"^blocks\.", "encoder.layer."),
    (r"^cls_token$", "embeddings.cls_token"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^norm\.", "layernorm."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)


class Vision(nn.Module):
    """Map normalised pixels (B, 3, S, S) to embeddings (B, D): the class token behind a linear projection."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        trunk = _below(state, "visual.trunk.")
        width, _, patch, _ = trunk["patch_embed.proj.weight"].shape
        self.size = int((trunk["pos_embed"].shape[1] - 1) ** 0.5) * patch
        config = ViTConfig(
            hidden_size=width,
            num_hidden_layers=_count(trunk, r"blocks\.(\d+)\."),
            num_attention_heads=width // HEAD_WIDTH,
            intermediate_size=len(trunk["blocks.0.mlp.fc1.weight"]),
            image_size=self.size,
            patch_size=patch,
            layer_norm_eps=1e-6,  # timm's; transformers' default is 1e-12
        )
        self.transformer = _load(ViTModel, config, vision_state(trunk))
        self.projection = _linear(state["visual.head.proj.weight"])

    def forward(self, pixels: Tensor) -> Tensor:
        """Give one embedding an image, not normalised."""
        embeddings: Tensor = self.projection(self.transformer(pixels).last_hidden_state[:, 0])
        return embeddings

    def within(self, pixels: Tensor, inside: Tensor) -> Tensor:
        """Embed what each mask shows: pixels (B, 3, S, S) and masks (B, Q, S, S) of truth values to (B, Q, D)."""
        vision = self.transformer
        seen = attend_within(vision.embeddings(pixels), inside, layers=vision.layers)
        embeddings: Tensor = self.projection(vision.layernorm(seen))
        return embeddings


class Text(nn.Module):
    """Map texts to embeddings (N, D): BERT's class token behind a perceptron with one hidden layer."""

    def __init__(self, state: Mapping[str, Tensor], *, tokenizer: Any, context: int) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.context = context
        bert = _below(state, "text.transformer.")
        bert.pop("embeddings.position_ids", None)  # a buffer of older transformers
        vocabulary, width = bert["embeddings.word_embeddings.weight"].shape
        config = BertConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            num_hidden_layers=_count(bert, r"encoder\.layer\.(\d+)\."),
            num_attention_heads=width // HEAD_WIDTH,
            intermediate_size=len(bert["encoder.layer.0.intermediate.dense.weight"]),
            max_position_embeddings=len(bert["embeddings.position_embeddings.weight"]),
        )
        self.transformer = _load(BertModel, config, bert)
        hidden, output = _linear(state["text.proj.0.weight"]), _linear(state["text.proj.2.weight"])
        self.projection = nn.Sequential(hidden, nn.GELU(), output)

    @torch.no_grad()
    def forward(self, texts: Sequence[str]) -> Tensor:
        """Give one embedding a text, not normalised; what is longer than the context is cut off."""
        tokens = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.context, return_tensors="pt"
        )
        states = self.transformer(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        embeddings: Tensor = self.projection(states.last_hidden_state[:, 0])
        return embeddings


def vision_state(trunk: Mapping[str, Tensor]) -> State:
    """Rename timm's ViT for transformers, in the names of the hub, and split the joint query, key and value."""
    renamed: State = {}
    for old, value in trunk.items():
        name = _renamed(old)
        if ".attn.qkv." not in name:
            renamed[name] = value
            continue
        for part, third in zip(("query", "key", "value"), value.chunk(3), strict=True):
            renamed[name.replace(".attn.qkv.", f".attention.attention.{part}.")] = third
    return renamed


def _renamed(name: str) -> str:
    for pattern, replacement in _VISION_NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _load(architecture: Any, config: Any, state: State) -> Any:
    """Build a model from tensors alone; a name too many or too few is a KeyError."""
    # from_pretrained translates the hub's stable names to those of the installed version.
    model, info = architecture.from_pretrained(
        None,
        config=config,
        state_dict=state,
        add_pooling_layer=False,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )
    tensors.check_shapes(info)
    if wrong := sorted({*info["missing_keys"], *info["unexpected_keys"]}):
        raise KeyError(wrong[0])
    return model.float()


def _below(state: Mapping[str, Tensor], prefix: str) -> State:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """Count the layers: one more than the highest number in the names."""
    return 1 + max(int(found[1]) for found in map(re.compile(pattern).match, state) if found)


def _linear(weight: Tensor) -> nn.Linear:
    """Give the linear layer of a weight (outputs, inputs), without bias."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.load_state_dict({"weight": weight})
    return layer
