"""Validation while training: which weights segment the validation images best so far, and when to stop looking.

The score is mammoprep.evaluation's. The images that choose the weights are those that a fold is scored on in the end,
which flatters that score; leave `validate_every` at 0 for figures that a reviewer cannot fault.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from mammoprep import panoptic
from mammoprep.evaluation.matching import THRESHOLDS
from mammoprep.evaluation.scores import score
from mammoprep.evaluation.tally import tally
from mammoprep.panoptic import Panoptic
from mammoprep_model import checkpoint, data, inference
from mammoprep_model.checkpoint import RunConfig
from mammoprep_model.log import Log
from mammoprep_model.segmenter import Segmenter

THRESHOLD = 0.1
"""The IoU at which PQ decides."""
_QUALITIES = ("PQ", "RQ", "SQ", "AP")


@dataclass(frozen=True)
class Best:
    """The weights with the highest PQ so far, and after which step they were that."""

    step: int
    quality: float
    tensors: Mapping[str, Tensor]


class Validation:
    """Scores a network now and then; `best` is None before the first time. RUN/validation.csv has a line each time.

    There a score that is not given is left empty.
    """

    def __init__(self, dataset: Panoptic, image_ids: Collection[int], *, config: RunConfig, run: Path) -> None:
        self._dataset = dataset
        self._image_ids = image_ids
        self._config = config
        self._run = run
        self._rows: dict[int, list[float | None]] = {}
        self.best: Best | None = None

    def is_due(self, step: int) -> bool:
        """Tell whether the network is to be scored after this step: at every so many, and after the last."""
        train = self._config.preset.train
        return bool(train.validate_every) and (step % train.validate_every == 0 or step == train.steps)

    @property
    def is_over(self) -> bool:
        """Tell whether the last `patience` times brought nothing better."""
        patience = self._config.preset.train.patience
        since = [step for step in self._rows if self.best and step > self.best.step]
        return bool(patience) and len(since) >= patience

    def look(self, network: Segmenter, *, step: int, log: Log | None = None) -> None:
        """Score the network as it is, and show it in the log; it is left ready to train."""
        with TemporaryDirectory(prefix="validation-", dir=self._run) as folder:
            out = Path(folder) / "predictions"
            pictures = data.pictures(self._dataset, self._image_ids)
            options = inference.Options(batch_size=self._config.preset.train.micro_batch or None)
            inference.predict(network, pictures, out=out, config=self._config, options=options)
            sweep = score(tally(self._dataset.root, out, image_ids=self._image_ids)).scores.sweep
            level = THRESHOLDS.index(THRESHOLD)
            curves = {name: getattr(sweep, name) for name in _QUALITIES}
            found = {name: curve[level] if curve else None for name, curve in curves.items()}
            if log:
                log.show(step, found, dataset=self._dataset.root, predictions=out)
        checkpoint.module_of(network).train()
        self._rows[step] = [*found.values()]
        self.write()
        quality = self._rows[step][0] or 0.0
        if self.best is None or quality > self.best.quality:
            self.best = Best(step, quality, checkpoint.tensors_of(network))

    def write(self) -> None:
        """Write RUN/validation.csv, where there is something to write."""
        if not self._rows:
            return
        rows = (
            ",".join((str(step), *("" if quality is None else str(quality) for quality in qualities)))
            for step, qualities in self._rows.items()
        )
        lines = [",".join(("step", *_QUALITIES)), *rows]
        panoptic.write_bytes(self._run / "validation.csv", ("\n".join(lines) + "\n").encode())

    def state(self) -> dict[str, Any]:
        """Give what a checkpoint keeps."""
        best = self.best and {"step": self.best.step, "quality": self.best.quality, "tensors": dict(self.best.tensors)}
        return {"rows": self._rows, "best": best}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave; what was written after it is forgotten."""
        self._rows = dict(state["rows"])
        self.best = Best(**state["best"]) if state["best"] else None
