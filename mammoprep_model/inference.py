"""From a network's masks to PREDICTIONS: panoptic map, instances, semantic map and heat map at the stored size."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mammoprep import panoptic
from mammoprep.panoptic import Category, Ids, Image, Mask, Segment
from mammoprep_model.checkpoint import RunConfig, module_of
from mammoprep_model.config import TrainConfig
from mammoprep_model.data import Floats, Picture, fit
from mammoprep_model.segmenter import Prediction, Segmenter

MAX_INSTANCES = 100


@dataclass(frozen=True)
class Options:
    """How to predict: images at a time (default: as in training), and whether a PREDICTIONS folder may be replaced."""

    batch_size: int | None = None
    overwrite: bool = False
    on_progress: Callable[[int, int], None] | None = None


@dataclass(frozen=True)
class Instance:
    """One lesion: where, the place of its class among the categories, and how sure (0 … 1)."""

    mask: Mask
    label: int
    score: float


@dataclass(frozen=True)
class _Prepared:
    """A picture at the network's size: `image` (H, W) is padded, `content` (h, w) of it is not, `stored` (h, w)."""

    picture: Picture
    image: Floats
    content: tuple[int, int]
    stored: tuple[int, int]


def predict(
    network: Segmenter,
    pictures: Sequence[Picture],
    *,
    out: Path,
    config: RunConfig,
    options: Options = Options(),
) -> None:
    """Write the PREDICTIONS of all pictures to `out`, whole or not at all."""
    train = config.preset.train
    module_of(network).eval()
    images: list[Image] = []
    with panoptic.staged(out, overwrite=options.overwrite) as partial:
        for folder in ("panoptic", "semantic", "heatmaps"):
            (partial / folder).mkdir()
        instances: dict[int, list[dict[str, object]]] = {}
        for batch in _batches(pictures, size=train.size, batch_size=options.batch_size or train.batch_size):
            for item, prediction in zip(batch, _run(network, batch, config=config), strict=True):
                at_stored = resize(prediction, content=item.content, stored=item.stored)
                images.append(_write_maps(partial, item, at_stored, config=config))
                found = find_instances(at_stored, categories=config.categories)
                instances[item.picture.id] = _results(item.picture.id, found, categories=config.categories)
                if options.on_progress:
                    options.on_progress(len(images), len(pictures))
        images.sort(key=lambda image: image.id)
        panoptic.write_panoptic(partial, categories=config.categories, images=images)
        panoptic.write_json(partial / "instances.json", [entry for image in images for entry in instances[image.id]])


def _batches(pictures: Sequence[Picture], *, size: int, batch_size: int) -> Iterator[list[_Prepared]]:
    """Gather pictures of one padded shape, so that what an image is padded with never depends on its neighbours."""
    waiting: dict[tuple[int, ...], list[_Prepared]] = {}
    for picture in pictures:
        grey = picture.read()
        image, content = fit(grey, size)
        group = waiting.setdefault(image.shape, [])
        group.append(_Prepared(picture, image, content, (grey.shape[0], grey.shape[1])))
        if len(group) == batch_size:
            yield waiting.pop(image.shape)
    yield from waiting.values()


def _run(network: Segmenter, batch: Sequence[_Prepared], *, config: RunConfig) -> list[Prediction]:
    images = torch.from_numpy(np.stack([item.image for item in batch])).to(config.device)
    images = images[:, None].expand(-1, 3, -1, -1)
    mixed = config.preset.train.mixed_precision and images.is_cuda
    with torch.inference_mode(), torch.autocast("cuda", dtype=torch.bfloat16, enabled=mixed):
        return network.predict(images)


def resize(prediction: Prediction, *, content: tuple[int, int], stored: tuple[int, int]) -> Prediction:
    """Cut the padding off, then bring logits and maps to the stored (height, width), before anything is decided."""

    def scale(maps: Tensor) -> Tensor:
        maps = maps[:, : content[0], : content[1]].float()
        if content == stored:
            return maps
        return F.interpolate(maps[None], size=stored, mode="bilinear", align_corners=False)[0]

    return Prediction(scale(prediction.masks), prediction.scores.float(), scale(prediction.maps))


def merge(
    prediction: Prediction, *, categories: Sequence[Category], train: TrainConfig
) -> tuple[Ids, tuple[Segment, ...]]:
    """Merge masks to segments that do not overlap, ids from 1; pixels of no segment are 0.

    A mask takes part if its best class beats "no object" and scores above `object_threshold`. A pixel goes to the mask
    with the largest score x probability, and counts where that mask's probability reaches 1/2. A mask of which less
    than `overlap_threshold` stays is dropped; stuff of one class becomes one segment. (Mask2Former, arXiv 2112.01527)
    """
    best, classes = prediction.scores.max(dim=1)
    kept = (best > 1 - prediction.scores.sum(dim=1)) & (best > train.object_threshold)
    scores, labels = best[kept], classes[kept].tolist()
    ids: Ids = np.zeros(prediction.masks.shape[1:], dtype=np.int32)
    if not labels:
        return ids, ()
    probabilities = prediction.masks[kept].sigmoid()
    owner = (probabilities * scores[:, None, None]).argmax(dim=0)
    segments: dict[int, tuple[Category, float]] = {}
    stuff: dict[int, int] = {}
    for place, (label, score) in enumerate(zip(labels, scores.tolist(), strict=True)):
        inside, won = probabilities[place] >= 0.5, owner == place
        visible = (inside & won).cpu().numpy()
        if not visible.any() or int(won.sum()) < train.overlap_threshold * int(inside.sum()):
            continue
        category = categories[label]
        number = len(segments) + 1 if category.isthing else stuff.setdefault(label, len(segments) + 1)
        segments[number] = (category, max(score, segments[number][1]) if number in segments else score)
        ids[visible] = number
    return ids, tuple(_segment(ids, number, *found) for number, found in segments.items())


def _segment(ids: Ids, number: int, category: Category, score: float) -> Segment:
    mask = ids == number
    return Segment(number, category.id, int(mask.sum()), panoptic.mask_box(mask), score=round(score, 6))


def find_instances(prediction: Prediction, *, categories: Sequence[Category]) -> list[Instance]:
    """Give the best 100 (mask, thing class) pairs, best first; they may overlap, empty masks are left out.

    The score is the class probability x the mask's mean probability inside itself. Equal scores keep the order of
    the network's masks.
    """
    things = [place for place, category in enumerate(categories) if category.isthing]
    class_scores = prediction.scores[:, things].flatten()
    pairs = class_scores.argsort(descending=True, stable=True)[:MAX_INSTANCES]
    masks = prediction.masks > 0
    areas = masks.sum(dim=(1, 2))
    quality = (prediction.masks.sigmoid() * masks).sum(dim=(1, 2)) / areas.clamp(min=1)
    scores = (class_scores[pairs] * quality[pairs // len(things)]).tolist()
    shapes, filled = masks.cpu().numpy(), (areas > 0).tolist()
    found = [
        Instance(shapes[pair // len(things)], things[pair % len(things)], score)
        for pair, score in zip(pairs.tolist(), scores, strict=True)
        if filled[pair // len(things)]
    ]
    return sorted(found, key=lambda instance: -instance.score)


def _results(image_id: int, found: Sequence[Instance], *, categories: Sequence[Category]) -> list[dict[str, object]]:
    """Give COCO's result list of one image."""
    return [
        {
            "image_id": image_id,
            "category_id": categories[instance.label].id,
            "segmentation": panoptic.encode_rle(instance.mask),
            "score": round(instance.score, 6),
        }
        for instance in found
    ]


def _write_maps(root: Path, item: _Prepared, prediction: Prediction, *, config: RunConfig) -> Image:
    """Write one image's panoptic, semantic and heat map; give its entry for panoptic.json."""
    ids, segments = merge(prediction, categories=config.categories, train=config.preset.train)
    name = f"{item.picture.name}.png"
    panoptic.write_ids(root / "panoptic" / name, ids)
    panoptic.write_classes(root / "semantic" / name, semantic(prediction, categories=config.categories))
    panoptic.write_png(root / "heatmaps" / name, heatmap(prediction, categories=config.categories))
    return Image(item.picture.id, item.picture.name, *item.stored, segments)


def semantic(prediction: Prediction, *, categories: Sequence[Category]) -> NDArray[np.uint8]:
    """Give each pixel's most probable category id (H, W)."""
    numbers = np.array([category.id for category in categories], dtype=np.uint8)
    ids: NDArray[np.uint8] = numbers[prediction.maps.argmax(dim=0).cpu().numpy()]
    return ids


def heatmap(prediction: Prediction, *, categories: Sequence[Category]) -> NDArray[np.uint8]:
    """Give each pixel's probability (0 … 255) to belong to a lesion of any class (H, W)."""
    things = [place for place, category in enumerate(categories) if category.isthing]
    lesion = prediction.maps[things].sum(dim=0).clamp(max=1)
    levels: NDArray[np.uint8] = (lesion * 255).round().to(torch.uint8).cpu().numpy()
    return levels
