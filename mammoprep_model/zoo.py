"""The named presets, one a system of the literature: values only."""

from collections.abc import Mapping
from types import MappingProxyType

from mammoprep.errors import UnknownNameError
from mammoprep_model.config import ModelConfig, Preset, TrainConfig

# Tuned on phantoms for the two minutes that the demo has. So early in training two queries often claim one lesion with
# different classes: the usual overlap threshold of 0.8 would drop both.
_TINY = Preset(
    name="tiny",
    summary="Small and random, its backbone trained too: for the demo and the tests; learns on two CPU cores.",
    model=ModelConfig(
        diffusion="tiny",
        diffusion_frozen=False,
        image_encoder="tiny",
        text_encoder="tiny",
        synonyms=False,
        window=128,
        checkpointing=False,
        projection=64,
        hidden=64,
        heads=4,
        queries=10,
        encoder_layers=1,
        encoder_feedforward=128,
        decoder_layers=3,
        decoder_feedforward=128,
        points=1024,
    ),
    train=TrainConfig(
        size=128,
        crop=128,
        scale=(0.9, 1.1),
        steps=340,
        batch_size=4,
        learning_rate=1e-3,
        warmup_steps=20,
        milestones=(0.7, 0.9),
        clip_norm=5.0,
        mixed_precision=False,
        # Two threads gain little on layers this small, and wait for each other when anything else wants the cores:
        # 0.25 to 0.5 s a step on two idle cores, 1.1 s beside one busy process; one thread 0.33 to 0.4 s in both.
        cpu_threads=1,
        checkpoint_every=100,
        overlap_threshold=0.5,
    ),
)

# Where the paper is silent, ours is: ODISE's input size, windows, schedule and time term; bare class names with
# synonyms, no prompt template; no zero-shot CLIP ensemble at prediction; trained parts start from scratch.
_M_ODISE = Preset(
    name="m-odise",
    summary="M-ODISE (arXiv 2407.14326): frozen MAM-E diffusion backbone, BiomedCLIP captioner and class head.",
    model=ModelConfig(),
    train=TrainConfig(),
)

PRESETS: Mapping[str, Preset] = MappingProxyType({preset.name: preset for preset in (_TINY, _M_ODISE)})


def preset(name: str) -> Preset:
    """Give the preset of that name."""
    if name not in PRESETS:
        raise UnknownNameError(name, kind="model", known=PRESETS)
    return PRESETS[name]
