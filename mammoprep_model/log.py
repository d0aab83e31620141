"""What training reports of each step: log.csv, and TensorBoard events where tensorboard is installed."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Self

import psutil
import torch

from mammoprep import panoptic

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


Draw = Callable[[Path, Path, Path], Sequence[Path]]
"""Draw some images of a DATASET with what its PREDICTIONS say into a folder, a colour PNG each; give their paths."""


@dataclass(frozen=True)
class Step:
    """One optimiser step: its number of so many, the weighted losses, speed, and peak memory in MiB (GPU, else RAM).

    `fold` is None where no fold is trained.
    """

    fold: int | None
    number: int
    steps: int
    losses: Mapping[str, float]
    learning_rate: float
    images_per_second: float
    peak_memory: float

    @property
    def total(self) -> float:
        """Give the sum of the losses."""
        return sum(self.losses.values())

    def row(self) -> dict[str, float]:
        """Give one line of log.csv."""
        return {
            "step": self.number,
            **self.losses,
            "total": self.total,
            "lr": self.learning_rate,
            "images/s": round(self.images_per_second, 3),
            "peak_memory_mib": round(self.peak_memory, 1),
        }


class PeakMemory:
    """The most memory seen so far: allocated on the GPU, else resident in RAM."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._process = psutil.Process()
        self._peak = 0
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats(device)

    def mebibytes(self) -> float:
        """Look again and give the peak in MiB."""
        now = torch.cuda.max_memory_allocated(self._device) if self._on_gpu else self._process.memory_info().rss
        self._peak = max(self._peak, now)
        return self._peak / 2**20

    def __str__(self) -> str:
        """Give the peak and all that the device has."""
        total = torch.cuda.mem_get_info(self._device)[1] if self._on_gpu else psutil.virtual_memory().total
        return f"peak {self.mebibytes():,.0f} of {total / 2**20:,.0f} MiB"

    @property
    def _on_gpu(self) -> bool:
        return self._device.startswith("cuda")


class Log:
    """Appends to a run's log after step `after`; what an earlier start wrote beyond it is dropped."""

    def __init__(self, run: Path, *, after: int, draw: Draw | None = None) -> None:
        self._draw = draw
        self._path = run / "log.csv"
        kept = self._kept(after)
        panoptic.write_bytes(self._path, "".join(kept).encode())
        with panoptic.writing(self._path):
            self._file = self._path.open("a", newline="", encoding="utf-8")
        self._header = any(kept)
        self._events = _events(run, after=after)

    def _kept(self, after: int) -> list[str]:
        if after == 0 or not self._path.is_file():
            return []
        whole = [line for line in self._path.read_text(encoding="utf-8").splitlines(keepends=True) if line[-1] == "\n"]
        header, *rows = whole or [""]
        numbered = ((row.partition(",")[0], row) for row in rows)  # a machine that went down may have lost any row
        return [header, *(row for number, row in numbered if number.isdecimal() and int(number) <= after)]

    def write(self, step: Step) -> None:
        """Add a step; floats are written so that they read back exactly."""
        row = step.row()
        writer = csv.DictWriter(self._file, fieldnames=list(row), lineterminator="\n")
        with panoptic.writing(self._path):
            if not self._header:
                writer.writeheader()
                self._header = True
            writer.writerow(row)
            self._file.flush()
        if self._events is not None:
            for name, value in row.items():
                self._events.add_scalar(name, value, step.number)

    def show(self, step: int, qualities: Mapping[str, float | None], *, dataset: Path, predictions: Path) -> None:
        """Add how well the validation images were segmented to TensorBoard, and pictures of some of them."""
        self.score(step, qualities)
        if self._events is None or self._draw is None:
            return
        with TemporaryDirectory(prefix="overlays-", dir=predictions.parent) as folder:
            for path in self._draw(dataset, Path(folder), predictions):
                picture = panoptic.read_png(path)[..., ::-1]  # OpenCV's BGR
                self._events.add_image(f"validation/{path.stem}", picture.copy(), step, dataformats="HWC")

    def score(self, step: int, qualities: Mapping[str, float | None]) -> None:
        """Add what was measured on the validation images to TensorBoard."""
        for name, quality in qualities.items():
            if self._events is not None and quality is not None:
                self._events.add_scalar(f"validation/{name}", quality, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._events is not None:
            self._events.close()


def _events(run: Path, *, after: int) -> "SummaryWriter | None":
    if find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(run / "tensorboard"), purge_step=after + 1)
