"""Pretrained parts in miniature, as folders in the formats in which the real ones are published."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mammoprep import panoptic
from mammoprep_model.config import ModelConfig
from mammoprep_model.promptable import sam
from mammoprep_model.promptable.config import SamConfig

# Networks of a few channels are slower on several threads than on one.
torch.set_num_threads(1)

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "bi", "-", "rads", "3", "4", "breast", "background")
CATEGORIES = panoptic.make_categories(["BI-RADS 3", "BI-RADS 4"])


@pytest.fixture(scope="session")
def categories() -> tuple[panoptic.Category, ...]:
    """Two thing classes, breast and background."""
    return CATEGORIES


@pytest.fixture(scope="session")
def small() -> ModelConfig:
    """M-ODISE's wiring in the smallest sizes that its parts allow."""
    return ModelConfig(
        window=128,
        projection=16,
        hidden=32,
        heads=2,
        queries=5,
        encoder_layers=1,
        encoder_feedforward=8,
        decoder_layers=2,
        decoder_feedforward=8,
        points=64,
    )


@pytest.fixture(scope="session")
def tiny_config(small: ModelConfig) -> ModelConfig:
    """The same, on random parts."""
    return replace(
        small, backbone="tiny", image_encoder="tiny", text_encoder="tiny", backbone_frozen=False, checkpointing=False
    )


@pytest.fixture(scope="session")
def diffusers_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A latent-diffusion model as diffusers saves it; the UNet as .bin, as MAM-E's is."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(1)
    root = tmp_path_factory.mktemp("mam-e")
    unet = UNet2DConditionModel(
        block_out_channels=(8, 8, 8, 8), norm_num_groups=4, attention_head_dim=2, cross_attention_dim=24
    )
    unet.save_pretrained(root / "unet", safe_serialization=False)
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        norm_num_groups=4,
    )
    vae.save_pretrained(root / "vae")
    text = CLIPTextConfig(
        vocab_size=100,
        hidden_size=24,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    CLIPTextModel(text).save_pretrained(root / "text_encoder")
    _save_tokenizer(root / "tokenizer")
    return root


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP as transformers saves it."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(2)
    root = tmp_path_factory.mktemp("clip")
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    tokens = {"vocab_size": 100, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = CLIPConfig(
        text_config={**sizes, **tokens}, vision_config={**sizes, "image_size": 32, "patch_size": 16}, projection_dim=12
    )
    CLIPModel(config).save_pretrained(root)
    _save_tokenizer(root)
    return root


def _save_tokenizer(folder: Path) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789-"
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")


class Attention(nn.Module):
    """Self-attention with one joint layer for query, key and value, as timm has it; heads of 64 channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        shape = (*tokens.shape[:2], -1, 64)
        query, key, value = (part.reshape(shape).transpose(1, 2) for part in self.qkv(tokens).chunk(3, dim=-1))
        weights = (query @ key.transpose(-1, -2) / 8).softmax(-1)
        return self.proj((weights @ value).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A pre-norm block of timm's ViT."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 96), "fc2": nn.Linear(96, width)})

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        hidden = nn.functional.gelu(self.mlp["fc1"](self.norm2(tokens)))
        return tokens + self.mlp["fc2"](hidden)


class OpenClip(nn.Module):
    """A CLIP with the parameter names of open_clip's BiomedCLIP checkpoint: timm's ViT, a BERT, two projections."""

    def __init__(self, width: int = 128, *, embedding: int = 20) -> None:
        from transformers import BertConfig, BertModel

        super().__init__()
        trunk = nn.Module()
        trunk.cls_token = nn.Parameter(torch.randn(1, 1, width))
        trunk.pos_embed = nn.Parameter(torch.randn(1, 5, width))
        trunk.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, 16, stride=16)})
        trunk.blocks = nn.Sequential(Block(width), Block(width))
        trunk.norm = nn.LayerNorm(width, eps=1e-6)
        head = nn.ModuleDict({"proj": nn.Linear(width, embedding, bias=False)})
        self.visual = nn.ModuleDict({"trunk": trunk, "head": head})
        bert = BertConfig(
            vocab_size=len(WORDS),
            hidden_size=width,
            num_hidden_layers=1,
            num_attention_heads=width // 64,
            intermediate_size=48,
            max_position_embeddings=16,
        )
        projection = nn.Sequential(nn.Linear(width, 30, bias=False), nn.GELU(), nn.Linear(30, embedding, bias=False))
        transformer = BertModel(bert, add_pooling_layer=False)
        self.text = nn.ModuleDict({"transformer": transformer, "proj": projection})
        self.logit_scale = nn.Parameter(torch.ones(()))
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.2)

    def embed_image(self, pixels: Tensor) -> Tensor:
        """Embed normalised pixels (B, 3, 32, 32)."""
        trunk = self.visual["trunk"]
        patches = trunk.patch_embed["proj"](pixels).flatten(2).transpose(1, 2)
        tokens = torch.cat([trunk.cls_token.expand(len(pixels), -1, -1), patches], dim=1) + trunk.pos_embed
        return self.visual["head"]["proj"](trunk.norm(trunk.blocks(tokens))[:, 0])

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """Embed token ids (N, T), padded with 0."""
        states = self.text["transformer"](input_ids=ids, attention_mask=ids != 0).last_hidden_state
        return self.text["proj"](states[:, 0])


@pytest.fixture(scope="session")
def open_clip() -> OpenClip:
    """A model in the original layout."""
    torch.manual_seed(3)
    return OpenClip().eval()


@pytest.fixture(scope="session")
def biomedclip_folder(open_clip: OpenClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as its folder is published: a pickled state, open_clip's config, BERT's words."""
    root = tmp_path_factory.mktemp("biomedclip")
    torch.save(open_clip.state_dict(), root / "open_clip_pytorch_model.bin")
    config = {"model_cfg": {"embed_dim": 20, "text_cfg": {"context_length": 16}}, "preprocess_cfg": {}}
    (root / "open_clip_config.json").write_text(json.dumps(config))
    (root / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return root


@pytest.fixture(scope="session")
def places(diffusers_folder: Path, biomedclip_folder: Path) -> Mapping[str, str]:
    """Where M-ODISE's parts lie, as in `--weights mam-e=DIR --weights biomedclip=DIR`."""
    return {"mam-e": str(diffusers_folder), "biomedclip": str(biomedclip_folder)}


@pytest.fixture(scope="session")
def swin_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Swin classifier as transformers saves it, as Swin-L is published."""
    from transformers import SwinConfig, SwinForImageClassification

    torch.manual_seed(4)
    root = tmp_path_factory.mktemp("swin")
    config = SwinConfig(
        image_size=64, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4, num_labels=5
    )
    SwinForImageClassification(config).save_pretrained(root)
    return root


@pytest.fixture(scope="session")
def mask2former_folder(small: ModelConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole Mask2Former as transformers saves it: `small`'s sizes, but one query more and other input channels."""
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

    torch.manual_seed(6)
    root = tmp_path_factory.mktemp("m2f-coco")
    backbone = SwinConfig(
        image_size=64,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        **{"out_features": [f"stage{number}" for number in range(1, 5)]},
    )
    config = Mask2FormerConfig(
        backbone_config=backbone,
        feature_size=small.hidden,
        mask_feature_size=small.hidden,
        hidden_dim=small.hidden,
        encoder_layers=small.encoder_layers,
        encoder_feedforward_dim=small.encoder_feedforward,
        decoder_layers=small.decoder_layers + 1,
        dim_feedforward=small.decoder_feedforward,
        num_attention_heads=small.heads,
        num_queries=small.queries + 1,
    )
    network = Mask2FormerForUniversalSegmentation(config)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    network.save_pretrained(root)
    return root


@pytest.fixture(scope="session")
def vit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vision transformer as transformers saves it, as Google's is published: pickled, with a pooler."""
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(7)
    root = tmp_path_factory.mktemp("vit-l")
    config = ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    model = ViTModel(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(root)
    torch.save(load_file(root / "model.safetensors"), root / "pytorch_model.bin")
    (root / "model.safetensors").unlink()
    return root


@pytest.fixture(scope="session")
def sam_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SAM as transformers saves it, whose masks are mostly full and sure."""
    torch.manual_seed(8)
    root = tmp_path_factory.mktemp("sam-vit-l")
    sizes = SamConfig(backbone="random", size=64, width=16, layers=4, heads=2, hidden=32, feedforward=32)
    model = sam.make(sizes, {}).model
    for name, parameter in model.named_parameters():
        if "shared" not in name:
            nn.init.normal_(parameter, std=0.1)
    nn.init.constant_(model.mask_decoder.iou_prediction_head.proj_out.bias, 0.7)
    nn.init.constant_(model.mask_decoder.upscale_conv2.bias, 1.0)
    for head in model.mask_decoder.output_hypernetworks_mlps:
        nn.init.constant_(head.proj_out.bias, 0.5)
    model.save_pretrained(root)
    return root
