"""What a training took, read from hand-written logs."""

from dataclasses import replace
from pathlib import Path

import pytest

from mammoprep.errors import MammoprepError
from mammoprep_model import checkpoint, cost, trainer
from mammoprep_model.config import Preset
from mammoprep_model.cost import Cost

pytestmark = pytest.mark.usefixtures("fake_network")
LOG = "step,total,images/s,peak_memory_mib\n1,3.0,4.0,100.0\n2,2.0,1.0,300.5\n"


@pytest.fixture
def run(dataset: Path, tmp_path: Path, small_preset: Preset) -> Path:
    return trainer.train(dataset, out=tmp_path / "run", preset=small_preset, session=trainer.Session(device="cpu"))


def test_seconds_memory_and_parameters(run: Path) -> None:
    """Two images a step: half a second at 4 images/s, two at 1; a CPU has no GPU memory."""
    (run / "log.csv").write_text(LOG)
    config = checkpoint.read_run(run)
    assert cost.of_run(run) == Cost(config.trained_parameters, None, 2.5)
    checkpoint.write_run(run, replace(config, device="cuda:0", trained_parameters=None))
    assert cost.of_run(run) == Cost(None, 300.5, 2.5)


def test_folds_have_one_network_the_largest_memory_and_the_mean_time() -> None:
    assert cost.of_folds([Cost(7, 10.0, 1.0), Cost(7, 30.0, 2.0)]) == Cost(7, 30.0, 1.5)
    assert cost.of_folds([Cost(7, None, 1.0)]) == Cost(7, None, 1.0)


def test_a_log_of_something_else_is_named(run: Path) -> None:
    (run / "log.csv").write_text("step,loss\n1,2.0\n")
    with pytest.raises(MammoprepError, match="a row lacks images/s"):
        cost.of_run(run)


def test_a_fold_counts_when_its_predictions_are_there(run: Path) -> None:
    assert cost.finished_folds(run) == {0: run}
    (run / "fold-0" / "predictions" / "panoptic.json").unlink()
    with pytest.raises(MammoprepError, match="fold 0 has not been trained to its end"):
        cost.finished_folds(run)
