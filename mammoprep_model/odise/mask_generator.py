"""The mask generator of Mask2Former: a pixel decoder and queries that look where their masks are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers.models.mask2former.configuration_mask2former import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerPixelDecoder,
    Mask2FormerPreTrainedModel,
    Mask2FormerTransformerModule,
)

from mammoprep_model.config import ModelConfig


@dataclass(frozen=True)
class Masks:
    """Queries and their masks after each decoder layer, the raw queries' first: n + 1 sets for n layers.

    `queries` (B, Q, D); `masks` (B, Q, H/4, W/4) are logits; `features` (B, D, H/4, W/4) are what they are made of.
    """

    queries: tuple[Tensor, ...]
    masks: tuple[Tensor, ...]
    features: Tensor


class MaskGenerator(Mask2FormerPreTrainedModel):  # type: ignore[no-untyped-call]
    """Turn features at strides 4, 8, 16 and 32 into queries and masks.

    `channels` are those of the features. It derives from transformers' base class for its `post_init`, which
    initialises attention and convolutions.
    """

    def __init__(self, config: ModelConfig, channels: Sequence[int]) -> None:
        settings = Mask2FormerConfig(
            feature_size=config.hidden,
            mask_feature_size=config.hidden,
            hidden_dim=config.hidden,
            encoder_layers=config.encoder_layers,
            encoder_feedforward_dim=config.encoder_feedforward,
            # transformers counts the sets of masks, one more than there are layers.
            decoder_layers=config.decoder_layers + 1,
            dim_feedforward=config.decoder_feedforward,
            num_attention_heads=config.heads,
            num_queries=config.queries,
        )
        super().__init__(settings)
        self.pixel_decoder = Mask2FormerPixelDecoder(settings, feature_channels=list(channels))
        self.transformer = Mask2FormerTransformerModule(in_features=config.hidden, config=settings)
        for module in self.transformer.modules():
            if isinstance(module, nn.MultiheadAttention):
                module.register_forward_pre_hook(_without_weights, with_kwargs=True)
        self.post_init()  # type: ignore[no-untyped-call]
        # Versions of transformers leave it zero, normal or, without post_init, uninitialised memory.
        nn.init.normal_(self.pixel_decoder.level_embed)

    def start_from(self, state: Mapping[str, Tensor]) -> list[str]:
        """Take over the tensors of a trained one, by their names here; give those that do not fit or are not there."""
        own = self.state_dict()
        fitting = {name: state[name] for name in own if name in state and state[name].shape == own[name].shape}
        self.load_state_dict(fitting, strict=False)
        return sorted(own.keys() - fitting.keys())

    def forward(self, features: tuple[Tensor, ...]) -> Masks:
        """Map features (B, channels, H/s, W/s), s = 4, 8, 16, 32, to queries and masks."""
        pixels = self.pixel_decoder(features, output_hidden_states=False, return_dict=True)
        decoded = self.transformer(multi_scale_features=pixels.multi_scale_features, mask_features=pixels.mask_features)
        queries = tuple(states.transpose(0, 1) for states in decoded.intermediate_hidden_states)
        return Masks(queries, tuple(decoded.masks_queries_logits), pixels.mask_features)


def _without_weights(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Let a GPU attend by its fused kernel: nobody looks at the weights, which would be kept for the backward pass.

    A CPU keeps the order of its sums, on which a seed's figures hang.
    """
    return inputs, {**named, "need_weights": not named["query"].is_cuda}
