"""A finished RUN on another DATASET: what its networks have seen, and their predictions, one folder a fold."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mammoprep import panoptic
from mammoprep.errors import MammoprepError, MissingFileError
from mammoprep.panoptic import Panoptic
from mammoprep_model import checkpoint, data, inference, prompts
from mammoprep_model.schedule import needs_loss


@dataclass(frozen=True)
class Session:
    """What is said about one call: where pretrained parts lie, where to compute, who is told (fold, done, total).

    `prompts` tells promptable networks where to look, if not as in training.
    """

    weights: Mapping[str, str] = field(default_factory=dict)
    device: str = "auto"
    prompts: str | None = None
    on_predict: Callable[[int, int, int], None] | None = None


def seen(runs: Mapping[int, Path]) -> tuple[Panoptic, set[int]]:
    """Give the data set of a RUN, and its images that any of the networks was trained on or chosen by."""
    root = Path(checkpoint.read_run(next(iter(runs.values()))).dataset)
    if not (root / "panoptic.json").is_file():
        raise MissingFileError(
            root, hint="Without the data set of the RUN shared patients cannot be counted. Put it back there."
        )
    images: set[int] = set()
    for fold, run in runs.items():
        config = checkpoint.read_run(run)
        if panoptic.file_hash(root / "folds.json") != config.folds_hash:
            raise MammoprepError(
                f"{root / 'folds.json'} is not the one that {run} was trained with, so shared patients cannot be"
                " counted. Put that one back, or train again."
            )
        train, val = panoptic.load_fold(root, fold)
        chose = needs_loss(config.preset.train) or config.preset.train.validate_every
        images |= {*train, *(val if chose else ())}
    return panoptic.load(root), images


def predict(run: Path, dataset: Panoptic, *, out: Path, session: Session = Session()) -> None:
    """Write the PREDICTIONS of all images of a DATASET: go on with what was interrupted, keep what is complete."""
    saved = checkpoint.read_run(run)
    model = prompts.asked(saved.preset, session.prompts)
    told = prompts.prompted(data.pictures(dataset), model, categories=saved.categories, dataset=dataset)
    made_from = {
        **told.facts,
        "weights": panoptic.file_hash(checkpoint.weights_of(run)),
        "dataset": panoptic.file_hash(dataset.root / "panoptic.json"),
    }
    if _is_complete(out, made_from):
        return
    network, config = checkpoint.load(run, weights=session.weights, device=session.device)
    report = session.on_predict
    options = inference.Options(
        batch_size=config.preset.train.micro_batch or None,
        existing="resume",
        facts=made_from,
        on_progress=report and (lambda done, total: report(config.fold, done, total)),
    )
    with inference.enough_memory():
        inference.predict(network, told.pictures, out=out, config=config, options=options)


def _is_complete(out: Path, made_from: Mapping[str, Any]) -> bool:
    """Tell whether all is predicted, wherever it was computed; another network's or data set's is refused."""
    panoptic.tidy(out)
    if panoptic.partial_of(out).exists() or not (out / "manifest.json").is_file():
        return False
    manifest = panoptic.read_json(out / "manifest.json", hint="Delete that folder.")
    if all(manifest.get(key) == value for key, value in made_from.items()):
        return True
    raise MammoprepError(
        f"{out} holds predictions of other weights, other prompts or another data set. Name another --out."
    )
