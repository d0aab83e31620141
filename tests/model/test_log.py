"""log.csv reads back exactly, and goes on where the checkpoint stands."""

import csv
from pathlib import Path

from mammoprep_model.log import Log, PeakMemory, Step


def step(number: int, loss: float = 0.1) -> Step:
    return Step(
        fold=0,
        number=number,
        steps=9,
        losses={"mask": loss, "class": 0.2},
        learning_rate=1e-4,
        images_per_second=12.3456,
        peak_memory=100.04,
    )


def write(run: Path, *numbers: int, after: int = 0) -> list[dict[str, str]]:
    with Log(run, after=after) as log:
        for number in numbers:
            log.write(step(number))
    with (run / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_holds_each_loss_and_their_sum_exactly(tmp_path: Path) -> None:
    (row,) = write(tmp_path, 1)
    assert list(row) == ["step", "mask", "class", "total", "lr", "images/s", "peak_memory_mib"]
    assert float(row["total"]) == 0.1 + 0.2
    assert (row["lr"], row["images/s"], row["peak_memory_mib"]) == ("0.0001", "12.346", "100.0")


def test_rows_beyond_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    write(tmp_path, 1, 2, 3, 4)
    assert [row["step"] for row in write(tmp_path, 3, after=2)] == ["1", "2", "3"]


def test_a_line_that_a_power_cut_tore_is_dropped(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    with (tmp_path / "log.csv").open("a") as file:
        file.write("1")
    assert [row["step"] for row in write(tmp_path, 3, after=2)] == ["1", "2", "3"]


def test_a_new_start_empties_the_log(tmp_path: Path) -> None:
    write(tmp_path, 1, 2, 3)
    assert [row["step"] for row in write(tmp_path, 1)] == ["1"]


def test_memory_never_falls() -> None:
    memory = PeakMemory("cpu")
    first = memory.mebibytes()
    assert 0 < first <= memory.mebibytes()
