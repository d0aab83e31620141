"""PREDICTIONS on disk: written an image at a time, continued after a kill, and closed when all images are there."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep.panoptic import Category, Image, Journal, Written
from mammoprep.shelf import Again, Shelf
from mammoprep_model import provenance
from mammoprep_model.checkpoint import RunConfig
from mammoprep_model.data import Picture

FOLDERS = ("panoptic", "semantic", "heatmaps", "uncertainty")
"""The last one is written for networks that answer more than once."""
FORMAT = 1
"""The version of manifest.json."""


@dataclass(frozen=True)
class Predicted:
    """What was written of one image: its entries for the JSON files, and its file in each of FOLDERS.

    The last of these files may be absent.

    `mark` is that of the picture, `views` are the (height, width) of what the network saw.
    """

    image: Image
    instances: Sequence[Mapping[str, Any]]
    files: Sequence[Written]
    mark: str
    views: Sequence[tuple[int, int]]

    def to_json(self) -> dict[str, Any]:
        """Give what `from_json` reads."""
        return {
            "image": self.image.to_json(),
            "segments": [segment.to_json() for segment in self.image.segments],
            "instances": self.instances,
            "files": self.files,
            "mark": self.mark,
            "views": self.views,
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Predicted":
        """Read what `to_json` gave."""
        return cls(
            image=Image.from_json(entry["image"], entry["segments"]),
            instances=entry["instances"],
            files=[Written(*file) for file in entry["files"]],
            mark=entry["mark"],
            views=[(height, width) for height, width in entry["views"]],
        )

    def numbered(self, number: int) -> "Predicted":
        """Give it under another image id: images may have been added before it since."""
        entries = [{**entry, "image_id": number} for entry in self.instances]
        return replace(self, image=replace(self.image, id=number), instances=entries)

    def is_written(self, root: Path, *, verify: bool) -> bool:
        """Tell whether its files are there; `verify` compares all of their bytes."""
        paths = [root / folder / f"{self.image.name}.png" for folder in FOLDERS]
        return all(
            panoptic.is_as_written(path, written, verify=verify)
            for path, written in zip(paths, self.files, strict=False)
        )


def header(config: RunConfig, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Give manifest.json without what hangs on the pictures: the run, the options that `facts` has, the versions."""
    return {
        "format": FORMAT,
        "preset": config.preset.name,
        "config": {"model": asdict(config.preset.model), "train": asdict(config.preset.train)},
        "device": config.device.partition(":")[0],
        "versions": provenance.versions(),
        **facts,
    }


def is_complete(out: Path, pictures: Sequence[Picture], *, header: Mapping[str, Any], verify: bool = False) -> bool:
    """Tell whether `out` holds these predictions of these pictures; others are refused by what differs."""
    panoptic.tidy(out)
    if panoptic.partial_of(out).exists() or not (out / "manifest.json").is_file():
        return False
    hint = "Say --overwrite to predict anew."
    manifest = panoptic.read_json(out / "manifest.json", hint=hint)
    before, _ = manifest.pop("pictures", None), manifest.pop("outputs", None)
    panoptic.refuse_other(manifest, header, where=out)
    if before != _digest(pictures):
        raise MammoprepError(f"{out} is complete, and of other images than these {len(pictures)}. {hint}")
    if verify and (wrong := next(panoptic.wrong_files(out), None)):
        raise MammoprepError(f"{out / wrong} is not what was written. {hint}")
    return True


def _digest(pictures: Sequence[Picture]) -> str:
    content = json.dumps([(picture.id, picture.name, picture.mark) for picture in pictures])
    return hashlib.sha256(content.encode()).hexdigest()


class Predictions:
    """The folder that is being written; `done` has the views of what is there already, by the picture's name."""

    def __init__(self, root: Path, journal: Journal, pictures: Sequence[Picture], *, verify: bool) -> None:
        """Take over what an earlier run finished of these pictures; what else it left goes."""
        self._root, self._journal, self._verify = root, journal, verify
        self._pictures = _digest(pictures)
        wanted = {picture.name: picture for picture in pictures}
        self.done: dict[str, Sequence[tuple[int, int]]] = {}
        self._found, earlier = Shelf[Predicted](one_each=True), Shelf[Predicted](one_each=True)
        for entry in journal.entries():
            found = Predicted.from_json(entry)
            picture = wanted.get(found.image.name)
            if picture and picture.mark == found.mark:
                earlier.put(found.numbered(picture.id), number=picture.id)
        for found in earlier:
            if found.is_written(root, verify=verify):
                self._keep(found)
        for folder in FOLDERS:
            if folder != FOLDERS[-1]:
                (root / folder).mkdir(exist_ok=True)
            for path in (root / folder).glob("*"):
                if path.stem not in self.done:
                    path.unlink()

    def add(self, predicted: Predicted) -> None:
        """Note that an image's files are written."""
        self._journal.append(predicted.to_json())
        self._keep(predicted)

    def _keep(self, predicted: Predicted) -> None:
        self._found.put(predicted, number=predicted.image.id)
        self.done[predicted.image.name] = predicted.views

    def close(
        self, *, categories: Sequence[Category], header: Mapping[str, Any], also: Callable[[Path], None] | None
    ) -> None:
        """Write the JSON files, what `also` adds, the SHA-256 of all of it, and manifest.json."""
        images = Again(lambda: (each.image for each in self._found))
        panoptic.write_panoptic(self._root, categories=categories, images=images)
        entries = (entry for each in self._found for entry in each.instances)
        panoptic.write_entries(self._root / "instances.json", {"": entries})
        if also:
            also(self._root)
        sums = panoptic.write_sums(self._root, self._hashes())
        outputs = {"pictures": self._pictures, "outputs": {panoptic.SUMS: sums}}
        panoptic.write_json(self._root / "manifest.json", {**header, **outputs})
        wrong = next(panoptic.wrong_files(self._root), None) if self._verify else None
        if wrong:
            (self._root / wrong).unlink(missing_ok=True)
            raise MammoprepError(
                f"{self._root / wrong} is not what was written: the disk may be failing. Say --resume."
            )

    def _hashes(self) -> Iterator[tuple[str, str]]:
        for place, folder in enumerate(FOLDERS):
            yield from (
                (f"{folder}/{each.image.name}.png", file.sha256)
                for each in self._found
                for file in each.files[place:][:1]
            )
        own = (*(f"{folder}/" for folder in FOLDERS), "manifest.json", panoptic.SUMS)
        for path in sorted(self._root.rglob("*")):
            name = path.relative_to(self._root).as_posix()
            if path.is_file() and not name.startswith(own):
                yield name, panoptic.file_hash(path)
