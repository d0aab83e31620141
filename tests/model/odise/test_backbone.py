import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mammoprep_model import tiny
from mammoprep_model.odise.backbone import Backbone, Bottleneck, cut, inputs_of, merge, origins

WINDOWS = torch.rand(2, 3, 64, 128, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randn(2, *tiny.PROMPT, generator=torch.Generator().manual_seed(1))


def make(*, frozen: bool = True, checkpointing: bool = False) -> Backbone:
    torch.manual_seed(0)
    network = Backbone(tiny.unet(), tiny.vae(), frozen=frozen, projection=16, window=128, checkpointing=checkpointing)
    return network.eval()


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return make()


def first_input(module: nn.Module, run: Callable[[], Any]) -> Tensor:
    with inputs_of({"it": module}) as seen:
        run()
    return seen["it"]


def test_features_have_strides_4_8_16_32(backbone: Backbone):
    features = backbone(WINDOWS, TOKENS, None)
    assert [tuple(part.shape) for part in features] == [
        (2, 16, 16, 32),
        (2, 16, 8, 16),
        (2, 16, 4, 8),
        (2, 16, 2, 4),
    ]


def test_the_taps_of_stable_diffusion_have_its_channels():
    from diffusers import AutoencoderKL, UNet2DConditionModel

    with torch.device("meta"):
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
        )
        unet = UNet2DConditionModel(cross_attention_dim=768)
        network = Backbone(unet, vae, frozen=True, projection=512, window=512, checkpointing=True)
    channels = {name: block.layers[0].in_channels for name, block in network.projections.items()}
    assert channels == {
        **{"unet_2": 2560, "unet_5": 1920, "unet_8": 960, "unet_11": 640},
        **{"encoder_5": 512, "encoder_7": 512, "decoder_2": 512, "decoder_5": 512},
    }


def test_the_vae_sees_pixels_from_minus_one_to_one(backbone: Backbone):
    seen = first_input(backbone.vae.encoder, lambda: backbone(WINDOWS, TOKENS, None))
    assert torch.equal(seen, WINDOWS * 2 - 1)


def test_the_unet_sees_the_scaled_mean_latent_with_the_fixed_noise(backbone: Backbone):
    latent = 0.18215 * backbone.vae.encode(WINDOWS * 2 - 1).latent_dist.mean
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(42))
    noise = nn.functional.interpolate(noise, (8, 16), mode="bicubic")
    seen = first_input(backbone.unet.conv_in, lambda: backbone(WINDOWS, TOKENS, None))
    assert torch.allclose(seen, 0.99957491 * latent + 0.02915476 * noise, atol=1e-6)


def test_the_decoder_without_its_end_has_the_same_taps():
    torch.manual_seed(0)
    whole = tiny.vae()
    network = Backbone(
        tiny.unet(), copy.deepcopy(whole), frozen=True, projection=16, window=64, checkpointing=False
    ).eval()
    latent = torch.randn(1, 4, 8, 8)
    for block in (0, 1):
        theirs = first_input(whole.decoder.up_blocks[block].resnets[2], lambda: whole.decode(latent))
        cut_short = network.vae.decoder.up_blocks[block].resnets[2]
        assert torch.equal(first_input(cut_short, lambda: network.vae.decode(latent)), theirs)
    assert len(network.vae.decoder.up_blocks) == 2


@pytest.mark.parametrize("attention", [False, True])
def test_the_unet_without_its_end_has_the_same_taps(attention: bool):
    from diffusers import UNet2DConditionModel

    last = "CrossAttnUpBlock2D" if attention else "UpBlock2D"
    torch.manual_seed(0)
    whole = UNet2DConditionModel(
        block_out_channels=(8, 8, 8, 8),
        norm_num_groups=4,
        attention_head_dim=2,
        cross_attention_dim=tiny.PROMPT[1],
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", last),
    )
    network = Backbone(
        copy.deepcopy(whole), tiny.vae(), frozen=True, projection=16, window=64, checkpointing=False
    ).eval()
    latent = torch.randn(2, 4, 8, 8)
    for place in range(4):
        theirs = first_input(whole.up_blocks[place].resnets[2], lambda: whole(latent, 0, TOKENS))
        own = network.unet.up_blocks[place].resnets[2]
        run = lambda: network.unet(latent, 0, TOKENS, class_labels=latent.new_zeros(()))  # noqa: E731
        assert torch.equal(first_input(own, run), theirs)
    assert not any(
        name.startswith(("up_blocks.3.resnets.2", "conv_out")) for name, _ in network.unet.named_parameters()
    )


def test_each_feature_is_the_sum_of_its_projected_taps(backbone: Backbone):
    block = backbone.unet.up_blocks[2].resnets[2]
    with inputs_of({"unet_8": block}) as seen:
        features = backbone(WINDOWS, TOKENS, None)
    assert torch.equal(features[2], backbone.projections["unet_8"](seen["unet_8"]))


def test_the_same_windows_give_the_same_features(backbone: Backbone):
    first, second = (backbone(WINDOWS, TOKENS, None) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_zero_time_term_changes_nothing(backbone: Backbone):
    zero = torch.zeros(2, 128)
    pairs = zip(backbone(WINDOWS, TOKENS, None), backbone(WINDOWS, TOKENS, zero), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_time_term_reaches_the_features(backbone: Backbone):
    term = torch.ones(2, backbone.unet.time_embedding.linear_2.out_features)
    assert not torch.equal(backbone(WINDOWS, TOKENS, None)[1], backbone(WINDOWS, TOKENS, term)[1])


def gradients(network: Backbone) -> list[Tensor]:
    tokens = TOKENS.clone().requires_grad_()
    sum(part.square().mean() for part in network(WINDOWS, tokens, None)).backward()
    return [tokens.grad, *(parameter.grad for parameter in network.projections.parameters())]


def test_gradients_pass_through_the_frozen_unet_and_stay_out_of_it():
    network = make()
    tokens, *projections = gradients(network)
    assert tokens.abs().max() > 0
    assert all(part is not None for part in projections)
    assert all(parameter.grad is None for parameter in [*network.unet.parameters(), *network.vae.parameters()])


def test_checkpointing_gives_the_same_gradients_and_leaves_no_hooks():
    plain, checkpointed = make(), make(checkpointing=True)
    for one, other in zip(gradients(plain), gradients(checkpointed), strict=True):
        assert torch.equal(one, other)
    assert not any(module._forward_pre_hooks for module in checkpointed.modules())


def test_a_frozen_vae_leaves_no_graph_and_a_trained_one_does():
    for frozen in (True, False):
        encoded = make(frozen=frozen).encode(WINDOWS)
        assert {value.requires_grad for value in encoded.values()} == {not frozen}


def test_attention_runs_in_one_fused_operation(backbone: Backbone):
    kinds = {type(processor).__name__ for processor in backbone.unet.attn_processors.values()}
    assert kinds == {"AttnProcessor2_0"}


def test_an_unfrozen_backbone_is_trained():
    network = make(frozen=False)
    gradients(network)
    assert network.vae.encoder.conv_in.weight.grad.abs().max() > 0
    assert network.unet.conv_in.weight.grad.abs().max() > 0


def test_hooks_go_even_when_the_forward_pass_fails():
    block = nn.Identity()
    with pytest.raises(RuntimeError, match="stop"), inputs_of({"it": block}):
        raise RuntimeError("stop")
    assert not block._forward_pre_hooks


def test_a_bottleneck_of_512_channels_has_the_published_parameters():
    counts = [sum(p.numel() for p in Bottleneck(width, 512).parameters()) for width in (512, 640)]
    assert counts == [280_064, 640 * 640 + 215_552]


def test_windows_lie_side_by_side_and_the_last_ones_end_with_the_image():
    assert origins((1024, 832), window=512) == [(0, 0), (0, 320), (512, 0), (512, 320)]


def test_a_small_image_is_one_window():
    assert origins((64, 128), window=512) == [(0, 0)]
    assert cut(WINDOWS, window=512).shape == WINDOWS.shape


def test_windows_laid_side_by_side_are_the_image_again():
    images = torch.rand(2, 3, 192, 320)
    windows = cut(images, window=128)
    assert windows.shape == (2 * 2 * 3, 3, 128, 128)
    assert torch.allclose(merge(windows, (192, 320), window=128), images)


def test_where_windows_overlap_features_are_averaged():
    # Two windows of 128 on a height of 192, at stride 32: rows 0-3 and 2-5.
    features = torch.cat([torch.full((1, 1, 4, 2), 1.0), torch.full((1, 1, 4, 2), 3.0)])
    merged = merge(features, (192, 64), window=128)
    assert merged[0, 0, :, 0].tolist() == [1, 1, 2, 2, 3, 3]
