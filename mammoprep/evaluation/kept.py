"""Tallies kept on disk while an evaluation runs, so that one which was killed goes on: an entry an image."""

import base64
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mammoprep import panoptic
from mammoprep.evaluation.cases import Facts
from mammoprep.evaluation.detections import Ranking
from mammoprep.evaluation.matching import Scene
from mammoprep.evaluation.tally import ImageTally, Tally
from mammoprep.panoptic import Journal, Segment

_VERSIONS = ("mammoprep", "imagecodecs", "numpy", "pycocotools", "scipy")
_FILES = ("panoptic.json", "instances.json", "cases.csv")
_FOLDERS = ("panoptic", "semantic")


@dataclass(frozen=True, slots=True)
class Part:
    """What is scored in one go: all images, or the validation images of a fold; `across`: as `tally` takes it."""

    dataset: Path
    predictions: Path
    image_ids: Sequence[int] | None = None
    across: bool = False


@dataclass(slots=True)
class Keeper:
    """The file that tallies are kept in; it is held as long as results are written to its folder."""

    file: BinaryIO
    path: Path

    def begin(self, parts: Sequence[Part], options: Mapping[str, Any]) -> Journal:
        """Go on with what is kept, or begin; tallies of other inputs, options or versions are refused by name."""
        header = {
            "versions": {package: version(package) for package in _VERSIONS},
            "options": dict(options),
            "parts": {str(k): _inputs(part) for k, part in enumerate(parts)},
        }
        return Journal(self.file, self.path, header=header)


@contextmanager
def keeping(out: Path, *, resume: bool) -> Iterator[Keeper]:
    """Keep tallies beside the folder `out` until the block ends well; two evaluations cannot write the same `out`."""
    path = panoptic.lock_of(out)
    with panoptic.locked(path) as file:
        if not resume:
            os.truncate(path, 0)
        try:
            yield Keeper(file, path)
        except BaseException:
            if not panoptic.has_entries(path):
                os.truncate(path, 0)
            raise
        os.truncate(path, 0)


def _inputs(part: Part) -> dict[str, str]:
    """Give what the tallies of a part follow from: hashes of its tables, and which maps there are of what size and age.

    To hash the maps would take as long as to compare them.
    """
    found = {}
    for name, root in (("dataset", part.dataset), ("predictions", part.predictions)):
        for file in _FILES:
            if (root / file).is_file():
                found[f"{name} {file}"] = panoptic.file_hash(root / file)
        for folder in _FOLDERS:
            found[f"{name} {folder}/"] = _listing(root / folder)
    ids = "all" if part.image_ids is None else ",".join(map(str, sorted(part.image_ids)))
    return {**found, "images": hashlib.sha256(ids.encode()).hexdigest()}


def _listing(folder: Path) -> str:
    """Give a digest of the names, sizes and times of a folder's files that does not hang on their order."""
    total = 0
    if folder.is_dir():
        with os.scandir(folder) as entries:
            for entry in entries:
                facts = entry.stat()
                line = f"{entry.name} {facts.st_size} {facts.st_mtime_ns}".encode(errors="surrogateescape")
                total += int.from_bytes(hashlib.sha256(line).digest())
    return f"{total % 2**256:064x}"


def count(journal: Journal, part: int) -> int:
    """Give how many images of a part are kept: the first ones, in the order of their ids."""
    return sum(entry["part"] == part for entry in journal.entries())


def with_kept(tally: Tally, journal: Journal, part: int) -> Tally:
    """Put the images that are kept before those of a tally that skipped them, which are kept in turn."""
    return replace(tally, images=_images(tally, journal, part))


def _images(tally: Tally, journal: Journal, part: int) -> Iterator[ImageTally]:
    for entry in journal.entries():
        if entry["part"] == part:
            yield from_json(entry["tally"])
    for image in tally.images:
        journal.append({"part": part, "image": image.image_id, "tally": to_json(image)})
        yield image


def to_json(image: ImageTally) -> dict[str, Any]:
    """Give what `from_json` reads, to the last digit."""
    return {
        "image_id": image.image_id,
        "name": image.name,
        "facts": {**asdict(image.facts), "square_mm": float(image.facts.square_mm).hex()},
        "annotated": list(image.annotated.items()),
        "lesion_free": image.lesion_free,
        "missing": image.missing,
        "scenes": image.scenes and [(category, _of_scene(scene)) for category, scene in image.scenes.items()],
        "rankings": image.rankings and [(category, _of_ranking(each)) for category, each in image.rankings.items()],
        "confusion": None if image.confusion is None else _packed(image.confusion),
    }


def from_json(entry: Mapping[str, Any]) -> ImageTally:
    """Read what `to_json` gave."""
    scenes, rankings, confusion = entry["scenes"], entry["rankings"], entry["confusion"]
    return ImageTally(
        image_id=entry["image_id"],
        name=entry["name"],
        facts=Facts(**{**entry["facts"], "square_mm": float.fromhex(entry["facts"]["square_mm"])}),
        annotated=dict(entry["annotated"]),
        lesion_free=entry["lesion_free"],
        missing=entry["missing"],
        scenes=None if scenes is None else {category: _scene(scene) for category, scene in scenes},
        rankings=None if rankings is None else {category: _ranking(each) for category, each in rankings},
        confusion=None if confusion is None else _unpacked(confusion),
    )


def _of_scene(scene: Scene) -> dict[str, Any]:
    sides = {"truths": scene.truths, "guesses": scene.guesses}
    listed = {name: [segment.to_json() for segment in segments] for name, segments in sides.items()}
    return {**listed, "ious": _packed(scene.ious), "ignored": _packed(scene.ignored)}


def _scene(entry: Mapping[str, Any]) -> Scene:
    truths, guesses = (tuple(map(Segment.from_json, entry[name])) for name in ("truths", "guesses"))
    return Scene(truths, guesses, _unpacked(entry["ious"]), _unpacked(entry["ignored"]))


def _of_ranking(ranking: Ranking) -> dict[str, Any]:
    arrays = {name: _packed(getattr(ranking, name)) for name in ("scores", "matched", "ignored")}
    return {**arrays, "truths": int(ranking.truths)}


def _ranking(entry: Mapping[str, Any]) -> Ranking:
    arrays = {name: _unpacked(entry[name]) for name in ("scores", "matched", "ignored")}
    return Ranking(**arrays, truths=entry["truths"])


def _packed(array: NDArray[Any]) -> tuple[str, tuple[int, ...], str]:
    return array.dtype.str, array.shape, base64.b64encode(array.tobytes()).decode()


def _unpacked(entry: Sequence[Any]) -> NDArray[Any]:
    kind, shape, content = entry
    return np.frombuffer(base64.b64decode(content), np.dtype(kind)).reshape(shape)
