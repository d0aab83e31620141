"""Figures of an analysis: curves over the time steps, a column a data set, and the forward process on a mask."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mammoprep.evaluation.figures import save, tidy
from mammoprep_model.analysis import Analysis

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's, a preset each."""
_GREY = "#777777"
KINDS = ("png", "svg")


def draw(found: Sequence[Analysis], out: Path) -> list[Path]:
    """Draw `curves` and `forward` as PNG and SVG into a folder."""
    paths = []
    for kind in KINDS:
        for name, figure in (("curves", curves(found)), ("forward", forward(found))):
            paths.append(out / f"{name}.{kind}")
            save(figure, paths[-1])
    return paths


def curves(found: Sequence[Analysis]) -> Figure:
    """Draw the error of the estimated mask above, the Dice of its lesions below, over t / T."""
    datasets = list(dict.fromkeys(each.dataset for each in found))
    presets = list(dict.fromkeys(each.preset for each in found))
    figure = Figure(figsize=(1.6 + 3.6 * len(datasets), 6.4), layout="constrained")
    grid = figure.subplots(2, len(datasets), squeeze=False, sharex=True, sharey="row")
    for column, dataset in zip(grid.T, datasets, strict=True):
        own = [each for each in found if each.dataset == dataset]
        for axes, what in zip(column, ("error", "dice"), strict=True):
            for each in own:
                _draw(axes, each, what, colour=_COLOURS[presets.index(each.preset) % len(_COLOURS)])
            tidy(axes)
        column[0].set_title(f"{dataset}, {own[0].images} images", fontsize="medium")
        column[0].set_yscale("log")
        column[1].set(xlabel="time step t / T", ylim=(-0.02, 1.02), xlim=(0, 1))
    grid[0, 0].set_ylabel("mean squared error of the mask")
    grid[1, 0].set_ylabel("Dice of the lesions")
    handles = {line.get_label(): line for axes in grid.flat for line in axes.get_lines()}
    figure.legend(
        [*handles.values()], [*map(str, handles)], loc="outside lower center", ncols=len(datasets), frameon=False
    )
    return figure


def _draw(axes: Axes, each: Analysis, what: str, *, colour: str) -> None:
    """Draw one run: solid from the true x_t, dashed from noise; feed-forward, which knows no t, dotted across."""
    if each.true is None or each.given is None:
        value = getattr(each.noise, what)[0]
        if value is not None:
            axes.axhline(value, color=colour, linestyle=":", linewidth=2, label=f"{each.preset}, feed-forward")
        return
    places = [step / (each.time_steps - 1) for step in each.steps]
    for curve, line, title in ((each.true, "-", "the true noised mask"), (each.noise, "--", "noise alone")):
        values = [float("nan") if value is None else value for value in getattr(curve, what)]
        axes.plot(places, values, color=colour, linestyle=line, label=f"{each.preset}, from {title}")
    values = [float("nan") if value is None else value for value in getattr(each.given, what)]
    label = f"the noised mask itself, T = {each.time_steps}, no network"
    axes.plot(places, values, color=_GREY, linestyle="-." if each.time_steps < 1000 else (0, (1, 1)), label=label)


def forward(found: Sequence[Analysis]) -> Figure:
    """Draw the lesions of a mask on their way to noise, a row for each data set and number of steps."""
    rows = {(each.dataset, each.time_steps): each for each in found}
    figure = Figure(figsize=(1.3 * len(found[0].drawn), 1.6 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(found[0].drawn), squeeze=False)
    for line, ((dataset, time_steps), each) in zip(grid, rows.items(), strict=True):
        for axes, step, mask in zip(line, each.drawn, each.forward, strict=True):
            axes.imshow(mask, cmap="gray", vmin=float(each.forward[0].min()) - 1, vmax=2, interpolation="nearest")
            axes.set_title(f"t = {step}", fontsize="x-small")
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(f"{dataset}\nT = {time_steps}", fontsize="x-small")
    return figure
