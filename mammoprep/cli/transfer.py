"""`mammoprep evaluate RUN --on OTHER_DATASET`: a collection that the RUN was not trained on, and the thesis's table."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mammoprep.cli import console
from mammoprep.cli.extra import require_model
from mammoprep.cli.train import parse_weights
from mammoprep.errors import MammoprepError

if TYPE_CHECKING:
    from mammoprep.evaluation.table import Table
    from mammoprep.panoptic import Panoptic

NAME = "transfer.json"


@dataclass(frozen=True)
class Asked:
    """What the command line says: `weights` as `--weights` has them."""

    allow_overlap: bool = False
    weights: Sequence[str] | None = None
    device: str = "auto"
    prompts: str | None = None


@dataclass(frozen=True)
class Transfer:
    """What was predicted: PREDICTIONS of each fold's network, and what transfer.json says of them."""

    predictions: Mapping[int, Path]
    facts: Mapping[str, Any]


def predict(run: Path, on: Path, *, out: Path, asked: Asked) -> Transfer:
    """Predict all images of a DATASET by each fold's network, after checking that it is one to be scored on."""
    require_model()
    from mammoprep import panoptic
    from mammoprep_model import checkpoint, cost, transfer

    dataset, folds = panoptic.load(on), cost.finished_folds(run)
    _check_lesions(dataset)
    config = checkpoint.read_run(next(iter(folds.values())))
    trained, images = transfer.seen(folds)
    shared = _shared(trained, images, dataset, allowed=asked.allow_overlap)
    places = {fold: out / f"fold-{fold}" / "predictions" for fold in folds}
    parts = parse_weights(asked.weights or [], config.preset.model.parts)
    with _shown() as on_predict:
        session = transfer.Session(weights=parts, device=asked.device, prompts=asked.prompts, on_predict=on_predict)
        for fold, part in folds.items():
            transfer.predict(part, dataset, out=places[fold], session=session)
    spent = cost.of_folds([cost.of_run(part) for part in folds.values()])
    facts = {
        "run": str(run),
        "model": config.preset.name,
        "trained_on": str(trained.root),
        "dataset": str(on),
        "networks": len(folds),
        **_classes(config.categories, dataset),
        "shared_patients": shared,
        "cost": asdict(spent),
    }
    return Transfer(places, facts)


def _check_lesions(dataset: "Panoptic") -> None:
    things = {category.id for category in dataset.things}
    if not any(segment.category_id in things for image in dataset.images for segment in image.segments):
        raise MammoprepError(
            f"{dataset.root} has no lesion, so nothing can be found in it. Name a DATASET whose lesions are outlined."
        )


def _shared(trained: "Panoptic", images: set[int], dataset: "Panoptic", *, allowed: bool) -> int:
    """Count the patients of the data set that the networks have seen; without a word for it there may be none."""
    from mammoprep.evaluation.transfer import shared_patients

    shared = len(shared_patients(trained, images, dataset))
    if shared and not allowed:
        who = "1 patient" if shared == 1 else f"{shared} patients"
        raise MammoprepError(
            f"{dataset.root} shares {who} with what the RUN was trained on, {trained.root}. Name another DATASET, or"
            " say --allow-overlap to score what the networks have seen."
        )
    return shared


def _classes(ours: "Sequence[Any]", dataset: "Panoptic") -> dict[str, Any]:
    """Say which classes are scored, and which stuff only one side has."""
    from mammoprep.evaluation import classes

    sides = (dataset.categories, tuple(ours))
    agreed = classes.across(*sides)
    scored = [category.name for category in agreed.categories if category.isthing]
    return {"classes": scored, "merged": not classes.share_lesions(*sides), "one_sided": list(agreed.one_sided)}


@contextmanager
def _shown() -> "Iterator[Any]":
    """Show a bar for each network."""
    with console.bar() as bar:
        tasks: dict[int, Any] = {}

        def move(fold: int, done: int, total: int) -> None:
            if fold not in tasks:
                tasks[fold] = bar.add_task(f"predict by fold {fold}", total=total, facts="")
            bar.update(tasks[fold], completed=done, visible=done < total)

        try:
            yield move
        except KeyboardInterrupt:
            console.note("Stopped. What is done is kept; the same command goes on from here.")
            raise


def write(carried: Transfer, out: Path, tables: "Sequence[Table]") -> dict[str, Any]:
    """Write transfer.json, with IoU and Dice of all images, of those with lesions and of those without; give it."""
    from mammoprep import panoptic
    from mammoprep.evaluation.marks import knows_truth
    from mammoprep.evaluation.transfer import overlaps

    known = {"knows_truth": True} if any(map(knows_truth, carried.predictions.values())) else {}
    content = {**carried.facts, **known, "overlap": overlaps(tables)}
    panoptic.write_json(out / NAME, content)
    return content


def show(facts: Mapping[str, Any]) -> None:
    """Print the thesis's table, and what to know of it."""
    from rich.table import Table

    from mammoprep.evaluation.marks import MARK

    mark = f"{MARK} " if facts.get("knows_truth") else ""
    screen, table = console.stdout(), Table(box=None, padding=(0, 2, 0, 0))
    for place, column in enumerate((mark + facts["model"], "images", "IoU", "Dice", "trained (M)", "GPU (GiB)")):
        table.add_column(column, justify="right" if place else "left", no_wrap=True)
    for kind, row in (facts["overlap"] or {}).items():
        cells = _cost(facts["cost"]) if kind == "all" else ("", "")
        table.add_row(f"{kind} *" if kind == "lesion-free" else kind, str(row["images"]), *_cells(row), *cells)
    networks = f", mean ± std over {facts['networks']} networks" if facts["networks"] > 1 else ""
    screen.print(f"Trained on {facts['trained_on']}, scored on {facts['dataset']}{networks}; per cent", soft_wrap=True)
    screen.print(table, "")
    for line in _remarks(facts):
        screen.print(line, soft_wrap=True, markup=False)
    screen.print()


def _cells(row: Mapping[str, Any]) -> list[str]:
    texts = []
    for score in (row["IoU"], row["Dice"]):
        spread = "" if score["std"] is None else f" ± {100 * score['std']:.2f}"
        texts.append("–" if score["value"] is None else f"{100 * score['value']:.2f}{spread}")
    return texts


def _cost(cost: Mapping[str, Any]) -> tuple[str, str]:
    """Give the trained parameters in millions and the peak GPU memory of training, which a CPU has none of."""
    parameters, memory = cost["parameters"], cost["gpu_memory"]
    return (
        "–" if parameters is None else f"{parameters / 1e6:.3f}",
        "–" if memory is None else f"{memory / 1024:.2f}",
    )


def _unclassed(overlap: Mapping[str, Any]) -> int:
    """Count the images that are neither without a lesion nor have one of a class."""
    counts = {kind: row["images"] for kind, row in overlap.items()}
    return sum(counts.values()) and 2 * counts["all"] - sum(counts.values())


def _remarks(facts: Mapping[str, Any]) -> Iterator[str]:
    from mammoprep.evaluation.marks import FOOTNOTE

    if facts.get("knows_truth"):
        yield FOOTNOTE
    yield (
        "All lesions of an image are one map. Nothing predicted where nothing is annotated counts 1, else 0: * is the"
        " share of lesion-free images left empty, and it weighs in the first row."
    )
    if apart := _unclassed(facts["overlap"] or {}):
        yield f"Images whose findings have no class here count in the first row alone: {apart}."
    if facts["merged"]:
        yield "The collections do not share their lesion classes by name: below all of them are one, called lesion."
    if facts["networks"] > 1:
        yield "Every network is scored on all images: below scores are means, counts sums over the networks."
    if facts["one_sided"]:
        yield (
            f"Only one side has the class {', '.join(facts['one_sided'])}: it is not scored; stuff that the other side"
            " has in its place is scored as it stands."
        )
    if facts["shared_patients"]:
        yield f"{facts['shared_patients']} patients are shared with what the networks were trained on: no fair score."
