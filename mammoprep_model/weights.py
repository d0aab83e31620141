"""Where the pretrained parts of a network come from: hub id, folder or file; licence, size and files of each."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mammoprep.errors import MammoprepError, UnknownNameError
from mammoprep_model import checksums, weight_files
from mammoprep_model.weight_files import DIFFUSERS, ENDINGS, OPEN_CLIP, TRANSFORMERS

FOLD = "{fold}"
"""Stands for a fold's number in a place."""
Layout = Literal["diffusers", "clip", "open_clip", "swin", "mask2former", "vit", "sam"]
_NAMED = ("clip", "swin", "mask2former", "vit", "sam")
"""Layouts of transformers, whose config.json names the layout."""


@dataclass(frozen=True)
class Source:
    """A pretrained part: its hub id, its licence, its size in megabytes, and the files that it needs.

    An entry of `files` lists the names of one file, the preferred one first; one of them must be there. `revision` is
    the hub's commit that is meant, where one is known. A part without `hub` is made here, by the command `made_by`.
    """

    name: str
    layout: Layout
    hub: str
    licence: str
    megabytes: int
    files: tuple[tuple[str, ...], ...]
    revision: str = ""
    made_by: str = ""

    @property
    def default(self) -> str:
        """Give the hub id, with the revision behind an @ where there is one."""
        return f"{self.hub}@{self.revision}" if self.revision else self.hub

    @property
    def alone(self) -> bool:
        """Tell whether one file of weights is the whole part: its tensors say all sizes, and no text is read."""
        return self.layout in ("diffusers", "swin")


_TOKENIZER_FILES = ["tokenizer/*", "tokenizer*.json", "special_tokens_map.json"]
"""Downloaded too where they are there; older tokenizers have fewer."""
_DIFFUSION = (
    ("unet/config.json",),
    tuple(f"unet/{name}" for name in DIFFUSERS),
    ("vae/config.json",),
    tuple(f"vae/{name}" for name in DIFFUSERS),
    ("text_encoder/config.json",),
    tuple(f"text_encoder/{name}" for name in TRANSFORMERS),
    ("tokenizer/vocab.json",),
    ("tokenizer/merges.txt",),
)

SOURCES: Mapping[str, Source] = {
    source.name: source
    for source in (
        Source("mam-e", "diffusers", "Likalto4/fusion_healthy", "none stated", 4270, _DIFFUSION),
        Source("sd-1.3", "diffusers", "CompVis/stable-diffusion-v1-3", "CreativeML OpenRAIL-M", 4270, _DIFFUSION),
        Source(
            "sd-1.5",
            "diffusers",
            "stable-diffusion-v1-5/stable-diffusion-v1-5",
            "CreativeML OpenRAIL-M",
            4270,
            (*_DIFFUSION, ("scheduler/scheduler_config.json",)),
        ),
        Source(
            "compact",
            "diffusers",
            "",
            "that of your data",
            244,
            _DIFFUSION,
            made_by="mammoprep pretrain DATASET --base compact --out FOLDER",
        ),
        Source(
            "clip",
            "clip",
            "openai/clip-vit-large-patch14-336",
            "MIT",
            1710,
            (("config.json",), TRANSFORMERS, ("vocab.json",), ("merges.txt",)),
            "ce19dc912ca5cd21c8a653c79e251e808ccabcd1",
        ),
        Source(
            "biomedclip",
            "open_clip",
            "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
            "MIT",
            784,
            (("open_clip_config.json",), OPEN_CLIP, ("vocab.txt",)),
            "9f341de24bfb00180f1b847274256e9b65a3a32e",
        ),
        Source(
            "swin-l",
            "swin",
            "microsoft/swin-large-patch4-window12-384-in22k",
            "Apache-2.0",
            920,
            (("config.json",), TRANSFORMERS),
        ),
        Source(
            "vit-l",
            "vit",
            "google/vit-large-patch16-224-in21k",
            "Apache-2.0",
            1220,
            (("config.json",), TRANSFORMERS),
            "3e4ef6b7f89b75bd238eac50e629a17abd6ebb34",
        ),
        Source(
            "sam-vit-l",
            "sam",
            "facebook/sam-vit-large",
            "Apache-2.0",
            1250,
            (("config.json",), TRANSFORMERS),
        ),
        Source(
            "m2f-coco",
            "mask2former",
            "facebook/mask2former-swin-large-coco-panoptic",
            "CC BY-NC 4.0",
            866,
            (("config.json",), TRANSFORMERS),
            "85b535928a783691eaf27467a573b26d543336ea",
        ),
    )
}


def locate(part: str, places: Mapping[str, str]) -> Path:
    """Give the folder, or the single file of weights, of a part: what `places` names, else the hub's default.

    A place is a folder, a file (its small companions beside it), or a hub id, with @ and a revision if one is meant.
    A folder that lacks a file of the part or holds another model, and a file whose SHA-256 is not the one known of it,
    are errors; so is no place for a part that no hub has.
    """
    source, place = source_of(part), place_of(part, places)
    path = Path(place).expanduser()
    if not path.exists():
        path = _download(source, place)
    if path.is_file() and path.suffix not in ENDINGS:
        raise MammoprepError(f"{path} is no file of weights ({', '.join(ENDINGS)}). {needs(part)}")
    checksums.check(_files(source, path))
    _check_whole(source, path)
    return path


def place_of(part: str, places: Mapping[str, str]) -> str:
    """Give what `places` names for a part, else the hub's default; nothing is read or downloaded."""
    place = places.get(part, source_of(part).default)
    if not place:
        raise MammoprepError(f"No hub has {part}, and no place is named for it. {needs(part)}")
    return place


def of_fold(places: Mapping[str, str], fold: int) -> dict[str, str]:
    """Put a fold's number in the place of {fold}, where each fold has a backbone of its own, which must be there."""
    found = {part: place.replace(FOLD, str(fold)) for part, place in places.items()}
    for part, place in found.items():
        if FOLD in places[part] and not Path(place).expanduser().exists():
            raise MammoprepError(f"{part}: there is no {place}, which fold {fold} needs.")
    return found


def fetch(part: str, into: Path) -> Path:
    """Download a part's default into `into`/<part>, for a machine without internet; what is whole is left alone.

    A part that no hub has must lie there.
    """
    source, folder = source_of(part), into / part
    if not folder.is_dir() or _missing(source, folder):
        if not source.hub:
            raise MammoprepError(f"No hub has {part}, and {folder} does not hold it whole. {needs(part)}")
        _download(source, source.default, local=folder)
    checksums.check(_files(source, folder))
    return folder


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


def _download(source: Source, place: str, *, local: Path | None = None) -> Path:
    """Give the folder of a hub id: the hub's cache where that is whole, else downloaded, to `local` if named."""
    found = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", place)
    if not found:
        raise MammoprepError(f"There is no folder or file {place}. {needs(source.name)}")
    if local is None and (cached := _cached(source, hub=found[1], revision=found[2])):
        return cached
    from huggingface_hub import snapshot_download

    wanted = [names[0] for names in source.files] + _TOKENIZER_FILES
    try:
        if found[2]:  # where there is no hub, asking for its last state fails at once, for a known one after 30 s
            snapshot_download(found[1], revision=None, allow_patterns=[])
        for attempt in range(max(len(names) for names in source.files)):
            folder = Path(snapshot_download(found[1], revision=found[2], allow_patterns=wanted, local_dir=local))
            lacking = [names for names in source.files if not weight_files.find(folder, names)]
            left = [names[attempt + 1] for names in lacking if attempt + 1 < len(names)]
            wanted = [pattern for name in left for pattern in weight_files.patterns(name)]
            if not wanted:
                break
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise MammoprepError(
            f"{source.name}: {place} is no folder or file, and the Hugging Face hub did not give it ({reason})."
            f" {needs(source.name)}"
        ) from error
    return folder


def cached(part: str) -> Path | None:
    """Give the folder of a part's default in the hub's cache, if it is whole; nothing is downloaded."""
    source = source_of(part)
    return _cached(source, hub=source.hub, revision=source.revision or None) if source.hub else None


def _cached(source: Source, *, hub: str, revision: str | None) -> Path | None:
    """Give the folder of a whole part in the hub's cache."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(hub, revision=revision, local_files_only=True))
    except (OSError, ValueError):
        return None
    return None if _missing(source, folder) else folder


def _check_whole(source: Source, path: Path) -> None:
    """Refuse a place that lacks a file of the part, or that says itself that it is another model."""
    if path.is_file() and source.alone:
        return
    folder = path.parent if path.is_file() else path
    if missing := _missing(source, path):
        where = f" beside {path.name}" if path.is_file() else f"; it holds {weight_files.content_of(folder)}"
        raise MammoprepError(
            f"{folder} is not a whole {source.name}: {missing} is missing{where}. {needs(source.name)}"
        )
    if source.layout in _NAMED and weight_files.kind_of(folder) != source.layout:
        raise MammoprepError(
            f"{folder} is no {source.name}: it holds {weight_files.content_of(folder)}. {needs(source.name)}"
        )


def _missing(source: Source, path: Path) -> str | None:
    """Give the first file of the part that a folder lacks, or that is not beside a file of weights."""
    folder, entries = _entries(source, path)
    lacking = (names for names in entries if not weight_files.find(folder, names))
    return next((weight_files.lacking(folder, names) for names in lacking), None)


def _entries(source: Source, path: Path) -> tuple[Path, tuple[tuple[str, ...], ...]]:
    """Give the folder to look into and the files to look for there: beside a file of weights, only the small ones."""
    if path.is_dir():
        return path, source.files
    return path.parent, () if source.alone else tuple(names for names in source.files if len(names) == 1)


def _files(source: Source, path: Path) -> list[Path]:
    """List the files of a part that are there."""
    folder, entries = _entries(source, path)
    found = [each for names in entries if (each := weight_files.find(folder, names))]
    return [path] * path.is_file() + [file for each in found for file in {each, *weight_files.shards(each)}]


def files_of(part: str, path: Path) -> list[Path]:
    """List the files that a part is read from, in the order of their names."""
    return sorted(set(_files(source_of(part), path)))


def needs(part: str) -> str:
    """Say how to give a part: which files, from where."""
    source = source_of(part)
    if source.made_by:
        return f"Make it by `{source.made_by}` and say --weights {part}=FOLDER."
    files = ", ".join(map(weight_files.shown, source.files))
    return f"Put {files} of https://huggingface.co/{source.hub} into a folder and say --weights {part}=FOLDER."
