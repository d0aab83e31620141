"""A latent-diffusion model with all that it takes to train and to sample it: a diffusers folder in memory."""

from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mammoprep import panoptic
from mammoprep_model import parts, tensors, weight_files


def _scheduler() -> Any:
    """Give Stable Diffusion 1.x's noise schedule: 1000 steps, betas linear in their square root, epsilon predicted."""
    from diffusers import DDPMScheduler

    make: Any = DDPMScheduler
    return make(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        steps_offset=1,
    )


@dataclass(frozen=True)
class Pipeline:
    """The parts of a latent-diffusion model, in float32.

    They are diffusers' UNet2DConditionModel and AutoencoderKL, transformers' CLIPTextModel and CLIPTokenizer, and
    diffusers' DDPMScheduler, which says what the UNet predicts.
    """

    unet: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any
    scheduler: Any = field(default_factory=_scheduler)


def load(folder: Path) -> Pipeline:
    """Load a diffusers folder in float32; a tensor or a file that it lacks is an error, a pickle is not run."""
    from diffusers import DDPMScheduler
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    schedulers: Any = DDPMScheduler
    text = folder / "text_encoder"
    with tensors.reading("sd-1.5", folder):
        return Pipeline(
            unet=parts.from_diffusers(UNet2DConditionModel, folder / "unet"),
            vae=parts.from_diffusers(AutoencoderKL, folder / "vae"),
            text_encoder=tensors.model(
                CLIPTextModel, CLIPTextConfig.from_pretrained(text), tensors.read(text, weight_files.TRANSFORMERS)
            ),
            tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
            scheduler=schedulers.from_pretrained(folder / "scheduler", local_files_only=True),
        )


def save(pipeline: Pipeline, folder: Path) -> None:
    """Write a diffusers folder, whole or not at all; what stood there before is replaced."""
    panoptic.discard(folder)
    with panoptic.staged(folder) as beside:
        write(pipeline, beside)


def write(pipeline: Pipeline, folder: Path) -> None:
    """Write the files of a diffusers folder into one that is there: safetensors, and the tokenizer's words and merges.

    transformers 5 writes neither of the two; other versions, and `weights.locate`, ask for them.
    """
    for network in (pipeline.unet, pipeline.vae):
        network.register_to_config(_name_or_path="")  # the folder that it came from is nobody's business
    pipeline.tokenizer.model_max_length = pipeline.text_encoder.config.max_position_embeddings
    words = pipeline.tokenizer.backend_tokenizer
    words.no_padding()  # it keeps how it was asked last
    words.no_truncation()
    with tensors.quietly():
        for name in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
            getattr(pipeline, name).save_pretrained(folder / name)
    words.model.save(str(folder / "tokenizer"))
    panoptic.write_json(folder / "model_index.json", _index(pipeline))


def _index(pipeline: Pipeline) -> dict[str, Any]:
    """Say which class of which library reads each folder, as diffusers' StableDiffusionPipeline asks for it."""
    libraries = dict.fromkeys(("scheduler", "unet", "vae"), "diffusers")
    libraries |= dict.fromkeys(("text_encoder", "tokenizer"), "transformers")
    present = {name: [library, type(getattr(pipeline, name)).__name__] for name, library in libraries.items()}
    absent = {name: [None, None] for name in ("feature_extractor", "image_encoder", "safety_checker")}
    return {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": version("diffusers"),
        "requires_safety_checker": False,
        **present,
        **absent,
    }
