"""Pseudonyms on the command line: the options, the file of the key, and messages without names."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mammoprep.cli import console
from mammoprep.errors import MammoprepError

if TYPE_CHECKING:
    from mammoprep.pseudonyms import Pseudonyms

_PANEL = "Names"
Pseudonymise = Annotated[
    bool | None,
    typer.Option(
        "--pseudonymise/--no-pseudonymise",
        " /--plain-names",
        help="Let keyed hashes stand for patients, studies and files.",
        show_default="for files of your own",
        rich_help_panel=_PANEL,
    ),
]
Key = Annotated[
    Path | None,
    typer.Option(
        help="File of the key, made where it is not; the same key gives the same pseudonyms.",
        show_default="OUT.key",
        rich_help_panel=_PANEL,
    ),
]


def wanted(asked: bool | None, key: Path | None, *, default: bool) -> bool:
    """Tell whether there are to be pseudonyms; a key without them is refused."""
    chosen = default if asked is None else asked
    if key and not chosen:
        raise MammoprepError("--key changes nothing without pseudonyms. Leave it out, or say --pseudonymise.")
    return chosen


@contextmanager
def keyed(source: Path, out: Path, *, key: Path | None, dry_run: bool = False) -> Iterator["Pseudonyms"]:
    """Give the pseudonyms of a key, and write beside it the table that leads from them back to the files of `source`.

    An error in the block is raised again without the names of files; the table then tells them too. A key that was made
    for a block which fails otherwise goes again, unless --resume would need it. A dry run without a
    key has one of its own.
    """
    from mammoprep import panoptic
    from mammoprep.pseudonyms import listed, load_key, throw_away, write_links

    path = key or out.resolve().with_name(f"{out.resolve().name}.key")
    links = path.with_name(f"{path.name}.csv")
    for place in (source, out):
        if path.resolve().is_relative_to(place.resolve()):
            raise MammoprepError(f"The key {path} would lie in {place}, which may be passed on. Name another place.")
    is_new = not path.exists()
    names = throw_away() if dry_run and is_new else load_key(path)
    root, files = (source.parent, [source.name]) if source.is_file() else (source, listed(source))
    try:
        yield names
    except MammoprepError as error:
        text = names.hide(str(error), root=root, paths=files)
        if text != str(error):
            if not dry_run:
                write_links(links, names, files)
            hint = "`convert --no-pseudonymise --dry-run` shows the name." if dry_run else f"{links} leads to the name."
            raise MammoprepError(f"{text} {hint}") from None
        if is_new and not dry_run and not panoptic.partial_of(out).exists():
            path.unlink()
        raise
    if not dry_run:
        write_links(links, names, files)
        console.note(f"Patients and files have pseudonyms. {path} and {links} lead back: keep them in the house.")
