"""`mammoprep weights`: collect the pretrained parts of a model in a folder, for a machine without internet."""

from pathlib import Path
from typing import Annotated

import typer

from mammoprep.cli import console
from mammoprep.cli.extra import require_model
from mammoprep.errors import MammoprepError

SUMS = "SHA256SUMS"
"""Hashes of the collected files, as `sha256sum -c` reads them."""


def weights(
    model: Annotated[str, typer.Option("--for", help="Preset of `mammoprep models`.", metavar="MODEL")],
    to: Annotated[Path, typer.Option(help="Folder for the parts, one folder each.", metavar="DIR")],
    json: console.Json = False,
) -> None:
    """Download the weights that a model needs into DIR; there train and predict take them with --weights DIR.

    What is there whole is not downloaded again. DIR/SHA256SUMS lists the files, to be checked after copying.
    """
    require_model()
    from mammoprep import panoptic
    from mammoprep_model import weights as sources
    from mammoprep_model import zoo

    parts = zoo.preset(model).model.parts
    if not parts:
        raise MammoprepError(f"{model} needs no weights.")
    if to.exists() and not to.is_dir():
        raise MammoprepError(f"{to} is a file. Name a folder.")
    folders = {part: sources.fetch(part, to) for part in parts}
    files = sorted(path for folder in to.iterdir() if folder.is_dir() for path in _files(folder))
    lines = [f"{panoptic.file_hash(path)}  {path.relative_to(to).as_posix()}\n" for path in files]
    panoptic.write_bytes(to / SUMS, "".join(lines).encode())
    if json:
        console.print_json({"model": model, "parts": {part: str(folder) for part, folder in folders.items()}})
        return
    for part, folder in folders.items():
        console.stdout().print(f"{part}: {folder}", soft_wrap=True)
    console.stdout().print(f"Copy {to}, then: mammoprep train DATASET --model {model} --weights {to}", soft_wrap=True)


def _files(folder: Path) -> list[Path]:
    """Give the files of a part; the hub's own notes lie in hidden folders."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in found if not any(name.startswith(".") for name in path.relative_to(folder).parts)]
