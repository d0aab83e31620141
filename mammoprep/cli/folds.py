"""`mammoprep folds`: cross-validation folds by patient, and how alike they are."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mammoprep.cli import console
from mammoprep.errors import MammoprepError

if TYPE_CHECKING:
    from mammoprep.folds import FoldTable

DEFAULT_K = 5


def folds(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Written by mammoprep convert.")],
    k: Annotated[int | None, typer.Option("-k", help="Number of folds.", show_default=str(DEFAULT_K))] = None,
    seed: Annotated[int, typer.Option(help="Another seed gives other folds.", min=0, max=2**32 - 1)] = 0,
    balance: Annotated[
        Literal["label", "none"], typer.Option(help="What to keep alike: each image's rarest class, or nothing.")
    ] = "label",
    official: Annotated[
        bool, typer.Option("--official", help="Take the data set's own split as the only fold.")
    ] = False,
    allow_leak: Annotated[
        bool, typer.Option("--allow-leak", help="Take it even where patients are on both of its sides.")
    ] = False,
    json: console.Json = False,
) -> None:
    """Split a DATASET by patient and write folds.json; a patient in two folds or an empty fold is an error."""
    if official and k is not None:
        raise MammoprepError("--official is one fold. Leave out -k.")
    if allow_leak and not official:
        raise MammoprepError("--allow-leak is about the data set's own split. Say --official too, or leave it out.")
    from mammoprep.folds import make

    count = DEFAULT_K if k is None else k
    table = make(dataset, k=count, seed=seed, balance=balance, official=official, allow_leak=allow_leak)
    if table.leaks:
        console.note(f"{table.leaks} patients are on both sides of the official split: a score on it flatters.")
    for part, name in table.lacking():
        console.note(f"{part} has no {name}: its score there is undefined.")
    if json:
        console.print_json(table.to_json())
    else:
        _print(table)


def _print(table: "FoldTable") -> None:
    from rich.table import Table

    shown = Table(
        caption="findings (images that show one); spread: std / mean of the share of images", caption_justify="left"
    )
    for title in ("", "images", "patients", "lesion-free", *table.spread):
        shown.add_column(title, justify="right" if title else "left")
    for part in table.parts:
        classes = (f"{count} ({part.showing[name]})" for name, count in part.findings.items())
        shown.add_row(part.name, str(part.images), str(part.patients), str(part.lesion_free), *classes)
    shown.add_section()
    spreads = ("—" if spread is None else f"{spread:.1%}" for spread in table.spread.values())
    shown.add_row("spread", "", "", "", *spreads)
    console.stdout().print(shown)
