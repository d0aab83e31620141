"""Figures of a report, drawn with matplotlib in colours that the colour-blind can tell apart."""

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep.evaluation import ranking
from mammoprep.evaluation.matching import FIXED, FIXED_LEVELS, SHOWN, THRESHOLDS
from mammoprep.evaluation.report import Report
from mammoprep.evaluation.statistics import mean_of
from mammoprep.evaluation.table import Table

_STYLES = {
    "SQ": ("#009E73", "-.", "^"),
    "RQ": ("#D55E00", "--", "s"),
    "PQ": ("#0072B2", "-", "o"),
    "AP": ("#999999", ":", "D"),
}
"""Colour (Okabe and Ito), line and marker of each curve."""
_CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999", "#F0E442")
_LINES = ("-", "--", "-.", ":")
_ALL = "all lesions, class ignored"
_FOOTNOTE, _LETTERS = 7, 18
"""Size in points of a footnote, and how many of its letters fit into an inch."""
_RATES = tuple(np.geomspace(1 / 16, 8, 225).tolist())
_TITLES = {
    "view": "view",
    "density": "breast density",
    "manufacturer": "manufacturer",
    "class": "class",
    "lesion_free": "images",
    "size_mm2": "size of the lesion",
    "size_px2": "size of the lesion, stored pixels",
}


def sweep(report: Report, path: Path) -> None:
    """Draw PQ, RQ, SQ and AP over the IoU threshold, the chosen one marked; the ending of `path` says the format.

    The 95 % intervals or, where there are none, one standard deviation over folds are bands of PQ and AP, and bars of
    RQ and SQ at the FIXED thresholds. Raises MammoprepError where the report has no curve.
    """
    curves = {name: getattr(report.scores.sweep, name) for name in _STYLES}
    if not any(curves.values()):
        raise MammoprepError(f"{path} was not drawn: there is neither PQ nor AP to draw. Give panoptic predictions.")
    figure = Figure(figsize=(5.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for name, curve in curves.items():
        if curve:
            color, line, marker = _STYLES[name]
            values = 100 * np.array(curve)
            axes.plot(THRESHOLDS, values, color=color, linestyle=line, marker=marker, markersize=4, label=name)
            _draw_spread(axes, report, name)
    if report.best is not None:
        axes.axvline(report.best, color="black", linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
        axes.annotate(f" t = {report.best:.2f}", (report.best, 1.0), va="top", xycoords=("data", "axes fraction"))
    axes.set(xlabel=f"IoU threshold t, matching {report.matching}", ylabel="score (%)", xlim=(0.0, 0.95), ylim=(0, 100))
    axes.set_xticks(np.arange(0.0, 0.95, 0.1))
    tidy(axes)
    axes.legend(frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    save(figure, path, footnote=report.footnote)


def _draw_spread(axes: Axes, report: Report, name: str) -> None:
    """Show how sure a curve is; four bands on one another would show nothing."""
    band, color = _band(report, name), _STYLES[name][0]
    if band is None:
        return
    if name in ("PQ", "AP"):
        axes.fill_between(THRESHOLDS, *band, color=color, alpha=0.2, linewidth=0)
        return
    beside = 0.006 if name == "RQ" else -0.006
    low, high = (edge[list(FIXED_LEVELS)] for edge in band)
    axes.vlines(np.array(FIXED) + beside, low, high, color=color, linewidth=1)


def _band(report: Report, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Give the lower and the upper edge in per cent."""
    if report.intervals and name in report.intervals.values.get("sweep", {}):
        low, high = np.array(report.intervals.values["sweep"][name], dtype=np.float64).T
        return 100 * low, 100 * high
    spread = getattr(report.std.sweep, name) if report.std else None
    if not spread:
        return None
    middle = np.array(getattr(report.scores.sweep, name))
    return 100 * (middle - spread), 100 * (middle + spread)


def precision_recall(report: Report, tables: Sequence[Table], path: Path) -> None:
    """Draw precision over recall at IoU 0.1 for each class and with the class ignored; of folds the mean."""
    figure = Figure(figsize=(5.4, 3.9), layout="constrained")
    axes = figure.add_subplot()
    for place, (title, curve) in enumerate(_each_class(tables, _precision_of)):
        axes.plot(100 * ranking.RECALLS, 100 * curve, label=title, drawstyle="steps-pre", **_line(place))
    axes.set(xlabel="recall (%)", ylabel=f"precision (%) at IoU ≥ {FIXED[SHOWN]}", xlim=(0, 100), ylim=(0, 102))
    tidy(axes)
    _legend(axes)
    save(figure, path, footnote=report.footnote)


def _precision_of(weighed: ranking.Weighed) -> NDArray[np.float64]:
    curve: NDArray[np.float64] = ranking.precision(weighed, level=FIXED_LEVELS[SHOWN])[0]
    return curve


def froc(report: Report, tables: Sequence[Table], path: Path) -> None:
    """Draw sensitivity over false positives an image at IoU 0.1, with 95 % intervals where there are some."""
    figure = Figure(figsize=(5.4, 3.9), layout="constrained")
    axes = figure.add_subplot()
    for place, (title, curve) in enumerate(_each_class(tables, _sensitivity_of)):
        axes.plot(_RATES, 100 * curve, label=title, drawstyle="steps-post", **_line(place))
    found = report.scores.froc
    drawn = report.intervals.values.get("froc", {}).get("lesion") if report.intervals else None
    if drawn and found and found.lesion.sensitivity:
        middle = np.array(found.lesion.sensitivity[SHOWN])
        low, high = np.array(drawn["sensitivity"][SHOWN], dtype=np.float64).T
        edges = 100 * np.maximum([middle - low, high - middle], 0.0)
        axes.errorbar(ranking.RATES, 100 * middle, yerr=edges, fmt="o", markersize=3, capsize=2, color="black")
    axes.set_xscale("log", base=2)
    axes.set_xticks(ranking.RATES, ["1/8", "1/4", "1/2", "1", "2", "4"])
    axes.set(xlabel="false positives an image", ylabel=f"sensitivity (%) at IoU ≥ {FIXED[SHOWN]}")
    axes.set(xlim=(_RATES[0], _RATES[-1]), ylim=(0, 102))
    tidy(axes)
    _legend(axes)
    save(figure, path, footnote=report.footnote)


def _sensitivity_of(weighed: ranking.Weighed) -> NDArray[np.float64]:
    curve: NDArray[np.float64] = ranking.sensitivity(weighed, _RATES)[0, SHOWN]
    return curve


def _each_class(
    tables: Sequence[Table], of: Callable[[ranking.Weighed], NDArray[np.float64]]
) -> list[tuple[str, NDArray[np.float64]]]:
    """Give a curve with the class ignored, then one a thing class that has lesions: means over the tables."""
    first = tables[0]
    curves = []
    for number in (len(first.categories), *first.things):
        title = _ALL if number == len(first.categories) else first.categories[number].name
        found = [(ranking.ranked(table, number), table) for table in tables]
        parts = [
            of(ranking.weigh(ranked, np.ones((1, len(table.names)), dtype=np.int64)))
            for ranked, table in found
            if ranked and ranked.lesions.any()
        ]
        if parts:
            curves.append((title, mean_of(parts)))
    return curves


def strata(report: Report, path: Path) -> None:
    """Draw PQ and sensitivity at IoU 0.1 of every stratum that has lesions as bars, with their number."""
    level = FIXED_LEVELS[SHOWN]
    shown = {name: {t: p for t, p in parts.items() if p.lesions} for name, parts in report.scores.strata.items()}
    groups = {name: parts for name, parts in shown.items() if any(part.PQ for part in parts.values())}
    if not groups:
        raise MammoprepError(f"{path} was not drawn: there is no PQ to draw. Give panoptic predictions.")
    heights = [len(parts) for parts in groups.values()]
    figure = Figure(figsize=(6.4, 0.9 + 0.42 * sum(heights) + 0.35 * len(groups)), layout="constrained")
    rows = figure.subplots(len(groups), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for axes, (name, parts) in zip(rows, groups.items(), strict=True):
        places = np.arange(len(parts))
        for offset, (label, color, hatch) in enumerate((("PQ", "#0072B2", ""), ("sensitivity", "#E69F00", "//"))):
            values = [100 * _at(getattr(part, label), level) for part in parts.values()]
            style = {"color": color, "hatch": hatch, "edgecolor": "white", "linewidth": 0.5}
            axes.barh(places - 0.2 + 0.4 * offset, values, height=0.38, label=label, **style)
        axes.set_yticks(places, [f"{title} (n = {part.lesions})" for title, part in parts.items()])
        axes.set_title(_TITLES[name], loc="left", fontsize="medium")
        axes.invert_yaxis()
        tidy(axes)
        axes.grid(axis="y", visible=False)
    rows[-1].set(xlabel=f"% at IoU > {FIXED[SHOWN]}", xlim=(0, None))
    figure.legend(*rows[0].get_legend_handles_labels(), frameon=False, ncols=2, loc="outside upper right")
    save(figure, path, footnote=report.footnote)


def _at(curve: Sequence[float] | None, level: int) -> float:
    return curve[level] if curve else 0.0


def explain(report: Report, path: Path) -> None:
    """Draw PQ over t under both matchings, the highest marked, and the pairs that only the published way counts."""
    shown = {name: entry for name, entry in (report.explained or {}).items() if entry.paper and entry.one_to_one}
    if not shown:
        raise MammoprepError(f"{path} was not drawn: there is no PQ to explain. Give panoptic predictions.")
    figure = Figure(figsize=(3.2 * len(shown), 4.2), layout="constrained")
    axes = figure.subplots(2, len(shown), squeeze=False, sharex=True, sharey="row", height_ratios=(2, 1))
    for column, (name, entry) in enumerate(shown.items()):
        upper, lower = axes[:, column]
        for place, (label, curve) in enumerate((("one-to-one", entry.one_to_one), ("paper", entry.paper))):
            values = 100 * np.array(curve)
            upper.plot(THRESHOLDS, values, label=label, marker="o", markersize=3, **_line(place))
            peak = int(values.argmax())
            upper.plot(THRESHOLDS[peak], values[peak], "*", markersize=11, color=_CYCLE[place])
        upper.set_title(f"{name}\n{entry.lesions} lesions", fontsize="medium")
        lower.bar(THRESHOLDS, entry.extra_pairs, width=0.035, color=_CYCLE[1])
        lower.set_xlabel("IoU threshold t")
        for each in (upper, lower):
            tidy(each)
    axes[0, 0].set(ylabel="PQ (%), ★ the highest", ylim=(0, None))
    most = max(max(entry.extra_pairs) for entry in shown.values())
    axes[1, 0].set(ylabel="extra pairs", ylim=(0, max(1.05 * most, 1)))
    axes[1, 0].yaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].legend(frameon=False, title="matching")
    save(figure, path, footnote=report.footnote)


def cases(
    rows: Sequence[tuple[str, Mapping[str, NDArray[np.uint8] | None]]], path: Path, *, footnote: str | None = None
) -> None:
    """Draw a row of panels a case: BGR pictures (H, W, 3) under their titles, None for what is not given."""
    titles = list(rows[0][1])
    shapes = [next(panel for panel in row.values() if panel is not None).shape for _, row in rows]
    ratios = [height / width for height, width, _ in shapes]
    figure = Figure(figsize=(2.1 * len(titles), 2.1 * sum(ratios) + 0.45 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(titles), squeeze=False, height_ratios=ratios)
    for place, (caption, row) in enumerate(rows):
        for column, (title, panel) in enumerate(row.items()):
            each = axes[place, column]
            each.set_axis_off()
            each.set_title(title if place == 0 else "", fontsize="medium")
            if panel is None:
                each.text(0.5, 0.5, "not given", ha="center", va="center", color="#777777", transform=each.transAxes)
            else:
                each.imshow(panel[..., ::-1], interpolation="none")
        axes[place, 0].text(0, -0.02, caption, va="top", fontsize="small", transform=axes[place, 0].transAxes)
    save(figure, path, footnote=footnote)


def _line(place: int) -> dict[str, Any]:
    return {"color": _CYCLE[place % len(_CYCLE)], "linestyle": _LINES[place % len(_LINES)]}


def tidy(axes: Axes) -> None:
    """Draw a faint grid, and no frame above and at the right."""
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(axes: Axes) -> None:
    axes.legend(frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize="small")


def save(figure: Figure, path: Path, *, footnote: str | None = None) -> None:
    """Write whole or not at all; without the date, so that the same report gives the same bytes."""
    if footnote:
        lines = wrap(footnote, int(figure.get_figwidth() * _LETTERS))
        figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=_FOOTNOTE)
    drawn = BytesIO()
    kind = path.suffix[1:]
    undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind)
    with mpl.rc_context({"svg.hashsalt": "mammoprep", "pdf.fonttype": 42}):
        figure.savefig(drawn, format=kind, dpi=200, metadata=undated)
    panoptic.write_bytes(path, drawn.getbuffer())
