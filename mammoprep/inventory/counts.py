"""Images and lesions, counted by what is known of them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from math import inf
from typing import Any, get_args

from mammoprep.records import Skipped, Stage

NOT_STATED = "not stated"
EDGES_PX = (0, 32, 64, 128, 256, 512, 1024)
"""Native pixels: from which on a lesion's longer side is of a bin."""
EDGES_MM = (0, 5, 10, 20, 50)
"""Millimetres: the limits of T1a, T1b, T1c, T2 and T3 (TNM, 8th edition)."""
MOST_FINDINGS = 5
"""Images with as many findings or more are counted together."""

Extent = tuple[float, float, float, float]
"""A bounding box x0, y0, x1, y1 in native pixels."""


@dataclass(frozen=True, slots=True)
class Lesion:
    """A finding: its class, and its extent where that is known."""

    label: str
    extent: Extent | None


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of one image; a text is empty, `spacing_mm` of native pixels None where nothing is."""

    patient: str
    study: str = ""
    laterality: str = ""
    view: str = ""
    density: str = ""
    split: str = ""
    manufacturer: str = ""
    lesion_free: bool = False
    spacing_mm: float | None = None
    lesions: tuple[Lesion, ...] = ()


@dataclass(frozen=True, slots=True)
class OfClass:
    """A class: its findings, and the images and patients that have one."""

    findings: int
    images: int
    patients: int


@dataclass(frozen=True, slots=True)
class Inventory:
    """What is there. Counts are of images where they are not of findings.

    `files` counts the images whose file is there. `without_finding` have no finding, yet nobody says lesion-free.
    `images_by` counts by laterality, view, density, split and manufacturer; `sizes_px` and `sizes_mm` count findings by
    the longer side of their bounding box, in native pixels and millimetres, and class. `overlapping` counts pairs of
    findings of an image whose bounding boxes share pixels, `overlapping_images` the images that have such a pair.
    `skipped` is by stage and reason: what a conversion would leave out, or did.
    """

    source: str
    labels: str
    images: int
    files: int
    patients: int
    studies: int
    lesion_free: int
    without_finding: int
    classes: Mapping[str, OfClass]
    images_by: Mapping[str, Mapping[str, int]]
    findings_per_image: Mapping[str, int]
    sizes_px: Mapping[str, Mapping[str, int]]
    sizes_mm: Mapping[str, Mapping[str, int]]
    overlapping: int
    overlapping_images: int
    skipped: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Give the dictionary that `--json` prints."""
        return asdict(self)


def count(
    looks: Sequence[Look], *, source: str, labels: str, classes: Sequence[str], files: int, skipped: Iterable[Skipped]
) -> Inventory:
    """Count images; `classes` are named whether they occur or not."""
    pairs = [_overlapping(look.lesions) for look in looks]
    found = Counter(min(len(look.lesions), MOST_FINDINGS) for look in looks)
    return Inventory(
        source=source,
        labels=labels,
        images=len(looks),
        files=files,
        patients=len({look.patient for look in looks if look.patient}),
        studies=len({(look.patient, look.study) for look in looks if look.study}),
        lesion_free=sum(look.lesion_free for look in looks),
        without_finding=sum(not look.lesions and not look.lesion_free for look in looks),
        classes={name: _of_class(name, looks) for name in classes},
        images_by={
            name: _counted(getattr(look, name) for look in looks)
            for name in ("laterality", "view", "density", "split", "manufacturer")
        },
        findings_per_image={
            f"{number} or more" if number == MOST_FINDINGS else str(number): found[number]
            for number in range(max(found, default=0) + 1)
        },
        sizes_px=_sizes(looks, EDGES_PX, classes, millimetres=False),
        sizes_mm=_sizes(looks, EDGES_MM, classes, millimetres=True),
        overlapping=sum(pairs),
        overlapping_images=sum(number > 0 for number in pairs),
        skipped=_reasons(skipped),
    )


def is_known(sizes: Mapping[str, Mapping[str, int]]) -> bool:
    """Tell whether the size of any finding is known."""
    return any(any(counts.values()) for name, counts in sizes.items() if name != NOT_STATED)


def _of_class(name: str, looks: Sequence[Look]) -> OfClass:
    shown = [(look, number) for look in looks if (number := sum(lesion.label == name for lesion in look.lesions))]
    return OfClass(sum(number for _, number in shown), len(shown), len({look.patient for look, _ in shown}))


def _counted(values: Iterable[str]) -> dict[str, int]:
    """Give the counts of values in the order of their names, what is not stated last."""
    counts = Counter(value or NOT_STATED for value in values)
    return {name: counts[name] for name in sorted(counts, key=lambda name: (name == NOT_STATED, name))}


def _sizes(
    looks: Sequence[Look], edges: Sequence[int], classes: Sequence[str], *, millimetres: bool
) -> dict[str, dict[str, int]]:
    """Count the findings of each class by the bin of their longer side; those of no known size last, if any."""
    names = [
        *(f"{low}-{high}" for low, high in zip(edges, edges[1:], strict=False)),
        f"{edges[-1]} or more",
        NOT_STATED,
    ]
    sizes = {name: dict.fromkeys(classes, 0) for name in names}
    for look in looks:
        for lesion in look.lesions:
            side = _side(lesion.extent) * ((look.spacing_mm or inf) if millimetres else 1)
            bin_ = len(edges) if side == inf else sum(edge <= side for edge in edges) - 1
            sizes[names[bin_]][lesion.label] += 1
    if not any(sizes[NOT_STATED].values()):
        del sizes[NOT_STATED]
    return sizes


def _side(extent: Extent | None) -> float:
    """Give the longer side of a bounding box, infinite where it is not known."""
    return inf if extent is None else max(extent[2] - extent[0], extent[3] - extent[1], 1e-9)


def _overlapping(lesions: Sequence[Lesion]) -> int:
    boxes = [lesion.extent for lesion in lesions if lesion.extent is not None]
    return sum(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for a, b in combinations(boxes, 2))


def _reasons(skipped: Iterable[Skipped]) -> dict[str, dict[str, int]]:
    """Count by stage and reason, the frequent first."""
    stages: dict[str, Counter[str]] = {stage: Counter() for stage in get_args(Stage)}
    for item in skipped:
        stages[item.stage][item.reason] += 1
    return {
        stage: dict(sorted(found.items(), key=lambda each: (-each[1], each[0])))
        for stage, found in stages.items()
        if found
    }
