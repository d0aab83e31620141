"""Write the PREDICTIONS of a model of your own and score them; here the model calls every bright spot BI-RADS 5.

Usage: python examples/score_your_own.py [OUT]        (OUT is new; default: own)
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from mammoprep import panoptic, phantom
from mammoprep.convert import Options, convert
from mammoprep.evaluation.scores import score
from mammoprep.evaluation.tally import tally
from mammoprep.readers import READERS


def segment(grey: np.ndarray) -> panoptic.Ids:
    """Stand in for your model: ids 1, 2, … for lesions, 1000 for the breast, 1001 for the background."""
    ids = np.where(grey > 20, 1000, 1001).astype(np.int32)
    count, spots = cv2.connectedComponents((cv2.GaussianBlur(grey, (0, 0), 3) > 150).astype(np.uint8))
    for number in range(1, min(count, 1000)):
        ids[spots == number] = number
    return ids


def main(out: Path) -> None:
    """Write OUT/raw, OUT/dataset and OUT/predictions, and print the scores."""
    phantom.write(out / "raw", patients=4, long_side=256)
    convert(READERS["vindr"], out / "raw", out=out / "dataset", options=Options(labels="birads"))
    dataset = panoptic.load(out / "dataset")
    number = {category.name: category.id for category in dataset.categories}
    class_of = {1000: number["breast"], 1001: number["background"]}
    images = []
    (out / "predictions" / "panoptic").mkdir(parents=True)
    for image in dataset.images:
        ids = segment(panoptic.read_png(dataset.root / "images" / f"{image.name}.png"))
        panoptic.write_ids(out / "predictions" / "panoptic" / f"{image.name}.png", ids)
        segments = tuple(
            panoptic.Segment(
                id=int(segment_id),
                category_id=class_of.get(int(segment_id), number["BI-RADS 5"]),
                area=int((ids == segment_id).sum()),
                bbox=panoptic.mask_box(ids == segment_id),
            )
            for segment_id in np.unique(ids)
        )
        images.append(panoptic.Image(image.id, image.name, image.height, image.width, segments))
    panoptic.write_panoptic(out / "predictions", categories=dataset.categories, images=images)

    report = score(tally(out / "dataset", out / "predictions")).to_json()
    for threshold, quality in zip(report["thresholds"], report["sweep"]["PQ"], strict=True):
        print(f"IoU > {threshold:.2f}: PQ {100 * quality:.1f}")
    print(f"not given: {', '.join(report['not_given'])}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "own"))
