"""Score every way from a box to a mask against radiologists' outlines and phantoms, and time it.

Usage: python examples/benchmarks/pseudo_masks.py RAW [WORK] [--weights sam-vit-l=DIR]

RAW is a CDD-CESM folder with images 512 pixels high; its free-hand outlines are the truth, their tight boxes the input,
exact or with each side moved by a normal number of sigma 5, 10 or 20 % of the box. WORK is what `train_masks.py` wrote:
each outline is then scored by the network of its fold, which never saw its patient; outlines whose fold is missing are
left out of that row, and their number is printed. On phantoms the network of the package is scored. Where --weights
says where Segment Anything lies, its row is there too.
"""

import argparse
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time

import cv2
import numpy as np
from numpy.typing import NDArray
from outlined import FOLDS, Image, Lesion, dice, folds, jittered, lesion_of, read
from threadpoolctl import threadpool_limits

from mammoprep import anatomy, phantom, pixels
from mammoprep.phantom import studies
from mammoprep.pseudo_mask import ADAPTIVE, LEARNED, PAPER, AnyRecipe, Recipe, clip, learned, segment
from mammoprep.records import Box

JITTERS = (0.0, 0.05, 0.1, 0.2)
SIZES = (0, 40, 80, 160, 10_000)
"""Mean sides of the box, in pixels of a 512-pixel image, between which lesions are of one size class."""
SMALL = replace(PAPER, sigma=1.5, min_area=7)
"""The paper's recipe for an image that is 512 instead of about 2,350 pixels high."""
RECIPES: Mapping[str, Recipe] = {
    "paper, scaled to 512 px": SMALL,
    "  sigma 7": PAPER,
    "  sigma 3 % of the box": replace(SMALL, sigma=3, min_area=10, unit="box"),
    "  multi-Otsu": replace(SMALL, threshold="multi-otsu"),
    "  hull ratio 0.5": replace(SMALL, hull_ratio=0.5),
    "  alpha shape": replace(SMALL, hull="alpha"),
    "  convex hull": replace(SMALL, hull="convex"),
    "  no hull": replace(SMALL, hull="none"),
    "adaptive": ADAPTIVE,
    "  sigma 3 %": replace(ADAPTIVE, sigma=3),
    "  centre 2": replace(ADAPTIVE, centre=2),
    "  without a hull": replace(ADAPTIVE, hull="none"),
}
Way = Callable[[Lesion, Box], NDArray[np.bool_]]


def made(lesion: Lesion, box: Box, *, recipe: AnyRecipe, tissue: bool = True) -> NDArray[np.bool_]:
    """Make a mask (H, W) by a recipe."""
    breast = lesion.image.breast if tissue else None
    return segment(lesion.image.pixels, box, tissue=breast, recipe=recipe).mask


def oval(lesion: Lesion, box: Box, *, most: float) -> NDArray[np.bool_]:
    """Take the pixels of the box with r² up to `most`; r is 1 on the inscribed ellipse, 2 is the whole box."""
    y, x = np.ogrid[: lesion.image.pixels.shape[0], : lesion.image.pixels.shape[1]]
    x = (2 * x + 1 - box.x0 - box.x1) / (box.x1 - box.x0)
    y = (2 * y + 1 - box.y0 - box.y1) / (box.y1 - box.y0)
    return (x**2 + y**2 <= most) & (abs(x) <= 1) & (abs(y) <= 1)


def local(lesion: Lesion, box: Box) -> NDArray[np.bool_]:
    """Take what is brighter than the mean of a neighbourhood half as large as the box, in its convex hull."""
    height, width = lesion.image.pixels.shape
    mask = np.zeros((height, width), dtype=np.uint8)
    x0, y0, x1, y1 = clip(box, height=height, width=width) or lesion.box
    blurred = cv2.GaussianBlur(lesion.image.pixels[y0:y1, x0:x1].astype(np.float32), (0, 0), SMALL.sigma)
    around = (2 * ((x1 - x0) // 4) + 1, 2 * ((y1 - y0) // 4) + 1)
    bright = (blurred > cv2.blur(blurred, around)) & lesion.image.breast[y0:y1, x0:x1]
    points = np.argwhere(bright)[:, ::-1].astype(np.int32)
    if len(points):
        cv2.fillConvexPoly(mask[y0:y1, x0:x1], cv2.convexHull(points), 1)
    return mask > 0


def unseen(lesion: Lesion, box: Box, *, network: Mapping[str, NDArray[np.float32]]) -> NDArray[np.bool_]:
    """Draw with a network that never saw the patient."""
    height, width = lesion.image.pixels.shape
    mask = np.zeros((height, width), dtype=np.bool_)
    x0, y0, x1, y1 = clip(box, height=height, width=width) or lesion.box
    mask[y0:y1, x0:x1] = learned.draw(lesion.image.pixels, (x0, y0, x1, y1), weights=network)
    return mask


def ways(weights: str | None = None) -> dict[str, Way]:
    """Give what needs no training, by name; SAM where its `weights` are named, as `mammoprep convert` has them."""
    plain: dict[str, Way] = {
        "filled box": partial(oval, most=2),
        "inscribed ellipse": partial(oval, most=1),
        "  r² up to 0.85": partial(oval, most=0.85),
        "local threshold, convex hull": local,
        "paper, all pixels, not the breast's alone": partial(made, recipe=SMALL, tissue=False),
    }
    known: dict[str, AnyRecipe] = {**RECIPES}
    if weights:
        from mammoprep.cli.convert import Common

        known["sam, told the box"] = Common(recipe="sam", weights=[weights]).mask_recipe()
    return plain | {name: partial(made, recipe=recipe) for name, recipe in known.items()}


def phantoms(patients: int) -> list[Lesion]:
    """Draw lesions of known shape, 512 pixels high, rendered as the reader would."""
    from tempfile import TemporaryDirectory

    lesions = []
    with TemporaryDirectory() as name:
        root = Path(name) / "raw"
        phantom.write(root, patients=patients, seed=7, long_side=512)
        for view in studies.plan(patients, seed=7, long_side=512):
            grey = pixels.read(root / "images" / view.study_id / f"{view.image_id}.dicom").pixels
            _, ids, _ = phantom.draw(view)
            image = Image(grey, anatomy.breast(grey), view.study_id, "phantom")
            lesions += [lesion_of(image, ids == number) for number in range(1, len(view.kinds) + 1)]
    return lesions


def scores(lesions: Sequence[Lesion], way: Callable[[int], Way], jitter: float) -> NDArray[np.float64]:
    """Give the Dice of each lesion; `way` is asked for by the lesion's place. The same boxes for every way."""
    rng = np.random.default_rng(1)
    boxes = [jittered(lesion, share=jitter, rng=rng) if jitter else Box(*lesion.box) for lesion in lesions]
    return np.array([dice(way(i)(lesion, boxes[i]), lesion.truth()) for i, lesion in enumerate(lesions)])


def row(name: str, lesions: Sequence[Lesion], way: Callable[[int], Way]) -> None:
    """Print the mean Dice for each jitter, then with exact boxes by size and by kind of image."""
    by_jitter = [scores(lesions, way, jitter) for jitter in JITTERS]
    sides = np.array([lesion.side for lesion in lesions])
    kinds = np.array([lesion.image.kind for lesion in lesions])
    parts = [(sides >= low) & (sides < high) for low, high in zip(SIZES, SIZES[1:], strict=False)]
    parts += [kinds == kind for kind in ("DM", "CM") if kind in kinds]
    cells = [values.mean() for values in by_jitter]
    cells += [by_jitter[0][part].mean() if part.any() else np.nan for part in parts]
    print(f"| {name} | {' | '.join('none' if np.isnan(cell) else f'{cell:.3f}' for cell in cells)} |", flush=True)


def header(title: str, lesions: Sequence[Lesion]) -> None:
    """Print a table's head."""
    sizes = [f"{low}-{high} px" for low, high in zip(SIZES, SIZES[1:], strict=False)]
    kinds = [kind for kind in ("DM", "CM") if any(lesion.image.kind == kind for lesion in lesions)]
    columns = [f"{title}, {len(lesions)} lesions", *(f"jitter {jitter:.0%}" for jitter in JITTERS), *sizes, *kinds]
    print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")


def naive(grey: NDArray[np.uint16], box: Box) -> None:
    """Follow the paper with scikit-image and alphashape, on all bright pixels."""
    from alphashape import alphashape
    from skimage.filters import gaussian, threshold_otsu

    window = grey[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)]
    blurred = gaussian(window.astype(float), 7, preserve_range=True)
    points = np.argwhere(blurred > threshold_otsu(blurred))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alphashape(points, 0.05)


def times() -> None:
    """Print CPU milliseconds a lesion for boxes of 100 to 1,200 px in an image of 3518 x 2800."""
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.normal(size=(3518, 2800)).astype(np.float32), (0, 0), 9)
    y, x = np.mgrid[:3518, :2800].astype(np.float32)
    recipes = {"paper": PAPER, "adaptive": ADAPTIVE, "learned": LEARNED}
    taken: dict[str, list[float]] = {name: [] for name in (*recipes, "scikit-image + alphashape")}
    for side in range(100, 1201, 100):
        mass = 12_000 * np.exp(-((x - 1300) ** 2 + (y - 1700) ** 2) / (2 * (side / 4) ** 2))
        grey = np.clip(20_000 + noise * 60_000 + mass, 0, 65_535).astype(np.uint16)
        box = Box(1300 - side / 2, 1700 - side / 2, 1300 + side / 2, 1700 + side / 2)
        for name, recipe in recipes.items():
            taken[name].append(median(seconds(partial(segment, grey, box, recipe=recipe)) for _ in range(15)))
        if side <= 300:  # 10⁵ points and more take minutes
            taken["scikit-image + alphashape"].append(seconds(partial(naive, grey, box)))
    columns = ("CPU ms a lesion", "100 px", "300 px", "600 px", "1200 px", "median of 100, 200 … 1200 px")
    print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for name, found in taken.items():
        cells = [f"{1e3 * found[place]:.1f}" if place < len(found) else "not run" for place in (0, 2, 5, 11)]
        cells.append(f"{1e3 * median(found):.1f}" if len(found) == 12 else "not run")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def seconds(work: Callable[[], object]) -> float:
    """Give the CPU time of one call."""
    begun = process_time()
    work()
    return process_time() - begun


def main(raw: Path, work: Path | None, *, weights: str | None) -> None:
    """Print the tables."""
    cv2.setNumThreads(1)
    threadpool_limits(1)
    lesions = read(raw)
    header("CDD-CESM", lesions)
    plain = ways(weights)
    for name, way in plain.items():
        row(name, lesions, lambda _, way=way: way)
    paths = {number: work / f"fold-{number}.npz" for number in range(FOLDS)} if work else {}
    networks = {number: learned.load(path) for number, path in paths.items() if path.is_file()}
    fold = folds(lesions)
    scored = [i for i in range(len(lesions)) if fold[i] in networks]
    if scored:
        some = [lesions[i] for i in scored]
        name = f"learned, patients never seen ({len(some)} lesions)"
        row(name, some, lambda i: partial(unseen, network=networks[fold[scored[i]]]))
        if len(some) < len(lesions):
            row("inscribed ellipse, the same lesions", some, lambda _: partial(oval, most=1))
    made_up = phantoms(14)
    header("phantoms", made_up)
    for name, way in (plain | {"learned": partial(made, recipe=LEARNED)}).items():
        row(name, made_up, lambda _, way=way: way)
    times()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("raw", type=Path)
    parser.add_argument("work", type=Path, nargs="?")
    parser.add_argument("--weights", metavar="sam-vit-l=DIR")
    given = parser.parse_args()
    main(given.raw, given.work, weights=given.weights)
