"""The three tables of a VinDr-Mammo folder, with the release's columns."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from mammoprep.phantom.dicom import header
from mammoprep.phantom.studies import View
from mammoprep.records import Box

_IDS = ("study_id", "series_id", "image_id")
_VIEW = (*_IDS, "laterality", "view_position", "height", "width", "breast_birads", "breast_density")
_FINDING = ("finding_categories", "finding_birads", "xmin", "ymin", "xmax", "ymax")
_METADATA = (
    ("SOP Instance UID", "SOPInstanceUID"),
    ("Series Instance UID", "SeriesInstanceUID"),
    ("SOP Instance UID", "SOPInstanceUID"),  # twice in the release too
    ("Patient's Age", "PatientAge"),
    ("View Position", "ViewPosition"),
    ("Image Laterality", "ImageLaterality"),
    ("Photometric Interpretation", "PhotometricInterpretation"),
    ("Rows", "Rows"),
    ("Columns", "Columns"),
    ("Imager Pixel Spacing", "ImagerPixelSpacing"),
    ("Pixel Spacing", "PixelSpacing"),
    ("Pixel Padding Value", "PixelPaddingValue"),
    ("Pixel Padding Range Limit", "PixelPaddingRangeLimit"),
    ("Window Center", "WindowCenter"),
    ("Window Width", "WindowWidth"),
    ("Rescale Intercept", "RescaleIntercept"),
    ("Rescale Slope", "RescaleSlope"),
    ("Rescale Type", "RescaleType"),
    ("Window Center & Width Explanation", "WindowCenterWidthExplanation"),
    ("Manufacturer", "Manufacturer"),
    ("Manufacturer's Model Name", "ManufacturerModelName"),
)
"""Column and DICOM keyword."""


def write(root: Path, views: Sequence[tuple[View, tuple[Box, ...]]]) -> None:
    """Write finding_annotations.csv, breast-level_annotations.csv and metadata.csv for views and their boxes."""
    _write_csv(
        root / "finding_annotations.csv",
        [*_VIEW, *_FINDING, "split"],
        ([*_view(view), *finding, view.split] for view, boxes in views for finding in _findings(view, boxes)),
    )
    _write_csv(
        root / "breast-level_annotations.csv",
        [*_VIEW, "split"],
        ([*_view(view), view.split] for view, _ in views),
    )
    _write_csv(root / "metadata.csv", [name for name, _ in _METADATA], (_metadata(view) for view, _ in views))


def _view(view: View) -> list[str | int]:
    return [
        view.study_id,
        view.series_id,
        view.image_id,
        view.laterality,
        view.position,
        view.height,
        view.width,
        f"BI-RADS {view.birads}",
        f"DENSITY {view.density}",
    ]


def _findings(view: View, boxes: tuple[Box, ...]) -> list[list[str | float]]:
    """Give a row a lesion; 'No Finding' without a box where there is none."""
    if not boxes:
        return [[str(["No Finding"]), "", "", "", "", ""]]
    return [
        [str(list(kind.categories)), f"BI-RADS {kind.birads}" if kind.birads else "", box.x0, box.y0, box.x1, box.y1]
        for kind, box in zip(view.kinds, boxes, strict=True)
    ]


def _metadata(view: View) -> list[str]:
    content = header(view)
    return [str(content.get(keyword, "")) for _, keyword in _METADATA]


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str | float]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
