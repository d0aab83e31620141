"""The one shape that every raw data set is read into."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any, Literal

Stage = Literal["table", "selection", "image", "finding"]
"""Where something was left out: a row of a table; an image that the options did not ask for, or what a review rejected;
an image file that could not be used (the only stage that `--max-skipped` counts); a finding of an image that was used.
"""

PointXY = tuple[float, float]
"""A point (x, y) in native pixels: pixel (row r, column c) covers [c, c + 1) x [r, r + 1), its centre is at + 0.5."""


@dataclass(frozen=True, slots=True)
class Box:
    """A radiologist's rectangle in native pixels, half-open: x0 <= x < x1, y0 <= y < y1. It becomes a pseudo-mask."""

    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True, slots=True)
class Polygon:
    """A ring of at least three points, closed or not, filled by the even-odd rule."""

    points: tuple[PointXY, ...]


@dataclass(frozen=True, slots=True)
class Ellipse:
    """A filled ellipse; a circle has rx == ry. `theta` turns it, in radians, from the x axis towards the y axis."""

    cx: float
    cy: float
    rx: float
    ry: float
    theta: float = 0.0


@dataclass(frozen=True, slots=True)
class Stroke:
    """A polyline drawn with a round brush of `width` pixels; a single point becomes a disc of that diameter."""

    points: tuple[PointXY, ...]
    width: float


@dataclass(frozen=True, slots=True)
class RunLengths:
    """COCO's run-length code of a mask of `size` (height, width): runs of 0 and 1 in turn, down the columns.

    `counts` are their lengths, or the ASCII text that packs them.
    """

    size: tuple[int, int]
    counts: str | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Union:
    """All that lies in one of several outlines."""

    parts: tuple["Outline", ...]


Outline = Polygon | Ellipse | Stroke | RunLengths | Union


@dataclass(frozen=True, slots=True)
class PanopticSegment:
    """A segment of a panoptic PNG, whose path is relative to the raw folder: where R + 256·G + 65536·B is `id`."""

    source: str
    id: int


@dataclass(frozen=True, slots=True)
class SegmentFrames:
    """A segment of a DICOM SEG, whose path is relative to the raw folder: all that lies in its `frames`, from 0."""

    source: str
    frames: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MaskFile:
    """A mask in an image file: a pixel belongs to it where the stored value is one of `values`.

    Without `values` it belongs where the value is above half of the file's largest, so that 0/1, 0/255 and the blurred
    edges of JPEG all work; a file of zeros is an empty mask, one with many grey values is an image and refused.
    `source` is a POSIX path relative to the raw folder. Where a data set does not say which of several files is the
    mask, `others` are the rest of them: the first of all that can be a mask of the image is taken. A mask of another
    size is brought to the image's. An empty one is listed, unless it `may_be_empty`, because images without lesions
    have masks too. `shown` are what outputs call the files, in their order, if not by their paths.
    """

    source: str
    values: tuple[int, ...] = ()
    others: tuple[str, ...] = ()
    may_be_empty: bool = False
    shown: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """Give all the files, in the order in which they are tried."""
        return (self.source, *self.others)


@dataclass(frozen=True, slots=True)
class LabelMap:
    """An image file whose values are classes; each connected part (8 neighbours) of a value is a lesion of its own.

    A value is a grey level or an index of a palette; with `in_colour` it is a colour, 65536·R + 256·G + B. `classes`
    gives the class of each: "" for one that is background, as 0 and what is transparent always are; None for one that
    the label scheme does not have. Values that are not in it are listed. `source` is a POSIX path relative to the raw
    folder; outputs call it `shown`, where that is not empty. It may be empty.
    """

    source: str
    classes: Mapping[int, str | None]
    in_colour: bool = False
    shown: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One lesion of one image, or a label map, whose lesions have the classes that it gives.

    `label` is its class under the chosen scheme, None where the scheme has none (it is then listed, not drawn);
    `source` says where it stands, such as `finding_annotations.csv row 17`; `attributes` are the data set's own facts;
    `made` says how its mask was made, where that happened before (`pseudo_mask` of segments_info).
    """

    shape: Box | Outline | MaskFile | LabelMap | PanopticSegment | SegmentFrames
    label: str | None
    source: str
    attributes: Mapping[str, str | int | float | list[str]] = field(default_factory=dict)
    made: Mapping[str, Any] = field(default_factory=dict)

    @property
    def may_be_empty(self) -> bool:
        """Tell whether there may be no lesion, which only the file of a mask says."""
        return isinstance(self.shape, LabelMap) or (isinstance(self.shape, MaskFile) and self.shape.may_be_empty)


@dataclass(frozen=True, slots=True)
class Record:
    """One image that the tables name, whether or not its file is there.

    `source` is its POSIX path relative to the raw folder; `image_id` is the readable id, unique in the data set and
    safe as a file name. `lesion_free` says that the data set itself calls the image free of findings, or, where all its
    findings may be empty, that it is to be called so if they are; it is left out else. `size` is
    (height, width) in native pixels as the tables state it, to be checked against the file; None where they do not.
    `pixel_spacing_mm` is what the data set's documentation says, for files that do not say it themselves.
    `regions` are outlines of what is no finding, by stuff class, such as `pectoral muscle`.
    `number` is the integer image id, where the data set has one; 0 gives it by the order of the sources. `given` are
    cells of cases.csv that hold whatever the file says: its source, if that must not be shown, or all of an image that
    was converted before.
    """

    source: str
    image_id: str
    patient_id: str
    study_id: str = ""
    laterality: Literal["L", "R", ""] = ""
    view: str = ""
    density: str = ""
    split: str = ""
    lesion_free: bool = False
    size: tuple[int, int] | None = None
    pixel_spacing_mm: float | None = None
    findings: tuple[Finding, ...] = ()
    regions: Mapping[str, tuple[Outline | PanopticSegment, ...]] = field(default_factory=dict)
    number: int = 0
    given: Mapping[str, str] = field(default_factory=dict)

    @property
    def shown(self) -> str:
        """Give what outputs call the image's file."""
        return self.given.get("source", self.source)


def stays_inside(source: str) -> bool:
    """Tell whether a relative path cannot leave the raw folder: no drive, no root, no `..`, in either system's way."""
    path = PureWindowsPath(source)
    return not (path.drive or path.root or ".." in path.parts or "\0" in source)


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something left out: what (`source`), when (`stage`) and why (`reason`). One line of skipped.csv."""

    source: str
    stage: Stage
    reason: str


@dataclass(frozen=True, slots=True)
class Classes:
    """The class names in category order, where not the reader but the raw folder decides them."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reader:
    """How one data set is read.

    `labels` maps each label scheme to its class names in category order, the default scheme first. `markers` are names
    in the raw folder by which the data set is recognised. `tables(root)` gives the annotation files that are read.
    `read(root, labels=…)` yields one Record an image, and a Skipped for whatever belongs to no record; it opens no
    pixels. What further options a data set has, `read` takes by keyword, with a text or a bool as default: they are
    options of `mammoprep convert`, of which `Annotated[type, "help"]` says more. Where the raw folder
    itself decides the classes it yields Classes once, which hold in place of `labels`. `called` gives what outputs call
    a path of the raw folder. `own` says that the files are the user's own, in which anything may name a patient:
    outputs have pseudonyms unless the user says otherwise. `key` is the fingerprint of the pseudonyms' key.
    """

    name: str
    title: str
    labels: Mapping[str, tuple[str, ...]]
    markers: tuple[str, ...]
    tables: Callable[[Path], tuple[Path, ...]]
    read: Callable[..., Iterator[Record | Skipped | Classes]]
    called: Callable[[str], str] = str
    own: bool = False
    key: str = ""
