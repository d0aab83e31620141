from collections.abc import Sequence
from typing import Any

import pytest
import torch

from mammoprep_model import biomedclip


class Tokenizer:
    """Turns each text of digits into those token ids, padded with 0."""

    def __call__(self, texts: Sequence[str], *, max_length: int, **_: Any) -> dict[str, torch.Tensor]:
        rows = [[int(digit) for digit in text][:max_length] for text in texts]
        length = max(map(len, rows))
        ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
        return {"input_ids": ids, "attention_mask": (ids != 0).long()}


def test_the_image_half_equals_the_original(open_clip: Any):
    vision = biomedclip.Vision(open_clip.state_dict()).eval()
    pixels = torch.randn(3, 3, 32, 32)
    assert torch.allclose(vision(pixels), open_clip.embed_image(pixels), atol=1e-4)


def test_the_text_half_equals_the_original(open_clip: Any):
    text = biomedclip.Text(open_clip.state_dict(), tokenizer=Tokenizer(), context=16).eval()
    tokens = Tokenizer()(["256789", "23"], max_length=16)["input_ids"]
    assert torch.allclose(text(["256789", "23"]), open_clip.embed_tokens(tokens), atol=1e-4)


def test_a_text_longer_than_the_context_is_cut_off(open_clip: Any):
    text = biomedclip.Text(open_clip.state_dict(), tokenizer=Tokenizer(), context=3).eval()
    assert torch.allclose(text(["25678"]), text(["256"]), atol=1e-6)


def test_sizes_come_from_the_tensors(open_clip: Any):
    vision = biomedclip.Vision(open_clip.state_dict())
    config = vision.transformer.config
    assert (vision.size, config.patch_size, config.num_hidden_layers, config.num_attention_heads) == (32, 16, 2, 2)
    assert config.layer_norm_eps == 1e-6


def test_query_key_and_value_are_split_in_this_order():
    joint = torch.arange(6.0).view(6, 1)
    renamed = biomedclip.vision_state({"blocks.3.attn.qkv.weight": joint})
    prefix = "encoder.layer.3.attention.attention"
    assert {name: value.flatten().tolist() for name, value in renamed.items()} == {
        f"{prefix}.query.weight": [0, 1],
        f"{prefix}.key.weight": [2, 3],
        f"{prefix}.value.weight": [4, 5],
    }


@pytest.mark.parametrize("name", ["visual.trunk.blocks.1.norm2.bias", "visual.trunk.norm.weight"])
def test_a_missing_tensor_is_named(open_clip: Any, name: str):
    state = open_clip.state_dict()
    del state[name]
    with pytest.raises(KeyError, match="layernorm|norm2"):
        biomedclip.Vision(state)
