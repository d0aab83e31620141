"""The small diffusion model `compact`: a quarter of Stable Diffusion 1.x in every width, random, with words of its own.

The blocks, the strides and the four channels of the latent are Stable Diffusion's, so whatever takes the one takes the
other. A quarter of the widths is a seventeenth of the parameters, 61 million instead of 1,066, and a tenth of the work.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from mammoprep_model.pretrain.pipeline import Pipeline

WORDS = (
    *("a", "mammogram", "in", "view", "with", "density", "area", "and"),
    *("very", "low", "high", "small", "medium", "big", "cc", "mlo"),
    *("fujifilm", "ge", "hologic", "ims", "lorad", "philips", "planmed", "siemens"),
)
"""What `pretrain.prompts` makes its sentences of; each is one token. Other words are spelled."""
LENGTH = 77
"""Tokens of a prompt, as CLIP's."""


@dataclass(frozen=True)
class Sizes:
    """Channels of the UNet's and the VAE's four levels, width and layers of the text encoder.

    `head` is the width of an attention head of the UNet, `groups` the number of its and the VAE's groups in a norm;
    both divide all channels.
    """

    unet: tuple[int, int, int, int] = (80, 160, 320, 320)
    vae: tuple[int, int, int, int] = (32, 64, 128, 128)
    text: int = 192
    text_layers: int = 4
    text_heads: int = 3
    head: int = 40
    groups: int = 16


# Heads of 40 channels are those of Stable Diffusion's first level. Its text encoder has 12 layers; no more than four
# words of our prompts vary, so 4 are enough.
DEFAULT = Sizes()
TINY = Sizes(unet=(16, 16, 32, 32), vae=(8, 8, 16, 16), text=16, text_layers=1, text_heads=2, head=8, groups=8)


def make(sizes: Sizes = DEFAULT, *, seed: int) -> Pipeline:
    """Give a random model of these sizes; a seed always gives the same one."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        tokenizer = _tokenizer()
        return Pipeline(_unet(sizes), _vae(sizes), _text_encoder(sizes, tokenizer), tokenizer)


def _unet(sizes: Sizes) -> Any:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    return UNet2DConditionModel(
        block_out_channels=sizes.unet,
        cross_attention_dim=sizes.text,
        attention_head_dim=tuple(width // sizes.head for width in sizes.unet),  # diffusers means their number
        norm_num_groups=sizes.groups,
    )


def _vae(sizes: Sizes) -> Any:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=sizes.vae,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        norm_num_groups=sizes.groups,
        sample_size=512,
    )


def _text_encoder(sizes: Sizes, tokenizer: Any) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=sizes.text,
        intermediate_size=4 * sizes.text,
        num_hidden_layers=sizes.text_layers,
        num_attention_heads=sizes.text_heads,
        max_position_embeddings=LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def _tokenizer() -> Any:
    """Give CLIP's kind of tokenizer, its merges learnt from WORDS: bytes, bytes that end a word, parts of words."""
    from tokenizers import pre_tokenizers
    from transformers import CLIPTokenizer

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges: Any = _merges()
    ends = [f"{letter}</w>" for letter in letters]
    tokens = [*letters, *ends, *map("".join, merges), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: place for place, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH)


def _merges() -> list[tuple[str, str]]:
    """Learn merges until each word is one token: the most frequent pair first, of several the first in the alphabet.

    The trainer of tokenizers takes any of them, each time another.
    """
    words = [[*word[:-1], f"{word[-1]}</w>"] for word in WORDS]
    found = []
    while pairs := Counter(pair for word in words for pair in pairwise(word)):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        found.append(best)
        words = [_merged(word, best) for word in words]
    return found


def _merged(word: list[str], pair: tuple[str, str]) -> list[str]:
    """Join a pair wherever it stands in a word, from the left."""
    joined = word[:1]
    for part in word[1:]:
        if (joined[-1], part) == pair:
            joined[-1] += part
        else:
            joined.append(part)
    return joined
