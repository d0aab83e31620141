"""An example or two for each command, shown below its help."""

from collections.abc import Iterable, Mapping

from typer.models import CommandInfo

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "convert": ("mammoprep convert vindr physionet.org/files/vindr-mammo/1.0.0 vindr",),
    "convert vindr": (
        "mammoprep convert vindr physionet.org/files/vindr-mammo/1.0.0 vindr",
        "mammoprep convert vindr RAW OUT --dry-run",
    ),
    "convert cdd-cesm": ("mammoprep convert cdd-cesm RAW OUT --modality subtracted --normals",),
    "convert inbreast": ("mammoprep convert inbreast RAW OUT --pectoral --long-side 0",),
    "convert cmmd": ("mammoprep convert cmmd RAW OUT --missing-rows normal",),
    "convert folder": ("mammoprep convert folder RAW OUT --column patient=PatID --classes benign,malignant",),
    "convert coco": ("mammoprep convert coco RAW OUT --patient '^([^/]+)/'",),
    "readers": ("mammoprep readers", "mammoprep readers folder"),
    "inspect": ("mammoprep inspect RAW", "mammoprep inspect DATASET --out figures"),
    "check": ("mammoprep check DATASET", "mammoprep check DATASET --fix"),
    "folds": ("mammoprep folds DATASET -k 5 --seed 1", "mammoprep folds DATASET --official"),
    "gallery": ("mammoprep gallery runs/m-odise --open", "mammoprep gallery DATASET --queue --raw RAW"),
    "models": ("mammoprep models",),
    "weights": ("mammoprep weights --for m-odise --to weights",),
    "pretrain": (
        "mammoprep pretrain DATASET --fold 0 --out backbones/fold-0",
        "mammoprep pretrain DATASET --fold 0 --out backbones/fold-0 --resume",
    ),
    "train": (
        "mammoprep train DATASET --model tiny --out runs/tiny",
        "mammoprep train DATASET --model m-odise --fold all --out runs/m-odise --weights weights",
    ),
    "predict": (
        "mammoprep predict runs/tiny DATASET predictions",
        "mammoprep predict runs/tiny DICOM_FOLDER predictions --native --tiles 2",
    ),
    "evaluate": (
        "mammoprep evaluate runs/tiny --iou-sweep --figures",
        "mammoprep evaluate DATASET PREDICTIONS --out results/mine",
        "mammoprep evaluate runs/tiny --on OTHER_DATASET",
    ),
    "compare": ("mammoprep compare runs/a runs/b --published vindr",),
    "benchmark": (
        "mammoprep benchmark DATASET --models tiny,u-net --folds 3 --budget 30",
        "mammoprep benchmark DATASET --models all --weights weights --budget 600 --set u-net:train.lr=3e-4",
    ),
    "export": (
        "mammoprep export DATASET yolo --to yolo --fold 0",
        "mammoprep export DATASET nnUNet_raw/Dataset001_Mammo --to nnunet",
        "mammoprep export DATASET seg --to dicom-seg --raw RAW",
    ),
    "analyse-diffusion": ("mammoprep analyse-diffusion runs/ensemdiff runs/ensemdiff-feed-forward",),
    "demo": ("mammoprep demo", "mammoprep demo OUT --seed 1"),
    "doctor": ("mammoprep doctor", "mammoprep doctor --json"),
}
"""By command; a reader that is not named has the simplest."""


def of(command: str) -> str:
    """Give the text below a command's help."""
    lines = EXAMPLES.get(command, (f"mammoprep {command} RAW OUT",))
    return "\n\n".join(("Examples:" if len(lines) > 1 else "Example:", *lines))  # a line of its own each


def give(commands: Iterable[CommandInfo]) -> None:
    """Put the examples below the help of registered commands."""
    for command in commands:
        command.epilog = of(str(command.name or getattr(command.callback, "__name__", "")))
