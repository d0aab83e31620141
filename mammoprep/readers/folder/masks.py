"""Mask images beside the images: which image a mask is of, and its class, told by names."""

import re
from posixpath import basename, dirname, splitext

from mammoprep.exports import Files

_FOLDERS = {"mask", "masks"}
_NAME = re.compile(r"(.+?)[ _-]mask(?:[ _-]?(\D*?))?(?:[ _-]?(\d+))?", re.IGNORECASE)


def is_mask(path: str) -> bool:
    """Tell whether a picture is a mask: `<image>_mask[_<class>][_<n>]`, or a file in a folder `mask` or `masks`."""
    folders = {part.casefold() for part in dirname(path).split("/")}
    return bool(folders & _FOLDERS) or _NAME.fullmatch(_stem(path)) is not None


def match(path: str, images: Files) -> tuple[str, str]:
    """Give a mask's image and class ("" where its name says none); a LookupError says why there is no image.

    The image is looked for beside the mask, then anywhere. In a folder `masks` the mask has the image's name, and a
    folder inside is a class: `masks/malignant/001.png`.
    """
    parts, named = dirname(path).split("/"), _NAME.fullmatch(_stem(path))
    name, label = (named[1], (named[2] or "").strip(" _-")) if named else (_stem(path), "")
    last = max((place for place, part in enumerate(parts) if part.casefold() in _FOLDERS), default=len(parts))
    return images.find(name, beside="/".join(parts[:last])), label or " ".join(parts[last + 1 :])


def _stem(path: str) -> str:
    return splitext(basename(path))[0]
