"""Files of weights as they are published: whole or in shards, in full or half precision; what a folder holds."""

from collections.abc import Iterable
from pathlib import Path

from mammoprep import panoptic
from mammoprep.errors import MammoprepError

ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
_INDEX = ".index.json"


def _forms(safe: str, pickled: str) -> tuple[str, ...]:
    """Name the forms of one file, the preferred first: full precision, in one file or in shards, then half."""
    whole = [form for name in (safe, pickled) for form in (name, name + _INDEX)]
    return (*whole, *(".fp16.".join(name.rsplit(".", 1)) for name in (safe, pickled)))


TRANSFORMERS = _forms("model.safetensors", "pytorch_model.bin")
DIFFUSERS = _forms("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
OPEN_CLIP = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")


def find(folder: Path, names: Iterable[str]) -> Path | None:
    """Give the first of the named files that is in a folder; an index counts where all of its shards are."""
    present = (folder / name for name in names if (folder / name).is_file())
    return next((path for path in present if all(shard.is_file() for shard in shards(path))), None)


def shards(path: Path) -> list[Path]:
    """Give the files that hold the weights of a file: itself, or those that an index names."""
    if not path.name.endswith(_INDEX):
        return [path]
    hint = "It comes with the shards of the weights."
    content = panoptic.read_json(path, hint=hint)
    try:
        return [path.parent / name for name in sorted(set(content["weight_map"].values()))]
    except (KeyError, TypeError, AttributeError) as error:
        raise MammoprepError(f"{path} names no shards. {hint}") from error


def lacking(folder: Path, names: tuple[str, ...]) -> str:
    """Name what a folder lacks of a file that has these names: a shard that its index names, else the first of them."""
    indices = (folder / name for name in names if name.endswith(_INDEX) and (folder / name).is_file())
    absent = (shard for index in indices for shard in shards(index) if not shard.is_file())
    return next((shard.relative_to(folder).as_posix() for shard in absent), names[0])


def patterns(name: str) -> list[str]:
    """Name a file for a download; an index comes with its shards."""
    stem, _, ending = name.removesuffix(_INDEX).rpartition(".")
    return [name, f"{stem}-*-of-*.{ending}"] if name.endswith(_INDEX) else [name]


def shown(names: Iterable[str]) -> str:
    """List names for a message: the plain ones."""
    return " or ".join(name for name in names if _INDEX not in name and ".fp16." not in name)


def kind_of(folder: Path) -> str | None:
    """Give the `model_type` that a folder's config.json names."""
    return _named(folder / "config.json", "model_type")


def _named(path: Path, key: str) -> str | None:
    """Give the text that a JSON file has under a key."""
    content = panoptic.read_json(path, hint="It comes with the weights.")
    value = content.get(key) if isinstance(content, dict) else None
    return value if isinstance(value, str) else None


def content_of(folder: Path) -> str:
    """Say what a folder holds: what it calls itself, else its first names."""
    if (folder / "run.json").is_file():
        return "a RUN of mammoprep train"
    if (folder / "model_index.json").is_file():
        return f"a {_named(folder / 'model_index.json', '_class_name') or 'model'} of diffusers"
    if (folder / "open_clip_config.json").is_file():
        return "a model of open_clip"
    if (folder / "config.json").is_file():
        if kind := kind_of(folder):
            return f"a {kind} of transformers"
        if part := _named(folder / "config.json", "_class_name"):
            return f"a {part} of diffusers"
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    return ", ".join(names[:4]) + ", …" * (len(names) > 4) if names else "nothing"
