"""What networks have seen, and their predictions of another collection."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep_model import inference, trainer, transfer
from mammoprep_model.config import Preset

pytestmark = pytest.mark.usefixtures("fake_network")


def train(dataset: Path, out: Path, preset: Preset) -> Path:
    return trainer.train(dataset, out=out, preset=preset, session=trainer.Session(device="cpu"))


def test_networks_have_seen_what_they_were_trained_on_or_chosen_by(
    dataset: Path, tmp_path: Path, small_preset: Preset
) -> None:
    """Fold 0 validates on images 1 and 4."""
    chosen = replace(small_preset, train=replace(small_preset.train, validate_every=6))
    runs = {0: train(dataset, tmp_path / "last", small_preset)}
    assert transfer.seen(runs)[1] == {2, 3, 5, 6}
    assert transfer.seen({0: train(dataset, tmp_path / "best", chosen)})[1] == {1, 2, 3, 4, 5, 6}


def test_folds_made_again_count_nothing(dataset: Path, tmp_path: Path, small_preset: Preset) -> None:
    run = train(dataset, tmp_path / "run", small_preset)
    content = json.loads((dataset / "folds.json").read_text())
    (dataset / "folds.json").write_text(json.dumps({**content, "seed": 1}))
    with pytest.raises(MammoprepError, match="is not the one that"):
        transfer.seen({0: run})


def test_an_interrupted_prediction_goes_on(
    dataset: Path, tmp_path: Path, small_preset: Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, other = train(dataset, tmp_path / "run", small_preset), panoptic.load(dataset)
    shown: list[tuple[int, int, int]] = []

    def stop(fold: int, done: int, total: int) -> None:
        shown.append((fold, done, total))
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transfer.predict(run, other, out=tmp_path / "out", session=transfer.Session(on_predict=stop))
    assert shown == [(0, 1, 6), (0, 2, 6), (0, 3, 6)]
    session = transfer.Session(on_predict=lambda *place: shown.append(place))
    transfer.predict(run, other, out=tmp_path / "out", session=session)
    assert shown[3][1] >= 2
    assert len(panoptic.load(tmp_path / "out").images) == 6
    monkeypatch.setattr(inference, "predict", None)
    transfer.predict(run, other, out=tmp_path / "out")
