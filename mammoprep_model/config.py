"""What a network and its training are made of, as values: frozen dataclasses that go to run.json and come back."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from mammoprep.errors import MammoprepError

RANDOM = "random"
"""What a part starts from that has no pretrained weights."""


@dataclass(frozen=True)
class TrainConfig:
    """How a network is trained. The defaults are ODISE's, in steps instead of COCO epochs."""

    size: int = 1024
    """Long side of an image in pixels before augmentation, and at prediction."""
    crop: int = 1024
    """Side of the square training window, a multiple of `stride`."""
    stride: int = 64
    """Sides of what the network sees are multiples of this."""
    fit: Literal["pad", "stretch"] = "pad"
    """How an image becomes a square: padded, its sides in proportion; or stretched to it, bilinearly."""
    clahe: bool = False
    """Equalise each image's histogram locally, with limited contrast (CLAHE: 8 x 8 tiles, limit 2), once it has its
    size."""
    scale: tuple[float, float] = (0.1, 2.0)
    """Range of the random rescaling (large scale jitter)."""
    augment: Literal["none", "flip", "crop", "lsj"] = "lsj"
    """What chance does to a training image: nothing; mirroring; that and a window at `size`, where `crop` is smaller;
    large scale jitter, which also rescales by `scale`."""
    flip: bool = True
    """Mirror half of the images left to right; False: none, whatever `augment` says."""
    view: Literal["whole", "windows", "both"] = "whole"
    """What a training window shows: the image at `size`; a window of `crop` pixels at stored resolution, never
    rescaled; each for half of the images. At prediction `windows` sees overlapping windows, the others the whole."""
    lesion_crops: float = 0.0
    """Share of the windows, 0 … 1, that are laid so that they hold a lesion, where the image has one."""
    balance: bool = False
    """Draw images by the rarest lesion class in them, classes alike often; else each image once an epoch."""
    class_weights: str = "none"
    """Weights of the lesion classes in the cross-entropy: `none`, `inverse` (of their lesions), or numbers: 1,2,4."""
    steps: int = 9000
    """Optimiser steps; where `epochs` is above 0 they follow from it. 0: the network predicts as it starts."""
    epochs: float = 0.0
    """Times that every training image of the fold is seen; 0 leaves it to `steps`."""
    batch_size: int = 4
    """Images a step."""
    micro_batch: int = 0
    """Images of a step that a process computes at a time, to the same result with less memory; 0: all of them."""
    learning_rate: float = 1e-4
    backbone_rate: float = 1.0
    """Factor of the learning rate for the backbone's own weights, where they are trained."""
    weight_decay: float = 0.05
    """AdamW's; 0 for norms and biases."""
    warmup_steps: int = 250
    warmup_factor: float = 0.067
    schedule: Literal["milestones", "plateau"] = "milestones"
    """When the learning rate falls tenfold: at `milestones`, or where the validation loss falls no more."""
    milestones: tuple[float, float] = (0.889, 0.963)
    """Fractions of the steps after which the learning rate falls tenfold."""
    plateau_patience: int = 25
    """Epochs in a row without a lower validation loss that `plateau` waits out; with the next one the rate falls."""
    early_stop: int = 0
    """Epochs in a row without a lower training loss after which training stops; 0: never."""
    keep: Literal["last", "best"] = "last"
    """The weights that predict: the last ones, or those after the epoch with the lowest validation loss."""
    ema: float = 0.0
    """Decay a step of the moving average of the trained weights that predicts (0.999, say); 0: the last weights do."""
    clip_norm: float = 0.01
    """Limit of the gradient's L2 norm over the trained parameters; 0: none."""
    mixed_precision: bool = True
    """bfloat16 autocast on a GPU; a CPU computes in float32."""
    compile: bool = False
    """Compile the UNet's transformer blocks (torch.compile); the first steps take longer for it."""
    cache_gib: float = 0.0
    """Gibibytes that a run may keep on disk of what its frozen parts give for each view; 0: nothing is kept.
    Of use where views return: `augment` none or flip, `view` whole."""
    cpu_threads: int = 0
    """Threads of a computation on the CPU; 0 leaves the choice to torch."""
    checkpoint_every: int = 500
    """Steps between two checkpoints."""
    validate_every: int = 0
    """Steps between two scores of the validation images; the weights with the highest PQ at IoU 0.1 then predict.
    0: the last weights do, and the validation images have no say."""
    patience: int = 0
    """Scores without a better PQ after which training stops; 0: never."""
    object_threshold: float = 0.0
    """Score above which a mask enters the panoptic map."""
    overlap_threshold: float = 0.8
    """Share of a mask that must stay visible in the panoptic map."""


@dataclass(frozen=True)
class Architecture:
    """What a network is made of, as values: each family has a subclass with fields of its own (`zoo.FAMILIES`)."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Give the pretrained parts that it needs, names of `weights.SOURCES`, each once."""
        return ()

    @property
    def shown(self) -> Mapping[str, str]:
        """Give what `mammoprep models` says of it: `backbone`, and what else there is to tell it by."""
        return {}

    @property
    def trained(self) -> "Architecture":
        """Give it as a trained network needs it: without parts that only the start of a training needs."""
        return self

    @property
    def prompted_by(self) -> str:
        """Give what tells it where to look at prediction, as `prompts.prompted` reads it; "" where it finds out."""
        return ""

    @property
    def leaner(self) -> str:
        """Give the setting that makes its training need less memory, as `model.NAME=VALUE`; "" where there is none."""
        return ""


def keep(rules: Mapping[str, bool]) -> None:
    """Refuse values that break a rule."""
    for rule, kept in rules.items():
        if not kept:
            raise MammoprepError(f"A model cannot have these values: {rule}.")


@dataclass(frozen=True)
class ModelConfig(Architecture):
    """What a network of the ODISE family is made of. The defaults are M-ODISE's; parts are names of `weights.SOURCES`.

    A part called `tiny` is small, random and needs no weights.
    """

    backbone: str = "mam-e"
    """What the features come from: a diffusion model's UNet and VAE, or a Swin transformer."""
    backbone_frozen: bool = True
    """False trains the backbone too."""
    image_encoder: str = "biomedclip"
    """Sees each window for the implicit captioner; `none`: the diffusion model gets the empty prompt."""
    text_encoder: str = "biomedclip"
    """Encodes the class names; `none`: a linear layer tells the classes apart."""
    synonyms: bool = True
    """Let each class also be found under its plain-language names; False: the bare name alone."""
    prompt: str = "{}"
    """Template of the texts that classes are told apart by, the name for {}. Of several, between |, the embeddings are
    averaged."""
    clip_share: float = 0.0
    """Share of what the untrained CLIP says of each mask in the class probabilities at prediction; ODISE's is 0.3."""
    clip_prompt: str = "a photo of a {}."
    """Template of the texts for that."""
    mask_generator: str = "random"
    """Where the mask generator starts: `random`, or a whole Mask2Former whose tensors are taken where they fit."""
    time_embedding: bool = True
    """Let the captioner add a term to the UNet's time embedding too."""
    window: int = 512
    """Side of the windows that the backbone sees, a multiple of 64; smaller images are seen whole."""
    checkpointing: bool = True
    """Recompute the UNet's activations in the backward pass instead of keeping them."""
    projection: int = 512
    """Channels of the four feature maps."""
    hidden: int = 256
    """Width of queries, mask features and the class embedding; a multiple of 32."""
    heads: int = 8
    queries: int = 100
    encoder_layers: int = 6
    """Deformable-attention layers of the pixel decoder."""
    encoder_feedforward: int = 1024
    decoder_layers: int = 9
    """Masked-attention layers; there is one set of masks more than layers."""
    decoder_feedforward: int = 2048
    class_weight: float = 2.0
    mask_weight: float = 5.0
    dice_weight: float = 5.0
    no_object_weight: float = 0.1
    """Weight of "no object" inside the cross-entropy."""
    points: int = 12544
    """Points of a mask at which matching and losses look."""
    oversample_ratio: float = 3.0
    importance_ratio: float = 0.75
    """Share of the points that are the most uncertain ones of `oversample_ratio` times as many."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Give the pretrained parts that it needs, each once."""
        named = (self.backbone, self.image_encoder, self.text_encoder, self.mask_generator)
        return tuple(part for part in dict.fromkeys(named) if part not in ("none", "random", "tiny", "tiny-swin"))

    @property
    def shown(self) -> Mapping[str, str]:
        """Give the backbone, with a star where it is trained, and what captions images and encodes classes."""
        captioner, head = self.image_encoder, self.text_encoder
        return {
            "backbone": self.backbone + " *" * (not self.backbone_frozen),
            "captioner": "–" if captioner == "none" else captioner,
            "class head": "linear" if head == "none" else head,
        }

    @property
    def trained(self) -> "ModelConfig":
        """Give it with a mask generator that starts anywhere."""
        return replace(self, mask_generator="random")

    @property
    def leaner(self) -> str:
        """Give what recomputes activations instead of keeping them."""
        return "" if self.checkpointing else "model.checkpointing=true"

    def __post_init__(self) -> None:
        layers = (self.encoder_layers, self.decoder_layers, self.encoder_feedforward, self.decoder_feedforward)
        sizes = (self.window, self.projection, self.hidden, self.heads, self.queries, self.points, *layers)
        rules = {
            "sizes and layers must be at least 1": min(sizes) >= 1,
            "window must be a multiple of 64": self.window % 64 == 0,
            "projection must be a multiple of 16": self.projection % 16 == 0,
            "hidden must be a multiple of 32 and of heads": self.hidden % 32 == 0
            and self.hidden % max(self.heads, 1) == 0,
            "importance_ratio must lie in 0 … 1": 0 <= self.importance_ratio <= 1,
            "oversample_ratio must be at least 1": self.oversample_ratio >= 1,
            "prompts must hold {} for the name": all(
                "{}" in template for text in (self.prompt, self.clip_prompt) for template in text.split("|")
            ),
            "clip_share must lie in 0 … 1": 0 <= self.clip_share <= 1,
            "clip_share needs one pretrained CLIP as image_encoder and text_encoder": not self.clip_share
            or (self.image_encoder == self.text_encoder and self.image_encoder not in ("none", "tiny")),
        }
        keep(rules)


@dataclass(frozen=True)
class Preset:
    """A named system: values only.

    `published` is the name under which the paper's tables list it; `trained` and `frozen` are the millions of
    parameters for three lesion classes, breast and background (0: not counted). An encoder of texts is in neither:
    texts are encoded once.
    """

    name: str
    summary: str
    model: Architecture
    train: TrainConfig
    published: str | None = None
    trained: float = 0.0
    frozen: float = 0.0
