"""Figures of a report, drawn with matplotlib in colours that the colour-blind can tell apart."""

from io import BytesIO
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep.evaluation.matching import THRESHOLDS
from mammoprep.evaluation.report import Report

_STYLES = {
    "SQ": ("#009E73", "-.", "^"),
    "RQ": ("#D55E00", "--", "s"),
    "PQ": ("#0072B2", "-", "o"),
    "AP": ("#999999", ":", "D"),
}
"""Colour (Okabe and Ito), line and marker of each curve."""


def sweep(report: Report, path: Path) -> None:
    """Draw PQ, RQ, SQ and AP over the IoU threshold, the chosen one marked; the ending of `path` says the format.

    Over folds a band shows one standard deviation. Raises MammoprepError where the report has no curve.
    """
    curves = {name: getattr(report.scores.sweep, name) for name in _STYLES}
    if not any(curves.values()):
        raise MammoprepError(f"{path} was not drawn: there is neither PQ nor AP to draw. Give panoptic predictions.")
    figure = Figure(figsize=(5.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for name, curve in curves.items():
        if curve:
            _draw(axes, name, np.array(curve), report)
    if report.best is not None:
        axes.axvline(report.best, color="black", linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
        axes.annotate(f" t = {report.best:.2f}", (report.best, 1.0), va="top", xycoords=("data", "axes fraction"))
    axes.set(xlabel=f"IoU threshold t, matching {report.matching}", ylabel="score (%)", xlim=(0.0, 0.95), ylim=(0, 100))
    axes.set_xticks(np.arange(0.0, 0.95, 0.1))
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    _save(figure, path)


def _draw(axes: Axes, name: str, curve: "np.ndarray", report: Report) -> None:
    color, line, marker = _STYLES[name]
    axes.plot(THRESHOLDS, 100 * curve, color=color, linestyle=line, marker=marker, markersize=4, label=name)
    spread = getattr(report.std.sweep, name) if report.std else None
    if spread:
        low, high = 100 * (curve - spread), 100 * (curve + spread)
        axes.fill_between(THRESHOLDS, low, high, color=color, alpha=0.15, linewidth=0)


def _save(figure: Figure, path: Path) -> None:
    """Write whole or not at all; without the date, so that the same report gives the same bytes."""
    drawn = BytesIO()
    kind = path.suffix[1:]
    undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind)
    with mpl.rc_context({"svg.hashsalt": "mammoprep", "pdf.fonttype": 42}):
        figure.savefig(drawn, format=kind, dpi=200, metadata=undated)
    panoptic.write_bytes(path, drawn.getbuffer())
