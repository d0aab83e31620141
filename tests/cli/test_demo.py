"""The demo: what it prints is what it runs, its figures are those of `evaluate`, it touches only what is its own."""

import json
import shlex
from types import MappingProxyType

import pytest

from mammoprep.cli import demo, extra, main


@pytest.fixture
def quick(monkeypatch, small_preset, fake_network):
    """Ten small patients and a network of two layers: a demo of a second or two."""
    from mammoprep_model import zoo

    monkeypatch.setattr(demo, "PATIENTS", 10)
    monkeypatch.setattr(demo, "HEIGHT", 160)
    monkeypatch.setattr(zoo, "PRESETS", MappingProxyType({"tiny": small_preset}))


def run(*arguments) -> int:
    with pytest.raises(SystemExit) as end:
        main(["demo", *map(str, arguments)])
    return end.value.code


def test_demo_goes_the_whole_road_and_tells_each_command(quick, tmp_path, capsys):
    out = tmp_path / "a demo"
    assert run(out) in (0, 1)  # two layers need not learn anything in six steps
    printed = capsys.readouterr().out
    commands = [shlex.split(line[2:])[:2] for line in printed.splitlines() if line.startswith("$ ")]
    assert commands == [["mammoprep", name] for name in ("convert", "folds", "train", "evaluate", "gallery")]
    assert f"$ mammoprep folds '{out / 'dataset'}' --seed 0" in printed.splitlines()
    assert "trained" in printed
    assert "untrained" in printed
    for name in ("raw", "truth", "dataset/folds.json", "run/model.safetensors", "untrained/panoptic.json"):
        assert (out / name).exists()
    assert (out / "run/evaluation/sweep.png").is_file()
    assert (out / "run/gallery/index.html").is_file()
    assert list((out / "overlays").glob("*.png"))


def test_json_is_one_object_with_the_scores_of_evaluate(quick, tmp_path, capsys):
    out = tmp_path / "demo"
    run(out, "--json", "--seed", 3)
    result = json.loads(capsys.readouterr().out)
    written = json.loads((out / "run/evaluation/scores.json").read_text())
    for name in ("RQ", "SQ", "PQ", "AP"):
        shown = [written["thresholds"].index(threshold) for threshold in (0.05, 0.1, 0.25, 0.5)]
        assert result["trained"][name] == [written["sweep"][name][level] for level in shown]
    assert result["trained"]["Dice"] == written["dice"]["pooled"]
    assert set(result["seconds"]) == {
        *("phantoms", "convert", "folds", "train", "evaluate", "gallery", "untrained network", "overlays")
    }
    assert result == json.loads((out / "demo.json").read_text())


def test_exit_code_says_whether_training_beat_the_start(quick, monkeypatch, tmp_path, capsys):
    for trained, expected in ((0.3, 0), (0.1, 1)):
        scores = {name: [0.1] * 4 for name in ("RQ", "SQ", "PQ", "AP")} | {"Dice": None, "Dice per image": 0.2}
        result = {
            **{"images": 1, "thresholds": [0.05, 0.1, 0.25, 0.5], "pseudo_mask_dice": {"BI-RADS 3": 0.8}},
            **{"trained": {**scores, "PQ": [trained] * 4}, "untrained": scores},
            **{"seconds": {"train": 60.0}, "figure": "sweep.png", "overlays": "overlays", "gallery": "g"},
        }
        monkeypatch.setattr(demo, "_walk", lambda out, *, seed, seconds: 0)
        monkeypatch.setattr(demo, "_result", lambda out, *, seed, seconds, result=result: result)
        assert run(tmp_path / str(expected)) == expected
    captured = capsys.readouterr()
    assert "did not beat" in captured.err
    assert "BI-RADS 3 80.0" in captured.out
    assert "not given" in captured.out


def test_untrained_network_is_the_one_that_training_began_with(
    dataset, tmp_path, monkeypatch, small_preset, fake_network
):
    from mammoprep_model import checkpoint, trainer

    begun = {}

    def note_start(network, *_, **__):
        begun.update({name: tensor.clone() for name, tensor in network.state_dict().items()})

    monkeypatch.setattr(trainer, "_fit", note_start)
    trainer.train(dataset, out=tmp_path / "run", preset=small_preset, seed=5)
    again = checkpoint.untrained(checkpoint.read_run(tmp_path / "run")).state_dict()
    assert begun.keys() == again.keys()
    assert all(begun[name].equal(again[name]) for name in begun)


def test_command_that_fails_stops_the_demo_with_its_code(quick, monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "_commands", lambda out, *, seed: [("--version",), ("folds", str(out / "nothing"))])
    assert run(tmp_path / "demo") == 2
    assert json.loads((tmp_path / "demo" / "demo.json").read_text()) == {"finished": False}


def test_earlier_demo_is_replaced_only_with_overwrite(monkeypatch, tmp_path, capsys):
    out = tmp_path / "demo"
    out.mkdir()
    (out / "demo.json").write_text("{}")
    (out / "left-over").write_text("")
    assert run(out) == 2
    assert "--overwrite" in capsys.readouterr().err
    monkeypatch.setattr(demo, "_walk", lambda out, *, seed, seconds: 7)
    assert run(out, "--overwrite") == 7
    assert [path.name for path in out.iterdir()] == ["demo.json"]


@pytest.mark.parametrize("options", [(), ("--overwrite",)])
def test_folder_that_is_no_demo_is_never_touched(tmp_path, capsys, options):
    (tmp_path / "thesis.txt").write_text("mine")
    assert run(tmp_path, *options) == 2
    assert "holds no demo" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_file_in_the_place_of_the_folder_is_refused(tmp_path, capsys):
    (tmp_path / "demo").write_text("")
    assert run(tmp_path / "demo") == 2
    assert "is a file" in capsys.readouterr().err


def test_missing_extra_names_the_command_that_installs_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(extra, "find_spec", lambda name: None)
    assert run(tmp_path / "demo") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert 'pip install "mammoprep[model]"' in error
    assert not (tmp_path / "demo").exists()
