"""The files of an own folder sorted by what they are, and all that their annotations say brought to the images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from posixpath import basename, dirname, splitext
from typing import TYPE_CHECKING

from mammoprep import exports
from mammoprep.exports import Entry, Files
from mammoprep.exports.files import walk
from mammoprep.exports.formats import ENDINGS as EXPORTS
from mammoprep.readers.folder import masks, table
from mammoprep.readers.folder.values import meanings
from mammoprep.records import Finding, LabelMap, MaskFile, SegmentFrames, Skipped, Stage

if TYPE_CHECKING:
    from mammoprep.pixels import Identity

_PICTURES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".pgm"}
_TABLES = {".csv", ".xlsx"}
_DICOM = {".dcm", ".dicom", ".ima"}


@dataclass(frozen=True, slots=True)
class Survey:
    """Paths relative to the raw folder. `headers` are those of DICOM files; a text says why one cannot be read."""

    images: tuple[str, ...]
    masks: tuple[str, ...]
    segmentations: tuple[str, ...]
    tables: tuple[str, ...]
    exports: tuple[str, ...]
    others: tuple[str, ...]
    links: tuple[str, ...]
    headers: "Mapping[str, Identity | str]"

    @property
    def annotations(self) -> tuple[str, ...]:
        """Give all files that say something of images."""
        return tuple(sorted((*self.tables, *self.exports, *self.masks, *self.segmentations)))


@dataclass(slots=True)
class Found:
    """What is known of one image. `why` says why its header cannot be read."""

    facts: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    outlined: bool = False
    size: tuple[int, int] | None = None
    patient_id: str = ""
    study_uid: str = ""
    why: str = ""

    @property
    def may_be_empty(self) -> bool:
        """Tell whether there is nothing but masks, each of which may be empty."""
        return bool(self.findings) and all(finding.may_be_empty for finding in self.findings)

    def lesion_free(self, *, otherwise: bool) -> bool | None:
        """Say whether it is free of lesions; None where it is not known, and is not to be taken for it `otherwise`.

        Where there are only masks, say what it is if they are empty.
        """
        if self.outlined and not self.may_be_empty:
            return False
        said = self.facts.get("lesion_free")
        return True if (table.is_yes(said) if said else otherwise) else None


def survey(root: Path) -> Survey:
    """Sort the files of a raw folder by name, DICOM files by header."""
    inside, outside = walk(root)
    kinds: dict[str, list[str]] = {}
    headers: dict[str, Identity | str] = {}
    for path in inside:
        kind = _kind(root, path)
        if kind == "dicom":
            headers[path] = header = _header(root / path)
            kind = "segmentation" if not isinstance(header, str) and header.modality == "SEG" else "image"
        if kind == "image" and masks.is_mask(path):
            kind = "mask"
        kinds.setdefault(kind, []).append(path)
    sorts = {kind: tuple(paths) for kind, paths in kinds.items()}
    return Survey(
        images=sorts.get("image", ()),
        masks=sorts.get("mask", ()),
        segmentations=sorts.get("segmentation", ()),
        tables=sorts.get("table", ()),
        exports=sorts.get("export", ()),
        others=sorts.get("other", ()),
        links=tuple(outside),
        headers=headers,
    )


def is_table(path: str) -> bool:
    """Tell whether a file is a table that is read: one directly in the raw folder."""
    return "/" not in path and splitext(path)[1].lower() in _TABLES


def _kind(root: Path, path: str) -> str:
    ending = splitext(path)[1].lower()
    if ending in _PICTURES:
        return "image"
    if ending in EXPORTS:
        return "export"
    if ending in _TABLES:
        return "table" if is_table(path) else "other"
    if ending in _DICOM or (basename(path) != "DICOMDIR" and _has_mark(root / path)):
        return "dicom"
    return "other"


def _has_mark(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _header(path: Path) -> "Identity | str":
    try:
        state = path.stat()
    except OSError as error:
        return f"the file cannot be read ({error.strerror})"
    return _header_as_of(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=2**20)
def _header_as_of(path: Path, _time: int, _size: int) -> "Identity | str":
    """Read a header once, though it is asked for twice: a folder may hold a hundred thousand."""
    from mammoprep.pixels import PixelError, identify

    try:
        return identify(path)
    except PixelError as error:
        return str(error)


def gather(root: Path, *, named: Mapping[str, str], values: str) -> tuple[dict[str, Found], list[Skipped]]:
    """Give what the annotations say by image, and what cannot be used of them; images that none names are listed."""
    files = survey(root)
    known = meanings(root, files.exports, said=values)
    files = replace(files, exports=tuple(path for path in files.exports if path not in known.files))
    images, pictures = Files(files.images), Files((*files.images, *files.masks))
    found: dict[str, Found] = {}
    skipped: list[Skipped] = []
    used: set[str] = set()
    for item in _entries(root, files, named=named):
        if isinstance(item, Skipped):
            skipped.append(item)
            continue
        entry, folder, else_named = item
        try:
            source = _find(images, (entry.image, *else_named), folder)
        except LookupError as error:
            skipped.append(Skipped(entry.where, "image", error.args[0]))
            continue
        findings = []
        for finding in entry.findings:
            try:
                findings.append(masks.with_file(finding, pictures, known))
            except LookupError as error:
                skipped.append(Skipped(finding.source, "finding", f"the mask: {error.args[0]}"))
        used |= {finding.shape.source for finding in findings if isinstance(finding.shape, MaskFile | LabelMap)}
        skipped += _add(found.setdefault(source, _blank(files.headers.get(source))), entry, findings)
    for path in files.masks:
        if path not in used:
            mask = masks.read(path, images, known)
            if isinstance(mask, Skipped):
                skipped.append(mask)
            else:
                source, finding = mask
                image = found.setdefault(source, _blank(files.headers.get(source)))
                skipped += _add(image, Entry(source, finding.source, (finding,)), [finding])
    by_uid = {header.sop_uid: path for path, header in files.headers.items() if not isinstance(header, str)}
    for path in files.segmentations:
        skipped += _add_segments(root, path, by_uid, found, files.headers)
    skipped += _left_over(files, {*found, *used})
    return found, skipped


def _find(images: Files, candidates: Sequence[str], folder: str) -> str:
    """Find an image by the first of several names that means one; the error is the first one's."""
    reasons = []
    for name in candidates:
        try:
            return images.find(name, beside=folder)
        except LookupError as error:
            reasons.append(error)
    raise reasons[0]


def _entries(
    root: Path, files: Survey, *, named: Mapping[str, str]
) -> Iterator[tuple[Entry, str, tuple[str, ...]] | Skipped]:
    """Yield what every annotation file says, the folder it lies in, and what else its image may be called."""
    loaded = table.load_all([root / path for path in files.tables], named=named)
    for path, content in zip(files.tables, loaded, strict=True):
        for item in table.read(content, name=path, named=named):
            yield item if isinstance(item, Skipped) else (item, "", ())
    for path in files.exports:
        folder, stem = dirname(path), splitext(basename(path))[0]
        for item in exports.read(root / path, name=path):
            # LabelMe's file has the image's name, also where the path in it is that of another machine.
            alone = isinstance(item, Entry) and item.where == path
            yield item if isinstance(item, Skipped) else (item, folder, (stem,) if alone else ())


def _blank(header: "Identity | str | None") -> Found:
    if header is None or isinstance(header, str):
        return Found(why=header or "")
    return Found(patient_id=header.patient_id, study_uid=header.study_uid)


def _add(image: Found, entry: Entry, findings: Sequence[Finding]) -> Iterator[Skipped]:
    """Add what one entry says; what was there first holds."""
    for what, value in entry.facts.items():
        if image.facts.setdefault(what, value).casefold() != value.casefold():
            yield Skipped(entry.where, "table", f"{what} differs from an earlier one of the image, which holds")
    image.size = image.size or entry.size
    image.outlined |= bool(entry.findings)
    for finding in findings:
        if any((finding.shape, finding.label) == (other.shape, other.label) for other in image.findings):
            yield Skipped(finding.source, "finding", "the outline repeats an earlier one of the image")
        else:
            image.findings.append(finding)


def _add_segments(
    root: Path,
    path: str,
    by_uid: Mapping[str, str],
    found: dict[str, Found],
    headers: "Mapping[str, Identity | str]",
) -> Iterator[Skipped]:
    from mammoprep.pixels import PixelError, read_segments

    try:
        segments = read_segments(root / path)
    except PixelError as error:
        yield Skipped(path, "image", str(error))
        return
    for segment in segments:
        where, source = f"{path} segment {segment.number}", by_uid.get(segment.sop_uid)
        if source is None or source == path:
            yield Skipped(where, "image", "a DICOM SEG of an image that is not in the folder")
            continue
        finding = Finding(SegmentFrames(path, segment.frames), segment.label, where, {"shape": "DICOM SEG"})
        yield from _add(
            found.setdefault(source, _blank(headers.get(source))), Entry(source, where, (finding,)), [finding]
        )


def _left_over(files: Survey, used: set[str]) -> list[Skipped]:
    reasons: dict[str, tuple[Stage, str]] = {
        path: ("selection", "no annotation names the image") for path in files.images if path not in used
    }
    reasons |= dict.fromkeys(files.others, ("table", "neither an image nor an annotation file that is read"))
    reasons |= dict.fromkeys(files.links, ("image", "a link that leaves the raw folder"))
    return [Skipped(path, stage, reason) for path, (stage, reason) in sorted(reasons.items())]
