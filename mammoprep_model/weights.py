"""Where the pretrained parts of a network come from: hub id or local folder; licence, size and files of each."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mammoprep.errors import MammoprepError, UnknownNameError


@dataclass(frozen=True)
class Source:
    """A pretrained part: its hub id, its licence, its size in megabytes, and the files that it needs.

    An entry of `files` lists the names of one file, the preferred one first; one of them must be there.
    """

    name: str
    layout: Literal["diffusers", "clip", "open_clip", "swin"]
    hub: str
    licence: str
    megabytes: int
    files: tuple[tuple[str, ...], ...]


_TOKENIZER_FILES = ["tokenizer/*", "tokenizer*.json", "special_tokens_map.json"]
"""Downloaded too where they are there; older tokenizers have fewer."""
_DIFFUSERS = (
    ("unet/config.json",),
    ("unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.bin"),
    ("vae/config.json",),
    ("vae/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.bin"),
    ("text_encoder/config.json",),
    ("text_encoder/model.safetensors", "text_encoder/pytorch_model.bin"),
    ("tokenizer/vocab.json",),
    ("tokenizer/merges.txt",),
)
OPEN_CLIP_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)

SOURCES: Mapping[str, Source] = {
    source.name: source
    for source in (
        Source("mam-e", "diffusers", "Likalto4/fusion_healthy", "none stated", 4270, _DIFFUSERS),
        Source("sd-1.3", "diffusers", "CompVis/stable-diffusion-v1-3", "CreativeML OpenRAIL-M", 4270, _DIFFUSERS),
        Source(
            "clip",
            "clip",
            "openai/clip-vit-large-patch14-336",
            "MIT",
            1710,
            (("config.json",), ("model.safetensors", "pytorch_model.bin"), ("vocab.json",), ("merges.txt",)),
        ),
        Source(
            "biomedclip",
            "open_clip",
            "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
            "MIT",
            784,
            (("open_clip_config.json",), OPEN_CLIP_WEIGHTS, ("vocab.txt",)),
        ),
        Source(
            "swin-l",
            "swin",
            "microsoft/swin-large-patch4-window12-384-in22k",
            "Apache-2.0",
            920,
            (("config.json",), ("model.safetensors", "pytorch_model.bin")),
        ),
    )
}


def locate(part: str, places: Mapping[str, str]) -> Path:
    """Give the folder of a part: the one that `places` names, or the download of its hub id (the default).

    A folder that lacks a file of the part is an error that names the file.
    """
    source = source_of(part)
    place = places.get(part, source.hub)
    folder = Path(place).expanduser()
    if not folder.is_dir():
        folder = _download(source, place)
    if missing := _missing(source, folder):
        raise MammoprepError(f"{folder} is not a whole {part}: {missing} is missing. {needs(part)}")
    return folder


def fetch(part: str, into: Path) -> Path:
    """Download a part's default into `into`/<part>, for a machine without internet; what is whole is left alone."""
    source, folder = source_of(part), into / part
    whole = folder.is_dir() and not _missing(source, folder)
    return folder if whole else _download(source, source.hub, local=folder)


def in_folder(root: Path, parts: Iterable[str]) -> dict[str, str]:
    """Find the parts that `fetch` put into a folder: the place of each of `parts`."""
    found = {part: str(root / part) for part in parts if (root / part).is_dir()}
    if not found:
        wanted = ", ".join(parts) or "none"
        raise MammoprepError(f"{root} holds no folder named after a part of this model. Parts: {wanted}.")
    return found


def source_of(part: str) -> Source:
    """Give the source of a part by its name."""
    if part not in SOURCES:
        raise UnknownNameError(part, kind="pretrained part", known=SOURCES)
    return SOURCES[part]


def _download(source: Source, hub: str, *, local: Path | None = None) -> Path:
    """Give the folder of a hub id, downloading what is not in the hub's cache, or in the folder `local`, yet."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", hub):
        raise MammoprepError(f"There is no folder {hub}. {needs(source.name)}")
    from huggingface_hub import snapshot_download

    try:
        for attempt in range(max(len(names) for names in source.files)):
            wanted = [names[min(attempt, len(names) - 1)] for names in source.files]
            folder = Path(snapshot_download(hub, allow_patterns=wanted + _TOKENIZER_FILES, local_dir=local))
            if not _missing(source, folder):
                break
    except (OSError, ValueError) as error:
        raise MammoprepError(
            f"{source.name}: {hub} is no folder, and the Hugging Face hub did not give it. {needs(source.name)}"
        ) from error
    return folder


def _missing(source: Source, folder: Path) -> str | None:
    """Give the first file of the part that a folder lacks."""
    lacking = (names[0] for names in source.files if not any((folder / name).is_file() for name in names))
    return next(lacking, None)


def needs(part: str) -> str:
    """Say how to give a part: which files, from where."""
    source = source_of(part)
    files = ", ".join(" or ".join(names) for names in source.files)
    return f"Put {files} of https://huggingface.co/{source.hub} into a folder and say --weights {part}=FOLDER."
