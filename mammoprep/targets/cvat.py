"""CVAT for images 1.1: one XML file for all images, lesions as masks."""

import shutil
from collections import Counter
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np

from mammoprep import panoptic
from mammoprep.panoptic import Category
from mammoprep.targets import lost
from mammoprep.targets.source import Case, Lesion, Source


def write(source: Source, out: Path) -> Counter[str]:
    """Write annotations.xml, labels.json for the task's label constructor, images/*.png and cases.csv.

    Lesions are masks, which CVAT's brush corrects: they keep every pixel, holes and parts too, as polygons cannot.
    `mammoprep convert folder` reads it back; patients and lesion-free images come from cases.csv.
    """
    (out / "images").mkdir()
    counts: Counter[str] = Counter()

    def write_one(case: Case) -> tuple[Element, Counter[str]]:
        deep = source.write_8_bit(case, out / "images" / f"{case.image.name}.png")
        return _image(case), lost.bits(deep) + lost.stuff(source, case) + lost.attributes(case)

    with (out / "annotations.xml").open("w", encoding="utf-8", newline="\n") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
        file.write(tostring(_task(source), encoding="unicode") + "\n")
        for place, (image, found) in enumerate(source.each(write_one)):
            image.set("id", str(place))
            file.write(tostring(image, encoding="unicode") + "\n")
            counts += found
        file.write("</annotations>\n")
    labels = [{"name": each.name, "color": _colour(each), "attributes": []} for each in source.content.things]
    panoptic.write_json(out / "labels.json", labels)
    shutil.copyfile(source.root / "cases.csv", out / "cases.csv")
    return counts


def _task(source: Source) -> Element:
    meta = Element("meta")
    labels = SubElement(SubElement(meta, "task"), "labels")
    for category in source.content.things:
        label = SubElement(labels, "label")
        for key, text in (("name", category.name), ("color", _colour(category)), ("type", "any")):
            SubElement(label, key).text = text
        SubElement(label, "attributes")
    return meta


def _colour(category: Category) -> str:
    return "#" + bytes(category.color).hex()


def _image(case: Case) -> Element:
    size = {"width": str(case.image.width), "height": str(case.image.height)}
    image = Element("image", {"id": "", "name": f"{case.image.name}.png", **size})
    for lesion in case.lesions:
        SubElement(image, "mask", _mask(lesion))
    return image


def _mask(lesion: Lesion) -> dict[str, str]:
    """Give CVAT's own code: the lengths of runs of 0 and 1 in turn along the rows of the mask's box."""
    mask = lesion.mask
    x, y, width, height = panoptic.mask_box(mask)
    pixels = mask[y : y + height, x : x + width].ravel().astype(np.int8)
    runs = np.diff(np.flatnonzero(np.diff(pixels, prepend=0)), prepend=0, append=pixels.size)
    places = {"left": x, "top": y, "width": width, "height": height, "z_order": 0}
    return {
        "label": lesion.category.name,
        "source": "file",
        "occluded": "0",
        "rle": ", ".join(map(str, runs.tolist())),
        **{key: str(value) for key, value in places.items()},
    }
