"""What a conversion is asked for: what decides its bytes (Options) and what does not (Work)."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from mammoprep.errors import MammoprepError, UnknownNameError
from mammoprep.panoptic import STUFF, Existing, Review
from mammoprep.pixels import check_window
from mammoprep.pseudo_mask import ADAPTIVE, LEARNED, PAPER, AnyRecipe, Learned, Prompted, Recipe

RECIPES: Mapping[str, Recipe | Learned] = {"adaptive": ADAPTIVE, "paper": PAPER, "learned": LEARNED}
"""The named ways from a box to a mask, the default first."""

REGIONS: Mapping[str, str] = {"pectoral": "pectoral muscle"}
"""Stuff that a data set outlines itself: the reader's option that asks for it, and its class."""


@dataclass(frozen=True, slots=True)
class Options:
    """What decides the bytes of a DATASET; all of it stands in manifest.json.

    `labels` is one of the reader's schemes; `reader` holds the options that this reader alone has. `long_side` is the
    longer side of the stored image in pixels, 0 for native. `crop_breast` stores the breast's part of the image alone,
    `flip_right` mirrors images whose breast faces left, `for_processing` takes raw detector images too. `limit` takes
    only the first images; what `review` rejects is left out. `on_burned_in` says what becomes of images with text in
    their pixels: they are listed, skipped, or kept without a look at the pixels.
    """

    labels: str
    long_side: int = 1024
    bits: Literal[8, 16] = 8
    stuff: tuple[str, ...] = STUFF
    window: str = "auto"
    crop_breast: bool = False
    flip_right: bool = False
    for_processing: bool = False
    on_burned_in: Literal["list", "skip", "keep"] = "list"
    recipe: AnyRecipe = ADAPTIVE
    reader: Mapping[str, str | bool | tuple[str, ...]] = field(default_factory=dict)
    limit: int | None = None
    review: Review | None = None

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        check_window(self.window)
        if self.long_side < 0:
            raise MammoprepError(f"--long-side is {self.long_side}. Give pixels, or 0 for the native size.")
        if self.bits not in (8, 16):
            raise MammoprepError(f"--bits is {self.bits}. Give 8 or 16.")
        if self.limit is not None and self.limit < 1:
            raise MammoprepError(f"--limit is {self.limit}. Give a number of images, 1 or more.")
        for name in self.stuff:
            if name not in STUFF:
                raise UnknownNameError(name, kind="--stuff class", known=STUFF)
        if "background" not in self.stuff:
            raise MammoprepError("--stuff lacks background, but every pixel is labelled. Say breast,background.")

    @property
    def stuff_classes(self) -> tuple[str, ...]:
        """Give the stuff classes in category order: what the data set outlines lies over what is found."""
        outlined = [name for option, name in REGIONS.items() if self.reader.get(option)]
        return (*outlined, *(name for name in STUFF if name in self.stuff))

    def to_json(self) -> dict[str, Any]:
        """Give what manifest.json says; `labels` has a key of its own there."""
        values = asdict(self)
        if isinstance(self.recipe, Prompted):
            values["recipe"] = self.recipe.to_json()
        reviewed = {"review": self.review.sha256} if self.review else {}
        return {name: values[name] for name in values if name not in ("labels", "reader", "review")} | {
            **self.reader,
            **reviewed,
        }


@dataclass(frozen=True, slots=True)
class Work:
    """How the work is done, which changes no byte of the result.

    `workers` None means as many as cores and free memory allow; `cluster` is the address of the Dask scheduler whose
    workers do it instead. `on_progress` is told (done, total) in images, `on_note` what is no error. `verify` reads
    again what was written.
    """

    workers: int | None = None
    cluster: str | None = None
    existing: Existing = "refuse"
    verify: bool = False
    on_progress: Callable[[int, int], None] | None = None
    on_note: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.workers is not None and self.workers < 1:
            raise MammoprepError(f"--workers is {self.workers}. Give a number of processes, 1 or more.")
