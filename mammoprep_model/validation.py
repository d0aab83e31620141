"""Validation while training: which weights segment the validation images best so far, and when to stop looking.

Best is the highest score, which is mammoprep.evaluation's, or the lowest loss. The images that choose the weights are
those that a fold is scored on in the end, which flatters that score; leave `validate_every` at 0 and `keep` at `last`
for figures that a reviewer cannot fault.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from mammoprep import panoptic
from mammoprep.evaluation.matching import THRESHOLDS
from mammoprep.evaluation.scores import score
from mammoprep.evaluation.tally import tally
from mammoprep.panoptic import Panoptic
from mammoprep_model import checkpoint, data, inference
from mammoprep_model.checkpoint import RunConfig
from mammoprep_model.log import Log
from mammoprep_model.prompts import prompted
from mammoprep_model.segmenter import Segmenter, Whole

THRESHOLD = 0.1
"""The IoU at which PQ decides."""
_QUALITIES = ("PQ", "RQ", "SQ", "AP")


@dataclass(frozen=True)
class Best:
    """The weights with the highest quality so far (PQ, or minus the loss), and after which step they were that."""

    step: int
    quality: float
    tensors: Mapping[str, Tensor]


class Validation:
    """Scores a network now and then, or measures its loss; `best` is None before there is a choice.

    RUN/validation.csv has a line each time, where a score that is not given is left empty.
    """

    def __init__(self, dataset: Panoptic, image_ids: Collection[int], *, config: RunConfig, run: Path) -> None:
        self._dataset = dataset
        self._image_ids = image_ids
        self._config = config
        self._run = run
        self._rows: dict[int, dict[str, float | None]] = {}
        self.best: Best | None = None

    def is_due(self, step: int) -> bool:
        """Tell whether the network is to be scored after this step: at every so many, and after the last."""
        train = self._config.preset.train
        return bool(train.validate_every) and (step % train.validate_every == 0 or step == train.steps)

    @property
    def is_over(self) -> bool:
        """Tell whether the last `patience` times brought nothing better."""
        patience = self._config.preset.train.patience
        since = [step for step, row in self._rows.items() if "PQ" in row and self.best and step > self.best.step]
        return bool(patience) and len(since) >= patience

    def look(self, network: Segmenter, *, step: int, log: Log | None = None) -> None:
        """Score the network as it is, and show it in the log; it is left ready to train."""
        with TemporaryDirectory(prefix="validation-", dir=self._run) as folder:
            out = Path(folder) / "predictions"
            found = prompted(
                data.pictures(self._dataset, self._image_ids),
                self._config.preset.model,
                categories=self._dataset.categories,
                dataset=self._dataset,
            )
            options = inference.Options(batch_size=self._config.preset.train.micro_batch or None, facts=found.facts)
            inference.predict(network, found.pictures, out=out, config=self._config, options=options)
            sweep = score(tally(self._dataset.root, out, image_ids=self._image_ids)).scores.sweep
            level = THRESHOLDS.index(THRESHOLD)
            curves = {name: getattr(sweep, name) for name in _QUALITIES}
            scores = {name: curve[level] if curve else None for name, curve in curves.items()}
            if log:
                log.show(step, scores, dataset=self._dataset.root, predictions=out)
        checkpoint.module_of(network).train()
        self._add(step, scores)
        self._choose(network, step=step, quality=scores["PQ"] or 0.0)

    @torch.no_grad()
    def measure(self, network: Segmenter, *, step: int, size: int, log: Log | None = None) -> float:
        """Give the loss of the validation images, so many computed at a time; the network is left ready to train.

        Nothing is weighted and nothing left to chance: images are whole, or under `view` windows one window each, and a
        loss draws the same random numbers every time. Call it under the autocast of the training.
        """
        module, train, device = checkpoint.module_of(network).eval(), self._config.preset.train, self._config.device
        total = 0.0
        with torch.random.fork_rng([device] if device.startswith("cuda") else []):
            for batch in data.stream(self._images, range(0, len(self._images), train.batch_size)):
                for part in batch.parts(size, whole=Whole(batch.labels, 0)):
                    torch.manual_seed(self._config.seed)
                    terms = network.loss(part.to(device))
                    total += sum(map(float, terms.values())) * len(batch.images)
        module.train()
        loss = total / len(self._images)
        self._add(step, {"loss": loss})
        if log:
            log.score(step, {"loss": loss})
        if train.keep == "best":
            self._choose(network, step=step, quality=-loss)
        return loss

    @cached_property
    def _images(self) -> data.TrainingImages:
        train = self._config.preset.train
        views = replace(train, augment="none", lesion_crops=0.0, balance=False, class_weights="none")
        if train.view != "windows":
            views = replace(views, view="whole", crop=-(-train.size // train.stride) * train.stride)
        seed = self._config.seed
        return data.TrainingImages(self._dataset, image_ids=self._image_ids, config=views, seed=seed, once=True)

    def _choose(self, network: Segmenter, *, step: int, quality: float) -> None:
        """Keep the weights if they are the best so far."""
        if self.best is None or quality > self.best.quality:
            self.best = Best(step, quality, checkpoint.tensors_of(network))

    def _add(self, step: int, row: Mapping[str, float | None]) -> None:
        self._rows.setdefault(step, {}).update(row)
        self.write()

    def write(self) -> None:
        """Write RUN/validation.csv, where there is something to write."""
        if not self._rows:
            return
        columns = [name for name in ("loss", *_QUALITIES) if any(name in row for row in self._rows.values())]
        cells = ([step, *(row.get(name) for name in columns)] for step, row in self._rows.items())
        rows = (",".join("" if cell is None else str(cell) for cell in row) for row in cells)
        lines = [",".join(("step", *columns)), *rows]
        panoptic.write_bytes(self._run / "validation.csv", ("\n".join(lines) + "\n").encode())

    def state(self) -> dict[str, Any]:
        """Give what a checkpoint keeps."""
        best = self.best and {"step": self.best.step, "quality": self.best.quality, "tensors": dict(self.best.tensors)}
        return {"rows": self._rows, "best": best}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave; what was written after it is forgotten."""
        self._rows = dict(state["rows"])
        self.best = Best(**state["best"]) if state["best"] else None
