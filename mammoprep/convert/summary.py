"""What a conversion came to, in numbers: the closing table, and the counts of manifest.json."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mammoprep.convert.case import NO_CLASS, Case
from mammoprep.convert.options import RECIPES
from mammoprep.panoptic import Category
from mammoprep.pseudo_mask import DICE, AnyRecipe, Prompted
from mammoprep.records import Box, Record, Skipped


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts of what was converted and of what was left out.

    `findings` is by class, `pseudo_masks` by method, `fallbacks` counts those whose first method was not believed.
    `recipe` names what made masks of boxes, empty where there was none, and `recipe_dice` its mean Dice on real
    outlines, None where its options were changed: that is not measured. `mask_files` tells those of the image's size
    from those brought to it, of which `residual` is the largest (see `mask_file.read`). `skipped` is by stage and
    reason. `attributes` counts images by what the header says of them (implants, spot views, burned-in text).
    `bare` counts stored images that have findings with a class, of which none could be drawn.
    """

    images: int
    patients: int
    findings: Mapping[str, int]
    pseudo_masks: Mapping[str, int] = field(default_factory=dict)
    fallbacks: int = 0
    mask_files: Mapping[str, int] = field(default_factory=dict)
    residual: float = 0.0
    recipe: str = ""
    recipe_dice: float | None = None
    skipped: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    attributes: Mapping[str, int] = field(default_factory=dict)
    bare: int = 0

    @property
    def skipped_images(self) -> int:
        """Give the number of image files that could not be used: what `--max-skipped` counts."""
        return sum(self.skipped.get("image", {}).values())

    def to_json(self) -> dict[str, Any]:
        """Give the dictionary that `Summary(**…)` takes."""
        return asdict(self)


def of_cases(
    cases: Iterable[Case], *, categories: Sequence[Category], skipped: Iterable[Skipped], recipe: AnyRecipe
) -> Summary:
    """Count what was converted; no more than a case is in memory, and who the patients are."""
    names = {category.id: category.name for category in categories if category.isthing}
    counted: dict[str, Counter[str]] = {kind: Counter() for kind in ("found", "boxed", "files", "attributes")}
    images, fallbacks, bare, residual, patients = 0, 0, 0, 0.0, set[Any]()
    for case in cases:
        if not case.image:
            continue
        images += 1
        patients.add(case.row["patient_id"])
        bare += not case.instances and any(_is_lost(item) for item in case.skipped)
        counted["attributes"].update(_attributes(case))
        for segment in case.image.segments:
            if segment.category_id in names:
                counted["found"][names[segment.category_id]] += 1
            if boxed := segment.extra.get("pseudo_mask"):
                counted["boxed"][boxed["method"]] += 1
                fallbacks += boxed["fallback"]
            if file := segment.extra.get("mask_file"):
                counted["files"][_fitted(file)] += 1
                residual = max(residual, file["residual"])
    return Summary(
        images=images,
        patients=len(patients),
        findings={name: counted["found"][name] for name in names.values()},
        pseudo_masks=_sorted(counted["boxed"]),
        fallbacks=fallbacks,
        mask_files=_sorted(counted["files"]),
        residual=residual,
        recipe=_name(recipe) if counted["boxed"] else "",
        recipe_dice=DICE.get(recipe) if counted["boxed"] else None,
        skipped=_reasons(skipped),
        attributes=_sorted(counted["attributes"]),
        bare=bare,
    )


def _is_lost(item: Skipped) -> bool:
    return item.stage == "finding" and not item.reason.startswith(NO_CLASS)


def _fitted(how: Mapping[str, Any]) -> str:
    return "of the image's size" if how["scale_x"] == how["scale_y"] == 1 else "brought to the image's size"


def _attributes(case: Case) -> Iterator[str]:
    yield from (name for name in str(case.row.get("attributes", "")).split("; ") if name)


def of_records(
    records: Iterable[Record], *, classes: Sequence[str], skipped: Iterable[Skipped], recipe: AnyRecipe
) -> Summary:
    """Count what the tables promise."""
    found: Counter[str | None] = Counter()
    images, boxed, patients = 0, False, set[str]()
    for record in records:
        images += 1
        patients.add(record.patient_id)
        found.update(finding.label for finding in record.findings)
        boxed = boxed or any(isinstance(finding.shape, Box) for finding in record.findings)
    return Summary(
        images=images,
        patients=len(patients),
        findings={name: found[name] for name in classes},
        recipe=_name(recipe) if boxed else "",
        recipe_dice=DICE.get(recipe) if boxed else None,
        skipped=_reasons(skipped),
    )


def _name(recipe: AnyRecipe) -> str:
    if isinstance(recipe, Prompted):
        return f"sam, weights {', '.join(line[:12] for line in recipe.weights)} … (SHA-256)"
    return next((name for name, known in RECIPES.items() if known == recipe), "with options of its own")


def _reasons(skipped: Iterable[Skipped]) -> dict[str, dict[str, int]]:
    stages: dict[str, Counter[str]] = {}
    for item in skipped:
        stages.setdefault(item.stage, Counter())[item.reason] += 1
    return {stage: _sorted(stages[stage]) for stage in sorted(stages)}


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    """Give the greatest count first, equal ones by name."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
