"""`mammoprep export`: a DATASET in the format of another tool."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mammoprep.cli import console

To = Literal["coco", "yolo", "nnunet", "cvat", "labelme", "hf", "dicom-seg"]


def export(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Written by mammoprep convert.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write: whole or not at all.")],
    to: Annotated[To, typer.Option(help="Whose format.")],
    fold: Annotated[
        int | None, typer.Option(min=0, help="Write train and val of this fold of folds.json apart (coco, yolo, hf).")
    ] = None,
    raw: Annotated[Path | None, typer.Option(metavar="DIR", help="Raw folder of the DICOM files (dicom-seg).")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export in OUT.")] = False,
    json: console.Json = False,
) -> None:
    """Write a DATASET in another tool's format; what that format cannot hold is counted on stderr.

    COCO comes back by `mammoprep convert coco`, CVAT and LabelMe by `mammoprep convert folder`, so outlines that
    were corrected there come home. DICOM SEG carry the patient and study of their mammogram: treat them like those.
    """
    from mammoprep import targets

    with console.progress("Exporting") as move:
        options = targets.Options(to, fold=fold, raw=raw, overwrite=overwrite, on_progress=move)
        report = targets.export(dataset, out, options=options)
    for what, count in report.not_held.items():
        console.note(f"{to} does not hold everything: {count} {what}.")
    if json:
        console.print_json({"out": str(out), **report.to_json()})
        return
    part = "" if fold is None else f", fold {fold}"
    console.stdout().print(
        f"{report.images} images with {report.lesions} lesions for {to}{part}: {out}", soft_wrap=True, markup=False
    )
