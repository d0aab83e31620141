"""The named presets, one a system of the literature: values only."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from mammoprep.errors import UnknownNameError
from mammoprep_model.config import RANDOM, Architecture, ModelConfig, Preset, TrainConfig
from mammoprep_model.diffusion.config import DiffusionConfig
from mammoprep_model.promptable.config import SamConfig
from mammoprep_model.semantic.config import SetrConfig, UNetConfig


@dataclass(frozen=True)
class Family:
    """Networks that are built alike: from values of the class `values`, by `build` of the module `network`.

    `build(values, categories=, weights=)` gives a Segmenter; `weights` maps parts to places.
    """

    values: type[Architecture]
    network: str


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "odise": Family(ModelConfig, "mammoprep_model.odise.network"),
        "u-net": Family(UNetConfig, "mammoprep_model.semantic.network"),
        "setr": Family(SetrConfig, "mammoprep_model.semantic.network"),
        "diffusion": Family(DiffusionConfig, "mammoprep_model.diffusion.network"),
        "sam": Family(SamConfig, "mammoprep_model.promptable.network"),
    }
)
"""The families by name; each lies in a folder of its own or of relatives."""

# Tuned on phantoms for the two minutes that the demo has. So early in training two queries often claim one lesion with
# different classes: the usual overlap threshold of 0.8 would drop both.
_TINY = Preset(
    name="tiny",
    summary="Small and random, its backbone trained too: for the demo and the tests; learns on two CPU cores.",
    model=ModelConfig(
        backbone="tiny",
        backbone_frozen=False,
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

# Where the paper is silent, ours is, for this preset and those made from it: ODISE's input size (train.size 1024),
# windows (model.window 512), schedule and time term; bare class names (model.prompt "{}") with synonyms
# (model.synonyms); no CLIP ensemble at prediction (model.clip_share 0; ODISE's is 0.3), for every class here is trained
# on; trained parts start random (model.mask_generator; a COCO-trained one is m2f-coco).
_M_ODISE = Preset(
    name="m-odise",
    summary="M-ODISE (arXiv 2407.14326): frozen MAM-E diffusion backbone, BiomedCLIP captioner and class head.",
    model=ModelConfig(),
    train=TrainConfig(),
    published="M-ODISE",
    trained=27.477,
    frozen=1015.139,
)
# ODISE's own choices on COCO but for the ensemble, which there serves classes never seen: as above.
_ODISE = replace(
    _M_ODISE,
    name="odise",
    summary="ODISE: frozen Stable Diffusion 1.3 backbone, CLIP captioner and class head.",
    model=ModelConfig(backbone="sd-1.3", image_encoder="clip", text_encoder="clip"),
    published="ODISE",
    trained=28.067,
    frozen=1233.241,
)
# Silent on how BiomedCLIP replaces CLIP: ours reads its image and its text encoder alike; the rest as M-ODISE.
_ODISE_BIOMEDCLIP = replace(
    _M_ODISE,
    name="odise-biomedclip",
    summary="ODISE with BiomedCLIP as captioner and class head.",
    model=ModelConfig(backbone="sd-1.3"),
    published="ODISE + BiomedCLIP",
)
# Silent on MAM-E's empty prompt: ours is encoded by MAM-E's own text encoder, which was trained too; the rest as ODISE.
_ODISE_MAM_E = replace(
    _ODISE,
    name="odise-mam-e",
    summary="ODISE with the frozen MAM-E diffusion backbone.",
    model=ModelConfig(image_encoder="clip", text_encoder="clip"),
    published="ODISE + MAM-E",
)
# For laboratories without the large weights: the backbone is their own, of a quarter of Stable Diffusion's widths.
_M_ODISE_COMPACT = replace(
    _M_ODISE,
    name="m-odise-compact",
    summary="M-ODISE on a small diffusion backbone that `mammoprep pretrain --base compact` makes; for a GPU of 8 GB.",
    model=ModelConfig(backbone="compact"),
    train=TrainConfig(micro_batch=1),
    published=None,
    trained=23.750,
    frozen=144.356,
)
# The paper leaves out the text encoder and does not say what conditions the diffusion model: ours is the empty prompt.
# Panoptic thresholds are ODISE's, as for all (train.object_threshold 0; Mask2Former's own is 0.8).
_M2F_SD = replace(
    _M_ODISE,
    name="m2f-sd",
    summary="Mask2Former on the frozen features of Stable Diffusion 1.3: no captioner, a linear class head.",
    model=ModelConfig(
        backbone="sd-1.3", image_encoder="none", text_encoder="none", synonyms=False, time_embedding=False
    ),
    published="M2F (SD)",
    trained=25.911,
    frozen=928.948,
)
# Mask2Former's own settings for COCO panoptic with Swin-L; the paper says no others. Swin starts from ImageNet-22k, the
# rest random (model.mask_generator=m2f-coco: from COCO, where everything fits).
_M2F_SWIN_L = replace(
    _M2F_SD,
    name="m2f-swin-l",
    summary="Mask2Former with a Swin-L backbone, trained at a tenth of the learning rate.",
    model=ModelConfig(
        backbone="swin-l",
        backbone_frozen=False,
        image_encoder="none",
        text_encoder="none",
        synonyms=False,
        time_embedding=False,
        queries=200,
    ),
    train=TrainConfig(backbone_rate=0.1),
    published="M2F (Swin-L)",
    trained=215.503,
    frozen=0.0,
)

# The recipe of the Twente thesis (2024DMB0004) for its semantic networks. It is silent on weight decay (torch's own
# here), on warm-up and clipping (none here), on the precision (bfloat16 on a GPU here) and on a last epoch: training
# ends with its early stop, and 1,000 epochs are never meant to be reached.
_THESIS = TrainConfig(
    size=224,
    crop=224,
    stride=16,
    fit="stretch",
    clahe=True,
    augment="none",
    epochs=1000,
    batch_size=16,
    weight_decay=0.01,
    warmup_steps=0,
    schedule="plateau",
    plateau_patience=25,
    early_stop=40,
    clip_norm=0,
)
_U_NET = Preset(
    name="u-net",
    summary="U-Net of five levels, the thesis's first rival: each pixel's category, lesions by connected components.",
    model=UNetConfig(),
    train=_THESIS,
    trained=28.987,
)
_SETR_FS = Preset(
    name="setr-fs",
    summary="SETR: ViT-L/16 from scratch under a decoder of convolutions.",
    model=SetrConfig(backbone=RANDOM),
    train=_THESIS,
    trained=307.434,
)
# The decoder moves ten times as fast as the transformer, whose rate is the thesis's 1e-4.
_SETR_FT = Preset(
    name="setr-ft",
    summary="SETR, its ViT-L/16 fine-tuned from ImageNet-21k at a tenth of the decoder's rate.",
    model=SetrConfig(),
    train=replace(_THESIS, learning_rate=1e-3, backbone_rate=0.1),
    trained=307.434,
)
_SETR_VPT = Preset(
    name="setr-vpt",
    summary="SETR, its ViT-L/16 frozen: 50 trained tokens prompt each layer (VPT-deep).",
    model=SetrConfig(backbone_frozen=True, prompts=50),
    train=_THESIS,
    trained=5.363,
    frozen=303.300,
)

# EnsemDiff does not say how long it was trained: ours is as long as MedSegDiff. Nor do any of the three say how a
# mammogram becomes a square: ours is stretched, as MedSegDiff stretches its images.
_ENSEMDIFF = Preset(
    name="ensemdiff",
    summary="EnsemDiff (arXiv 2112.03145): masks drawn from noise beside the image, the mean of five.",
    model=DiffusionConfig(),
    train=TrainConfig(
        size=256,
        crop=256,
        stride=32,
        fit="stretch",
        augment="none",
        steps=100_000,
        batch_size=10,
        weight_decay=0.0,
        warmup_steps=0,
        milestones=(1.0, 1.0),
        clip_norm=0.0,
    ),
    trained=113.685,
)
_MEDSEGDIFF = replace(
    _ENSEMDIFF,
    name="medsegdiff",
    summary="MedSegDiff (arXiv 2211.00611): EnsemDiff's UNet with a highway network; five masks fused by STAPLE.",
    model=DiffusionConfig(condition="highway", fuse="staple", sampler="dpm-solver", sampling_steps=50),
    train=replace(_ENSEMDIFF.train, batch_size=8),
    trained=123.127,
)
# SegDiff is trained and tested on windows of 256 of an image of 512: ours sees the whole 512 at prediction. Whether its
# variance is the posterior's or beta we do not know: ours is beta (model.learned_variance false).
_SEGDIFF = replace(
    _ENSEMDIFF,
    name="segdiff",
    summary="SegDiff (arXiv 2112.00390): features of the image are added to those of the noised mask; mean of nine.",
    model=DiffusionConfig(
        condition="add",
        mask_range="signed",
        loss="sum",
        learned_variance=False,
        time_steps=100,
        multipliers=(1, 1, 1, 2, 2, 4, 4),
        residual_blocks=3,
        attention=(16, 32),
        heads=4,
        samples=9,
    ),
    train=replace(
        _ENSEMDIFF.train, size=512, stride=64, augment="crop", flip=False, steps=300_000, batch_size=8, ema=0.9999
    ),
    trained=164.126,
)

# SAM as the thesis used it: one image a step, stretched to 1024² (a stride of as much lets train.fit=pad make squares
# too), its contrast left alone.
_SAM_FT = Preset(
    name="sam-ft",
    summary="SAM (ViT-L), all of it fine-tuned, prompted by the ground truth unless told otherwise.",
    model=SamConfig(),
    train=replace(_THESIS, size=1024, crop=1024, stride=1024, clahe=False, batch_size=1),
    trained=312.343,
)
_SAM_ZS = Preset(
    name="sam-zs",
    summary="SAM (ViT-L) as it is: training takes no step, and the RUN predicts.",
    model=SamConfig(backbone_frozen=True),
    train=replace(_SAM_FT.train, epochs=0, steps=0, schedule="milestones", early_stop=0),
    frozen=312.343,
)

_ALL = (
    *(_TINY, _U_NET, _SETR_FS, _SETR_FT, _SETR_VPT, _SAM_ZS, _SAM_FT),
    *(_SEGDIFF, _ENSEMDIFF, _MEDSEGDIFF),
    *(_M2F_SWIN_L, _M2F_SD, _ODISE, _ODISE_BIOMEDCLIP, _ODISE_MAM_E, _M_ODISE, _M_ODISE_COMPACT),
)
"""The thesis's, those by diffusion, then the paper's systems in the order of its tables."""
PRESETS: Mapping[str, Preset] = MappingProxyType({preset.name: preset for preset in _ALL})


def family_of(values: Architecture) -> str:
    """Give the name of the family that is made of such values."""
    return next(name for name, family in FAMILIES.items() if family.values is type(values))


def preset(name: str) -> Preset:
    """Give the preset of that name."""
    if name not in PRESETS:
        raise UnknownNameError(name, kind="model", known=PRESETS)
    return PRESETS[name]
