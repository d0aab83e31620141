"""The scores of scores.json as tables on a screen, laid out as the paper does."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mammoprep.cli import console

if TYPE_CHECKING:
    from rich.table import Table

QUALITIES = ("RQ", "SQ", "PQ", "AP")
NOT_GIVEN = "not given"
ONE = 0.1
"""The IoU threshold where a table has room for one."""


def show(content: Mapping[str, Any], *, iou_sweep: bool = False) -> None:
    """Print what scores.json says: the main tables, the parts, what to know, what is not given."""
    from mammoprep.evaluation.marks import MARK

    screen = console.stdout()
    mark = f"{MARK} " if content.get("knows_truth") else ""
    patients = "" if content["patients"] is None else f" of {content['patients']} patients"
    folds = f", mean ± standard deviation over {len(content['folds'])} folds" if content["std"] else ""
    screen.print(f"{mark}{content['images']} images{patients}{folds}; matching {content['matching']}; per cent\n")
    for title, table in _tables(content, iou_sweep=iou_sweep):
        if title:
            screen.print(mark + title, style="bold", soft_wrap=True)
        else:
            table.columns[0].header = f"{mark}{table.columns[0].header}"
        screen.print(table, "")
    if content["dice"]:
        lesion = f"Dice {_cell(content, 'dice', 'per_image')}, IoU {_cell(content, 'iou', 'per_image')}"
        screen.print(
            f"All lesions as one map, mean over images: {lesion}. IoU by class: {_cell(content, 'iou', 'pooled')}."
        )
    if content.get("uncertainty"):
        screen.print(f"Uncertainty: {'; '.join(_flagged(content))}.", soft_wrap=True)
    if content["missing"]:
        screen.print(f"{content['missing']} images without a prediction were scored as predicted empty.")
    screen.print(*content["notes"], sep="\n")
    for reason in dict.fromkeys(content["not_given"].values()):
        keys = ", ".join(key for key, why in content["not_given"].items() if why == reason)
        screen.print(f"Not given: {keys} ({reason}).")


def _flagged(content: Mapping[str, Any]) -> Iterator[str]:
    """Say how well the maps of uncertainty tell wrong pixels."""
    for key, title in (("classes", "pixels of a wrong class"), ("lesions", "lesion or not mistaken")):
        place = ("uncertainty", key)
        kept = ", ".join(
            f"{float(share):.0%}: {_cell(content, *place, 'error_kept', share)}"
            for share in content["uncertainty"][key]["error_kept"]
        )
        error = _cell(content, *place, "error")
        yield f"{title} {error}, AUROC {_cell(content, *place, 'AUROC')}, left among the most certain {kept}"


def _tables(content: Mapping[str, Any], *, iou_sweep: bool) -> Iterator[tuple[str, "Table"]]:
    """Yield the tables that there is something to put into, with their titles."""
    yield "", _thresholds(content, iou_sweep=iou_sweep)
    if content["intervals"]:
        drawn = content["intervals"]
        drawn_from = f"{drawn['resamples']} bootstraps over {drawn['patients']} patients"
        yield f"{100 * drawn['level']:.0f} % intervals, {drawn_from}", _intervals(content)
    yield "", _classes(content)
    if content["detection"]["TP"] or content["detection"]["AP"]:
        yield "All lesion classes as one (class ignored)", _detection(content)
    if content["detection"]["confusion"]:
        yield f"Lesions by true class (rows) and predicted class, matched at IoU > {ONE}", _confusion(content)
    if content["froc"]:
        yield f"Sensitivity at false positives an image, IoU ≥ {ONE}", _froc(content)
    if content["lesion_free"] and content["lesion_free"]["images"]:
        yield "", _lesion_free(content)
    yield f"Parts, at IoU {ONE} (dice: pixels)", _strata(content)
    if content["missed"]:
        yield f"Lesions missed and found, class ignored: area in {content['missed']['unit']}", _missed(content)
    for name, entry in content.get("explain_threshold", {}).items():
        title = f"PQ(t) under both matchings, {name}: {entry['lesions']} lesions; * the highest"
        yield title, _explained(content, entry)


def _thresholds(content: Mapping[str, Any], *, iou_sweep: bool) -> "Table":
    """Lay out a threshold a line as the paper's Table 1 does a model; * marks the highest PQ."""
    best = content["best"] and content["best"]["threshold"]
    table = _table("IoU t", *QUALITIES, "Dice")
    for level, threshold in enumerate(content["thresholds"]):
        if iou_sweep or threshold in content["detection"]["fixed_thresholds"] or threshold == best:
            cells = [_cell(content, "sweep", name, level) for name in QUALITIES]
            table.add_row(f"{threshold:.2f}{' *' * (threshold == best)}", *cells, _cell(content, "dice", "pooled"))
    return table


def _intervals(content: Mapping[str, Any]) -> "Table":
    table = _table("IoU t", *QUALITIES, "Dice")
    drawn = content["intervals"]
    for level, threshold in _fixed(content):
        cells = [_range(_find(drawn, ("sweep", name, level))) for name in QUALITIES]
        table.add_row(f"{threshold:.2f}", *cells, _range(_find(drawn, ("dice", "pooled"))))
    return table


def _range(limits: Sequence[float | None] | None) -> str:
    if limits is None or None in limits:
        return NOT_GIVEN
    low, high = (100 * float(limit or 0) for limit in limits)
    return f"{low:.1f} to {high:.1f}"


def _classes(content: Mapping[str, Any]) -> "Table":
    """Lay out the classes at the threshold with the highest PQ: things, then stuff, which enters no mean."""
    threshold = content["best"]["threshold"] if content["best"] else content["thresholds"][0]
    level = content["thresholds"].index(threshold)
    table = _table(f"at t = {threshold:.2f}", "TP/FP/FN", *QUALITIES, "Dice")
    for place, dice in ((("per_class",), ("dice", "per_class")), (("stuff", "per_class"), ("stuff", "dice"))):
        for name, entry in _find(content, place).items():
            cells = [
                _cell(content, *place, name, quality, level, spread=False) if quality in entry else ""
                for quality in QUALITIES
            ]
            table.add_row(name, _counts(entry, level), *cells, _cell(content, *dice, name, spread=False))
        table.add_section()
    return table


def _counts(entry: Mapping[str, Any], level: int) -> str:
    return "/".join(str(entry[key][level]) for key in ("TP", "FP", "FN")) if entry["TP"] else NOT_GIVEN


def _detection(content: Mapping[str, Any]) -> "Table":
    table = _table("IoU t", "TP/FP/FN", *QUALITIES)
    for level, threshold in _fixed(content):
        cells = [_cell(content, "detection", name, level) for name in QUALITIES]
        table.add_row(f"{threshold:.2f}", _counts(content["detection"], level), *cells)
    return table


def _confusion(content: Mapping[str, Any]) -> "Table":
    detection = content["detection"]
    classes, counts = detection["classes"], detection["confusion"][detection["fixed_thresholds"].index(ONE)]
    table = _table("", *classes[:-1], "missed")
    for name, row in zip([*classes[:-1], "false positive"], counts, strict=True):
        cells = [str(count) for count in row]
        table.add_row(name, *cells[:-1], "" if name == "false positive" else cells[-1])
    return table


def _froc(content: Mapping[str, Any]) -> "Table":
    froc = content["froc"]
    place = froc["fixed_thresholds"].index(ONE)
    table = _table("", *(f"{rate:g}" for rate in froc["false_positives_per_image"]))
    drawn = _find(content["intervals"], ("froc", "lesion", "sensitivity", place))
    table.add_row("class ignored", *_shares(froc["lesion"], place))
    if drawn:
        table.add_row("  95 % from", *(_percent(limit[0]) for limit in drawn))
        table.add_row("  to", *(_percent(limit[1]) for limit in drawn))
    table.add_row("  FP / lesion-free image", *(_number(rate) for rate in froc["lesion"]["lesion_free"][place]))
    for name, entry in froc["per_class"].items():
        table.add_row(name, *_shares(entry, place))
    return table


def _shares(entry: Mapping[str, Any], place: int) -> list[str]:
    shares = entry["sensitivity"]
    return [NOT_GIVEN] * len(entry["score"][place]) if shares is None else [_percent(s) for s in shares[place]]


def _lesion_free(content: Mapping[str, Any]) -> "Table":
    free = content["lesion_free"]
    table = _table("Lesion-free images", "with a false positive", "false positives an image")
    table.add_row(str(free["images"]), str(free["with_false_positive"]), _number(free["false_positives_per_image"]))
    return table


def _strata(content: Mapping[str, Any]) -> "Table":
    level = content["thresholds"].index(ONE)
    table = _table("", "images", "lesions", "PQ", "AP", "sens.", "FP/image", "Dice")
    for name, parts in content["strata"].items():
        for title, part in parts.items():
            curves = [_percent(part[key] and part[key][level]) for key in ("PQ", "AP", "sensitivity")]
            false = _number(part["false_positives"] and part["false_positives"][level])
            label = title if name.startswith("size") or name in ("class", "lesion_free") else f"{name} {title}"
            table.add_row(label, str(part["images"]), str(part["lesions"]), *curves, false, _percent(part["dice"]))
        table.add_section()
    return table


def _missed(content: Mapping[str, Any]) -> "Table":
    table = _table("IoU t", "missed", "median (quartiles)", "found", "median (quartiles)")
    for (_, threshold), missed, found in zip(
        _fixed(content), content["missed"]["missed"], content["missed"]["found"], strict=True
    ):
        cells = (text for sizes in (missed, found) for text in (str(sizes["count"]), _quartiles(sizes["quartiles"])))
        table.add_row(f"{threshold:.2f}", *cells)
    return table


def _quartiles(values: Sequence[float] | None) -> str:
    return "–" if values is None else f"{values[2]:.0f} ({values[1]:.0f} to {values[3]:.0f})"


def _explained(content: Mapping[str, Any], entry: Mapping[str, Any]) -> "Table":
    table = _table("IoU t", "one-to-one", "paper", "extra pairs", "lesions twice", "predictions twice")
    for level, threshold in enumerate(content["thresholds"]):
        curves = (entry[key] for key in ("one_to_one", "paper"))
        cells = (_percent(c and c[level]) + " *" * bool(c and c[level] == max(c)) for c in curves)
        keys = ("extra_pairs", "lesions_taken_twice", "predictions_taken_twice")
        table.add_row(f"{threshold:.2f}", *cells, *(str(entry[key][level]) for key in keys))
    return table


def _fixed(content: Mapping[str, Any]) -> list[tuple[int, float]]:
    """Give place and value of the IoU thresholds that are always shown, whichever is the best."""
    return [(content["thresholds"].index(each), each) for each in content["detection"]["fixed_thresholds"]]


def _table(*columns: str) -> "Table":
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left", no_wrap=place > 0)
    return table


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _cell(content: Mapping[str, Any], *place: str | int, spread: bool = True) -> str:
    """Give the score at a place of the JSON in per cent, with its standard deviation where there is one."""
    value, deviation = _find(content, place), _find(content["std"], place) if spread else None
    if value is None:
        return NOT_GIVEN
    return f"{100 * value:.2f}" + ("" if deviation is None else f" ± {100 * deviation:.2f}")


def _find(content: Any, place: Iterable[str | int]) -> Any:
    """Follow keys and positions; None where one is not there."""
    for key in place:
        if content is None or (isinstance(content, dict) and key not in content):
            return None
        content = content[key]
    return content
