"""`mammoprep predict`: segment a DATASET, a folder of images or one image with a trained RUN."""

import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mammoprep.cli import console, pseudonyms
from mammoprep.cli.extra import require_model
from mammoprep.cli.train import Device, parse_weights
from mammoprep.errors import MammoprepError, MissingFileError

if TYPE_CHECKING:
    from mammoprep.pseudonyms import Pseudonyms
    from mammoprep.targets.dicom_seg import Algorithm
    from mammoprep_model.checkpoint import RunConfig
    from mammoprep_model.data import Picture
    from mammoprep_model.inference import Options

LONG_SIDE = 1024
"""Loose files are predicted at this long side in pixels, as `mammoprep convert` stores them by default."""
_ENDINGS = frozenset({".dcm", ".dicom", ".dic", ".png", ".jpg", ".jpeg", ".pgm", ".tif", ".tiff"})


_TILES = """Show the network each image this many times as large, in windows that overlap by half: worth it where the
files have more pixels than the network sees otherwise."""
_PROMPTS = """Where a promptable network is told to look: ground-truth (SOURCE's lesions: its scores are marked), grid
(whatever it finds), or detections:RUN (the lesions of another RUN or PREDICTIONS)."""
_SEG = """Also write OUT/dicom-seg/*.dcm, for the archive that SOURCE's DICOM files came from; implies --native. They
carry the patient and study of their mammogram, as nothing else here does: treat them like the mammograms."""


def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Written by mammoprep train.")],
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A DATASET, a folder of DICOM, PNG or JPEG files, or one file.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="PREDICTIONS folder to write.")],
    native: Annotated[
        bool, typer.Option("--native", help="Write at the size of the original files, not at the stored one.")
    ] = False,
    tiles: Annotated[int, typer.Option(min=1, max=8, help=_TILES)] = 1,
    flip: Annotated[bool, typer.Option("--flip", help="Show it each image mirrored too.")] = False,
    dicom_seg: Annotated[bool, typer.Option("--dicom-seg", help=_SEG)] = False,
    prompts: Annotated[str | None, typer.Option(help=_PROMPTS, show_default="as in training")] = None,
    weights: Annotated[
        list[str] | None, typer.Option(help="Where a part lies: mam-e=DIR, or a folder of parts. May be repeated.")
    ] = None,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = "auto",
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images at a time.", show_default="as in training")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the predictions in OUT.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help=console.VERIFY_HELP)] = False,
    pseudonymise: pseudonyms.Pseudonymise = None,
    key: pseudonyms.Key = None,
    cluster: console.Cluster = None,
    json: console.Json = False,
) -> None:
    """Write panoptic maps, instances with scores, semantic maps and heat maps.

    Images of a DATASET are predicted at their stored resolution, on which they are scored; loose files at a long side
    of at most 1024 pixels. With --tiles or --flip the lesions of all views of an image are joined where their masks
    agree (IoU 1/2 where views overlap); masks and class probabilities are averaged, and a view that sees the place but
    no lesion counts as 0. Loose files get pseudonyms, with one key those that `convert folder` gave them.
    """
    require_model()
    from mammoprep import panoptic
    from mammoprep_model import checkpoint, inference, predictions

    existing = console.existing(resume=resume, overwrite=overwrite)
    source = source.resolve() if cluster else source  # whose workers stand in other folders
    saved = checkpoint.read_run(run)
    with _names(source, out, pseudonymise, key) as names:
        pictures, files = _pictures(source, config=saved, native=native or dicom_seg, names=names)
        segs = _Segs(run, source, files, config=saved) if dicom_seg else None
        config = replace(saved, device=str(checkpoint.pick_device(device)))
        pictures, told = _prompted(pictures, source, prompts, config=saved)
        facts = {**_facts(run, source, native=native, dicom_seg=dicom_seg), **told}
        options = inference.Options(batch_size, existing, tiles, flip, verify=verify, facts=facts, also=segs)
        if resume and predictions.is_complete(out, pictures, header=options.header(config), verify=verify):
            console.note(f"{out} was complete already.")
        else:
            panoptic.check_free(out, existing=existing)
            places = parse_weights(weights or [], saved.preset.model.parts)
            _note_scale(tiles, config=saved)
            _run(_network(run, places, device=device, cluster=cluster), pictures, out=out, options=options)
    _report(out, images=len(pictures), segs=segs, json=json)


def _report(out: Path, *, images: int, segs: "_Segs | None", json: bool) -> None:
    written = sum(1 for _ in (out / "dicom-seg").glob("*.dcm")) if segs else 0
    if json:
        console.print_json({"predictions": str(out), "images": images, **({"dicom_seg": written} if segs else {})})
        return
    console.stdout().print(f"{images} images predicted: {out}", soft_wrap=True)
    if segs:
        text = f"{written} DICOM SEG written; {images - written} images without a lesion have none"
        console.stdout().print(text, soft_wrap=True)


def _network(run: Path, weights: Mapping[str, str], *, device: str, cluster: str | None) -> Callable[..., None]:
    """Load the network, or describe it to the workers of a cluster; give what predicts with it."""
    from mammoprep_model import checkpoint, inference
    from mammoprep_model import cluster as far

    if cluster:
        return partial(far.predict, far.remote(run, weights=weights, device=device), address=cluster)
    network, config = checkpoint.load(run, weights=weights, device=device)

    def predict(pictures: "list[Picture]", *, out: Path, options: "Options") -> None:
        if config.device == "cpu":
            options = replace(options, on_estimate=lambda seconds: _note_time(seconds, len(pictures)))
        inference.predict(network, pictures, out=out, config=config, options=options)

    return predict


def _run(predict: Callable[..., None], pictures: "list[Picture]", *, out: Path, options: "Options") -> None:
    """Predict, and show how far it is."""
    from mammoprep_model import inference

    try:
        with console.progress("predict") as move, inference.enough_memory():
            predict(pictures, out=out, options=replace(options, on_progress=move))
    except KeyboardInterrupt:
        console.note("Stopped. What is done is kept; the same command with --resume goes on from here.")
        raise


def _facts(run: Path, source: Path, *, native: bool, dicom_seg: bool) -> dict[str, Any]:
    """Give what else the result follows from."""
    from mammoprep import panoptic
    from mammoprep_model import checkpoint

    path = source / "panoptic.json"
    return {
        "weights": panoptic.file_hash(checkpoint.weights_of(run)),
        "dataset": panoptic.file_hash(path) if path.is_file() else None,
        "native": native or dicom_seg,
        "dicom_seg": dicom_seg,
    }


def _prompted(
    pictures: "list[Picture]", source: Path, asked: str | None, *, config: "RunConfig"
) -> "tuple[list[Picture], Mapping[str, Any]]":
    """Tell a promptable network where to look, as asked or as in training; give what manifest.json says of it."""
    from mammoprep import panoptic
    from mammoprep_model import prompts

    model = prompts.asked(config.preset, asked)
    if not model.prompted_by:
        return pictures, {}
    dataset = panoptic.load(source) if (source / "panoptic.json").is_file() else None
    found = prompts.prompted(pictures, model, categories=config.categories, dataset=dataset)
    return list(found.pictures), found.facts


def _names(
    source: Path, out: Path, asked: bool | None, key: Path | None
) -> "AbstractContextManager[Pseudonyms | None]":
    """Give pseudonyms for loose files, unless they are not wanted; a DATASET's names are what they are."""
    if (source / "panoptic.json").is_file():
        if asked or key:
            raise MammoprepError(f"{source} is a DATASET, whose names are kept. Leave out --pseudonymise and --key.")
        return nullcontext()
    wanted = pseudonyms.wanted(asked, key, default=True)
    return pseudonyms.keyed(source, out, key=key) if wanted else nullcontext()


class _Segs:
    """Checks that every file can have a DICOM SEG before a network is built, and writes them in the end."""

    def __init__(self, run: Path, source: Path, files: Mapping[str, Path], *, config: "RunConfig") -> None:
        from mammoprep.targets import dicom_seg

        if not files:
            raise MammoprepError(f"{source} is a DATASET, which holds no DICOM files. With --dicom-seg name those.")
        dicom_seg.require()
        self._files = files
        self._algorithm = _algorithm(run, config=config)
        for path in files.values():
            dicom_seg.check_source(path, algorithm=self._algorithm)

    def __call__(self, predictions: Path) -> None:
        """Write them beside the predictions, anew after an interruption: each has a UID and a time of its own."""
        from mammoprep.targets import dicom_seg

        shutil.rmtree(predictions / dicom_seg.FOLDER, ignore_errors=True)
        dicom_seg.write(predictions, self._files, algorithm=self._algorithm)


def _algorithm(run: Path, *, config: "RunConfig") -> "Algorithm":
    """Name a run by its folder, and its weights by our version and the start of their SHA-256."""
    from mammoprep import __version__, panoptic
    from mammoprep.targets.dicom_seg import Algorithm

    folder = run.resolve()
    name = f"{folder.parent.name}/{folder.name}" if folder.name.startswith("fold-") else folder.name
    version = f"{__version__}+{panoptic.file_hash(run / 'model.safetensors')[:12]}"
    return Algorithm(name=name, version=version, model=config.preset.name, software=__version__)


def _note_scale(tiles: int, *, config: "RunConfig") -> None:
    largest = config.preset.train.scale[1]
    if tiles > max(1, largest):
        console.note(
            f"predict: --tiles {tiles} shows lesions larger than the run saw in training (up to {largest:g} times)."
        )


def _note_time(seconds: float, count: int) -> None:
    minutes, rest = divmod(round(seconds), 60)
    time = f"{minutes} min" if minutes >= 10 else f"{minutes} min {rest} s" if minutes else f"{rest} s"
    console.note(f"predict: about {time} for {count} images on this CPU.")


def _pictures(
    source: Path, *, config: "RunConfig", native: bool, names: "Pseudonyms | None"
) -> "tuple[list[Picture], dict[str, Path]]":
    """List what is to be predicted, before a network is built; and loose files by the names of their pictures."""
    from mammoprep import panoptic
    from mammoprep_model import checkpoint, data

    if not source.exists():
        raise MissingFileError(source, hint="Name a DATASET, a folder of DICOM, PNG or JPEG files, or one file.")
    if (source / "panoptic.json").is_file():
        dataset = panoptic.load(source)
        checkpoint.check_categories(config, dataset.categories, where=source)
        pictures = data.pictures(dataset)
        return (_at_native_size(pictures, dataset=source) if native else pictures), {}
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if _is_image(path))
    if not files:
        raise MammoprepError(f"{source} holds no DATASET and no DICOM, PNG or JPEG file.")
    root = source.parent if source.is_file() else source
    called = [names.of_file(path.relative_to(root).as_posix()) for path in files] if names else _file_names(files)
    named = dict(sorted(zip(called, files, strict=True))) if names else dict(zip(called, files, strict=True))
    sizes = (None if native else _stored_size, _stored_size)
    listed = [
        data.Picture(number, name, partial(_read_loose, path), *sizes, mark=_mark(path))
        for number, (name, path) in enumerate(named.items(), start=1)
    ]
    return listed, named


def _at_native_size(pictures: "list[Picture]", *, dataset: Path) -> "list[Picture]":
    """Let a DATASET's pictures be predicted at the sizes that cases.csv gives for the original files."""
    from mammoprep import panoptic

    path = dataset / "cases.csv"
    rows = {row.get("image_id"): row for row in panoptic.load_cases(dataset)}
    sized = []
    for picture in pictures:
        try:
            row = rows[picture.name]
            height, width, y, x = (int(row[key]) for key in ("native_height", "native_width", "crop_y0", "crop_x0"))
        except (KeyError, TypeError, ValueError) as error:
            raise MammoprepError(
                f"{path} does not give the native size of {picture.name}. Leave out --native."
            ) from error
        if x or y or min(height, width) < 1:
            raise MammoprepError(f"{path}: {picture.name} is a part of its original. Leave out --native.")
        sized.append(replace(picture, size_of=_always((height, width))))
    return sized


def _always(size: tuple[int, int]) -> Callable[[tuple[int, int]], tuple[int, int]]:
    return lambda _: size


def _is_image(path: Path) -> bool:
    """Tell by the ending; any other file is one if it has the mark of DICOM part 10 (PS3.10 clause 7.1)."""
    if not path.is_file() or path.name.startswith(".") or path.name == "DICOMDIR":
        return False
    if path.suffix.lower() in _ENDINGS:
        return True
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _file_names(files: list[Path]) -> list[str]:
    """Give each file its name without ending; a name that is taken gets -2, then -3."""
    taken: dict[str, None] = {}
    for path in files:
        stem = path.stem if path.suffix.lower() in _ENDINGS else path.name
        name, count = stem, 1
        while name in taken:
            count += 1
            name = f"{stem}-{count}"
        taken[name] = None
    return list(taken)


def _mark(path: Path) -> str:
    """Tell a file from another one of its name, and from itself when it was changed, without giving it away."""
    facts = path.stat()
    return sha256(f"{path.absolute()} {facts.st_size} {facts.st_mtime_ns}".encode(errors="surrogateescape")).hexdigest()


def _read_loose(path: Path) -> Any:
    """Read a file in 16 bits at its own size."""
    from mammoprep import pixels

    try:
        return pixels.read(path).pixels
    except pixels.PixelError as error:
        raise MammoprepError(f"{path} could not be read: {error}. Take it out of the folder.") from error


def _stored_size(shape: tuple[int, int]) -> tuple[int, int]:
    """Give the (height, width) at which `mammoprep convert` would store an image."""
    scale = min(1, LONG_SIDE / max(shape))
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))
