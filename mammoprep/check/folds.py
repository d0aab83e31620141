"""folds.json, held against the images and their patients."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from mammoprep import panoptic
from mammoprep.check.entries import Content
from mammoprep.check.rules import Problem
from mammoprep.errors import MammoprepError


def check(dataset: Path, content: Content, patients: Mapping[str, str]) -> Iterator[Problem]:
    """Check folds.json, where there is one, against the images and the patients by image name."""
    name = "folds.json"
    if not (dataset / name).exists():
        return
    try:
        found = panoptic.load_folds(dataset)
    except MammoprepError:
        yield Problem("files", name, "it does not list folds of image ids")
        return
    said = panoptic.read_json(dataset / name, hint="Make them anew.")
    for key, value in (("k", len(found)), ("group", "patient_id")):
        if said.get(key) != value:
            yield Problem("folds", name, f"{key} is {said.get(key)!r}, not {value!r}")
    if any(type(each) is not int for fold in found for side in fold for each in side):
        yield Problem("folds", name, "an image id is no whole number")
        return
    known = content.images.keys()
    for number, (train, val) in enumerate(found):
        where = f"{name} fold {number}"
        yield from (Problem("folds", where, what) for what in _fold_problems(train, val, known))
        yield from _leaks(train, val, content, patients, where)
    held_out = Counter(each for _, val in found for each in val)
    if len(found) > 1 and (wrong := [each for each in known if held_out[each] != 1]):
        yield Problem("folds", name, f"{len(wrong)} images are not held out once, the first is {min(wrong)}")


def _fold_problems(train: Sequence[int], val: Sequence[int], known: Collection[int]) -> Iterator[str]:
    sides = [*train, *val]
    if not train or not val:
        yield f"{'val' if train else 'train'} is empty"
    if unknown := set(sides) - set(known):
        yield f"{len(unknown)} ids are of no image, the first is {min(unknown)}"
    if missing := set(known) - set(sides):
        yield f"{len(missing)} images are on no side, the first is {min(missing)}"
    if len(sides) > len(set(sides)):
        yield f"{len(sides) - len(set(sides))} images are there twice"


def _leaks(
    train: Sequence[int], val: Sequence[int], content: Content, patients: Mapping[str, str], where: str
) -> Iterator[Problem]:
    of = [{patients.get(content.images[i].name, "") for i in side if i in content.images} for side in (train, val)]
    if both := (of[0] & of[1]) - {""}:
        yield Problem(
            "folds-patients", where, f"{len(both)} patients are on both sides; make them anew: mammoprep folds"
        )
