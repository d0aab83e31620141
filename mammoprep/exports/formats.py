"""Which tool wrote a file, told by its content."""

from collections.abc import Iterator
from pathlib import Path

from mammoprep import strict_json
from mammoprep.exports import coco, cvat, labelme, via
from mammoprep.exports.entry import Entry
from mammoprep.records import Skipped

ENDINGS = (".json", ".xml")


def read(path: Path, *, name: str) -> Iterator[Entry | Skipped]:
    """Yield what a LabelMe, VIA or COCO JSON file or a CVAT XML file says of each image.

    `name` is what outputs call the file. One that is broken, or none of these, gives a Skipped.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".xml":
            root = cvat.parse(text)
            items = None if root is None else cvat.read(root, name=name)
        else:
            content = strict_json.loads(text, nan=True)  # a shape that has one is listed alone
            found = next((tool for tool in (labelme, coco, via) if tool.recognise(content)), None)
            items = None if found is None else found.read(content, name=name)
    except OSError as error:
        yield Skipped(name, "table", f"the file cannot be read ({error.strerror})")
    except ValueError:
        yield Skipped(name, "table", "the file is not readable JSON or XML, or not in UTF-8")
    else:
        yield from [Skipped(name, "table", "written by none of LabelMe, CVAT, VIA, COCO")] if items is None else items
