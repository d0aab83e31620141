"""Pretrained parts from one file in the layout of their authors: CompVis' Stable Diffusion 1.x, Microsoft's Swin.

All sizes are read from the tensors, but for those that the layout fixes.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mammoprep_model import tensors
from mammoprep_model.tensors import State

HEADS = 8
"""Attention heads of Stable Diffusion 1.x at every level."""
GROUPS = 32
"""Groups of its normalisations."""
_UNET, _VAE, _TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."
_SWIN_NAMES = (
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^patch_embed\.norm\.", "embeddings.norm."),
    (r"^layers\.", "encoder.layers."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.attn\.relative_position_bias_table$", ".attention.self.relative_position_bias_table"),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)
_SWIN_LEFT_OUT = re.compile(r"^(norm|head)\.|relative_position_index$|attn_mask$|\.relative_coords_table$")
"""Classifier and its norm, and buffers that follow from the sizes."""


def stable_diffusion(state: Mapping[str, Tensor]) -> tuple[Any, Any, Tensor]:
    """Build UNet, VAE and the empty prompt's encoding (1, T, D) of Stable Diffusion 1.x; KeyError for what is missing.

    Names are translated by diffusers. Where the file also holds the moving average of the UNet (a "full-ema" file),
    that is what is taken: it is the published model.
    """
    from diffusers.loaders import single_file_utils

    convert: Any = single_file_utils
    if not any(name.startswith(_TEXT) for name in state):
        raise KeyError(f"{_TEXT}…: it is no Stable Diffusion 1.x. Version 2.x is read from a diffusers folder")
    unet, vae = _unet(state), _vae(state)
    averaged = {
        name: state.get("model_ema." + name[6:].replace(".", ""), state[name]) for name in state if _UNET in name
    }
    tensors.fill(unet, convert.convert_ldm_unet_checkpoint(averaged, dict(unet.config)))
    own = {name: value for name, value in state.items() if name.startswith(_VAE)}
    tensors.fill(vae, convert.convert_ldm_vae_checkpoint(own, dict(vae.config)))
    return unet.eval(), vae.eval(), _empty_prompt(state)


def _average(name: str) -> str:
    """Give the name of a tensor's moving average: the tensor's own, its dots left out."""
    return f"model_ema.{name.removeprefix('model.').replace('.', '')}"


def _unet(state: Mapping[str, Tensor]) -> Any:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    levels = [state[f"{_UNET}input_blocks.{3 * level + 1}.0.out_layers.3.weight"] for level in range(4)]
    return UNet2DConditionModel(
        in_channels=state[f"{_UNET}input_blocks.0.0.weight"].shape[1],
        block_out_channels=tuple(len(weight) for weight in levels),
        cross_attention_dim=state[f"{_UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"].shape[1],
        attention_head_dim=HEADS,
        norm_num_groups=GROUPS,
    )


def _vae(state: Mapping[str, Tensor]) -> Any:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    levels = [state[f"{_VAE}encoder.down.{level}.block.0.conv1.weight"] for level in range(4)]
    return AutoencoderKL(
        block_out_channels=tuple(len(weight) for weight in levels),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=len(state[f"{_VAE}post_quant_conv.weight"]),
        norm_num_groups=GROUPS,
    )


@torch.no_grad()
def _empty_prompt(state: Mapping[str, Tensor]) -> Tensor:
    """Encode the empty prompt: the start token, then end tokens, which are the last two of CLIP's vocabulary."""
    from transformers import CLIPTextConfig, CLIPTextModel

    own = {name.removeprefix(_TEXT): value for name, value in state.items() if name.startswith(_TEXT)}
    vocabulary, width = own["text_model.embeddings.token_embedding.weight"].shape
    length = len(own["text_model.embeddings.position_embedding.weight"])
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=len(own["text_model.encoder.layers.0.mlp.fc1.weight"]),
        num_hidden_layers=_count(own, r"text_model\.encoder\.layers\.(\d+)\."),
        num_attention_heads=max(1, width // 64),
        max_position_embeddings=length,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )
    own.pop("text_model.embeddings.position_ids", None)  # a buffer of older transformers
    encoder = tensors.model(CLIPTextModel, config, own).eval()
    encoded: Tensor = encoder(torch.tensor([[vocabulary - 2] + [vocabulary - 1] * (length - 1)])).last_hidden_state
    return encoded


def swin_state(state: Mapping[str, Tensor]) -> State:
    """Rename Microsoft's Swin for transformers and split its joint query, key and value; other layouts stay."""
    if "patch_embed.proj.weight" not in state:
        return dict(state)
    renamed: State = {}
    for old, value in state.items():
        name = old
        for pattern, replacement in _SWIN_NAMES:
            name = re.sub(pattern, replacement, name)
        if _SWIN_LEFT_OUT.search(old):
            continue
        if ".attn.qkv." not in name:
            renamed[f"swin.{name}"] = value
            continue
        for part, third in zip(("query", "key", "value"), value.chunk(3), strict=True):
            renamed["swin." + name.replace(".attn.qkv.", f".attention.self.{part}.")] = third
    return renamed


def swin_config(state: Mapping[str, Tensor]) -> Any:
    """Read a Swin's sizes from its tensors, in transformers' names."""
    from transformers import SwinConfig

    stage = r"swin\.encoder\.layers\.{}\.blocks\.(\d+)\."
    levels = range(_count(state, r"swin\.encoder\.layers\.(\d+)\."))
    tables = [
        state[f"swin.encoder.layers.{level}.blocks.0.attention.self.relative_position_bias_table"] for level in levels
    ]
    patches = state["swin.embeddings.patch_embeddings.projection.weight"]
    window = (math.isqrt(len(tables[0])) + 1) // 2
    return SwinConfig(
        patch_size=patches.shape[-1],
        embed_dim=len(patches),
        depths=[_count(state, stage.format(level)) for level in levels],
        num_heads=[table.shape[1] for table in tables],
        window_size=window,
        image_size=window * 32,  # it has no say in a backbone, but must hold a window
    )


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """Count layers: one more than the highest number in the names."""
    return 1 + max((int(found[1]) for found in map(re.compile(pattern).match, state) if found), default=-1)
