"""Measure `check`: on images of 1024 x 832 pixels against decoding the same PNGs, and what parts copies from others.

The floor is what no check can leave out: to decode every PNG once, here with OpenCV on the same number of threads. Both
are timed in turn, so that another load on the machine falls on both. Then the fingerprints: how far
an image is from changed copies of it, and from every other image of a data set (default: phantoms).

Type: python examples/benchmarks/check.py [IMAGES] [THREADS] [DATASET]        (default: 1000 2)
"""

import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep import panoptic, phantom
from mammoprep.check import check, duplicates
from mammoprep.convert import Options, case, convert, dataset, summary
from mammoprep.convert.run import FORMAT
from mammoprep.parallel import Workers
from mammoprep.readers import READERS
from mammoprep.records import Ellipse, Finding, Record

HEIGHT, WIDTH = 1024, 832
ROUNDS = 3
CATEGORIES = panoptic.make_categories(["BI-RADS 3", "BI-RADS 4", "BI-RADS 5"])
PATIENTS = 60
"""Phantoms whose fingerprints are compared."""

Grey = NDArray[np.uint8]


def write_dataset(root: Path, count: int) -> None:
    """Convert `count` pictures, four a patient: a breast with texture and up to 3 lesions, which may overlap."""
    raw, out = root / "raw", root / "dataset"
    for folder in (raw, out / "images", out / "panoptic"):
        folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    grain = generator.normal(110, 3, (HEIGHT, WIDTH)).astype(np.float32)
    job = case.Job(raw, out, Options(labels="birads", long_side=0), CATEGORIES)
    cases = []
    for number in range(1, count + 1):
        name = f"image-{number:05d}"
        middle, *axes = generator.integers((400, 350, 300), (620, 700, 490)).tolist()
        breast = cv2.ellipse(np.zeros((HEIGHT, WIDTH), np.uint8), (0, middle), axes, 0, 0, 360, 1, cv2.FILLED)
        blotches = generator.normal(0, 40, (HEIGHT // 25, WIDTH // 25)).astype(np.float32)
        texture = grain + cv2.resize(blotches, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        shown = texture.clip(0, 255) * breast
        cv2.imwrite(str(raw / f"{name}.png"), shown.astype(np.uint8), (cv2.IMWRITE_PNG_COMPRESSION, 1))
        places = generator.integers((30, 200, 8, 8, 0), (400, 820, 60, 60, 3), (generator.integers(0, 4), 5)).tolist()
        found = tuple(Finding(Ellipse(x, y, a, b), CATEGORIES[c].name, f"row {number}") for x, y, a, b, c in places)
        record = Record(f"{name}.png", name, f"p{number // 4}", lesion_free=not found, findings=found)
        cases.append(case.make(record, number=number, job=job))
    skipped = [item for each in cases for item in each.skipped]
    counts = summary.of_cases(cases, categories=CATEGORIES, skipped=skipped)
    manifest = {"format": FORMAT, "dataset": "benchmark", "options": {"bits": 8}, "labels": "birads", "seed": 0}
    manifest |= {"versions": {}, "inputs": {}, "counts": counts.to_json()}
    dataset.write(out, cases, categories=CATEGORIES, skipped=skipped, manifest=manifest)


def decode(root: Path, threads: int) -> None:
    """Decode every PNG with OpenCV."""
    cv2.setNumThreads(1)
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(_shape, sorted(root.glob("*/*.png"))):
            pass


def _shape(path: Path) -> tuple[int, ...]:
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    return tuple(pixels.shape)


def seconds(work: Callable[[], object]) -> float:
    """Time one call."""
    start = perf_counter()
    work()
    return perf_counter() - start


def measure_speed(count: int, threads: int) -> None:
    """Print the time of the floor and of `check`."""
    with TemporaryDirectory() as name:
        write_dataset(Path(name), count)
        root = Path(name) / "dataset"
        found = {rule: len(each) for rule, each in check(root, workers=Workers(threads)).by_rule().items()}
        print(
            f"{count} images of {HEIGHT} x {WIDTH}, {threads} threads; medians of {ROUNDS}; found: {found or 'nothing'}"
        )
        times = [
            (seconds(lambda: decode(root, threads)), seconds(lambda: check(root, workers=Workers(threads))))
            for _ in range(ROUNDS)
        ]
        floor, whole = (median(column) for column in zip(*times, strict=True))
        ratio = median(one / least for least, one in times)
        print(f"floor: decode all PNGs with OpenCV  {floor:6.2f} s\ncheck  {whole:6.2f} s = {ratio:.2f} x the floor")


def _jpeg(grey: Grey) -> NDArray[Any]:
    return cv2.imdecode(cv2.imencode(".jpg", grey, (cv2.IMWRITE_JPEG_QUALITY, 50))[1], cv2.IMREAD_GRAYSCALE)


def _gamma(grey: Grey, power: float) -> NDArray[Any]:
    return (255 * (grey / 255.0) ** power).astype(np.uint8)


def _noise(grey: Grey) -> NDArray[Any]:
    noise = np.random.default_rng(0).normal(0, 5, grey.shape)
    return (grey + noise).clip(0, 255).astype(np.uint8)


def _inner(grey: Grey, share: float) -> NDArray[Any]:
    rows, columns = (round(side * share) for side in grey.shape)
    return grey[rows : grey.shape[0] - rows, columns : grey.shape[1] - columns]


COPIES: Mapping[str, Callable[[Grey], NDArray[Any]]] = {
    "JPEG of quality 50": _jpeg,
    "half the size": lambda grey: cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "gamma 0.6": lambda grey: _gamma(grey, 0.6),
    "gamma 1.6": lambda grey: _gamma(grey, 1.6),
    "values x 1.5, clipped": lambda grey: (grey * 1.5).clip(0, 255).astype(np.uint8),
    "noise of 5 grey levels": _noise,
    "2 pixels aside": lambda grey: np.roll(grey, 2, 1),
    "1 % of each edge cut off": lambda grey: _inner(grey, 0.01),
    "3 % of each edge cut off": lambda grey: _inner(grey, 0.03),
    "mirrored": lambda grey: np.ascontiguousarray(grey[:, ::-1]),
}


def greys(root: Path | None) -> dict[str, Grey]:
    """Give the images of a DATASET, or of phantoms that are converted for it."""
    if root is not None:
        return {path.stem: cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in sorted(root.glob("images/*.png"))}
    with TemporaryDirectory() as name:
        raw, out = Path(name) / "raw", Path(name) / "dataset"
        phantom.write(raw, patients=PATIENTS)
        convert(READERS["vindr"], raw, out=out, options=Options(labels="birads"))
        return greys(out)


def measure_fingerprints(root: Path | None) -> None:
    """Print how far copies and other images are apart."""
    images = greys(root)
    prints = np.stack([duplicates.fingerprint(grey) for grey in images.values()])
    print(f"{len(images)} images of {root or 'phantoms'}; nearer than {duplicates.NEAREST} is a duplicate")
    for title, change in COPIES.items():
        copies = np.stack([duplicates.fingerprint(change(grey)) for grey in images.values()])
        apart = np.diagonal(duplicates.distances(prints, copies))
        found = np.mean(apart < duplicates.NEAREST)
        print(f"copy: {title:26} median {np.median(apart):.2f}, most {apart.max():.2f}; {found:.1%} found")
    nearest = duplicates.distances(prints, prints)[np.triu_indices(len(prints), 1)].min()
    print(f"two different images: {nearest:.2f} at least")


def main(count: int = 1000, threads: int = 2, root: Path | None = None) -> None:
    """Print both."""
    if count:
        measure_speed(count, threads)
    measure_fingerprints(root)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]), *map(Path, sys.argv[3:4]))
