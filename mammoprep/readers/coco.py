"""COCO: instances or panoptic segments in COCO's JSON, from any tool; a DATASET of ours comes back as it was.

What      Images anywhere in RAW, with COCO instances (polygons, run-length codes; a bbox alone becomes a pseudo-mask),
          COCO panoptic (JSON beside a folder of PNGs of the same name), or both of the same images.
Licence   That of the data.
Get it    From the tool that wrote it, or `mammoprep convert`.
Layout    *.json in RAW or RAW/annotations, told by content; panoptic.json with panoptic/*.png; images by `file_name`,
          whole or the end of their path; cases.csv where mammoprep wrote it.
Labels    data      the thing categories by their ids; of instances alone, all categories
Patients  cases.csv, else `--patient REGEX`, whose first group is looked for in the image's path. An image whose patient
          neither gives is skipped: folds would leak. `--patient '(.+)'` says that each image is a patient of its own.
Ids       Images keep their integer ids, where these are different and above 0. Categories are numbered from 1.
Stuff     `breast`, and with `--pectoral` `pectoral muscle`, are taken from the panoptic PNG; other stuff, and void,
          become background, and are listed by class.
Quirks    An annotation that is a crowd is listed, not used. An image without annotations is lesion-free, as COCO means
          it, unless cases.csv says otherwise. A DATASET converted again keeps, byte for byte, images/, panoptic/,
          panoptic.json, instances.json and cases.csv, with the --bits, --stuff and --pectoral that it was made with and
          --long-side as it was or 0; manifest.json, skipped.csv and SHA256SUMS are those of this conversion, folds.json
          still fits.
Citation  Lin et al., ECCV 2014, arXiv 1405.0312; Kirillov et al., CVPR 2019, arXiv 1801.00868.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from posixpath import basename, splitext
from typing import Annotated, Any, Literal

from mammoprep import strict_json
from mammoprep.errors import MammoprepError, UnknownNameError
from mammoprep.exports import Entry, Files, coco
from mammoprep.exports.entry import size_of
from mammoprep.exports.files import image_ids, patient_of, patient_pattern, walk
from mammoprep.records import Classes, Finding, PanopticSegment, Reader, Record, Skipped, stays_inside
from mammoprep.tables import number

LABELS = {"data": ()}
_PICTURES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".pgm", ".dcm", ".dicom"}
_MADE = {"pseudo_mask": {"method", "threshold", "fallback"}, "mask_file": {"scale_x", "scale_y", "residual"}}
_LATERALITIES: Mapping[str, Literal["L", "R"]] = {"L": "L", "R": "R"}


@dataclass(slots=True)
class _Image:
    """What both kinds of annotation say of one image. `things` are the panoptic segments of thing classes."""

    number: int = 0
    size: tuple[int, int] | None = None
    instances: tuple[Finding, ...] | None = None
    things: list[tuple[Finding, Mapping[str, Any]]] = field(default_factory=list)
    regions: dict[str, tuple[PanopticSegment, ...]] = field(default_factory=dict)
    unclear: bool = False

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Give the instances, whole outlines, with what panoptic.json says of how they were made; else the segments."""
        if self.instances is None:
            return tuple(finding for finding, _ in self.things)
        labels = [finding.label for finding, _ in self.things]
        if [finding.label for finding in self.instances] != labels:
            return self.instances
        made = [{key: info[key] for key in _MADE if _is_made(info.get(key), _MADE[key])} for _, info in self.things]
        sources = [finding.source for finding, _ in self.things]
        return tuple(
            replace(finding, made=facts, source=source)
            for finding, facts, source in zip(self.instances, made, sources, strict=True)
        )


def _is_made(facts: Any, keys: set[str]) -> bool:
    """Tell whether facts say how a mask was made as our own do."""
    return isinstance(facts, dict) and keys <= facts.keys()


def tables(root: Path) -> tuple[Path, ...]:
    """Give the annotation files: COCO's JSON, and cases.csv where it is there."""
    cases = root / "cases.csv"
    return (*_annotations(root), *((cases,) if cases.is_file() else ()))


def read(
    root: Path,
    *,
    labels: str = "data",
    patient: Annotated[str, "Regular expression that finds the patient in an image's path: its first group."] = "",
    pectoral: Annotated[bool, "Take the stuff class pectoral muscle over."] = False,
) -> Iterator[Record | Skipped | Classes]:
    """Yield one Record an image that the annotations list, a Skipped for whatever belongs to none, and the Classes."""
    if labels not in LABELS:
        raise UnknownNameError(labels, kind="label scheme", known=LABELS)
    pattern, contents = patient_pattern(patient), _annotations(root)
    yield Classes(_classes({path.relative_to(root).as_posix(): content for path, content in contents.items()}))
    folders = [path.relative_to(root).with_suffix("").as_posix() for path in contents if _is_panoptic(contents[path])]
    paths = [path for path in walk(root)[0] if splitext(path)[1].lower() in _PICTURES]
    files = Files(path for path in paths if not path.startswith(tuple(f"{folder}/" for folder in folders)))
    images: dict[str, _Image] = {}
    stuff = ("breast", "pectoral muscle") if pectoral else ("breast",)
    for path, content in contents.items():
        name = path.relative_to(root).as_posix()
        if _is_panoptic(content):
            yield from _panoptic(content, name, files=files, images=images, stuff=stuff)
        else:
            yield from _instances(content, name, files=files, images=images)
    ids, cases = image_ids(images), _cases(root)
    numbers = {image.number for image in images.values()}
    numbered = len(numbers) == len(images) and 0 not in numbers
    for source, image in sorted(images.items()):
        row = cases.get(splitext(basename(source))[0], {})
        who = row.get("patient_id") or patient_of(pattern, source)
        if who:
            yield _record(source, image, row, image_id=ids[source], patient_id=who, numbered=numbered)
        else:
            yield Skipped(source, "image", "no patient is known: say --patient REGEX, which finds it in the path")


def _record(
    source: str, image: _Image, row: Mapping[str, str], *, image_id: str, patient_id: str, numbered: bool
) -> Record:
    findings = image.findings
    return Record(
        source=source,
        image_id=row.get("image_id", image_id),
        patient_id=patient_id,
        study_id=row.get("study_id", ""),
        laterality=_LATERALITIES.get(row.get("laterality", ""), ""),
        view=row.get("view", ""),
        density=row.get("density", ""),
        split=row.get("split", ""),
        lesion_free=row["lesion_free"] == "1" if "lesion_free" in row else not (findings or image.unclear),
        size=image.size,
        findings=findings,
        regions=image.regions,
        number=image.number if numbered else 0,
        given={column: value for column, value in row.items() if column != "n_findings"},
    )


def _annotations(root: Path) -> dict[Path, Any]:
    """Load the COCO files, told from other JSON by what they hold."""
    found = {}
    for path in sorted((*root.glob("*.json"), *root.glob("annotations/*.json"))):
        try:
            content = strict_json.loads(path.read_text(encoding="utf-8-sig"), nan=True)
        except (OSError, ValueError) as error:
            raise MammoprepError(
                f"{path} is not readable JSON. Write it again, or take it out of the folder."
            ) from error
        if coco.recognise(content) or _is_panoptic(content):
            found[path] = content
    if not found:
        raise MammoprepError(f"{root} holds no COCO annotations in *.json or annotations/*.json. Name their folder.")
    return found


def _is_panoptic(content: Any) -> bool:
    lists = isinstance(content, dict) and all(
        isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
    )
    return lists and any(isinstance(each, dict) and "segments_info" in each for each in content["annotations"][:1])


def _classes(contents: Mapping[str, Any]) -> tuple[str, ...]:
    """Give the thing classes by their ids; instances have only things."""
    things: dict[Any, str] = {}
    for name, content in contents.items():
        try:
            for category in content["categories"]:
                if category.get("isthing", 1):
                    things.setdefault(category["id"], str(category["name"]))
            ids = sorted(things)
        except (AttributeError, KeyError, TypeError) as error:
            raise MammoprepError(f"{name} is not COCO: {error!s} is missing or of another type.") from error
    return tuple(dict.fromkeys(things[number] for number in ids))


def _instances(content: Mapping[str, Any], name: str, *, files: Files, images: dict[str, _Image]) -> Iterator[Skipped]:
    for item in coco.read(content, name=name):
        if isinstance(item, Entry):
            image = _find(item.image, item.where, files=files, images=images)
            if isinstance(image, Skipped):
                yield image
                continue
            image.instances = (*(image.instances or ()), *item.findings)
            image.number, image.size = image.number or item.number, image.size or item.size
            image.unclear |= bool(item.facts)
        else:
            yield item


def _panoptic(
    content: Mapping[str, Any], name: str, *, files: Files, images: dict[str, _Image], stuff: Sequence[str]
) -> Iterator[Skipped]:
    try:
        categories = {category["id"]: category for category in content["categories"]}
        segments = {each["image_id"]: each for each in content["annotations"]}
        for category in categories.values():
            if not category["isthing"] and category["name"] not in (*stuff, "background"):
                yield Skipped(f"{name} category {category['id']}", "table", "stuff of a class that becomes background")
        for listed in content["images"]:
            where = f"{name} image {listed['id']}"
            if listed["id"] not in segments:
                yield Skipped(where, "table", "the image has no panoptic annotation")
                continue
            image = _find(str(listed["file_name"]), where, files=files, images=images)
            if isinstance(image, Skipped):
                yield image
            else:
                image.number = image.number or coco.number_of(listed)
                image.size = image.size or size_of(listed["height"], listed["width"])
                _add_segments(
                    image, segments[listed["id"]], categories, folder=splitext(name)[0], where=where, stuff=stuff
                )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise MammoprepError(f"{name} is not COCO panoptic: {error!s} is missing or of another type.") from error


def _add_segments(
    image: _Image,
    annotation: Mapping[str, Any],
    categories: Mapping[Any, Any],
    *,
    folder: str,
    where: str,
    stuff: Sequence[str],
) -> None:
    source = f"{folder}/{annotation['file_name']}"
    for info in annotation["segments_info"]:
        if info["category_id"] not in categories:
            raise MammoprepError(f"{where} has a segment of a category that the file does not list. Write it again.")
        category, segment = categories[info["category_id"]], PanopticSegment(source, int(info["id"]))
        label = str(category["name"])
        if category["isthing"]:
            attributes = info.get("attributes")
            given = attributes if isinstance(attributes, dict) else {}
            source_of = info.get("source")
            at = source_of if isinstance(source_of, str) and source_of else f"{where} segment {info['id']}"
            strict_json.check([given, at, *(info.get(key) for key in _MADE)])
            image.things.append((Finding(segment, label, at, given), info))
        elif label in stuff:
            image.regions[label] = (*image.regions.get(label, ()), segment)


def _find(name: str, where: str, *, files: Files, images: dict[str, _Image]) -> _Image | Skipped:
    try:
        return images.setdefault(files.find(name), _Image())
    except LookupError as error:
        return Skipped(where, "image", error.args[0])


def _cases(root: Path) -> dict[str, dict[str, str]]:
    """Give the rows of a DATASET's cases.csv by image id; other tables of that name have none."""
    path, rows = root / "cases.csv", dict[str, dict[str, str]]()
    if not path.is_file():
        return rows
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for place, row in enumerate(csv.DictReader(file), start=2):
                if "image_id" not in row:
                    return {}
                if None in row or None in row.values() or not _is_case(row):
                    raise ValueError(f"row {place}")
                rows[row["image_id"]] = row
    except (OSError, ValueError, csv.Error) as error:
        raise MammoprepError(f"{path} is damaged ({error}). Correct it, or take it out of the folder.") from error
    return rows


def _is_case(row: Mapping[str, str]) -> bool:
    """Tell whether what is taken over as it is, and calculated with, is what its columns say."""
    numbers = [number(row.get(column, "1")) for column in ("crop_x0", "crop_y0", "scale_x", "scale_y")]
    sides = {None, 0.0}.isdisjoint(numbers[2:]) and None not in numbers
    return sides and bool(row.get("source", "x")) and stays_inside(row.get("source", "x"))


READER = Reader(name="coco", title="COCO", labels=LABELS, markers=(), tables=tables, read=read)
