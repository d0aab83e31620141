"""`mammoprep inspect`: what a raw collection or a DATASET holds, before anything is done with it."""

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mammoprep.cli import console, pseudonyms
from mammoprep.cli.of_readers import named, with_options
from mammoprep.errors import MammoprepError

if TYPE_CHECKING:
    from rich.table import Table

    from mammoprep.inventory import Inventory
    from mammoprep.records import Reader


def inspect(
    source: Annotated[Path, typer.Argument(metavar="RAW|DATASET", help="Raw folder, as downloaded, or a DATASET.")],
    labels: Annotated[
        str | None, typer.Option(help="Label scheme of the raw data set.", show_default="its first")
    ] = None,
    reader: Annotated[
        str | None, typer.Option(help="Data set of RAW, as convert calls it.", show_default="told by its files' names")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="An option of `convert` for it: patient=REGEX, normals; again for more."
        ),
    ] = None,
    pixels: Annotated[
        bool,
        typer.Option("--pixels", help="Read the raw files too: manufacturer, sizes in mm, masks, what is broken."),
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for figures (PNG).")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Files at a time. Default: the number of cores.")] = None,
    json: console.Json = False,
) -> None:
    """Count images and findings, and what a conversion would leave out and why."""
    from joblib import cpu_count

    from mammoprep import inventory
    from mammoprep.convert import pseudonymised
    from mammoprep.parallel import Workers
    from mammoprep.readers import check_root, recognise

    def chosen(root: Path) -> "Reader | None":
        found = named(reader) if reader else recognise(root)
        if found is None and option:
            raise MammoprepError(f"{root} is no data set that is known, so --option has no meaning. Say --reader.")
        chosen = with_options(found, option or ()) if found else None
        return pseudonymised(chosen, names) if chosen and names else chosen

    if (reader or option) and inventory.is_dataset(source):
        raise MammoprepError(f"{source} is a DATASET: its tables say all. Leave out --reader and --option.")
    if reader:
        check_root(named(reader), source)
    how = Workers((workers or cpu_count()) if pixels else 1)
    is_own = reader is not None and named(reader).own
    hidden = pseudonyms.keyed(source, source, key=None, dry_run=True) if is_own else nullcontext()
    with hidden as names, console.progress("Inspecting") as move:
        found = inventory.inspect(
            source, recognise=chosen, labels=labels, read_pixels=pixels, workers=how, on_progress=move
        )
    if out:
        inventory.draw(found, out)
        console.note(f"Figures are in {out}.")
    if json:
        console.print_json(found.to_json())
    else:
        _print(found)


def _print(found: "Inventory") -> None:
    from mammoprep.inventory import is_known

    out = console.stdout()
    scheme = f", classes by --labels {found.labels}" if found.labels else ""
    out.print(f"{found.source}{scheme}", markup=False, soft_wrap=True)
    console.show_counts((title, console.shortened(counts, elsewhere="--json")) for title, counts in _sections(found))
    out.print(_classes(found))
    for unit, sizes in (("native pixels", found.sizes_px), ("mm", found.sizes_mm)):
        if is_known(sizes):
            out.print(_sizes(f"longer side, {unit}", sizes))


def _sections(found: "Inventory") -> Iterator[tuple[str, Mapping[str, int]]]:
    from mammoprep.inventory import NOT_STATED

    yield (
        "",
        {
            "images": found.images,
            "their files there": found.files,
            "patients": found.patients,
            "studies": found.studies,
            "lesion-free": found.lesion_free,
            "without a finding, not called lesion-free": found.without_finding,
            "pairs of findings whose boxes overlap": found.overlapping,
            "images with such a pair": found.overlapping_images,
        },
    )
    yield "findings of an image", found.findings_per_image
    for name, counts in found.images_by.items():
        if list(counts) != [NOT_STATED]:
            yield name, counts
    for stage, reasons in found.skipped.items():
        yield f"left out: {stage}", reasons


def _classes(found: "Inventory") -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table("class")
    for title in ("findings", "images", "patients"):
        table.add_column(title, justify="right")
    for name, of in found.classes.items():
        table.add_row(Text(name), str(of.findings), str(of.images), str(of.patients))
    return table


def _sizes(title: str, sizes: Mapping[str, Mapping[str, int]]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(title)
    for name in next(iter(sizes.values())):
        table.add_column(Text(name), justify="right")
    for bin_, counts in sizes.items():
        table.add_row(bin_, *map(str, counts.values()))
    return table
