"""What a format cannot hold, counted, so that it is said and not dropped in silence."""

from collections import Counter

from mammoprep.targets.rings import count_holes, rings_of
from mammoprep.targets.source import Case, Source


def bits(is_deep: bool) -> Counter[str]:
    """Count an image that was stored in 16 bits."""
    return Counter({"images of 16 bits became 8 bits": 1} if is_deep else {})


def stuff(source: Source, case: Case) -> Counter[str]:
    """Count the segments of stuff."""
    names = ", ".join(category.name for category in source.content.categories if not category.isthing)
    count = source.stuff_of(case)
    return Counter({f"segments of stuff ({names}) are left out": count} if count else {})


def attributes(case: Case) -> Counter[str]:
    """Count the lesions with facts beside their class."""
    count = sum(bool(lesion.entry.get("attributes")) for lesion in case.lesions)
    return Counter({"lesions lose the data set's facts (attributes)": count} if count else {})


def polygons(case: Case, *, one_each: bool) -> Counter[str]:
    """Count the lesions that are more than one plain polygon; `one_each` says that their parts are tied too."""
    found: Counter[str] = Counter()
    for lesion in case.lesions:
        mask = lesion.mask
        found["lesions with holes: bridges without width lead to them"] += count_holes(mask) > 0
        if one_each:
            found["lesions in several parts: bridges without width tie them"] += len(rings_of(mask)) > 1
    return +found
