"""Mask images beside the images: which image a mask is of, its class, and whether it is a label map."""

import re
from contextlib import suppress
from posixpath import basename, dirname, splitext

from mammoprep.exports import Files
from mammoprep.readers.folder.values import Meanings
from mammoprep.records import Finding, MaskFile, Skipped

_NNUNET = {"labelstr", "labelsts"}
_FOLDERS = {"mask", "masks"} | _NNUNET
_NAME = re.compile(r"(.+?)[ _-]mask(?:[ _-]?(\D*?))?(?:[ _-]?(\d+))?", re.IGNORECASE)


def is_mask(path: str) -> bool:
    """Tell whether a picture is a mask: `<image>_mask[_<class>][_<n>]`, or a file in a folder for masks."""
    folders = {part.casefold() for part in dirname(path).split("/")}
    return bool(folders & _FOLDERS) or _NAME.fullmatch(_stem(path)) is not None


def match(path: str, images: Files) -> tuple[str, str]:
    """Give a mask's image and class ("" where its name says none); a LookupError says why there is no image.

    The image is looked for beside the mask, then anywhere. In a folder `masks` the mask has the image's name, and a
    folder inside is a class: `masks/malignant/001.png`. In nnU-Net's folders `labelsTr/001.png` is of
    `imagesTr/001_0000.png`.
    """
    parts, named = dirname(path).split("/"), _NAME.fullmatch(_stem(path))
    if parts[-1].casefold() in _NNUNET:
        beside = "/".join((*parts[:-1], f"images{parts[-1][len('labels') :]}"))
        with suppress(LookupError):
            return images.find(f"{_stem(path)}_0000", beside=beside), ""
        return images.find(_stem(path), beside=beside), ""
    name, label = (named[1], (named[2] or "").strip(" _-")) if named else (_stem(path), "")
    last = max((place for place, part in enumerate(parts) if part.casefold() in _FOLDERS), default=len(parts))
    return images.find(name, beside="/".join(parts[:last])), label or " ".join(parts[last + 1 :])


def with_file(finding: Finding, pictures: Files, known: Meanings) -> Finding:
    """Find the file of a mask that a table names."""
    if not isinstance(finding.shape, MaskFile):
        return finding
    path = pictures.find(finding.shape.source)
    return _masked(path, finding.label or "", finding.source, known=known)


def _masked(path: str, label: str, where: str, *, known: Meanings) -> Finding:
    """Give the finding of a mask file: a label map where its values have classes and nothing else gives it one."""
    values = known.of(path)
    if values and not label:
        return Finding(values.of(path), "", where, {"shape": "label map"})
    return Finding(MaskFile(path, may_be_empty=True), label, where, {"shape": "mask"})


def read(path: str, images: Files, known: Meanings) -> tuple[str, Finding] | Skipped:
    """Give the image and the finding of a mask that no table names."""
    try:
        source, label = match(path, images)
    except LookupError as error:
        return Skipped(path, "image", f"a mask: {error.args[0]}")
    return source, _masked(path, label, path, known=known)


def _stem(path: str) -> str:
    return splitext(basename(path))[0]
