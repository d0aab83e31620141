"""A comparison written down: CSV, Markdown, and LaTeX for booktabs."""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import StringIO

from mammoprep.evaluation.compare import MEASURES, Cell, Comparison, Difference, Row
from mammoprep.evaluation.marks import MARK
from mammoprep.evaluation.statistics import LEVEL

PUBLISHED = "published: other folds, code and way of matching, so not comparable to the digit"
"""What stands above rows of papers."""


def percent(cell: Cell, *, plus_minus: str = " ± ") -> str:
    """Give a score in per cent with its standard deviation; a dash where it is not given."""
    if cell.value is None:
        return "–"
    return f"{100 * cell.value:.2f}" + ("" if cell.std is None else f"{plus_minus}{100 * cell.std:.2f}")


def origin(rows: Sequence[Row]) -> str:
    """Say where published rows stand, and at which IoU."""
    at = sorted({f"IoU {row.threshold:.2f}" for row in rows if row.threshold is not None})
    return ", ".join((*sorted({str(row.source) for row in rows}), *at))


def change(difference: Difference) -> str:
    """Give a difference in percentage points with its interval; * where that leaves out 0."""
    if difference.value is None:
        return "–"
    text = f"{100 * difference.value:+.2f}"
    if difference.low is not None and difference.high is not None:
        text += f" [{100 * difference.low:+.2f}, {100 * difference.high:+.2f}]"
    return text + (" *" if difference.clear else "")


def changes(comparison: Comparison) -> dict[str, dict[str, Difference]]:
    """Give the differences by result and measure."""
    found: dict[str, dict[str, Difference]] = {}
    for difference in comparison.differences:
        found.setdefault(difference.title, {})[difference.measure] = difference
    return found


def as_csv(comparison: Comparison) -> str:
    """Write a line a row: fractions in [0, 1], empty where not given; `knows_truth` 1 where the title is marked."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = (f"{measure}{part}" for measure in MEASURES for part in ("", "_std", "_diff", "_diff_low", "_diff_high"))
    writer.writerow(["name", "source", "threshold", "knows_truth", *columns])
    by_title = changes(comparison)
    for row in (*comparison.rows, *comparison.published):
        at = row.threshold if row.source else comparison.threshold
        line: list[object] = [row.title, row.source or "", at, int(row.knows_truth)]
        for measure in MEASURES:
            cell = row.cells[measure]
            difference = by_title.get(row.title, {}).get(measure) if row.source is None else None
            line += [cell.value, cell.std]
            line += [None] * 3 if difference is None else [difference.value, difference.low, difference.high]
        writer.writerow(["" if value is None else value for value in line])
    return text.getvalue()


def as_markdown(comparison: Comparison) -> str:
    """Write the tables in Markdown: the best of ours in bold, published rows in a table of their own."""
    lines = [f"{comparison.images} images, IoU {comparison.threshold:.2f}, per cent", ""]
    lines += _markdown(("", *MEASURES), ((row.title, *_bold(row, "**{}**".format)) for row in comparison.rows))
    if comparison.published:
        lines += ["", f"{origin(comparison.published)}, {PUBLISHED}", ""]
        lines += _markdown(("", *MEASURES), ((row.title, *_bold(row, str)) for row in comparison.published))
    if comparison.differences:
        lines += ["", f"minus {comparison.rows[0].title}, percentage points, {_interval()}", ""]
        lines += _markdown(("", *MEASURES), ((name, *_changes(by)) for name, by in changes(comparison).items()))
    lines += ["", comparison.footnote] if comparison.footnote else []
    return "\n".join(lines) + "\n"


def _markdown(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    heads = list(head)
    rule = ["---", *["---:"] * (len(heads) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (heads, rule, *(map(_piped, row) for row in rows))]


def _piped(text: str) -> str:
    return text.replace("|", "\\|")


def as_latex(comparison: Comparison) -> str:
    """Write a table for LaTeX with booktabs, laid out as the paper's Tables 1 and 2."""
    lines = [
        f"% {comparison.images} images, IoU {comparison.threshold:.2f}, per cent; * and brackets: {_interval()}",
        f"\\begin{{tabular}}{{l{'r' * len(MEASURES)}}}",
        "\\toprule",
        _latex(("", *MEASURES)),
        "\\midrule",
        *(_latex((_escaped(row.title), *_bold(row, "\\textbf{{{}}}".format, " $\\pm$ "))) for row in comparison.rows),
    ]
    width = len(MEASURES) + 1
    if comparison.differences:
        heading = f"minus {_escaped(comparison.rows[0].title)}, percentage points"
        lines += ["\\midrule", f"\\multicolumn{{{width}}}{{l}}{{{heading}}} \\\\"]
        signed = {name: [text.replace("-", "$-$") for text in _changes(by)] for name, by in changes(comparison).items()}
        lines += [_latex((_escaped(name), *texts)) for name, texts in signed.items()]
    if comparison.published:
        heading = f"{_escaped(origin(comparison.published))}, published"
        lines += ["\\midrule", f"\\multicolumn{{{width}}}{{l}}{{\\emph{{{heading}}}}} \\\\"]
        lines += [_latex((_escaped(row.title), *_bold(row, str, " $\\pm$ "))) for row in comparison.published]
    if comparison.footnote:
        lines += ["\\midrule", f"\\multicolumn{{{width}}}{{p{{\\linewidth}}}}{{{_escaped(comparison.footnote)}}} \\\\"]
    text = "\n".join([*lines, "\\bottomrule", "\\end{tabular}"])
    return text.replace("–", "--").replace(MARK, "$\\dagger$") + "\n"


def _latex(cells: Iterable[str]) -> str:
    return " & ".join(cells) + " \\\\"


def _escaped(text: str) -> str:
    special = {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"}
    escaped = "".join(special.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text)
    return f"{{}}{escaped}" if escaped.startswith(("[", "*")) else escaped  # which \\\\ before would take for its own


def _bold(row: Row, embolden: Callable[[str], str], plus_minus: str = " ± ") -> list[str]:
    texts = ((cell, percent(cell, plus_minus=plus_minus)) for cell in (row.cells[measure] for measure in MEASURES))
    return [embolden(text) if cell.best else text for cell, text in texts]


def _changes(by_measure: Mapping[str, Difference]) -> list[str]:
    return [change(by_measure[measure]) for measure in MEASURES]


def _interval() -> str:
    return f"{100 * LEVEL:.0f} % interval by paired bootstrap over patients, * where it leaves out 0"
