"""One CSV or XLSX table: columns found by their names or named by the user, rows read to Entries."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mammoprep.errors import MammoprepError, UnknownNameError
from mammoprep.exports import Entry
from mammoprep.exports.via import label_of, load_cell, shape_of
from mammoprep.records import Box, Finding, MaskFile, Outline, Skipped
from mammoprep.tables import Row, Table, load, nearest, number

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "image": ("image", "image_id", "filename", "file", "path", "image_path", "image_name", "file_path", "dicom"),
    "patient": ("patient", "patient_id", "pat_id", "subject", "subject_id", "anon_patientid"),
    "study": ("study", "study_id", "exam", "exam_id", "study_instance_uid"),
    "laterality": ("laterality", "image_laterality", "side", "breast"),
    "view": ("view", "view_position", "projection"),
    "density": ("density", "breast_density", "acr"),
    "split": ("split", "subset"),
    "label": ("label", "class", "category", "pathology", "finding", "lesion_type", "birads", "diagnosis"),
    "lesion_free": ("lesion_free", "normal", "no_finding"),
    "mask": ("mask", "mask_path", "mask_file"),
    "x0": ("x0", "xmin", "x_min", "left"),
    "y0": ("y0", "ymin", "y_min", "top", "upper"),
    "x1": ("x1", "xmax", "x_max", "right"),
    "y1": ("y1", "ymax", "y_max", "bottom", "lower"),
    "x": ("x", "bbox_x"),
    "y": ("y", "bbox_y"),
    "width": ("width", "w", "box_width", "bbox_width"),
    "height": ("height", "h", "box_height", "bbox_height"),
    "shape": ("region_shape_attributes",),
    "attributes": ("region_attributes",),
}
"""What a table can say, and the names of columns that say it, the likeliest first."""
NORMAL = {"normal", "no finding", "negative", "none"}
"""Labels of a row without an outline that say that the image has no lesion."""
_FACTS = ("patient", "study", "laterality", "view", "density", "split", "lesion_free")
_BOXES = (("x0", "y0", "x1", "y1"), ("x", "y", "width", "height"))
_YES, _NO = {"1", "yes", "true", "y"}, {"0", "no", "false", "n"}


def load_all(paths: Sequence[Path], *, named: Mapping[str, str]) -> tuple[Table, ...]:
    """Load tables with every column that may say something; `named` are the user's names of columns.

    Raises MammoprepError for a column that was named and is in none of them.
    """
    for what in named:
        if what not in COLUMNS:
            raise UnknownNameError(what, kind="--column", known=COLUMNS)
    every = [name for names in COLUMNS.values() for name in names]
    tables = tuple(load(path, columns=(), optional=(*every, *named.values())) for path in paths)
    for what, name in named.items():
        if not any(table.has(name) for table in tables):
            near = nearest(name, [each for table in tables for each in table.header])
            raise MammoprepError(f"--column {what}={name}: no table has that column{near}. See their first lines.")
    return tables


def read(table: Table, *, name: str, named: Mapping[str, str]) -> Iterator[Entry | Skipped]:
    """Yield an Entry a row, and a Skipped for what cannot be used of one. `name` is what outputs call the file."""
    places = {what: _place(table, names) for what, names in COLUMNS.items()}
    places |= {what: column for what, column in named.items() if table.has(column)}
    yield from table.skipped
    if not places["image"]:
        yield Skipped(name, "table", "no column names the image; --column image=NAME says which does")
        return
    lacking = _lacking(places)
    if lacking:
        reason = (
            f"columns of a box are there, but none for {', '.join(lacking)}; --column {lacking[0]}=NAME says which is"
        )
        yield Skipped(name, "table", reason)
    for row in table.rows:
        yield from _row(row, {what: row[column] for what, column in places.items() if column})


def _place(table: Table, names: Sequence[str]) -> str:
    return next((name for name in names if table.has(name)), "")


def _lacking(places: Mapping[str, str]) -> list[str]:
    """Give what no column says of a box that others say in part; nothing where it is said whole, or not at all."""
    lacking = [[what for what in whole if not places[what]] for whole in _BOXES]
    partly = [each for each, whole in zip(lacking, _BOXES, strict=True) if 0 < len(each) < len(whole)]
    return min(partly, key=len) if partly and all(lacking) else []


def _row(row: Row, cells: Mapping[str, str]) -> Iterator[Entry | Skipped]:
    facts = {what: cells[what] for what in _FACTS if cells.get(what)}
    label = cells.get("label", "")
    shapes: list[tuple[str, Box | Outline | MaskFile]] = []
    try:
        if facts.get("lesion_free", "yes").casefold() not in _YES | _NO:
            raise ValueError("lesion_free is neither yes nor no")
        shapes = _shapes(cells)
        if cells.get("attributes"):
            label = label_of(load_cell(cells["attributes"])) or label
    except ValueError as error:
        yield Skipped(row.where, "finding", str(error))
        facts["lesion_free"] = "no"  # there is something, though it cannot be used
    else:
        if not shapes and label.casefold() in NORMAL:
            facts.setdefault("lesion_free", "yes")
    findings = tuple(Finding(shape, label, row.where, {"shape": kind}) for kind, shape in shapes)
    yield Entry(cells["image"], row.where, findings, facts=facts)


def is_yes(cell: str) -> bool:
    """Tell whether a cell says yes."""
    return cell.casefold() in _YES


def _shapes(cells: Mapping[str, str]) -> list[tuple[str, Box | Outline | MaskFile]]:
    """Give a row's outlines: of a VIA export, a box by its corners or its size, a mask file; none of them is empty."""
    if cells.get("shape", "{}") not in ("", "{}"):
        return [shape_of(load_cell(cells["shape"]))]
    masks: list[tuple[str, Box | Outline | MaskFile]] = []
    if cells.get("mask"):
        masks.append(("mask", MaskFile(cells["mask"])))
    for keys in _BOXES:
        texts = [cells.get(key, "") for key in keys]
        if not any(texts[:2]) or any(key not in cells for key in keys):
            continue
        a, b, c, d = map(number, texts)
        if a is None or b is None or c is None or d is None:
            raise ValueError("a corner of the box is missing or no number")
        box = Box(a, b, c, d) if keys == _BOXES[0] else Box(a, b, a + c, b + d)
        if box.x0 >= box.x1 or box.y0 >= box.y1:
            raise ValueError("the box is empty or inverted")
        return masks or [("box", box)]
    return masks
