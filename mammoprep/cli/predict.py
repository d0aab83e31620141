"""`mammoprep predict`: segment a DATASET, a folder of images or one image with a trained RUN."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mammoprep.cli import console
from mammoprep.cli.extra import require_model
from mammoprep.cli.train import Device, parse_weights
from mammoprep.errors import MammoprepError, MissingFileError

if TYPE_CHECKING:
    from mammoprep_model.checkpoint import RunConfig
    from mammoprep_model.data import Picture

LONG_SIDE = 1024
"""Loose files are predicted at this long side in pixels, as `mammoprep convert` stores them by default."""
_ENDINGS = frozenset({".dcm", ".dicom", ".dic", ".png", ".jpg", ".jpeg", ".pgm", ".tif", ".tiff"})


def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Written by mammoprep train.")],
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A DATASET, a folder of DICOM, PNG or JPEG files, or one file.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="PREDICTIONS folder to write.")],
    weights: Annotated[
        list[str] | None, typer.Option(help="Where a part lies: mam-e=DIR, or a folder of parts. May be repeated.")
    ] = None,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = "auto",
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images at a time.", show_default="as in training")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the predictions in OUT.")] = False,
    json: console.Json = False,
) -> None:
    """Write panoptic maps, instances with scores, semantic maps and heat maps.

    Images of a DATASET are predicted at their stored resolution, loose files at a long side of at most 1024 pixels.
    """
    require_model()
    from mammoprep import panoptic
    from mammoprep_model import checkpoint, inference

    panoptic.check_vacant(out, overwrite=overwrite)
    saved = checkpoint.read_run(run)
    pictures = _pictures(source, config=saved)
    places = parse_weights(weights or [], saved.preset.model.parts)
    network, config = checkpoint.load(run, weights=places, device=device)
    with console.progress("predict") as on_progress:
        options = inference.Options(batch_size=batch_size, overwrite=overwrite, on_progress=on_progress)
        inference.predict(network, pictures, out=out, config=config, options=options)
    if json:
        console.print_json({"predictions": str(out), "images": len(pictures)})
    else:
        console.stdout().print(f"{len(pictures)} images predicted: {out}", soft_wrap=True)


def _pictures(source: Path, *, config: "RunConfig") -> "list[Picture]":
    """List what is to be predicted, before a network is built."""
    from mammoprep import panoptic
    from mammoprep_model import checkpoint, data

    if not source.exists():
        raise MissingFileError(source, hint="Name a DATASET, a folder of DICOM, PNG or JPEG files, or one file.")
    if (source / "panoptic.json").is_file():
        dataset = panoptic.load(source)
        checkpoint.check_categories(config, dataset.categories, where=source)
        return data.pictures(dataset)
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if _is_image(path))
    if not files:
        raise MammoprepError(f"{source} holds no DATASET and no DICOM, PNG or JPEG file.")
    return [data.Picture(*named, _reader(path)) for named, path in zip(enumerate(_names(files), 1), files, strict=True)]


def _is_image(path: Path) -> bool:
    """Tell by the ending; any other file is one if it has the mark of DICOM part 10 (PS3.10 clause 7.1)."""
    if not path.is_file() or path.name.startswith(".") or path.name == "DICOMDIR":
        return False
    if path.suffix.lower() in _ENDINGS:
        return True
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _names(files: list[Path]) -> list[str]:
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


def _reader(path: Path) -> Callable[[], Any]:
    return lambda: _read_loose(path)


def _read_loose(path: Path) -> Any:
    """Read a file as `mammoprep convert` would store it, in 16 bits."""
    import cv2

    from mammoprep import pixels

    try:
        grey = pixels.read(path).pixels
    except pixels.PixelError as error:
        raise MammoprepError(f"{path} could not be read: {error} Take it out of the folder.") from error
    scale = LONG_SIDE / max(grey.shape)
    if scale >= 1:
        return grey
    height, width = (max(1, round(side * scale)) for side in grey.shape)
    return cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
