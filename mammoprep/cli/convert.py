"""`mammoprep convert <data set> RAW OUT`: a sub-command a reader, the same options after each."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mammoprep.cli import console, examples, pseudonyms
from mammoprep.cli.extra import require_model
from mammoprep.cli.of_readers import OfReaders
from mammoprep.cli.train import parse_weights
from mammoprep.errors import MammoprepError

if TYPE_CHECKING:
    from mammoprep.convert import Options, Summary, Work
    from mammoprep.pseudo_mask import AnyRecipe, Prompted
    from mammoprep.records import Reader

app = typer.Typer(cls=OfReaders, no_args_is_help=True)

Raw = Annotated[Path, typer.Argument(metavar="RAW", help="Raw folder, as downloaded. Only read.", show_default=False)]
Out = Annotated[
    Path, typer.Argument(metavar="OUT", help="DATASET folder to write: whole or not at all.", show_default=False)
]

Values = Annotated[
    str,
    typer.Option(
        metavar="VALUE=CLASS,…",
        help="Classes of the values, or colours as ff0000, of label maps; each connected part of a value is a lesion.",
        show_default=False,
    ),
]


@app.callback()
def _convert() -> None:
    """Convert a raw data set to a DATASET: images, COCO-panoptic segments, and what was left out and why."""


def _image(text: str, *names: str, **settings: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel="Images", **settings)


def _mask(text: str, **settings: Any) -> Any:
    return typer.Option(help=text, rich_help_panel="Boxes to masks", **settings)


def _run(text: str, *names: str, **settings: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel="Run", **settings)


@dataclass(frozen=True, slots=True)
class Common:
    """What every data set's sub-command takes: a field is an option."""

    long_side: Annotated[int, _image("Longer side of stored images in pixels, never upscaled; 0 = native.")] = 1024
    bits: Annotated[Literal[8, 16], _image("Bits a stored pixel.")] = 8
    window: Annotated[str, _image("auto, full, N, lut:N, CENTER/WIDTH, or a window's explanation.")] = "auto"
    crop_breast: Annotated[bool, _image("Store the breast and a margin alone.", "--crop-breast")] = False
    flip_right: Annotated[bool, _image("Mirror images whose breast faces left.", "--flip-right")] = False
    for_processing: Annotated[bool, _image("Take raw FOR PROCESSING images too.", "--for-processing")] = False
    on_burned_in: Annotated[
        Literal["list", "skip", "keep"],
        _image("Images with text in the pixels, laterality markers too: flag, leave out, or take without a look."),
    ] = "list"
    stuff: Annotated[str, _image("Classes of what is no finding: breast,background or background.")] = (
        "breast,background"
    )
    recipe: Annotated[
        Literal["adaptive", "paper", "learned", "sam"],
        _mask(
            "What the options below start from: the best hand-made, the published; learned, sam: a network, no options."
        ),
    ] = "adaptive"
    weights: Annotated[
        list[str] | None, _mask("Where Segment Anything lies, for --recipe sam: sam-vit-l=DIR.", show_default=False)
    ] = None
    sigma: Annotated[
        float | None,
        _mask(
            "Gaussian blur: native pixels, or per cent of the box's side (adaptive).",
            show_default="paper 7, adaptive 1",
        ),
    ] = None
    threshold: Annotated[
        Literal["otsu", "multi-otsu"] | None, _mask("Method tried first.", show_default="paper otsu, adaptive otsu")
    ] = None
    hull: Annotated[
        Literal["concave", "alpha", "convex", "none"] | None,
        _mask("What encloses a mask.", show_default="paper concave, adaptive convex"),
    ] = None
    hull_ratio: Annotated[
        float | None, _mask("Concave hull: 0 = tightest, 1 = convex.", show_default="paper 0.2, adaptive 0.2")
    ] = None
    min_area: Annotated[
        int | None,
        _mask(
            "Smaller components are left out: native pixels, or 1/10,000 of the box (adaptive).",
            show_default="paper 150, adaptive 10",
        ),
    ] = None
    pseudonymise: pseudonyms.Pseudonymise = None
    key: pseudonyms.Key = None
    workers: Annotated[int | None, _run("Processes.", show_default="cores, capped by free memory")] = None
    cluster: Annotated[str | None, _run(console.CLUSTER_HELP, metavar="tcp://HOST:PORT")] = None
    resume: Annotated[bool, _run("Go on with an interrupted run.", "--resume")] = False
    overwrite: Annotated[bool, _run("Replace OUT, or an interrupted run.", "--overwrite")] = False
    verify: Annotated[bool, _run(console.VERIFY_HELP, "--verify")] = False
    limit: Annotated[int | None, _run("Take only the first N images.", show_default="all")] = None
    dry_run: Annotated[bool, _run("Count, write nothing.", "--dry-run")] = False
    review: Annotated[
        Path | None, _run("Marks saved from mammoprep gallery: what they reject is left out.", metavar="FILE")
    ] = None
    max_skipped: Annotated[int, _run("Exit with 1 when more image files than this were skipped.", min=0)] = 0
    json: console.Json = False

    def options(self, labels: str, own: Mapping[str, str | bool | tuple[str, ...]]) -> "Options":
        """Give what decides the result."""
        from mammoprep import panoptic
        from mammoprep.convert import Options

        return Options(
            labels=labels,
            long_side=self.long_side,
            bits=self.bits,
            stuff=tuple(name.strip() for name in self.stuff.split(",")),
            window=self.window,
            crop_breast=self.crop_breast,
            flip_right=self.flip_right,
            for_processing=self.for_processing,
            on_burned_in=self.on_burned_in,
            recipe=self.mask_recipe(),
            reader=own,
            limit=self.limit,
            review=panoptic.load_review(self.review) if self.review else None,
        )

    def mask_recipe(self) -> "AnyRecipe":
        """Give the recipe with what the options change; refuse an option that would change nothing."""
        from mammoprep.convert import RECIPES
        from mammoprep.pseudo_mask import Recipe

        given = {name: getattr(self, name) for name in ("sigma", "threshold", "hull", "hull_ratio", "min_area")}
        changes = {name: value for name, value in given.items() if value is not None}
        start = _prompted(self.weights or []) if self.recipe == "sam" else RECIPES[self.recipe]
        if self.weights and self.recipe != "sam":
            raise MammoprepError(f"--weights changes nothing under --recipe {self.recipe}. Leave it out, or say sam.")
        if not isinstance(start, Recipe):
            if changes:
                option = next(iter(changes)).replace("_", "-")
                raise MammoprepError(
                    f"--{option} changes nothing under --recipe {self.recipe}. Leave it out, or say adaptive."
                )
            return start
        recipe = replace(start, **changes)
        if "hull_ratio" in changes and recipe.hull != "concave":
            raise MammoprepError(f"--hull-ratio changes nothing where the hull is {recipe.hull}. Say --hull concave.")
        return recipe

    def work(self, move: Callable[[int, int], None]) -> "Work":
        """Give how it is done."""
        from mammoprep.convert import Work

        return Work(
            workers=self.workers,
            cluster=self.cluster,
            existing=console.existing(resume=self.resume, overwrite=self.overwrite),
            verify=self.verify,
            on_progress=move,
            on_note=console.note,
        )


def _prompted(weights: list[str]) -> "Prompted":
    """Give the recipe of the SAM that the options name."""
    require_model()
    from mammoprep.errors import UnknownNameError
    from mammoprep.pseudo_mask import Prompted
    from mammoprep_model import box_masks

    places = parse_weights(weights, [box_masks.PART])
    for part in places:
        if part != box_masks.PART:
            raise UnknownNameError(part, kind="part of --recipe sam", known=[box_masks.PART])
    facts = box_masks.at_hand(places)
    return Prompted(**{**vars(facts), "place": str(facts.place)}, maker=box_masks.MAKER)


def with_common(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command that takes a `common` the options of Common in its place."""
    signature = inspect.signature(command)
    own = [parameter for parameter in signature.parameters.values() if parameter.name != "common"]

    @wraps(command)
    def with_common(**values: Any) -> int:
        return command(**{parameter.name: values.pop(parameter.name) for parameter in own}, common=Common(**values))

    shared = inspect.signature(Common).parameters.values()
    with_common.__signature__ = signature.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]
    return with_common


@app.command("folder", epilog=examples.of("convert folder"))
@with_common
def folder(
    raw: Raw,
    out: Out,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="WHAT=NAME", help="Name a table's column, as patient=PatID; again for more."),
    ] = None,
    classes: Annotated[str, typer.Option(help="Classes to take, in this order.", show_default="all that occur")] = "",
    values: Values = "",
    patient: Annotated[
        str,
        typer.Option(
            metavar="REGEX", help="Finds the patient in an image's path: the first group.", show_default=False
        ),
    ] = "",
    empty: Annotated[
        Literal["leave-out", "lesion-free"], typer.Option(help="What a named image without outlines is.")
    ] = "leave-out",
    *,
    common: Common,
) -> int:
    """Your own folder: images in any tree, with tables, masks, DICOM SEG, LabelMe, CVAT, VIA or COCO files."""
    from mammoprep.readers import READERS

    own: dict[str, str | tuple[str, ...]] = {
        "column": tuple(column or ()),
        "classes": classes,
        "values": values,
        "patient": patient,
        "empty": empty,
    }
    return convert_with(READERS["folder"], raw, out=out, options=common.options("data", own), common=common)


def convert_with(reader: "Reader", raw: Path, *, out: Path, options: "Options", common: Common) -> int:
    """Convert, or count under --dry-run, and print the summary; give the exit code."""
    from mammoprep.convert import pseudonymised
    from mammoprep.readers import check_root, recognise

    check_root(reader, raw)
    if not reader.markers and (known := recognise(raw)):
        console.note(f"{raw} looks like {known.title}, which `mammoprep convert {known.name}` reads.")
    if pseudonyms.wanted(common.pseudonymise, common.key, default=reader.own):
        with pseudonyms.keyed(raw, out, key=common.key, dry_run=common.dry_run) as names:
            return _convert_with(pseudonymised(reader, names), raw, out=out, options=options, common=common)
    return _convert_with(reader, raw, out=out, options=options, common=common)


def _convert_with(reader: "Reader", raw: Path, *, out: Path, options: "Options", common: Common) -> int:
    from mammoprep import convert

    if common.dry_run:
        summary = convert.preview(reader, raw, options=options)
    else:
        was_there = common.resume and convert.is_complete(out)
        try:
            with console.progress("Converting") as move:
                summary = convert.convert(reader, raw, out=out, options=options, work=common.work(move))
        except KeyboardInterrupt:
            console.note("Stopped. What is done is kept; the same command with --resume goes on from here.")
            raise
        console.note(f"{out} was complete already." if was_there else f"Wrote {out}. Next: mammoprep folds {out}")
    _print(summary, json=common.json)
    if summary.bare:
        console.note(
            f"None of their findings could be drawn in {summary.bare} images, which are stored as if they had none:"
            " skipped.csv says why. Mend that, or leave these images out of training."
        )
    if not summary.images:
        console.note("No image would be converted.")
        return 1
    if summary.skipped_images > common.max_skipped:
        console.note(
            f"{summary.skipped_images} image files were skipped, more than --max-skipped {common.max_skipped}."
        )
        return 1
    return 0


def _print(summary: "Summary", *, json: bool) -> None:
    if json:
        console.print_json(summary.to_json())
        return
    console.show_counts(_sections(summary))


def _sections(summary: "Summary") -> Iterator[tuple[str, Mapping[str, int | str]]]:
    yield "", {"images": summary.images, "patients": summary.patients}
    yield "findings", summary.findings
    if summary.recipe:
        dice = "not measured" if summary.recipe_dice is None else f"{summary.recipe_dice:.3f}"
        counts = {**summary.pseudo_masks, "not by the first method": summary.fallbacks} if summary.pseudo_masks else {}
        yield "pseudo-masks", {"recipe": summary.recipe, "its mean Dice on real outlines": dice, **counts}
    if summary.mask_files:
        yield "mask files", {**summary.mask_files, "largest residual of their sizes": f"{summary.residual:.2%}"}
    if summary.attributes:
        yield "images with", summary.attributes
    for stage, reasons in summary.skipped.items():
        yield f"skipped: {stage}", console.shortened(reasons, elsewhere="skipped.csv")
