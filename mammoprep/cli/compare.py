"""`mammoprep compare`: two or more results on the same images, as the paper's table and as paired differences."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mammoprep.cli import console
from mammoprep.cli.evaluate import Resamples, Seed
from mammoprep.errors import MammoprepError

if TYPE_CHECKING:
    from mammoprep.evaluation.compare import Comparison, Row

_WIDEST = 1000
"""Characters of a line that no name of a result is likely to pass."""
_ENDINGS = {"csv": "csv", "markdown": "md", "latex": "tex"}


def compare(
    results: Annotated[
        list[Path], typer.Argument(metavar="RESULT…", help="RUNs, or folders of `mammoprep evaluate --out`.")
    ],
    threshold: Annotated[float, typer.Option(help="IoU threshold of the sweep at which to compare.")] = 0.1,
    published: Annotated[
        Literal["cdd-cesm", "vindr", "cbis-ddsm"] | None,
        typer.Option(help="Show the rows that papers print for this data set, apart from ours."),
    ] = None,
    layout: Annotated[
        Literal["text", "csv", "markdown", "latex"], typer.Option("--format", help="What to print.")
    ] = "text",
    out: Annotated[Path | None, typer.Option(help="Folder for comparison.json, .csv, .md and .tex.")] = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    json: console.Json = False,
) -> None:
    """Compare results on the same images: mean ± std over folds, the best marked, and each minus the first.

    The differences have 95 % intervals by paired bootstrap over patients: a result is drawn with the same patients as
    the first.
    """
    from mammoprep.evaluation.compare import compare as compare_results
    from mammoprep.evaluation.results import load

    if out and out.exists() and not out.is_dir():
        raise MammoprepError(f"{out} is a file. Name a folder.")
    loaded = [load(path) for path in results]
    found = compare_results(loaded, threshold=threshold, resamples=resamples, seed=seed, published=published)
    texts = texts_of(found)
    if out:
        write(found, out, texts)
    if json:
        console.print_json(found.to_json())
    elif layout == "text":
        show(found)
    else:
        typer.echo(texts[layout], nl=False)


def texts_of(found: "Comparison") -> dict[str, str]:
    """Give a comparison in each layout that files have."""
    from mammoprep.evaluation import layout

    return {
        "csv": layout.as_csv(found),
        "markdown": layout.as_markdown(found),
        "latex": layout.as_latex(found),
    }


def write(found: "Comparison", out: Path, texts: Mapping[str, str]) -> None:
    """Write comparison.json, .csv, .md and .tex."""
    from mammoprep import panoptic

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MammoprepError(f"{out} could not be written: {error.strerror}. Name another --out.") from error
    for layout, text in texts.items():
        panoptic.write_bytes(out / f"comparison.{_ENDINGS[layout]}", text.encode())
    panoptic.write_json(out / "comparison.json", found.to_json())
    console.note(f"{out / 'comparison.json'} written.")


def show(found: "Comparison") -> None:
    """Print the rows, the differences, and what papers print."""
    from rich.table import Table
    from rich.text import Text

    from mammoprep.evaluation import layout
    from mammoprep.evaluation.compare import MEASURES

    def table(heading: str, rows: Sequence[Sequence[str | Text]]) -> None:
        grid = Table(box=None, padding=(0, 2, 0, 0))
        for place, column in enumerate(("", *MEASURES)):
            grid.add_column(column, justify="right" if place else "left", no_wrap=True)
        for row in rows:
            grid.add_row(*map(Text.assemble, row))
        whole = screen.measure(grid, options=screen.options.update(max_width=_WIDEST)).maximum
        screen.width = max(screen.width, whole)  # names are never cut
        screen.print(heading, style="bold", soft_wrap=True, markup=False)
        screen.print(grid, "")

    def cells(row: "Row") -> list[str | Text]:
        marks = (row.cells[measure] for measure in MEASURES)
        return [row.title, *(Text(layout.percent(c), style="bold" if c.best else "") for c in marks)]

    screen = console.stdout()
    table(
        f"{found.images} images, IoU {found.threshold:.2f}, per cent, the best in bold", [cells(r) for r in found.rows]
    )
    for title, by_measure in layout.changes(found).items():
        heading = f"{title} minus {found.rows[0].title}, percentage points (95 % interval; * leaves out 0)"
        screen.print(heading, style="bold", soft_wrap=True, markup=False)
        for measure, difference in by_measure.items():
            screen.print(f"  {measure:5}{layout.change(difference)}", markup=False)
        screen.print()
    if found.published:
        table(f"{layout.origin(found.published)}, {layout.PUBLISHED}", [cells(r) for r in found.published])
    if found.footnote:
        screen.print(found.footnote, soft_wrap=True, markup=False)
    if found.reason:
        screen.print(f"Not given: differences ({found.reason}).")
