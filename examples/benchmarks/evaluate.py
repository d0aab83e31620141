"""Measure the evaluator on panoptic pairs of 1024 x 832 pixels: against decoding the same PNGs, and beside its peers.

The floor is what no evaluator can leave out: to decode every PNG once, here with OpenCV on the same number of threads.
Peers see the panoptic maps alone and one threshold: hotcoco (Rust), and panopticapi's way of counting, a `numpy.unique`
over each pair of maps. All are timed in turn, so that another load on the machine falls on all of them.

Type: python examples/benchmarks/evaluate.py [PAIRS] [THREADS]        (default: 1000 2)
"""

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import cv2
import numpy as np

from mammoprep import panoptic

HEIGHT, WIDTH = 1024, 832
ROUNDS = 5
CATEGORIES = panoptic.make_categories(["BI-RADS 3", "BI-RADS 4", "BI-RADS 5"])
BREAST, BACKGROUND = 70_001, 70_002
"""Segment ids that take all three channels of a panoptic PNG."""

Ellipse = tuple[int, int, int, int, int]
"""x, y, half axes, category id."""


def draw_lesions(generator: np.random.Generator, most: int) -> list[Ellipse]:
    """Draw up to `most` lesions."""
    low, high = (30, 200, 8, 8, 1), (400, 820, 60, 60, 4)
    return [tuple(generator.integers(low, high).tolist()) for _ in range(generator.integers(0, most + 1))]


def shift(generator: np.random.Generator, lesion: Ellipse) -> Ellipse:
    """Predict a lesion: a little beside it, smaller or larger, one in five of another class."""
    x, y, a, b, category = lesion
    x, y = (int(place + generator.normal(0, 10)) for place in (x, y))
    a, b = (max(3, int(side * generator.uniform(0.6, 1.5))) for side in (a, b))
    return x, y, a, b, category if generator.random() < 0.8 else int(generator.integers(1, 4))


def paint(lesions: list[Ellipse]) -> tuple[panoptic.Ids, tuple[panoptic.Segment, ...]]:
    """Give a map of segment ids and its segments: breast, background, lesions."""
    ids = np.full((HEIGHT, WIDTH), BACKGROUND, dtype=np.int32)
    cv2.ellipse(ids, (0, HEIGHT // 2), (520, 490), 0, 0, 360, BREAST, cv2.FILLED)
    for number, (x, y, a, b, _) in enumerate(lesions, start=1):
        cv2.ellipse(ids, (x, y), (a, b), 0, 0, 360, 257 * number, cv2.FILLED)
    classes = {BREAST: 4, BACKGROUND: 5, **{257 * i: lesion[4] for i, lesion in enumerate(lesions, start=1)}}
    values, counts = np.unique(ids, return_counts=True)
    return ids, tuple(
        panoptic.Segment(int(value), classes[int(value)], int(count), panoptic.mask_box(ids == value))
        for value, count in zip(values, counts, strict=True)
    )


def code(lesion: Ellipse) -> panoptic.Rle:
    """Give a lesion's run-length code."""
    x, y, a, b, _ = lesion
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    cv2.ellipse(mask, (x, y), (a, b), 0, 0, 360, 1, cv2.FILLED)
    return panoptic.encode_rle(mask.astype(bool))


def write_pairs(root: Path, pairs: int) -> None:
    """Write root/dataset and root/predictions: up to 3 lesions and 5 predictions an image, 10 detections more."""
    generator = np.random.default_rng(0)
    sides = (root / "dataset", root / "predictions")
    for side in sides:
        (side / "panoptic").mkdir(parents=True)
    (sides[1] / "semantic").mkdir()
    images: tuple[list[panoptic.Image], list[panoptic.Image]] = ([], [])
    truths: list[dict[str, object]] = []
    results: list[dict[str, object]] = []
    rows = ["image_id,patient_id,view,pixel_spacing_mm,scale_x,scale_y"]
    for number in range(1, pairs + 1):
        name = f"image-{number:05d}"
        lesions = draw_lesions(generator, 3)
        guesses = [shift(generator, each) for each in lesions if generator.random() < 0.8] + draw_lesions(generator, 2)
        for side, drawn, listed in zip(sides, (lesions, guesses), images, strict=True):
            ids, segments = paint(drawn)
            panoptic.write_ids(side / "panoptic" / f"{name}.png", ids)
            listed.append(panoptic.Image(number, name, HEIGHT, WIDTH, segments))
        classes = np.zeros(int(ids.max()) + 1, dtype=np.uint8)
        classes[[segment.id for segment in segments]] = [segment.category_id for segment in segments]
        panoptic.write_classes(sides[1] / "semantic" / f"{name}.png", classes[ids])
        kinds = ((truths, lesions), (results, [*guesses, *draw_lesions(generator, 20)]))
        for entries, drawn in kinds:
            for each in drawn:
                entries.append({"image_id": number, "category_id": each[4], "segmentation": code(each)})
        rows.append(f"{name},patient-{number // 4},{'CC' if number % 2 else 'MLO'},0.085,0.29,0.29")
    for side, listed in zip(sides, images, strict=True):
        panoptic.write_panoptic(side, categories=CATEGORIES, images=listed)
    annotations = [{"id": i, **entry} for i, entry in enumerate(truths, start=1)]
    panoptic.write_json(sides[0] / "instances.json", {"annotations": annotations})
    scores = generator.random(len(results)).tolist()
    panoptic.write_json(sides[1] / "instances.json", [{**e, "score": s} for e, s in zip(results, scores, strict=True)])
    (sides[0] / "cases.csv").write_text("\n".join([*rows, ""]), encoding="utf-8")


def decode(root: Path, threads: int) -> None:
    """Decode every PNG with OpenCV."""
    cv2.setNumThreads(1)
    paths = sorted(root.glob("*/*/*.png"))
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda path: cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED).shape, paths):
            pass


def evaluate(root: Path, threads: int, *, resamples: int) -> None:
    """Score everything: 18 thresholds under both matchings, AP, FROC, Dice, IoU, strata."""
    from mammoprep.evaluation import runs
    from mammoprep.parallel import Workers

    options = runs.Options(resamples=resamples, explain=True, workers=Workers(threads))
    runs.evaluate(root / "dataset", root / "predictions", options=options)


def hotcoco(root: Path) -> None:
    """PQ at 0.5 in Rust."""
    from hotcoco.panoptic import PanopticEval

    sides = [[root / side / file for file in ("panoptic.json", "panoptic")] for side in ("dataset", "predictions")]
    evaluator = PanopticEval(sides[0][0], sides[1][0], gt_folder=sides[0][1], pred_folder=sides[1][1])
    evaluator.evaluate()


def panopticapi(root: Path) -> float:
    """PQ at 0.5 as panopticapi counts: unique pairs of ids, image by image, in Python. Give the summed IoU."""
    total = 0.0
    sides = [panoptic.load(root / side) for side in ("dataset", "predictions")]
    for truth, guess in zip(*(side.images for side in sides), strict=True):
        maps = [_ids(side.root / "panoptic" / f"{truth.name}.png") for side in sides]
        pairs, counts = np.unique(maps[0].astype(np.uint64) * 2**24 + maps[1], return_counts=True)
        areas = [{segment.id: segment for segment in image.segments} for image in (truth, guess)]
        for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
            one, other = areas[0][pair >> 24], areas[1][pair & (2**24 - 1)]
            iou = count / (one.area + other.area - count)
            total += iou if one.category_id == other.category_id and iou > 0.5 else 0.0
    return total


def _ids(path: Path) -> np.ndarray:
    """Read a panoptic PNG as panopticapi does, with Pillow."""
    from PIL import Image

    colours = np.array(Image.open(path), dtype=np.uint32)
    return colours[..., 0] + 256 * colours[..., 1] + 65536 * colours[..., 2]


def seconds(work: Callable[[], object]) -> float:
    """Time one call."""
    start = perf_counter()
    work()
    return perf_counter() - start


def peak(root: Path, threads: int) -> float:
    """Give the peak memory in MiB of a fresh process that evaluates, intervals and all."""
    call = f"import runpy; m = runpy.run_path({__file__!r}); from pathlib import Path\n"
    call += f"m['evaluate'](Path({str(root)!r}), {threads}, resamples=1000)\n"
    call += "print([line for line in open('/proc/self/status') if line.startswith('VmHWM')][0].split()[1])"
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1]) / 1024


def main(pairs: int = 1000, threads: int = 2) -> None:
    """Print one line a way of doing it."""
    with TemporaryDirectory() as name:
        root, small = Path(name) / "all", Path(name) / "quarter"
        write_pairs(root, pairs)
        write_pairs(small, pairs // 4)
        detections = len(json.loads((root / "predictions" / "instances.json").read_text(encoding="utf-8")))
        print(f"{pairs} pairs of {HEIGHT} x {WIDTH}, {detections} detections, {threads} threads; medians of {ROUNDS}")
        works = {
            "floor: decode all PNGs with OpenCV": lambda: decode(root, threads),
            "mammoprep, whole report": lambda: evaluate(root, threads, resamples=0),
            "mammoprep, with 1,000 bootstraps": lambda: evaluate(root, threads, resamples=1000),
            "hotcoco, PQ at one threshold": lambda: hotcoco(root),
            "panopticapi's loop, PQ at one threshold": lambda: panopticapi(root),
        }
        times = [{title: seconds(work) for title, work in works.items()} for _ in range(ROUNDS)]
        floor = next(iter(works))
        for title in works:
            ratio = median(each[title] / each[floor] for each in times)
            print(f"{title:40} {median(each[title] for each in times):6.2f} s = {ratio:5.2f} x the floor")
        print(
            f"peak memory: {peak(small, threads):.0f} MiB for {pairs // 4} pairs, {peak(root, threads):.0f} for {pairs}"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
