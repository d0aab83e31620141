"""One file in its authors' layout gives the same model as a folder; what it lacks is named."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mammoprep.errors import MammoprepError
from mammoprep_model import originals, parts

# Stable Diffusion 1.x: CompVis' names, written down from their checkpoints; diffusers' own code translates them back.

RESNET = {"in_layers.0": "norm1", "in_layers.2": "conv1", "emb_layers.1": "time_emb_proj"} | {
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
VAE_RESNET = {"nin_shortcut": "conv_shortcut"}


def unet_names() -> dict[str, str]:
    """Give diffusers' prefixes of the UNet for CompVis', numbered block by block."""
    names = {"time_embed.0": "time_embedding.linear_1", "time_embed.2": "time_embedding.linear_2"}
    names |= {"input_blocks.0.0": "conv_in", "out.0": "conv_norm_out", "out.2": "conv_out"}
    for level in range(4):
        for layer in range(2):
            names[f"input_blocks.{3 * level + layer + 1}.0"] = f"down_blocks.{level}.resnets.{layer}"
            names[f"input_blocks.{3 * level + layer + 1}.1"] = f"down_blocks.{level}.attentions.{layer}"
        names[f"input_blocks.{3 * level + 3}.0.op"] = f"down_blocks.{level}.downsamplers.0.conv"
        for layer in range(3):
            names[f"output_blocks.{3 * level + layer}.0"] = f"up_blocks.{level}.resnets.{layer}"
            names[f"output_blocks.{3 * level + layer}.1"] = f"up_blocks.{level}.attentions.{layer}"
        place = 2 if level else 1  # the first block has no attention before its upsampler
        names[f"output_blocks.{3 * level + 2}.{place}.conv"] = f"up_blocks.{level}.upsamplers.0.conv"
    return names | {
        "middle_block.0": "mid_block.resnets.0",
        "middle_block.1": "mid_block.attentions.0",
        "middle_block.2": "mid_block.resnets.1",
    }


def vae_names() -> dict[str, str]:
    names = {}
    for half, side, layers in (("encoder", "down", 2), ("decoder", "up", 3)):
        for level in range(4):
            theirs = level if side == "down" else 3 - level
            for layer in range(layers):
                names[f"{half}.{side}.{theirs}.block.{layer}"] = f"{half}.{side}_blocks.{level}.resnets.{layer}"
            names[f"{half}.{side}.{theirs}.{side}sample.conv"] = f"{half}.{side}_blocks.{level}.{side}samplers.0.conv"
        names |= {f"{half}.mid.block_{n + 1}": f"{half}.mid_block.resnets.{n}" for n in (0, 1)}
        attention = f"{half}.mid_block.attentions.0"
        names |= {f"{half}.mid.attn_1.norm": f"{attention}.group_norm"}
        names |= {f"{half}.mid.attn_1.{x}": f"{attention}.to_{x}" for x in "qkv"}
        names |= {f"{half}.mid.attn_1.proj_out": f"{attention}.to_out.0", f"{half}.norm_out": f"{half}.conv_norm_out"}
    return names


def as_compvis(state: Mapping[str, Tensor], names: Mapping[str, str], inner: Mapping[str, str]) -> dict[str, Tensor]:
    """Rename a diffusers state: the block by `names`, the layer of a residual block by `inner`."""
    prefixes = sorted(names.items(), key=lambda pair: -len(pair[1]))
    renamed = {}
    for name, value in state.items():
        theirs, ours = next(((a, b) for a, b in prefixes if name.startswith(b + ".")), ("", ""))
        rest = name.removeprefix(ours + ".") if ours else name
        if ".resnets." in ours or ".resnets." in name:
            rest = next((rest.replace(b, a, 1) for a, b in inner.items() if rest.startswith(b + ".")), rest)
        renamed[f"{theirs}.{rest}" if theirs else rest] = value
    return renamed


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """UNet, VAE and text encoder in Stable Diffusion 1.x's layout, of 32 channels."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(7)
    unet = UNet2DConditionModel(block_out_channels=(32, 32, 64, 64), cross_attention_dim=24)
    sides = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    vae = AutoencoderKL(block_out_channels=(32, 32, 64, 64), layers_per_block=2, **sides)
    sizes = {"hidden_size": 24, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 1}
    tokens = {"bos_token_id": 98, "eos_token_id": 99, "pad_token_id": 99}
    text = CLIPTextModel(CLIPTextConfig(vocab_size=100, **sizes, **tokens))
    for parameter in (*unet.parameters(), *vae.parameters()):
        nn.init.normal_(parameter, std=0.1)
    return unet.eval(), vae.eval(), text.eval()


@pytest.fixture(scope="module")
def state(diffusion: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    unet, vae, text = diffusion
    from safetensors.torch import load_file

    folder = tmp_path_factory.mktemp("text")
    text.save_pretrained(folder)  # in the hub's names, whatever the installed version calls them
    published = load_file(folder / "model.safetensors")
    halves = {
        "model.diffusion_model.": as_compvis(unet.state_dict(), unet_names(), RESNET),
        "first_stage_model.": as_compvis(vae.state_dict(), vae_names(), VAE_RESNET),
        "cond_stage_model.transformer.": {
            name if name.startswith("text_model.") else f"text_model.{name}": value for name, value in published.items()
        },
    }
    found = {prefix + name: value for prefix, half in halves.items() for name, value in half.items()}
    for name in found:  # CompVis' VAE attends by convolutions of one pixel
        if re.search(r"attn_1\.(q|k|v|proj_out)\.weight$", name):
            found[name] = found[name][:, :, None, None]
    return {name: value.contiguous().clone() for name, value in found.items()}


def equal(ours: nn.Module, theirs: nn.Module) -> bool:
    own = theirs.state_dict()
    return ours.state_dict().keys() == own.keys() and all(
        torch.equal(value, own[name]) for name, value in ours.state_dict().items()
    )


@pytest.mark.parametrize("ending", ["safetensors", "ckpt"])
def test_one_file_of_stable_diffusion_gives_the_models_it_was_made_of(
    diffusion: Any, state: dict[str, Tensor], tmp_path: Path, ending: str
):
    path = tmp_path / f"sd.{ending}"
    if ending == "ckpt":
        torch.save({"state_dict": state, "global_step": 5}, path)
    else:
        save_file(state, path)
    loaded = parts.load_diffusion("sd-1.3", {"sd-1.3": str(path)})
    assert equal(loaded.unet, diffusion[0])
    assert equal(loaded.vae, diffusion[1])
    assert loaded.pretrained
    with torch.no_grad():
        latent, tokens = torch.randn(1, 4, 8, 8), torch.randn(1, 77, 24)
        assert torch.equal(loaded.unet(latent, 0, tokens).sample, diffusion[0](latent, 0, tokens).sample)
        expected = diffusion[2](torch.tensor([[98] + [99] * 76])).last_hidden_state
    assert torch.allclose(loaded.empty_prompt, expected, atol=1e-6)


def test_the_sizes_of_stable_diffusion_are_read_from_the_tensors(state: dict[str, Tensor]):
    unet, vae, prompt = originals.stable_diffusion(state)
    assert unet.config.block_out_channels == (32, 32, 64, 64)
    assert (unet.config.cross_attention_dim, vae.config.latent_channels) == (24, 4)
    assert prompt.shape == (1, 77, 24)


def test_the_moving_average_is_taken_where_there_is_one(state: dict[str, Tensor]):
    average = torch.full_like(state["model.diffusion_model.input_blocks.0.0.weight"], 0.5)
    unet, _, _ = originals.stable_diffusion({**state, "model_ema.diffusion_modelinput_blocks00weight": average})
    assert unet.conv_in.weight.unique().tolist() == [0.5]


@pytest.mark.parametrize(
    "name",
    ["model.diffusion_model.middle_block.0.in_layers.2.weight", "first_stage_model.decoder.conv_out.bias"]
    + [
        "model.diffusion_model.input_blocks.0.0.weight",
        "cond_stage_model.transformer.text_model.final_layer_norm.bias",
    ],
)
def test_a_tensor_that_the_file_lacks_is_named(state: dict[str, Tensor], tmp_path: Path, name: str):
    save_file({key: value for key, value in state.items() if key != name}, tmp_path / "sd.safetensors")
    with pytest.raises(MammoprepError, match="sd.safetensors is no readable sd-1.3: it has no "):
        parts.load_diffusion("sd-1.3", {"sd-1.3": str(tmp_path / "sd.safetensors")})


def test_stable_diffusion_2_is_told_where_to_go(state: dict[str, Tensor], tmp_path: Path):
    other = {name.replace("cond_stage_model.transformer.", "cond_stage_model.model."): t for name, t in state.items()}
    save_file(other, tmp_path / "v2.safetensors")
    with pytest.raises(
        MammoprepError, match=r"it is no Stable Diffusion 1.x. Version 2.x is read from a diffusers folder"
    ):
        parts.load_diffusion("sd-1.3", {"sd-1.3": str(tmp_path / "v2.safetensors")})


def test_a_file_of_something_else_is_one_line(tmp_path: Path):
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(
        MammoprepError, match="list.pt is no readable sd-1.3: list.pt holds a list instead of named tensors"
    ):
        parts.load_diffusion("sd-1.3", {"sd-1.3": str(tmp_path / "list.pt")})


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path):
    torch.save({"state_dict": {}, "callbacks": Path("anything")}, tmp_path / "sd.ckpt")
    with pytest.raises(MammoprepError, match=r"sd.ckpt is no readable sd-1.3"):
        parts.load_diffusion("sd-1.3", {"sd-1.3": str(tmp_path / "sd.ckpt")})


def test_an_inpainting_model_is_refused(state: dict[str, Tensor], tmp_path: Path):
    name = "model.diffusion_model.input_blocks.0.0.weight"
    save_file({**state, name: torch.zeros(32, 9, 3, 3)}, tmp_path / "inpainting.safetensors")
    with pytest.raises(
        MammoprepError, match="inpainting.safetensors is another model: sd-1.3 needs the layout of Stable"
    ):
        parts.load_diffusion("sd-1.3", {"sd-1.3": str(tmp_path / "inpainting.safetensors")})


# Swin: the original layout, built here

WINDOW, WIDTH = 4, 8


class OriginalBlock(nn.Module):
    """Attention in windows that may be shifted, with one joint layer for query, key and value."""

    def __init__(self, width: int, *, heads: int, shift: int) -> None:
        super().__init__()
        self.heads, self.shift = heads, shift
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.Module()
        self.attn.qkv, self.attn.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.attn.relative_position_bias_table = nn.Parameter(torch.randn((2 * WINDOW - 1) ** 2, heads))
        steps = torch.cartesian_prod(torch.arange(WINDOW), torch.arange(WINDOW))
        apart = steps[:, None] - steps[None] + WINDOW - 1
        self.attn.register_buffer("relative_position_index", apart[..., 0] * (2 * WINDOW - 1) + apart[..., 1])
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, H, W, C); H and W are multiples of the window."""
        shifted = self.norm1(tokens).roll((-self.shift, -self.shift), (1, 2))
        regions = torch.zeros(tokens.shape[1:3])
        for row, rows in enumerate((slice(0, -WINDOW), slice(-WINDOW, -self.shift or None), slice(-self.shift, None))):
            for col, cols in enumerate(
                (slice(0, -WINDOW), slice(-WINDOW, -self.shift or None), slice(-self.shift, None))
            ):
                regions[rows, cols] = 3 * row + col if self.shift else 0
        seen = self.attend(self.cut(shifted), self.cut(regions[None, :, :, None])[..., 0])
        count = tokens.shape[1] // WINDOW, tokens.shape[2] // WINDOW
        merged = seen.view(-1, *count, WINDOW, WINDOW, tokens.shape[3]).transpose(2, 3).reshape(tokens.shape)
        tokens = tokens + merged.roll((self.shift, self.shift), (1, 2))
        return tokens + self.mlp["fc2"](nn.functional.gelu(self.mlp["fc1"](self.norm2(tokens))))

    def cut(self, tokens: Tensor) -> Tensor:
        B, H, W, C = tokens.shape
        return tokens.view(B, H // WINDOW, WINDOW, W // WINDOW, WINDOW, C).transpose(2, 3).reshape(-1, WINDOW**2, C)

    def attend(self, windows: Tensor, regions: Tensor) -> Tensor:
        shape = (*windows.shape[:2], self.heads, -1)
        query, key, value = (part.view(shape).transpose(1, 2) for part in self.attn.qkv(windows).chunk(3, dim=-1))
        bias = self.attn.relative_position_bias_table[self.attn.relative_position_index].permute(2, 0, 1)
        apart = (regions[:, :, None] != regions[:, None]).float() * -100
        weights = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5 + bias
        weights = weights + apart.repeat(len(windows) // len(apart), 1, 1)[:, None]
        return self.attn.proj((weights.softmax(-1) @ value).transpose(1, 2).flatten(2))


class OriginalSwin(nn.Module):
    """Microsoft's Swin classifier: two blocks a stage, the second one shifted; patches merge behind each stage."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, WIDTH, 4, stride=4), "norm": nn.LayerNorm(WIDTH)})
        self.layers = nn.ModuleList()
        for stage in range(4):
            width, heads = WIDTH * 2**stage, (1, 1, 2, 4)[stage]
            layer = nn.Module()
            layer.blocks = nn.ModuleList(
                OriginalBlock(width, heads=heads, shift=shift) for shift in ((0, 2) if stage < 2 else (0,))
            )
            if stage < 3:
                merge = {"norm": nn.LayerNorm(4 * width), "reduction": nn.Linear(4 * width, 2 * width, bias=False)}
                layer.downsample = nn.ModuleDict(merge)
            self.layers.append(layer)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 5)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Give each stage's output, behind a norm without weights."""
        tokens = self.patch_embed["norm"](self.patch_embed["proj"](images).permute(0, 2, 3, 1))
        outputs = []
        for layer in self.layers:
            for block in layer.blocks:
                tokens = block(tokens)
            outputs.append(nn.functional.layer_norm(tokens, tokens.shape[-1:]).permute(0, 3, 1, 2))
            if hasattr(layer, "downsample"):
                parts_of = [tokens[:, row::2, col::2] for col in (0, 1) for row in (0, 1)]
                tokens = layer.downsample["reduction"](layer.downsample["norm"](torch.cat(parts_of, dim=-1)))
        return outputs


@pytest.fixture(scope="module")
def swin() -> OriginalSwin:
    torch.manual_seed(8)
    network = OriginalSwin().eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network


def test_an_original_swin_file_gives_its_four_stages(swin: OriginalSwin, tmp_path: Path):
    torch.save({"model": swin.state_dict()}, tmp_path / "swin_22k.pth")
    loaded = parts.load_swin("swin-l", {"swin-l": str(tmp_path / "swin_22k.pth")}).swin.double().eval()
    images = torch.rand(2, 3, 128, 256, dtype=torch.float64)
    with torch.no_grad():
        features, expected = loaded(images).feature_maps, swin.double()(images)
    assert [tuple(part.shape[1:]) for part in features] == [(8, 32, 64), (16, 16, 32), (32, 8, 16), (64, 4, 8)]
    assert all(torch.allclose(a, b, atol=1e-8) for a, b in zip(features, expected, strict=True))


def test_the_sizes_of_swin_are_read_from_the_tensors(swin: OriginalSwin):
    config = originals.swin_config(originals.swin_state(swin.state_dict()))
    assert (config.embed_dim, config.depths, config.num_heads) == (8, [2, 2, 1, 1], [1, 1, 2, 4])
    assert (config.window_size, config.patch_size) == (4, 4)


def test_a_transformers_file_alone_is_a_swin_too(swin_folder: Path):
    whole = parts.load_swin("swin-l", {"swin-l": str(swin_folder)}).swin
    alone = parts.load_swin("swin-l", {"swin-l": str(swin_folder / "model.safetensors")}).swin
    assert equal(alone, whole)


def test_another_models_file_is_no_swin(clip_folder: Path):
    with pytest.raises(MammoprepError, match="model.safetensors is no readable swin-l: it has no swin"):
        parts.load_swin("swin-l", {"swin-l": str(clip_folder / "model.safetensors")})
