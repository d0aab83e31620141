"""Which class of the predictions is which of the data set: by name, or all lesions as one."""

from collections.abc import Mapping
from dataclasses import dataclass

from mammoprep.errors import MammoprepError
from mammoprep.panoptic import Category, Panoptic, make_categories

MERGED = "lesion"
"""What the lesion classes are called where two sides do not share them."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """The classes; `truth` and `predicted` map each side's category ids to theirs.

    `one_sided` names the stuff that one side alone has: it cannot be right, so it is not scored.
    """

    categories: tuple[Category, ...]
    truth: Mapping[int, int]
    predicted: Mapping[int, int]
    one_sided: tuple[str, ...] = ()


def by_name(truth: Panoptic, predicted: Panoptic) -> Agreement:
    """Let the two sides agree by name; one that lacks a name is an error."""
    ours, theirs = ({category.name: category.id for category in side.categories} for side in (truth, predicted))
    for root, lacking in ((predicted.root, ours.keys() - theirs.keys()), (truth.root, theirs.keys() - ours.keys())):
        if lacking:
            names = ", ".join(map(repr, sorted(lacking)))
            raise MammoprepError(f"{root / 'panoptic.json'} lacks the category {names}. Both must list the same names.")
    own = dict.fromkeys(ours.values())
    return Agreement(truth.categories, {i: i for i in own}, {theirs[name]: ours[name] for name in ours})


def share_lesions(truth: tuple[Category, ...], predicted: tuple[Category, ...]) -> bool:
    """Tell whether two lists of classes have the same lesion classes by name."""
    ours, theirs = ({category.name for category in side if category.isthing} for side in (truth, predicted))
    return ours == theirs


def across(truth: tuple[Category, ...], predicted: tuple[Category, ...]) -> Agreement:
    """Let classes of two collections agree: all lesions are `lesion` unless each side has the same by name.

    Stuff agrees by name; what one side alone has is a class too, which the other never shows: `one_sided`.
    """
    shared = share_lesions(truth, predicted)

    def name_of(category: Category) -> str:
        return MERGED if category.isthing and not shared else category.name

    things = dict.fromkeys(name_of(category) for category in truth if category.isthing)
    stuff = dict.fromkeys(category.name for category in (*truth, *predicted) if not category.isthing)
    categories = make_categories(list(things), list(stuff))
    number = {(category.name, category.isthing): category.id for category in categories}
    ours, theirs = ({c.id: number[name_of(c), c.isthing] for c in side} for side in (truth, predicted))
    names = [{category.name for category in side if not category.isthing} for side in (truth, predicted)]
    return Agreement(categories, ours, theirs, tuple(sorted(names[0] ^ names[1])))
