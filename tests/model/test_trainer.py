"""A run stops and resumes without a trace, gives the same bytes twice, and never writes over another."""

import csv
import errno
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mammoprep import panoptic
from mammoprep.errors import MammoprepError, MissingFileError
from mammoprep_model import checkpoint, provenance, trainer
from mammoprep_model.config import Preset
from mammoprep_model.interrupts import Stopped
from mammoprep_model.log import Step
from mammoprep_model.trainer import Session

pytestmark = pytest.mark.usefixtures("fake_network")
RESUME = Session(device="cpu", resume=True)
CPU = Session(device="cpu")


def losses(run: Path) -> list[tuple[str, str, str, str]]:
    with (run / "log.csv").open(newline="") as file:
        return [(row["step"], row["mask"], row["class"], row["total"]) for row in csv.DictReader(file)]


def weights(run: Path) -> bytes:
    return (run / "model.safetensors").read_bytes()


def stop_at(step: int, number: int = signal.SIGINT) -> Session:
    return replace(CPU, on_step=lambda report: os.kill(os.getpid(), number) if report.number == step else None)


def test_a_run_holds_what_the_documentation_promises(dataset: Path, tmp_path: Path, small_preset: Preset) -> None:
    steps: list[Step] = []
    session = replace(CPU, on_step=steps.append)
    run = trainer.train(dataset, out=tmp_path / "run", preset=small_preset, fold=1, session=session)
    assert {path.name for path in run.iterdir()} == {
        "run.json",
        "model.safetensors",
        "state.pt",
        "log.csv",
        "fold-1",
        "tensorboard",
    }
    assert [image.id for image in panoptic.load(run / "fold-1" / "predictions").images] == [2, 5]
    header = (run / "log.csv").read_text().splitlines()[0]
    assert header == "step,mask,class,total,lr,images/s,peak_memory_mib"
    assert [step.number for step in steps] == [1, 2, 3, 4, 5, 6]
    assert steps[0].peak_memory > 1
    assert len(list((run / "tensorboard").iterdir())) == 1


def test_the_loss_falls(dataset: Path, tmp_path: Path, small_preset: Preset) -> None:
    preset = replace(small_preset, train=replace(small_preset.train, steps=40))
    trainer.train(dataset, out=tmp_path / "run", preset=preset, session=CPU)
    totals = [float(total) for *_, total in losses(tmp_path / "run")]
    assert sum(totals[-5:]) < 0.7 * sum(totals[:5])


def test_the_same_seed_gives_the_same_bytes(dataset: Path, tmp_path: Path, small_preset: Preset) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        trainer.train(dataset, out=tmp_path / name, preset=small_preset, seed=seed, session=CPU)
    assert weights(tmp_path / "a") == weights(tmp_path / "b") != weights(tmp_path / "c")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_resumes_without_a_trace(
    dataset: Path, tmp_path: Path, small_preset: Preset, number: int
) -> None:
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    trainer.train(dataset, out=whole, preset=small_preset, session=CPU)
    with pytest.raises(Stopped, match="after step 3 of 6"):
        trainer.train(dataset, out=halved, preset=small_preset, session=stop_at(3, number))
    assert len(losses(halved)) == 3
    torch.rand(5)
    trainer.train(dataset, out=halved, preset=small_preset, session=RESUME)
    assert losses(halved) == losses(whole)
    assert weights(halved) == weights(whole)
    first, second = (run / "fold-0" / "predictions" / "instances.json" for run in (whole, halved))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5])
def test_resuming_in_the_middle_of_an_epoch_gives_the_same_bytes(
    dataset: Path, tmp_path: Path, small_preset: Preset, at: int
) -> None:
    """Four training images in batches of three: after all but the fourth step an epoch is half done."""
    preset = replace(small_preset, train=replace(small_preset.train, batch_size=3, checkpoint_every=100, ema=0.7))
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    trainer.train(dataset, out=whole, preset=preset, session=CPU)
    with pytest.raises(Stopped):
        trainer.train(dataset, out=halved, preset=preset, session=stop_at(at, signal.SIGTERM))
    state = checkpoint.load_state(halved)
    assert state is not None
    assert state["position"] == 3 * at
    trainer.train(dataset, out=halved, preset=preset, session=RESUME)
    assert losses(halved) == losses(whole)
    assert weights(halved) == weights(whole)
    first, second = (checkpoint.load_state(run) for run in (whole, halved))
    assert first is not None
    assert second is not None
    assert all(torch.equal(first["network"][name], second["network"][name]) for name in first["network"])
    assert torch.equal(first["random"]["cpu"], second["random"]["cpu"])


def test_a_crash_between_checkpoints_resumes_from_the_last_one(
    dataset: Path, tmp_path: Path, small_preset: Preset
) -> None:
    def crash(report: Step) -> None:
        if report.number == 5:
            raise RuntimeError("power cut")

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    trainer.train(dataset, out=whole, preset=small_preset, session=CPU)
    with pytest.raises(RuntimeError, match="power cut"):
        trainer.train(dataset, out=broken, preset=small_preset, session=replace(CPU, on_step=crash))
    assert len(losses(broken)) == 5
    trainer.train(dataset, out=broken, preset=small_preset, session=RESUME)
    assert losses(broken) == losses(whole)
    assert weights(broken) == weights(whole)


def test_a_crash_before_the_first_checkpoint_starts_again(dataset: Path, tmp_path: Path, small_preset: Preset) -> None:
    with pytest.raises(Stopped):
        trainer.train(dataset, out=tmp_path / "run", preset=small_preset, session=stop_at(1))
    (tmp_path / "run" / "state.pt").unlink()
    trainer.train(dataset, out=tmp_path / "run", preset=small_preset, session=RESUME)
    assert [step for step, *_ in losses(tmp_path / "run")] == list("123456")


def test_a_run_may_be_made_longer(dataset: Path, tmp_path: Path, small_preset: Preset) -> None:
    run = trainer.train(dataset, out=tmp_path / "run", preset=small_preset, session=CPU)
    longer = replace(small_preset, train=replace(small_preset.train, steps=8, batch_size=3))
    trainer.train(dataset, out=run, preset=longer, session=RESUME)
    assert [step for step, *_ in losses(run)] == list("12345678")
    assert checkpoint.read_run(run).preset.train.steps == 8
    state = checkpoint.load_state(run)
    assert state is not None
    assert state["position"] == 6 * 2 + 2 * 3


def test_a_finished_run_is_left_alone_by_resume(dataset: Path, tmp_path: Path, small_preset: Preset) -> None:
    run = trainer.train(dataset, out=tmp_path / "run", preset=small_preset, session=CPU)
    before = (run / "state.pt").stat().st_mtime_ns
    trainer.train(dataset, out=run, preset=small_preset, session=RESUME)
    assert (run / "state.pt").stat().st_mtime_ns == before


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(
    dataset: Path, tmp_path: Path, small_preset: Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    assemble = checkpoint.assemble

    def poisoned(config: Any) -> Any:
        network: Any = assemble(config)
        loss, calls = network.loss, iter(range(99))
        network.loss = lambda batch: {
            **loss(batch),
            "class": loss(batch)["class"] * (float("nan") if next(calls) == 3 else 1),
        }
        return network

    monkeypatch.setattr(checkpoint, "assemble", poisoned)
    with pytest.raises(MammoprepError, match=r"Step 4 stopped: class not finite on images \d, \d; the last") as error:
        trainer.train(dataset, out=tmp_path / "run", preset=small_preset, session=CPU)
    assert "\n" not in str(error.value)
    state = checkpoint.load_state(tmp_path / "run")
    assert state is not None
    assert state["step"] == 2
    assert all(tensor.isfinite().all() for tensor in state["network"].values())


def test_all_folds_stand_side_by_side_and_resume_fold_by_fold(
    dataset: Path, tmp_path: Path, small_preset: Preset
) -> None:
    def stop(report: Step) -> None:
        if (report.fold, report.number) == (1, 4):
            signal.raise_signal(signal.SIGINT)

    out = tmp_path / "runs"
    with pytest.raises(Stopped):
        trainer.train(dataset, out=out, preset=small_preset, fold="all", session=replace(CPU, on_step=stop))
    assert (out / "fold-0" / "predictions").is_dir()
    assert not (out / "fold-2").exists()
    first = (out / "fold-0" / "state.pt").stat().st_mtime_ns
    trainer.train(dataset, out=out, preset=small_preset, fold="all", session=RESUME)
    assert (out / "fold-0" / "state.pt").stat().st_mtime_ns == first
    assert json.loads((out / "run.json").read_text())["folds"] == [0, 1, 2]
    for k in range(3):
        assert checkpoint.read_run(out / f"fold-{k}").fold == k
        assert len(losses(out / f"fold-{k}")) == 6
        assert len(panoptic.load(out / f"fold-{k}" / "predictions").images) == 2
    alone = trainer.train(dataset, out=tmp_path / "alone", preset=small_preset, fold=1, session=CPU)
    assert weights(alone) == weights(out / "fold-1")


def test_a_run_is_not_written_over_without_a_word(dataset: Path, tmp_path: Path, small_preset: Preset) -> None:
    run = trainer.train(dataset, out=tmp_path / "run", preset=small_preset, session=CPU)
    with pytest.raises(MammoprepError, match="--resume to continue it, --overwrite"):
        trainer.train(dataset, out=run, preset=small_preset, session=CPU)
    (run / "mark").touch()
    trainer.train(dataset, out=run, preset=small_preset, fold=1, session=replace(CPU, overwrite=True))
    assert not (run / "mark").exists()
    assert not (run / "fold-0").exists()


def test_a_folder_of_other_things_is_never_removed(dataset: Path, tmp_path: Path, small_preset: Preset) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    for session in (CPU, replace(CPU, overwrite=True)):
        with pytest.raises(MammoprepError):
            trainer.train(dataset, out=tmp_path / "mine", preset=small_preset, session=session)
    assert (tmp_path / "mine" / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"seed": 5}, "another seed"),
        ({"fold": 2}, "--fold 0, not 2"),
        ({"fold": "all"}, "--fold 0, not all"),
        ({"preset": "name"}, "another model"),
        ({"preset": "queries"}, "another model setting"),
    ],
)
def test_resume_refuses_another_run(
    dataset: Path, tmp_path: Path, small_preset: Preset, change: dict[str, Any], reason: str
) -> None:
    run = trainer.train(dataset, out=tmp_path / "run", preset=small_preset, session=CPU)
    presets = {
        "name": replace(small_preset, name="m-odise"),
        "queries": replace(small_preset, model=replace(small_preset.model, queries=3)),
    }
    preset = presets.get(change.pop("preset", ""), small_preset)
    with pytest.raises(MammoprepError, match=reason):
        trainer.train(dataset, out=run, preset=preset, session=RESUME, **change)


@pytest.mark.parametrize(("name", "reason"), [("manifest.json", "another data set"), ("folds.json", "folds.json")])
def test_resume_refuses_data_that_changed(
    dataset: Path, tmp_path: Path, small_preset: Preset, name: str, reason: str
) -> None:
    run = trainer.train(dataset, out=tmp_path / "run", preset=small_preset, session=CPU)
    path = dataset / name
    path.write_text((path.read_text() if path.exists() else "{}") + " ")
    with pytest.raises(MammoprepError, match=reason):
        trainer.train(dataset, out=run, preset=small_preset, session=RESUME)


def test_there_must_be_something_to_resume(dataset: Path, tmp_path: Path, small_preset: Preset) -> None:
    with pytest.raises(MissingFileError, match="nothing to resume"):
        trainer.train(dataset, out=tmp_path / "typo", preset=small_preset, session=RESUME)


def test_wrong_folds_leave_nothing_behind(dataset: Path, tmp_path: Path, small_preset: Preset) -> None:
    with pytest.raises(MammoprepError, match="no fold 9"):
        trainer.train(dataset, out=tmp_path / "run", preset=small_preset, fold=9, session=CPU)
    folds = dataset / "folds.json"
    folds.write_text(json.dumps({"folds": [{"train": [1, 77], "val": [2]}]}))
    with pytest.raises(MammoprepError, match="names image 77"):
        trainer.train(dataset, out=tmp_path / "run", preset=small_preset, session=CPU)
    folds.unlink()
    with pytest.raises(MissingFileError, match="mammoprep folds"):
        trainer.train(dataset, out=tmp_path / "run", preset=small_preset, session=CPU)
    assert not (tmp_path / "run").exists()


def test_a_network_that_cannot_be_built_leaves_the_old_run(
    dataset: Path, tmp_path: Path, small_preset: Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object, **__: object) -> None:
        raise MammoprepError("no weights")

    run = trainer.train(dataset, out=tmp_path / "run", preset=small_preset, session=CPU)
    monkeypatch.setattr("mammoprep_model.odise.network.build", missing)
    with pytest.raises(MammoprepError, match="no weights"):
        trainer.train(dataset, out=run, preset=small_preset, session=replace(CPU, overwrite=True))
    assert (run / "model.safetensors").is_file()


def test_handlers_of_signals_are_put_back(dataset: Path, tmp_path: Path, small_preset: Preset) -> None:
    before: Callable[..., Any] | int | None = signal.getsignal(signal.SIGINT)
    trainer.train(dataset, out=tmp_path / "run", preset=small_preset, session=CPU)
    assert signal.getsignal(signal.SIGINT) is before


def with_average(preset: Preset, **values: Any) -> Preset:
    return replace(preset, train=replace(preset.train, ema=0.7, **values))


def test_the_average_is_what_is_saved_and_predicts(dataset: Path, tmp_path: Path, small_preset: Preset) -> None:
    """The loss curve is that of a run without it; model.safetensors is not what training goes on with."""
    plain = trainer.train(dataset, out=tmp_path / "plain", preset=small_preset, session=CPU)
    run = trainer.train(dataset, out=tmp_path / "run", preset=with_average(small_preset), session=CPU)
    assert losses(run) == losses(plain)
    assert weights(run) != weights(plain)
    state, before = checkpoint.load_state(run), checkpoint.load_state(plain)
    assert state is not None
    assert before is not None
    assert all(torch.equal(state["network"][name], before["network"][name]) for name in before["network"])
    network, _ = checkpoint.load(run, device="cpu")
    own = dict(checkpoint.module_of(network).named_parameters())
    assert all(torch.equal(own[name], average) for name, average in state["average"].items())
    predicted = (run / "fold-0" / "predictions" / "instances.json").read_bytes()
    assert predicted != (plain / "fold-0" / "predictions" / "instances.json").read_bytes()


def test_a_stopped_run_resumes_its_average_without_a_trace(dataset: Path, tmp_path: Path, small_preset: Preset) -> None:
    whole, halved, preset = tmp_path / "whole", tmp_path / "halved", with_average(small_preset)
    trainer.train(dataset, out=whole, preset=preset, session=CPU)
    with pytest.raises(Stopped):
        trainer.train(dataset, out=halved, preset=preset, session=stop_at(3))
    trainer.train(dataset, out=halved, preset=preset, session=RESUME)
    assert losses(halved) == losses(whole)
    assert weights(halved) == weights(whole)
    first, second = (run / "fold-0" / "predictions" / "instances.json" for run in (whole, halved))
    assert first.read_bytes() == second.read_bytes()


def test_an_average_may_begin_with_a_resumption(dataset: Path, tmp_path: Path, small_preset: Preset) -> None:
    run = trainer.train(dataset, out=tmp_path / "run", preset=small_preset, session=CPU)
    trainer.train(dataset, out=run, preset=with_average(small_preset, steps=8), session=RESUME)
    state = checkpoint.load_state(run)
    assert state is not None
    network, _ = checkpoint.load(run, device="cpu")  # the average, which is not where training stands
    checkpoint.restore(network, state["network"], where=run)
    last = dict(checkpoint.module_of(network).named_parameters())
    assert state["average"]
    assert all(not torch.equal(last[name], average) for name, average in state["average"].items())


def test_epochs_are_counted_in_the_fold(dataset: Path, tmp_path: Path, small_preset: Preset) -> None:
    """Four training images in batches of two: five epochs are ten steps, and run.json says so."""
    preset = replace(small_preset, train=replace(small_preset.train, epochs=5.0))
    run = trainer.train(dataset, out=tmp_path / "run", preset=preset, session=CPU)
    assert len(losses(run)) == 10
    assert checkpoint.read_run(run).preset.train.steps == 10


@pytest.mark.parametrize(("name", "value"), [("ema", 1.0), ("ema", -0.1), ("epochs", -1.0)])
def test_values_of_average_and_epochs_are_checked(
    dataset: Path, tmp_path: Path, small_preset: Preset, name: str, value: float
) -> None:
    wrong = replace(small_preset, train=replace(small_preset.train, **{name: value}))
    with pytest.raises(MammoprepError, match=f"train.{name} = {value} cannot be used"):
        trainer.train(dataset, out=tmp_path / "run", preset=wrong, session=CPU)
    assert not (tmp_path / "run").exists()


def test_a_second_training_into_the_same_run_is_refused(dataset: Path, tmp_path: Path, small_preset: Preset) -> None:
    refused: list[str] = []

    def begin_another(step: Step) -> None:
        for session in (CPU, RESUME, replace(CPU, overwrite=True)):
            with pytest.raises(MammoprepError, match=r"Another process is writing \S+/run\.") as error:
                trainer.train(dataset, out=tmp_path / "run", preset=small_preset, session=session)
            refused.append(str(error.value))

    run = trainer.train(dataset, out=tmp_path / "run", preset=small_preset, session=replace(CPU, on_step=begin_another))
    assert len(refused) == 3 * 6
    assert (run / "fold-0" / "predictions" / "panoptic.json").is_file()
    assert not panoptic.lock_of(run).exists()


def test_resume_refuses_other_versions_by_name(
    dataset: Path, tmp_path: Path, small_preset: Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer.train(dataset, out=tmp_path / "run", preset=small_preset, session=CPU)
    monkeypatch.setattr(provenance, "versions", lambda: {**checkpoint.read_run(run).versions, "torch": "99"})
    with pytest.raises(MammoprepError, match=r"run was made with versions torch = \S+, now 99\."):
        trainer.train(dataset, out=run, preset=small_preset, session=RESUME)


def test_a_full_disk_is_one_line_and_resumed_without_a_trace(
    dataset: Path, tmp_path: Path, small_preset: Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trainer.train(dataset, out=tmp_path / "whole", preset=small_preset, session=CPU)
    genuine = panoptic.sync

    def fail(path: Path) -> None:
        if path.name == "state.pt.partial" and (path.parent / "state.pt").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        genuine(path)

    with monkeypatch.context() as patch:
        patch.setattr("mammoprep.panoptic.folder.sync", fail)
        with pytest.raises(MammoprepError, match=r"No space left on device\..* --resume to go on from the last check"):
            trainer.train(dataset, out=tmp_path / "run", preset=small_preset, session=CPU)
    run = trainer.train(dataset, out=tmp_path / "run", preset=small_preset, session=RESUME)
    assert (weights(run), losses(run)) == (weights(whole), losses(whole))
