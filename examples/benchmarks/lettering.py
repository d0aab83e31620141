"""Measure how often text in the background is found, how often it is seen where there is none, and how long that takes.

Type: python examples/benchmarks/lettering.py [FOLDER …], folders of real images without text. Text is drawn into a
corner that the breast leaves free, on phantoms and on real images brought to 3,000 pixels height with a black margin.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import process_time

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mammoprep import anatomy, pixels
from mammoprep.phantom import dicom, draw, studies

TEXTS = ("R CC", "LMLO", "ROE ANNA 12.03.1961")
SIZES = (14, 18, 24, 32, 48, 96, 160, 220)
LEVELS = (1.0, 0.5)
ROUNDS = 15
Grey = NDArray[np.uint16]


def phantoms(count: int) -> Iterator[Grey]:
    """Draw phantoms at their detectors' true size, rendered as files are."""
    with TemporaryDirectory() as folder:
        for view in studies.plan(count, seed=1, long_side=0):
            path = Path(folder) / "image.dicom"
            dicom.write(path, draw(view)[0], view=view)
            yield pixels.read(path).pixels


def real(folders: list[Path]) -> list[Grey]:
    """Read all images of folders."""
    paths = (path for folder in folders for path in sorted(folder.rglob("*")))
    return [pixels.read(path).pixels for path in paths if path.suffix in (".jpg", ".png", ".dcm")]


def enlarged(grey: Grey, *, margin: int = 0) -> Grey:
    """Bring an image to 3,000 pixels height, with a black margin on the side that the breast does not touch."""
    grown = cv2.resize(grey, (grey.shape[1] * 3000 // grey.shape[0], 3000), interpolation=cv2.INTER_CUBIC)
    sides = (margin, 0) if anatomy.faces_left(anatomy.find(grown)) else (0, margin)
    bordered: Grey = cv2.copyMakeBorder(grown, 0, 0, *sides, cv2.BORDER_CONSTANT, value=0)
    return bordered


def written(grey: Grey, text: str, *, size: int, level: float, turned: bool) -> Grey | None:
    """Draw text into the first corner that the breast leaves free; None where there is none."""
    font = ImageFont.load_default(size=size)
    left, top, right, bottom = font.getbbox(text)
    letters = Image.new("L", (int(right - left) + 4, int(bottom - top) + 4))
    ImageDraw.Draw(letters).text((2 - left, 2 - top), text, font=font, fill=255)
    drawn = np.rot90(letters) if turned else np.asarray(letters)
    (height, width), (rows, columns) = grey.shape, drawn.shape
    taken = anatomy.enlarge(anatomy.find(grey), height, width)
    for y, x in ((40, width - columns - 40), (40, 40), (height - rows - 40, width - columns - 40)):
        place = (slice(y, y + rows), slice(x, x + columns))
        if min(x, y) >= 0 and taken[place].shape == drawn.shape and not taken[place].any():
            shown = grey.copy()
            shown[place] = np.maximum(shown[place], (drawn / 255 * level * 65535).astype(np.uint16))
            return shown
    return None


def rates(images: list[Grey]) -> Iterator[str]:
    """Yield a line a text, level and size: found of how many."""
    for text in TEXTS:
        for level in LEVELS:
            for size in SIZES:
                ways = [(grey, turned) for grey in images for turned in (False, True)]
                made = [written(grey, text, size=size, level=level, turned=turned) for grey, turned in ways]
                shown = [pixels.shows_text(grey) for grey in made if grey is not None]
                yield f"{text!r} at {level}, type of {size}: {sum(shown)} of {len(shown)}"


def milliseconds(grey: Grey) -> float:
    """Measure one image in processor time."""
    times = []
    for _ in range(ROUNDS):
        start = process_time()
        pixels.shows_text(grey)
        times.append(process_time() - start)
    return 1000 * median(times)


def main() -> None:
    """Print the figures of docs/measured.md."""
    cv2.setNumThreads(1)
    plain, seen = list(phantoms(6)), real([Path(argument) for argument in sys.argv[1:]])
    large = [enlarged(grey) for grey in seen[::4]]
    for name, images in (("phantoms", plain), ("real", seen), ("real, enlarged", large)):
        print(f"{name}: text seen in {sum(map(pixels.shows_text, images))} of {len(images)}")
    print(f"{plain[0].shape}: {milliseconds(plain[0]):.1f} ms, {plain[1].shape}: {milliseconds(plain[1]):.1f} ms")
    for name, images in (("phantom", plain[::4]), ("real", [enlarged(grey, margin=900) for grey in seen[:48:4]])):
        for line in rates(images):
            print(f"{name}: {line}")


if __name__ == "__main__":
    main()
