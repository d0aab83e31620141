"""`mammoprep doctor`."""

import json

import pytest

from mammoprep.cli import main
from mammoprep.pixels import speeds
from mammoprep.pixels.speeds import Decoder

GOOD = Decoder("JPEG-LS", "imagecodecs jpegls", "2.4.3", 12.5, exact=True, used=True)
BAD = Decoder("JPEG-LS", "imagecodecs jpegls", "2.4.3", 12.5, exact=False, used=True)
OTHER = Decoder("JPEG-LS", "pyjpegls", "1.5.1", None, exact=False, used=False)


def run(*arguments):
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", *arguments])
    return stopped.value.code


def test_the_table_names_decoders_versions_and_speeds(monkeypatch, capsys):
    monkeypatch.setattr(speeds, "measure", lambda: iter((GOOD, OTHER)))

    assert run() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].split() == ["JPEG-LS", "imagecodecs", "jpegls", "2.4.3", "12.5", "yes", "used"]
    assert lines[-1].split() == ["JPEG-LS", "pyjpegls", "1.5.1", "fails", "no"]
    assert "imagecodecs 2" in lines[2]


def test_json_is_one_object(monkeypatch, capsys):
    monkeypatch.setattr(speeds, "measure", lambda: iter((GOOD, OTHER)))

    assert run("--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cores"] >= 1
    assert found["packages"]["pydicom"].startswith("3.")
    assert found["decoders"][1] == {
        "syntax": "JPEG-LS",
        "name": "pyjpegls",
        "version": "1.5.1",
        "milliseconds": None,
        "exact": False,
        "used": False,
    }


def test_a_decoder_that_gets_pixels_wrong_is_exit_code_1(monkeypatch, capsys):
    monkeypatch.setattr(speeds, "measure", lambda: iter((BAD,)))

    assert run() == 1
    assert "JPEG-LS: the decoder gets pixels wrong" in capsys.readouterr().err


def test_gpus_and_weights_at_hand_are_named(monkeypatch, capsys):
    from mammoprep_model import machine

    monkeypatch.setattr(speeds, "measure", lambda: iter((GOOD,)))
    monkeypatch.setattr(machine, "gpus", lambda: [machine.Gpu("H100", 85_000)])
    monkeypatch.setattr(machine, "cached_weights", lambda: {"clip": "/cache/clip", "mam-e": None})

    assert run() == 0
    lines = capsys.readouterr().out.splitlines()
    assert "Training and prediction: on H100 (85 GB)" in lines
    assert "Pretrained parts at hand: clip; not yet: mam-e" in lines
    assert run("--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["gpus"] == [{"name": "H100", "memory_mb": 85_000}]
    assert found["weights"] == {"clip": "/cache/clip", "mam-e": None}
    assert 0 < found["free_memory_mb"] < found["memory_mb"]
    assert found["free_disk_mb"] > 0


def test_without_the_extra_it_says_what_works_all_the_same(monkeypatch, capsys):
    from mammoprep.cli import extra

    monkeypatch.setattr(speeds, "measure", lambda: iter((GOOD,)))
    monkeypatch.setattr(extra, "find_spec", lambda name: None)

    assert run("--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["gpus"], found["weights"]) == (None, None)
    assert run() == 0
    assert "not installed; convert, folds and evaluate do without" in capsys.readouterr().out
