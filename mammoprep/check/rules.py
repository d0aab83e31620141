"""The rules that a DATASET keeps, by name, and what is said where one is broken."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

TINY = 9
"""Stored pixels: a lesion of fewer is smaller than 3 x 3."""

RULES: Mapping[str, str] = MappingProxyType(
    {
        "unfinished": "no interrupted run lies beside the data set",
        "files": "every file and folder of the format is there and can be read",
        "stray-file": "images/ and panoptic/ hold what panoptic.json names and nothing else",
        "entry": "entries of the JSON files have COCO's keys, each of its type",
        "category": "category ids are 1, 2, 3 …, things first, each name once",
        "image-id": "each image id once, from 1",
        "image-order": "image ids rise with the sorted source paths",
        "file-name": "file_name is image_id + .png, each once, the same for image and annotation",
        "annotation": "each image has one annotation",
        "segment-id": "segment ids differ within an image and lie in 1 … 2^24 - 1",
        "segment-category": "a segment has a category that is listed",
        "panoptic-png": "a map of segments is an RGB PNG of 8 bits, of its image's size",
        "void": "no pixel of a map is 0",
        "unlisted-segment": "every id of a map stands in segments_info",
        "undrawn-segment": "every segment has a pixel in its map",
        "area": "a segment's area is that of the map",
        "bbox": "a segment's bbox is that of the map",
        "tiny-lesion": f"a lesion has {TINY} stored pixels or more",
        "image-png": "an image is a grey PNG of the manifest's bits and of its size in panoptic.json",
        "blank-image": "an image has more than one grey value",
        "identical-images": "no two images have the same pixels",
        "near-duplicates": "no image of one patient shows what another patient's shows",
        "instances-lists": "instances.json lists the images and the thing classes of panoptic.json",
        "instance-id": "each instance id once, from 1",
        "instance-of": "an instance names a listed image and a thing class",
        "rle": "an instance's RLE adds up to its image and covers a pixel of it",
        "instance-area": "an instance's area is that of its RLE",
        "instance-bbox": "an instance's bbox is that of its RLE",
        "instance-segment": "instances and thing segments belong together one to one, a segment lying in its instance",
        "overlap": "what lies on a finding is a smaller finding",
        "covered": "the share of a finding that lies under others stands under `covered`",
        "cases-columns": "cases.csv has all columns",
        "cases-rows": "cases.csv has one row an image, and no other",
        "cases-values": "the cells of cases.csv hold what their columns say",
        "patient": "each image has a patient",
        "coordinates": "stored = (native - crop) x scale",
        "source": "sources are paths relative to the raw folder, each once",
        "n-findings": "n_findings is the number of thing segments",
        "lesion-free": "an image that is called lesion-free has no finding",
        "skipped": "skipped.csv has source, stage and reason, and the stages that are known",
        "hashes": "every file has the SHA-256 that SHA256SUMS gives",
        "manifest": "manifest.json has its keys, and counts what is there",
        "folds": "folds name every image of the data set, each on one side, and hold each out once",
        "folds-patients": "no patient is on both sides of a fold",
    }
)
"""What each rule demands."""

FIXES: Mapping[str, str] = MappingProxyType(
    {
        "area": "taken from the map",
        "bbox": "taken from the map",
        "instances-lists": "taken from panoptic.json",
        "instance-area": "taken from the RLE",
        "instance-bbox": "taken from the RLE",
        "covered": "taken from the RLE and the map",
        "n-findings": "counted anew",
    }
)
"""What `--fix` mends, and how: only what follows from data that are there."""

Step = str | int


@dataclass(frozen=True, slots=True)
class Edit:
    """A value to set: keys and positions that lead to it in a JSON file; for cases.csv (row from 0, column)."""

    file: str
    place: tuple[Step, ...]
    value: Any


@dataclass(frozen=True, slots=True)
class Problem:
    """A broken rule: where and what; `edit` mends it."""

    rule: str
    where: str
    what: str
    edit: Edit | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What was checked and found; `fixed` counts by rule what was mended before, `ignored` what was to be ignored.

    `without_finding` counts images without a finding that the data set does not call lesion-free: theirs was skipped,
    or nobody looked.
    """

    images: int
    patients: int
    lesion_free: int
    without_finding: int
    problems: tuple[Problem, ...]
    fixed: Mapping[str, int] = field(default_factory=dict)
    ignored: Mapping[str, int] = field(default_factory=dict)

    def without(self, rules: Collection[str]) -> "Report":
        """Give the report without the problems of some rules, which are counted."""
        left = tuple(problem for problem in self.problems if problem.rule not in rules)
        ignored = Counter(problem.rule for problem in self.problems if problem.rule in rules)
        return replace(self, problems=left, ignored=dict(ignored))

    def by_rule(self) -> dict[str, list[Problem]]:
        """Give the problems of each broken rule, in the order of the rules."""
        found: dict[str, list[Problem]] = {rule: [] for rule in RULES}
        for problem in self.problems:
            found[problem.rule].append(problem)
        return {rule: problems for rule, problems in found.items() if problems}

    def to_json(self) -> dict[str, Any]:
        """Give the dictionary that `--json` prints."""
        return {
            "images": self.images,
            "patients": self.patients,
            "lesion_free": self.lesion_free,
            "without_finding": self.without_finding,
            "problems": {
                rule: {
                    "rule": RULES[rule],
                    "count": len(problems),
                    "fixable": count_fixable(problems),
                    "found": [{"where": problem.where, "what": problem.what} for problem in problems],
                }
                for rule, problems in self.by_rule().items()
            },
            "fixed": dict(self.fixed),
            "ignored": dict(self.ignored),
        }


def count_fixable(problems: Sequence[Problem]) -> int:
    """Give the number of problems that `--fix` mends."""
    return sum(problem.edit is not None for problem in problems)


def count_fixed(problems: Sequence[Problem]) -> dict[str, int]:
    """Give, by rule, what is mended."""
    return dict(Counter(problem.rule for problem in problems if problem.edit))
