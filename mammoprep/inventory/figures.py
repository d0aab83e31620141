"""Figures of an inventory: what there is, as bars, and how large the lesions are."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mammoprep import panoptic
from mammoprep.inventory.counts import NOT_STATED, Inventory, is_known

FIGURES = ("counts.png", "sizes.png")
_COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#999999",
    "#F0E442",
    "#332288",
    "#000000",
)
"""Okabe and Ito's, which the colour-blind can tell apart, and two more."""
_MOST_BARS = 12


def draw(inventory: Inventory, out: Path) -> None:
    """Draw FIGURES into the folder `out`: images and findings by what is known of them, and sizes by class."""
    with panoptic.writing(out):
        out.mkdir(parents=True, exist_ok=True)
    panels = {
        "findings by class": {name: of.findings for name, of in inventory.classes.items()},
        "findings of an image": inventory.findings_per_image,
        **{name: counts for name, counts in inventory.images_by.items() if list(counts) != [NOT_STATED]},
    }
    figure = Figure(figsize=(10, 2.4 * -(-len(panels) // 2) + 0.4), layout="constrained")
    figure.suptitle(f"{inventory.source}: {inventory.images} images of {inventory.patients} patients")
    places = list(figure.subplots(-(-len(panels) // 2), 2, squeeze=False).flat)
    for axes, (title, counts) in zip(places, panels.items(), strict=False):
        _bars(axes, title, counts)
    for axes in places[len(panels) :]:
        axes.remove()
    _save(figure, out / FIGURES[0])
    _save(_sizes(inventory), out / FIGURES[1])


def _bars(axes: Axes, title: str, counts: Mapping[str, int]) -> None:
    """Draw horizontal bars with their counts; of many the largest."""
    shown = dict(counts)
    if len(shown) > _MOST_BARS:
        shown = dict(sorted(counts.items(), key=lambda item: -item[1])[:_MOST_BARS])
        title = f"{title} (the {_MOST_BARS} most frequent of {len(counts)})"
    bars = axes.barh([name[:30] for name in shown], list(shown.values()), color=_COLOURS[0])
    axes.bar_label(bars, padding=3, fontsize=8)
    axes.margins(x=0.12)
    axes.set_title(title, fontsize=10, loc="left")
    axes.invert_yaxis()
    axes.tick_params(labelsize=8)
    _tidy(axes)


def _sizes(inventory: Inventory) -> Figure:
    units = {"native pixels": inventory.sizes_px, "mm": inventory.sizes_mm}
    known = {unit: sizes for unit, sizes in units.items() if is_known(sizes)} or units
    figure = Figure(figsize=(5 * len(known), 3.8), layout="constrained")
    for axes, (unit, sizes) in zip(figure.subplots(1, len(known), squeeze=False).flat, known.items(), strict=True):
        below = [0] * len(sizes)
        for number, name in enumerate(inventory.classes):
            heights = [counts[name] for counts in sizes.values()]
            axes.bar(list(sizes), heights, bottom=below, label=name, color=_COLOURS[number % len(_COLOURS)])
            below = [low + height for low, height in zip(below, heights, strict=True)]
        axes.set(xlabel=f"longer side of a finding ({unit})", ylabel="findings")
        axes.tick_params(labelsize=7)
        _tidy(axes)
    figure.axes[0].legend(frameon=False, fontsize=8)
    return figure


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, path: Path) -> None:
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=150)
    panoptic.write_bytes(path, drawn.getbuffer())
