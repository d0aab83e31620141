"""`mammoprep weights`: collect the pretrained parts of a model in a folder, for a machine without internet."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from mammoprep.cli import console
from mammoprep.cli.extra import require_model
from mammoprep.errors import MammoprepError


def weights(
    model: Annotated[str, typer.Option("--for", help="Preset of `mammoprep models`.", metavar="MODEL")],
    to: Annotated[Path, typer.Option(help="Folder for the parts, one folder each.", metavar="DIR")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="As for train: model.mask_generator=m2f-coco needs a part more.")
    ] = None,
    json: console.Json = False,
) -> int:
    """Download the weights that a model needs into DIR; there train and predict take them with --weights DIR.

    What is there whole is not downloaded again. DIR/SHA256SUMS lists the files; it is checked whenever they are loaded.

    Exit code 1 where a part is still to be made by you, as no hub has it.
    """
    require_model()
    from mammoprep import panoptic
    from mammoprep_model import checksums, settings, zoo
    from mammoprep_model import weights as sources

    parts = settings.change(zoo.preset(model), set_ or []).model.parts
    if not parts:
        raise MammoprepError(f"{model} needs no weights.")
    if to.exists() and not to.is_dir():
        raise MammoprepError(f"{to} is a file. Name a folder.")
    to_make = [part for part in parts if not sources.source_of(part).hub and not (to / part).is_dir()]
    folders = {part: sources.fetch(part, to) for part in parts if part not in to_make}
    files = sorted(path for folder in to.iterdir() if folder.is_dir() for path in _files(folder))
    lines = [f"{panoptic.file_hash(path)}  {path.relative_to(to).as_posix()}\n" for path in files]
    panoptic.write_bytes(to / checksums.SUMS, "".join(lines).encode())
    for part in to_make:
        console.note(f"No hub has {part}. {sources.needs(part).replace('FOLDER', str(to / part))}")
    if json:
        found = {part: str(folder) for part, folder in folders.items()}
        console.print_json({"model": model, "parts": found, "to_make": to_make})
    else:
        _show(model, to, folders)
    return 1 if to_make else 0


def _show(model: str, to: Path, folders: Mapping[str, Path]) -> None:
    for part, folder in folders.items():
        console.stdout().print(f"{part}: {folder}", soft_wrap=True)
    console.stdout().print(f"Copy {to}, then: mammoprep train DATASET --model {model} --weights {to}", soft_wrap=True)


def _files(folder: Path) -> list[Path]:
    """Give the files of a part; the hub's own notes lie in hidden folders."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in found if not any(name.startswith(".") for name in path.relative_to(folder).parts)]
