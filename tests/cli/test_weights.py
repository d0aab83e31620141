"""`mammoprep weights` collects parts and their hashes; train takes the folder."""

import hashlib
import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest

from mammoprep.cli import main
from mammoprep.cli.train import parse_weights
from mammoprep.errors import MammoprepError
from mammoprep_model import weights


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["weights", *map(str, arguments)])
    return ended.value.code


@pytest.fixture
def hub(monkeypatch):
    """A hub that has every file that it is asked for by name; it notes its own things in a hidden folder."""
    asked = []

    def download(name, *, revision, allow_patterns, local_dir=None):
        if not allow_patterns:
            return None
        asked.append(name)
        for pattern in (pattern for pattern in allow_patterns if "*" not in pattern):
            path = Path(local_dir) / pattern
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{name} {pattern}")
        (Path(local_dir) / ".cache").mkdir(exist_ok=True)
        (Path(local_dir) / ".cache" / "note").write_text("the hub's own")
        return str(local_dir)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return asked


def test_the_parts_of_a_model_are_collected_with_their_hashes(hub, tmp_path, capsys):
    assert run("--for", "m-odise", "--to", tmp_path / "w") == 0
    assert hub == [weights.SOURCES["mam-e"].hub, weights.SOURCES["biomedclip"].hub]
    lines = [line.split("  ") for line in (tmp_path / "w" / "SHA256SUMS").read_text().splitlines()]
    assert sorted(name for _, name in lines if name.endswith(("vocab.txt", "unet/config.json"))) == [
        "biomedclip/vocab.txt",
        "mam-e/unet/config.json",
    ]
    assert not any(".cache" in name for _, name in lines)
    assert all(hashlib.sha256((tmp_path / "w" / name).read_bytes()).hexdigest() == total for total, name in lines)
    assert f"--model m-odise --weights {tmp_path / 'w'}" in capsys.readouterr().out


def test_another_model_adds_what_is_not_there(hub, tmp_path, capsys):
    assert run("--for", "m-odise", "--to", tmp_path) == 0
    hub.clear()
    assert run("--for", "odise-mam-e", "--to", tmp_path, "--json") == 0
    assert hub == [weights.SOURCES["clip"].hub]
    content = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert content["parts"] == {"mam-e": str(tmp_path / "mam-e"), "clip": str(tmp_path / "clip")}
    assert "biomedclip/vocab.txt" in (tmp_path / "SHA256SUMS").read_text()


def test_what_no_hub_has_is_named_and_the_rest_collected(hub, tmp_path, capsys):
    assert run("--for", "m-odise-compact", "--to", tmp_path) == 1
    assert hub == [weights.SOURCES["biomedclip"].hub]
    printed, own = capsys.readouterr(), tmp_path / "compact"
    made = f"Make it by `mammoprep pretrain DATASET --base compact --out {own}` and say --weights compact={own}."
    assert printed.err == f"No hub has compact. {made}\n"
    assert f"biomedclip: {tmp_path / 'biomedclip'}" in printed.out
    for entry in weights.SOURCES["compact"].files:
        path = tmp_path / "compact" / entry[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert run("--for", "m-odise-compact", "--to", tmp_path, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["parts"].keys() == {"compact", "biomedclip"}
    assert content["to_make"] == []
    assert "compact/unet/config.json" in (tmp_path / "SHA256SUMS").read_text()


def test_the_folder_serves_every_model_that_it_holds_parts_of(hub, tmp_path):
    run("--for", "m-odise", "--to", tmp_path)
    assert parse_weights([str(tmp_path)], ["mam-e", "clip"]) == {"mam-e": str(tmp_path / "mam-e")}
    other = parse_weights([str(tmp_path), "clip=elsewhere"], ["mam-e", "clip"])
    assert other == {"mam-e": str(tmp_path / "mam-e"), "clip": "elsewhere"}


def test_neither_a_folder_nor_a_part_is_refused():
    with pytest.raises(MammoprepError, match="--weights 'nowhere' is no folder. Write it as mam-e=DIR"):
        parse_weights(["nowhere"], ["mam-e"])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--for", "m-odis", "--to", "w"), "Did you mean 'm-odise'"),
        (("--for", "tiny", "--to", "w"), "tiny needs no weights."),
        (("--for", "m-odise", "--to", "file"), "file is a file. Name a folder."),
        (("--for", "m-odise"), "--to"),
    ],
)
def test_wrong_input_is_one_line(tmp_path, monkeypatch, arguments, text, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert run(*arguments) == 2
    printed = capsys.readouterr().err
    assert text in printed
    assert printed.count("\n") == 1


def test_without_internet_one_line_says_what_to_put_where(tmp_path, monkeypatch, capsys):
    def offline(*_, **__):
        raise OSError("no connection")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    assert run("--for", "m-odise", "--to", tmp_path / "w") == 2
    assert "--weights mam-e=FOLDER" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "w", ignore_errors=True)


def test_a_setting_may_need_a_part_more(hub, tmp_path):
    assert run("--for", "m2f-swin-l", "--to", tmp_path, "--set", "model.mask_generator=m2f-coco") == 0
    assert hub == [weights.SOURCES["swin-l"].hub, weights.SOURCES["m2f-coco"].hub]
    assert parse_weights([str(tmp_path)], ["swin-l", "m2f-coco"]).keys() == {"swin-l", "m2f-coco"}
