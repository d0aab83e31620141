"""`mammoprep analyse-diffusion`: how well diffusion networks know the mask at each time step."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mammoprep.cli import console
from mammoprep.cli.extra import require_model
from mammoprep.errors import MammoprepError

if TYPE_CHECKING:
    from mammoprep_model.analysis import Analysis, Curve


def analyse_diffusion(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="RUNs of segdiff, ensemdiff or medsegdiff.")],
    out: Annotated[Path, typer.Option(help="Folder for analysis.json, curves and forward as PNG and SVG.")] = Path(
        "diffusion-analysis"
    ),
    on: Annotated[Path | None, typer.Option(help="The DATASET of the RUNs, where it was moved.")] = None,
    images: Annotated[int, typer.Option(min=1, help="Validation images, at most.")] = 32,
    points: Annotated[int, typer.Option(min=2, help="Time steps, evenly spread.")] = 21,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute.")] = "auto",
    json: console.Json = False,
) -> None:
    """Estimate masks in one go at each time step: from the true noised mask, from noise, and feed-forward.

    The true noised mask shows at each step how much of the answer a diffusion network is given while it learns.
    """
    require_model()
    from mammoprep import panoptic
    from mammoprep_model import analysis, analysis_figures

    if out.exists() and not out.is_dir():
        raise MammoprepError(f"{out} is a file. Name a folder.")
    found = []
    with console.progress("analyse") as on_progress:
        for number, run in enumerate(runs, start=1):
            found.append(analysis.analyse(run, on=on, images=images, points=points, device=device))
            on_progress(number, len(runs))
    content = {"runs": [each.to_json() for each in found]}
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MammoprepError(f"{out} could not be written: {error.strerror}. Name another --out.") from error
    analysis_figures.draw(found, out)
    panoptic.write_json(out / "analysis.json", content)
    console.note(f"{out / 'analysis.json'} written.")
    if json:
        console.print_json(content)
    else:
        _show(found, points=points)


def _show(found: Sequence["Analysis"], *, points: int) -> None:
    from rich.table import Table

    table, shares = Table(box=None, padding=(0, 2, 0, 0)), _shares(points)
    for place, column in enumerate(("run", "estimated from", *(f"t = {share:.2f} T" for share in shares))):
        table.add_column(column, justify="right" if place > 1 else "left", no_wrap=True)
    for each in found:
        if each.true is None or each.given is None:
            table.add_row(each.run, "noise, feed-forward", *[""] * (len(shares) - 1), _cell(each.noise, 0))
            continue
        places = [_nearest(each.steps, share * (each.time_steps - 1)) for share in shares]
        rows = {"the true noised mask": each.true, "noise": each.noise, "no network: noised mask": each.given}
        for name, curve in rows.items():
            table.add_row(each.run, name, *(_cell(curve, place) for place in places))
    screen = console.stdout()
    screen.print("Mean squared error of the mask (Dice of the lesions)")
    screen.width = max(screen.width, screen.measure(table, options=screen.options.update(max_width=1000)).maximum)
    screen.print(table)


def _shares(points: int) -> list[float]:
    """Give at most five of the shares of the time steps at which curves have points, evenly spread."""
    last = points - 1
    return [place / last for place in sorted({round(quarter * last / 4) for quarter in range(5)})]


def _nearest(steps: Sequence[int], wanted: float) -> int:
    """Give the place of the step nearest to the wanted one."""
    distances = [abs(step - wanted) for step in steps]
    return distances.index(min(distances))


def _cell(curve: "Curve", place: int) -> str:
    dice = curve.dice[place]
    return f"{curve.error[place]:.4f} ({'–' if dice is None else f'{dice:.2f}'})"
