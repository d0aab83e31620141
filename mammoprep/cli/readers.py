"""`mammoprep readers`: the data sets known, with what each expects and where to get it."""

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mammoprep.cli import console
from mammoprep.errors import MammoprepError, UnknownNameError

if TYPE_CHECKING:
    from mammoprep.records import Reader

_SHOWN = ("What", "Licence", "Get it")


def readers(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Show its data sheet whole.")] = None,
    json: console.Json = False,
) -> None:
    """List the data sets that convert reads; with NAME show one's data sheet: layout, labels, quirks, licence."""
    from mammoprep.readers import READERS, load_plugin, plugins

    known, points = dict(READERS), plugins()
    if name in points:
        known[name] = load_plugin(points[name])
    if name is not None:
        if name not in known:
            raise UnknownNameError(name, kind="reader", known=(*known, *points))
        _show_one(known[name], json=json)
        return
    faults = {}
    for each, point in points.items():
        try:
            known[each] = load_plugin(point)
        except MammoprepError as error:
            faults[each] = str(error)
    if json:
        console.print_json({"readers": [_entry(reader) for reader in known.values()], "faults": faults})
        return
    _show(list(known.values()))
    for fault in faults.values():
        console.note(fault)


def _entry(reader: "Reader") -> dict[str, Any]:
    from mammoprep.readers import sheet

    text = sheet(reader)
    return {
        "name": reader.name,
        "title": reader.title,
        "labels": {scheme: list(classes) for scheme, classes in reader.labels.items()},
        **{part.lower().replace(" ", "_"): _part(text, part) for part in _SHOWN},
        "sheet": text,
    }


def _part(text: str, name: str) -> str:
    """Give one part of a data sheet as one line; lines that go on are indented."""
    match = re.search(rf"^{name} +(.*(?:\n {{2,}}\S.*)*)", text, re.MULTILINE)
    return " ".join(match[1].split()) if match else ""


def _show_one(reader: "Reader", *, json: bool) -> None:
    entry = _entry(reader)
    if json:
        console.print_json(entry)
        return
    screen = console.stdout()
    screen.print(entry["sheet"] or f"{reader.title}: its package gives no data sheet.", markup=False, soft_wrap=True)


def _show(known: "list[Reader]") -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 1, 0))
    for column in ("convert", "what", "labels", "licence, source"):
        table.add_column(column, no_wrap=column == "convert", overflow="fold")
    for reader in known:
        entry = _entry(reader)
        first = entry["sheet"].partition("\n")[0] or reader.title
        table.add_row(
            *map(Text, (reader.name, first, ", ".join(reader.labels), f"{entry['licence']} {entry['get_it']}"))
        )
    console.stdout().print(table)
    console.stdout().print("`mammoprep readers NAME` shows a data sheet whole.")
