"""The small diffusion model: its sizes, its words, and that it is read back as any other diffusion model is."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mammoprep_model import compact, parts
from mammoprep_model.pretrain import pipeline, prompts


def millions(network: nn.Module) -> float:
    return round(sum(parameter.numel() for parameter in network.parameters()) / 1e6, 3)


def test_the_full_size_is_a_quarter_of_stable_diffusion_in_every_width() -> None:
    with torch.device("meta"):
        made = compact.make(seed=0)
    assert [millions(part) for part in (made.unet, made.vae, made.text_encoder)] == [53.808, 5.252, 1.908]
    widths = ((320, 640, 1280, 1280), (128, 256, 512, 512))
    for part, theirs in zip((made.unet, made.vae), widths, strict=True):
        assert tuple(4 * width for width in part.config.block_out_channels) == theirs
    assert 4 * made.unet.config.cross_attention_dim == 768
    attention = [module for name, module in made.unet.named_modules() if name.endswith("attn1")]
    assert {each.inner_dim // each.heads for each in attention} == {40}


def work(call: Callable[[], object]) -> float:
    """Count the floating-point operations of a call, in units of 10¹²."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    return counter.get_total_flops() / 1e12


def test_its_work_on_an_image_of_512_pixels() -> None:
    """Stable Diffusion's is 0.803, 1.117 and 2.515."""
    with torch.device("meta"):
        made = compact.make(seed=0)
        image, latent, prompt = torch.zeros(1, 3, 512, 512), torch.zeros(1, 4, 64, 64), torch.zeros(1, 77, 192)
        assert work(lambda: made.unet(latent, torch.zeros(1), prompt)) == pytest.approx(0.074, abs=5e-4)
        assert work(lambda: made.vae.encode(image)) == pytest.approx(0.077, abs=5e-4)
        assert work(lambda: made.vae.decode(latent)) == pytest.approx(0.164, abs=5e-4)


def test_a_seed_always_gives_the_same_and_leaves_torchs_stream_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (compact.make(compact.TINY, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    for name in ("unet", "vae", "text_encoder"):
        states = [getattr(made, name).state_dict() for made in (first, again, other)]
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
        assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])
    words = [made.tokenizer.backend_tokenizer.to_str() for made in (first, again, other)]
    assert words[0] == words[1] == words[2]


def test_each_word_of_a_mammograms_prompt_is_one_token() -> None:
    tokenizer = compact.make(compact.TINY, seed=0).tokenizer
    row = {"manufacturer": "SIEMENS", "view": "MLO", "density": "D"}
    (prompt,) = prompts.describe([row], [7.0])
    assert tokenizer.tokenize(prompt) == [f"{word}</w>" for word in prompt.lower().split()]
    assert all(len(tokenizer.tokenize(word)) == 1 for word in compact.WORDS)
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    assert tokenizer("")["input_ids"] == [start, end]
    assert len(tokenizer(prompt)["input_ids"]) == 2 + len(prompt.split())


@pytest.mark.parametrize("text", ["Röntgen-Müller 12", "日本", "mammography"])
def test_other_words_are_spelled_without_a_gap(text: str) -> None:
    tokenizer = compact.make(compact.TINY, seed=0).tokenizer
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids).replace(" ", "") == text.lower().replace(" ", "")


def test_what_is_saved_is_loaded_as_a_backbone(tmp_path: Path) -> None:
    made = compact.make(compact.TINY, seed=0)
    made.vae.register_to_config(scaling_factor=0.5)
    pipeline.save(made, tmp_path / "mine")
    loaded = parts.load_diffusion("compact", {"compact": str(tmp_path / "mine")})
    for name in ("unet", "vae"):
        saved = getattr(made, name).state_dict()
        assert all(torch.equal(value, saved[key]) for key, value in getattr(loaded, name).state_dict().items())
    assert loaded.vae.config.scaling_factor == 0.5
    ids = torch.tensor([[made.tokenizer.bos_token_id] + [made.tokenizer.eos_token_id] * 76])
    with torch.no_grad():
        assert torch.allclose(loaded.empty_prompt, made.text_encoder.eval()(ids).last_hidden_state, atol=1e-6)
    assert loaded.empty_prompt.shape == (1, compact.LENGTH, compact.TINY.text)
