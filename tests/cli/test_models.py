"""`mammoprep models` lists what can be trained and what it takes; it loads no torch."""

import json
import subprocess
import sys

import pytest

from mammoprep.cli import main
from mammoprep_model import zoo


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["models", *arguments])
    return ended.value.code


def test_each_preset_has_a_line_with_the_published_scores(capsys):
    assert run() == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["m-odise", "mam-e", "biomedclip", "biomedclip", "27.477", "1015.139", "25.44", "26.92"] in lines
    assert ["m2f-swin-l", "swin-l", "*", "–", "linear", "215.503", "0.000", "24.65", "23.04"] in lines
    assert ["m-odise-compact", "compact", "biomedclip", "biomedclip", "23.750", "144.356", "–", "–"] in lines
    assert {line[0] for line in lines if line} >= set(zoo.PRESETS)


def test_weights_are_listed_once_with_size_licence_and_place(capsys):
    assert run() == 0
    text = capsys.readouterr().out
    assert text.count("https://huggingface.co/openai/clip-vit-large-patch14-336, 1710 MB, licence: MIT") == 1
    assert "compact: made by `mammoprep pretrain DATASET --base compact --out FOLDER`, 244 MB" in text
    assert max(map(len, text.split("\n\n")[0].splitlines())) <= 80


def test_json_says_the_same(capsys):
    assert run("--json") == 0
    models = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)["models"]}
    assert list(models) == list(zoo.PRESETS)
    assert models["odise"]["published"]["vindr"] == {"PQ": 0.274, "threshold": 0.05}
    assert [each["part"] for each in models["odise"]["weights"]] == ["sd-1.3", "clip"]
    compact = models["m-odise-compact"]["weights"][0]
    assert (compact["hub"], compact["made_by"].split()[:2]) == (None, ["mammoprep", "pretrain"])
    assert models["tiny"]["weights"] == []
    assert models["tiny"]["trained_millions"] is None


def test_no_torch_is_loaded():
    code = (
        "import sys; from mammoprep.cli import main\n"
        "try: main(['models', '--json'])\n"
        "except SystemExit: sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_starts_of_the_mask_generator_are_listed_too(capsys):
    assert run() == 0
    assert (
        "m2f-coco (for --set model.mask_generator=m2f-coco): https://huggingface.co/facebook/"
        in capsys.readouterr().out
    )
    assert run("--json") == 0
    (start,) = json.loads(capsys.readouterr().out)["mask_generators"]
    assert (start["part"], start["licence"], len(start["revision"])) == ("m2f-coco", "CC BY-NC 4.0", 40)
