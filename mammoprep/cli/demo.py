"""`mammoprep demo`: the whole road on phantoms, by the very commands that a real data set takes."""

import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from statistics import mean
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mammoprep.cli import console
from mammoprep.cli.extra import require_model
from mammoprep.errors import MammoprepError

if TYPE_CHECKING:
    from rich.table import Table

PATIENTS = 40
HEIGHT = 640
"""Height of a phantom in pixels; those of VinDr's Siemens images are 3,518."""
STORED = 256
"""Long side of the stored images in pixels: more than `tiny` sees, enough to look at."""
SHOWN = (0.05, 0.1, 0.25, 0.5)
"""IoU thresholds of the closing table."""
_QUALITIES = ("RQ", "SQ", "PQ", "AP")
_MARK = "demo.json"


def demo(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Another seed: other phantoms, folds and start.", min=0, max=2**32 - 1)] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier demo in OUT.")] = False,
    json: console.Json = False,
) -> int:
    """Draw phantom mammograms, then convert, folds, train, evaluate and gallery: about three minutes on two cores.

    Each command is printed before it runs. In the end the trained network's scores stand beside those it started with.
    Exit code 1 says that training did not beat that start.
    """
    require_model()
    _make_room(out, overwrite=overwrite)
    seconds: dict[str, float] = {}
    with redirect_stdout(sys.stderr if json else sys.stdout):
        code = _walk(out, seed=seed, seconds=seconds)
    if code:
        return code
    result = _result(out, seed=seed, seconds=seconds)
    _mark(out, result)
    if json:
        console.print_json(result)
    else:
        _print(result)
    if result["trained"]["PQ"][0] <= result["untrained"]["PQ"][0]:
        console.note("Training did not beat the network's random start.")
        return 1
    return 0


def _make_room(out: Path, *, overwrite: bool) -> None:
    """Make `out` an empty folder with the demo's mark; what is not an earlier demo stays as it is."""
    if out.exists() and not out.is_dir():
        raise MammoprepError(f"{out} is a file. Name a folder.")
    if out.is_dir() and any(out.iterdir()):
        if not (out / _MARK).is_file():
            raise MammoprepError(f"{out} is not empty and holds no demo. Name another folder.")
        if not overwrite:
            raise MammoprepError(f"{out} holds an earlier demo. Name another folder, or say --overwrite.")
        shutil.rmtree(out)
    _mark(out, {"finished": False})


def _mark(out: Path, content: Mapping[str, Any]) -> None:
    from mammoprep import panoptic

    try:
        out.mkdir(parents=True, exist_ok=True)
        panoptic.write_json(out / _MARK, content)
    except OSError as error:
        raise MammoprepError(f"{out} could not be written: {error.strerror}. Name another folder.") from error


def _walk(out: Path, *, seed: int, seconds: dict[str, float]) -> int:
    """Go the road step by step; give the exit code of the command that stopped it, else 0."""
    from mammoprep import gallery, phantom
    from mammoprep.cli import app

    with _timed("phantoms", seconds):
        _say(f"# {PATIENTS} synthetic patients, four views each, in VinDr-Mammo's layout")
        phantom.write(out / "raw", patients=PATIENTS, seed=seed, long_side=HEIGHT, truth=out / "truth")
    for arguments in _commands(out, seed=seed):
        with _timed(arguments[0], seconds):
            _say(f"$ {shlex.join(['mammoprep', *arguments])}")
            code: int | None = app(list(arguments), standalone_mode=False)
        if code:
            return code
    with _timed("untrained network", seconds):
        _say("# the same network with its random start, on the same images")
        _predict_untrained(out)
    with _timed("overlays", seconds):
        gallery.write_overlays(out / "dataset", out / "overlays", predictions=_predictions(out))
    return 0


def _commands(out: Path, *, seed: int) -> Iterator[Sequence[str]]:
    dataset, run = str(out / "dataset"), str(out / "run")
    # The paper's sigma of 7 and the default area of 150 pixels are meant for images of the true size.
    shrunk = HEIGHT / 3518
    masks = ("--sigma", f"{7 * shrunk:.1f}", "--min-area", f"{150 * shrunk**2:.0f}")
    size = ("--long-side", str(STORED))
    yield "convert", "vindr", str(out / "raw"), dataset, *size, "--recipe", "paper", *masks
    yield "folds", dataset, "--seed", str(seed)
    yield "train", dataset, "--model", "tiny", "--fold", "0", "--seed", str(seed), "--out", run
    yield "evaluate", run, "--iou-sweep"
    yield "gallery", run, "--raw", str(out / "raw")


def _predict_untrained(out: Path) -> None:
    """Predict fold 0 with the weights that training began with."""
    from mammoprep import panoptic
    from mammoprep_model import checkpoint, data, inference

    config = checkpoint.read_run(out / "run")
    dataset = panoptic.load(out / "dataset")
    _, held_out = panoptic.load_fold(out / "dataset", config.fold)
    with console.progress("predict") as on_progress:
        inference.predict(
            checkpoint.untrained(config),
            data.pictures(dataset, frozenset(held_out)),
            out=out / "untrained",
            config=config,
            options=inference.Options(on_progress=on_progress),
        )


def _predictions(out: Path) -> Path:
    return out / "run" / "fold-0" / "predictions"


def _result(out: Path, *, seed: int, seconds: Mapping[str, float]) -> dict[str, Any]:
    """Gather what the demo found out."""
    from mammoprep import panoptic
    from mammoprep.phantom import truth

    _, held_out = panoptic.load_fold(out / "dataset", 0)
    overlaps = truth.dice(out / "dataset", out / "truth")
    return {
        "finished": True,
        "seed": seed,
        "images": len(held_out),
        "thresholds": list(SHOWN),
        "trained": _scores(out / "dataset", _predictions(out), held_out),
        "untrained": _scores(out / "dataset", out / "untrained", held_out),
        "pseudo_mask_dice": {name: round(mean(values), 4) for name, values in overlaps.items() if values},
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "figure": str(out / "run" / "evaluation" / "sweep.png"),
        "overlays": str(out / "overlays"),
        "gallery": str(out / "run" / "gallery" / "index.html"),
    }


def _scores(dataset: Path, predictions: Path, image_ids: Sequence[int]) -> dict[str, Any]:
    """Score the held-out images as `mammoprep evaluate` does."""
    from mammoprep.evaluation import scores, tally

    content = scores.score(tally.tally(dataset, predictions, image_ids=image_ids)).to_json()
    levels = [content["thresholds"].index(threshold) for threshold in SHOWN]
    curves = {name: [content["sweep"][name][level] for level in levels] for name in _QUALITIES}
    return {**curves, "Dice": content["dice"]["pooled"], "Dice per image": content["dice"]["per_image"]}


def _print(result: Mapping[str, Any]) -> None:
    screen = console.stdout()
    screen.print(f"\n{result['images']} held-out images (fold 0), lesions of known shape; per cent")
    screen.print(_table(result))
    for name in ("Dice", "Dice per image"):
        _say(f"{name}: trained {_percent(result['trained'][name])}, untrained {_percent(result['untrained'][name])}")
    dice = ", ".join(f"{name} {_percent(value)}" for name, value in result["pseudo_mask_dice"].items())
    _say(f"Dice of the pseudo-masks made from boxes with the true lesions: {dice}")
    times = ", ".join(f"{name} {value:.0f} s" for name, value in result["seconds"].items())
    _say(f"Time: {times}; together {sum(result['seconds'].values()):.0f} s")
    _say(f"Curves: {result['figure']}\nOverlays: {result['overlays']}\nGallery: {result['gallery']}")


def _table(result: Mapping[str, Any]) -> "Table":
    from rich.table import Table

    table = Table()
    for title in ("", "network", *_QUALITIES):
        table.add_column(title, justify="right" if title in _QUALITIES else "left")
    for level, threshold in enumerate(result["thresholds"]):
        for network in ("trained", "untrained"):
            cells = (_percent(result[network][name][level]) for name in _QUALITIES)
            table.add_row(f"IoU {threshold}" if network == "trained" else "", network, *cells)
        table.add_section()
    return table


def _percent(score: float | None) -> str:
    return "not given" if score is None else f"{100 * score:.1f}"


def _say(text: str) -> None:
    """Print a line that may be copied: no wrapping, no markup."""
    console.stdout().print(text, soft_wrap=True, markup=False)


@contextmanager
def _timed(name: str, seconds: dict[str, float]) -> Iterator[None]:
    begun = perf_counter()
    yield
    seconds[name] = perf_counter() - begun
