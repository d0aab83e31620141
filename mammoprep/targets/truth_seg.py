"""The lesions of a DATASET as DICOM SEG, at the matrix of the files of the raw folder that they refer to."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom.sr.codedict import codes

from mammoprep import __version__, pseudonyms
from mammoprep.errors import MammoprepError, MissingFileError
from mammoprep.panoptic import Mask
from mammoprep.records import stays_inside
from mammoprep.targets import dicom_seg, lost
from mammoprep.targets.dicom_seg import Lesion, Maker, Series
from mammoprep.targets.source import Case, Source

_BY_HAND = Maker("MANUAL")
_FROM_BOX = Maker("SEMIAUTOMATIC", "mammoprep pseudo-mask", __version__, codes.DCM.HistogramAnalysis)
_SERIES = Series("Lesions, annotated", "Lesions that a data set outlines", "convert", __version__, __version__)


def write(source: Source, out: Path) -> Counter[str]:
    """Write an object for each image with a lesion; they have UIDs and a time of their own each time.

    A file is found in the raw folder by the `source` of cases.csv; where that is a pseudonym, by the table that leads
    back, beside the DATASET. Raises MammoprepError for one that is not there, no DICOM, or of another size.
    """
    if source.raw is None or not source.raw.is_dir():
        raise MammoprepError(f"{source.raw} is no folder. --raw names the raw folder that the data set was made from.")
    raw, links = source.raw, pseudonyms.read_links(source.root)

    def write_one(case: Case) -> Counter[str]:
        counts = lost.stuff(source, case) + lost.attributes(case)
        if not case.lesions:
            return counts + Counter({"images without a lesion have no object": 1})
        path = _find(case, raw, links)
        made, lesions = out / f"{case.image.name}.dcm", list(_native(case))
        try:
            dicom_seg.write_one(made, path, lesions, series=_SERIES, number=case.image.id)
        except MammoprepError as error:  # whose text must not undo a pseudonym
            raise MammoprepError(str(error).replace(str(path), str(raw / case.row["source"]))) from None
        if float(case.row["scale_y"]) != 1:
            counts["lesions were enlarged from the stored to the native size"] = len(case.lesions)
        return counts

    # highdicom's remarks are held back for the whole process, so one at a time
    return sum(replace(source, workers=1).each(write_one), Counter[str]())


def _find(case: Case, raw: Path, links: Mapping[str, str]) -> Path:
    name = case.row.get("source", "")
    path = raw / links.get(name, name)
    if not name or not stays_inside(links.get(name, name)) or not path.is_file():
        raise MissingFileError(
            raw / name,
            hint=f"It is the source of {case.image.name}. Name the raw folder; pseudonyms need DATASET.key.csv.",
        )
    return path


def _native(case: Case) -> Iterator[Lesion]:
    """Yield the lesions at native size, each as it was drawn: from a box, or by hand."""
    things = {lesion.category.id for lesion in case.lesions}
    facts = [segment.extra for segment in case.image.segments if segment.category_id in things]
    boxed = ["pseudo_mask" in fact for fact in facts]
    if len(boxed) != len(case.lesions):
        boxed = [any(boxed)] * len(case.lesions)
    for lesion, from_box in zip(case.lesions, boxed, strict=True):
        maker, name = _FROM_BOX if from_box else _BY_HAND, lesion.category.name
        yield Lesion(to_native(lesion.mask, case.row), lesion.category, name, maker)


def to_native(mask: Mask, row: Mapping[str, str]) -> Mask:
    """Give a stored mask at native size: each native pixel has what its centre falls on.

    stored = (native - crop) * scale; what was not stored is empty. Raises MammoprepError where cases.csv lacks the map.
    """
    try:
        lines = [_stored(row, size, axis, length) for (size, axis), length in zip(_AXES, mask.shape, strict=True)]
    except (KeyError, ValueError) as error:
        raise MammoprepError(
            f"cases.csv does not give the map native to stored of {row.get('image_id')}. Convert the data set again."
        ) from error
    (rows, from_rows), (columns, from_columns) = lines
    native: Mask = np.zeros((int(row["native_height"]), int(row["native_width"])), dtype=np.bool_)
    native[np.ix_(rows, columns)] = mask[np.ix_(from_rows, from_columns)]
    return native


_AXES = (("native_height", "y"), ("native_width", "x"))


def _stored(
    row: Mapping[str, str], size: str, axis: str, length: int
) -> tuple[np.ndarray[tuple[int], np.dtype[np.intp]], np.ndarray[tuple[int], np.dtype[np.intp]]]:
    """Give the native lines along an axis that were stored, and where each of them lies."""
    centres = np.arange(int(row[size])) + 0.5
    places = np.floor((centres - float(row[f"crop_{axis}0"])) * float(row[f"scale_{axis}"])).astype(np.intp)
    inside = np.flatnonzero((places >= 0) & (places < length))
    return inside, places[inside]
