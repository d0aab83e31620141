"""Pretraining from a DATASET to a folder: what it holds, kills, refusals, several processes, the segmenter on top."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep_model import compact, settings
from mammoprep_model.interrupts import Stopped
from mammoprep_model.log import Step
from mammoprep_model.pretrain import pipeline, recipe, run
from mammoprep_model.pretrain.plan import Choices, Session

SETTINGS = (
    *("size=64", "samples=1", "sample_steps=1", "sample_every=3", "distance_images=2", "diffusion.steps=4"),
    "diffusion.batch_size=4",
    *("diffusion.micro_batch=2", "diffusion.lr=1e-2", "diffusion.ema=0.5", "diffusion.checkpoint_every=2"),
    "diffusion.checkpointing=false",
)
SHORT = ("diffusion.steps=1", "samples=0", "distance_images=0")
WEIGHTS = ("unet/diffusion_pytorch_model", "text_encoder/model", "vae/diffusion_pytorch_model")


def choices(*more: str) -> Choices:
    return Choices("sd-1.5", settings.change(recipe.BASES["sd-1.5"], [*SETTINGS, *more]))


@pytest.fixture
def session(backbone: Path) -> Session:
    return Session(weights={"sd-1.5": str(backbone)}, device="cpu")


@pytest.fixture
def pretrain(mammograms: Path, session: Session) -> Callable[..., Path]:
    """Give what pretrains on the phantoms to a folder."""

    def call(out: Path, *more: str, **changes: object) -> Path:
        made = replace(session, **{key: value for key, value in changes.items() if key != "choices"})  # type: ignore[arg-type]
        return run.pretrain(mammograms, out=out, choices=changes.get("choices", choices(*more)), session=made)  # type: ignore[arg-type]

    return call


def content(folder: Path) -> dict[str, bytes]:
    """Give the files but for those in which times stand."""
    files = (path for path in folder.rglob("*") if path.is_file())
    timed = ("log.csv", "SHA256SUMS", "events.out")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if not path.name.startswith(timed)}


def test_the_folder_is_whole_and_says_how_it_came_about(
    pretrain: Callable[..., Path], mammograms: Path, backbone: Path, tmp_path: Path
) -> None:
    notes: list[str] = []
    out = pretrain(tmp_path / "out", on_note=notes.append)
    assert list(panoptic.wrong_files(out)) == []
    assert {name for name, _ in panoptic.read_sums(out)} == {
        str(path.relative_to(out)) for path in out.rglob("*") if path.is_file() and path.name != "SHA256SUMS"
    }
    facts = json.loads((out / "pretrain.json").read_text())
    assert (facts["base"], facts["fold"], facts["images"], facts["patients"]) == ("sd-1.5", 0, 12, 6)
    assert facts["left_out"] == {"images": 2, "patients": 2}
    assert facts["manifest_sha256"] == panoptic.file_hash(mammograms / "panoptic.json")
    assert facts["config"]["diffusion"]["learning_rate"] == 1e-2
    assert facts["versions"].keys() >= {"torch", "diffusers"}
    assert notes == [
        "12 lesion-free images of 6 patients; 2 patients of fold 0's validation set are left out, with 2 such images."
    ]
    assert not any(f"p{number}" in (out / "pretrain.json").read_text() for number in range(8))
    sheets = sorted(path.name for path in (out / "diffusion" / "samples").iterdir())
    assert sheets == ["step-000003.json", "step-000003.png", "step-000004.json", "step-000004.png"]
    assert panoptic.read_png(out / "diffusion" / "samples" / sheets[1]).shape == (4 * 64, 64)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("out")) == ["out"]
    folders = (backbone, out)
    before, after = ({name: load_file(folder / f"{name}.safetensors") for name in WEIGHTS} for folder in folders)
    moved = [any(not torch.equal(after[name][key], before[name][key]) for key in before[name]) for name in WEIGHTS]
    assert moved == [True, True, False]  # unet, text encoder, vae


def test_a_stop_and_a_resumption_give_the_same_bytes(pretrain: Callable[..., Path], tmp_path: Path) -> None:
    whole = pretrain(tmp_path / "whole")

    def stop(stage: str, step: Step) -> None:
        if step.number == 3:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped, match="Stopped after step 3 of 4 of the diffusion stage"):
        pretrain(tmp_path / "out", on_step=stop)
    assert not (tmp_path / "out").exists()
    with pytest.raises(MammoprepError, match="holds a pretraining that was stopped. Say --resume, or --overwrite"):
        pretrain(tmp_path / "out")
    with pytest.raises(MammoprepError, match="was made with config size = 64, now 128"):
        pretrain(tmp_path / "out", "size=128", resume=True)
    with pytest.raises(MammoprepError, match="was made with seed = 0, now 1"):
        pretrain(tmp_path / "out", choices=replace(choices(), seed=1), resume=True)
    assert content(pretrain(tmp_path / "out", resume=True)) == content(whole)
    assert pretrain(tmp_path / "out", resume=True) == tmp_path / "out"  # there is nothing left to do
    with pytest.raises(MammoprepError, match="was made with config diffusion steps = 4, now 9"):
        pretrain(tmp_path / "out", "diffusion.steps=9", resume=True)


@pytest.fixture(scope="module")
def short(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone as if it were made: its weights with a hash of each, and a pretrain.json."""
    root = shutil.copytree(backbone, tmp_path_factory.mktemp("made") / "short")
    (root / "pretrain.json").write_text("{}")
    files = sorted(path for path in root.rglob("*") if path.is_file())
    panoptic.write_sums(root, [(str(path.relative_to(root)), panoptic.file_hash(path)) for path in files])
    return root


def test_a_backbone_is_replaced_when_its_successor_is_whole(
    pretrain: Callable[..., Path], short: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(short, tmp_path / "out")
    first = content(out)
    with pytest.raises(MammoprepError, match="is not empty"):
        pretrain(out, *SHORT)

    def look(stage: str, step: Step) -> None:
        assert content(out) == first

    second = content(pretrain(out, *SHORT, overwrite=True, on_step=look))
    assert second.keys() == first.keys()
    assert second != first
    assert list(panoptic.wrong_files(out)) == []


def test_a_kill_behind_the_last_rename_is_seen(
    pretrain: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old working folder without its weights must not be taken for a pretraining to go on with."""
    discard = panoptic.discard

    def killed(folder: Path) -> None:
        if folder.name == "out.partial" and (tmp_path / "out").exists():
            raise KeyboardInterrupt
        discard(folder)

    monkeypatch.setattr(panoptic, "discard", killed)
    with pytest.raises(KeyboardInterrupt):
        pretrain(tmp_path / "out", *SHORT)
    monkeypatch.setattr(panoptic, "discard", discard)
    made = content(tmp_path / "out")
    assert content(pretrain(tmp_path / "out", *SHORT, resume=True)) == made
    assert not (tmp_path / "out.partial").exists()


def from_scratch(*more: str) -> Choices:
    changes = (*SETTINGS, *SHORT, "autoencoder.steps=1", "autoencoder.batch_size=2", "autoencoder.micro_batch=2", *more)
    config = replace(recipe.BASES["compact"], sizes=compact.TINY)
    return Choices("compact", settings.change(config, changes))


def test_a_small_model_is_made_from_nothing_in_two_stages(pretrain: Callable[..., Path], tmp_path: Path) -> None:
    """Stops between the stages and before the end leave no trace."""
    whole = pretrain(tmp_path / "whole", choices=from_scratch())

    def stop(name: str, step: Step) -> None:
        signal.raise_signal(signal.SIGINT)

    for resume, line in enumerate(("1 of 1 of the autoencoder", "1 of 1 of the diffusion")):
        with pytest.raises(Stopped, match=f"Stopped after step {line} stage"):
            pretrain(tmp_path / "out", choices=from_scratch(), on_step=stop, resume=resume > 0)
    with pytest.raises(MammoprepError, match="was made with config sizes text_layers = 1, now 2"):
        pretrain(tmp_path / "out", choices=from_scratch("sizes.text_layers=2"), resume=True)
    assert content(pretrain(tmp_path / "out", choices=from_scratch(), resume=True)) == content(whole)
    start, made = compact.make(compact.TINY, seed=0), pipeline.load(whole)
    assert made.vae.config.scaling_factor != start.vae.config.scaling_factor
    for name in ("unet", "vae", "text_encoder"):
        ours, theirs = getattr(made, name).state_dict(), getattr(start, name).state_dict()
        assert any(not torch.equal(ours[key], theirs[key]) for key in ours), name
    assert sorted(path.name for path in whole.iterdir() if path.is_dir()) == [
        *("autoencoder", "diffusion", "scheduler", "text_encoder", "tokenizer", "unet", "vae")
    ]
    assert json.loads((whole / "pretrain.json").read_text())["weights"] is None


def launch(mammograms: Path, backbone: Path, out: Path, *options: str, processes: int = 1) -> subprocess.Popen[str]:
    """Start what README says, on this machine, on the CPU."""
    many = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] * (processes > 1)
    words = [*many, "-m", "mammoprep", "pretrain", str(mammograms), f"--out={out}", f"--weights=sd-1.5={backbone}"]
    return subprocess.Popen(
        [sys.executable, *words, "--device=cpu", *options],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])},
    )


def test_sigkill_and_a_resumption_give_the_same_bytes(
    pretrain: Callable[..., Path], mammograms: Path, backbone: Path, tmp_path: Path
) -> None:
    """A process is killed in the middle of whatever it does after its first checkpoint; a new one goes on."""
    plain = ("samples=0", "distance_images=0")
    longer = [f"--set={setting}" for setting in (*SETTINGS, *plain, "diffusion.steps=3000")]
    process = launch(mammograms, backbone, tmp_path / "out", *longer)
    work = tmp_path / "out.partial" / "diffusion"
    while not (work / "state.pt").is_file():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert not (tmp_path / "out").exists()
    steps = torch.load(work / "state.pt", weights_only=True)["step"] + 2
    more = (*plain, f"diffusion.steps={steps}")
    out, whole = pretrain(tmp_path / "out", *more, resume=True), pretrain(tmp_path / "whole", *more)
    assert {name: out_ for name, out_ in content(out).items() if name != "pretrain.json"} == {
        name: whole_ for name, whole_ in content(whole).items() if name != "pretrain.json"
    }


def test_two_processes_train_as_one(
    pretrain: Callable[..., Path], mammograms: Path, backbone: Path, tmp_path: Path
) -> None:
    whole = pretrain(tmp_path / "whole", "diffusion.lr=1e-4")
    words = [f"--set={setting}" for setting in (*SETTINGS, "diffusion.lr=1e-4")]
    both = launch(mammograms, backbone, tmp_path / "both", *words, processes=2)
    output, errors = both.communicate(timeout=240)
    assert both.returncode == 0, errors
    assert output.count("holds the backbone") == 1
    tables = []
    for folder in (whole, tmp_path / "both"):
        with (folder / "diffusion" / "log.csv").open(newline="") as file:
            tables.append([float(row["mse"]) for row in csv.DictReader(file)])
    assert tables[1] == pytest.approx(tables[0], rel=1e-4)
    ours, theirs = (load_file(folder / f"{WEIGHTS[0]}.safetensors") for folder in (whole, tmp_path / "both"))
    apart = torch.cat([(ours[name] - theirs[name]).abs().flatten() for name in ours])
    assert apart.mean() < 0.02 * 4 * 1e-4  # of the way that a weight has gone at most


def test_a_file_of_weights_is_no_base(
    pretrain: Callable[..., Path], backbone: Path, session: Session, tmp_path: Path
) -> None:
    file = backbone / "unet" / "diffusion_pytorch_model.safetensors"
    with pytest.raises(MammoprepError, match=r"is one file. Pretraining needs a diffusers folder"):
        pretrain(tmp_path / "out", weights={"sd-1.5": str(file)})
    assert not (tmp_path / "out.partial").exists()


def test_damaged_weights_are_refused(pretrain: Callable[..., Path], short: Path, tmp_path: Path) -> None:
    """A result carries the hashes of its files, which are checked when something is built on it."""
    path = shutil.copytree(short, tmp_path / "copy") / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(MammoprepError, match="is damaged or another file"):
        pretrain(tmp_path / "next", weights={"sd-1.5": str(tmp_path / "copy")})


def test_out_of_memory_says_what_to_lower(
    pretrain: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(run.Diffusion, "loss", full)
    with pytest.raises(MammoprepError, match=r"Go on with --resume and a lower --set diffusion\.micro_batch"):
        pretrain(tmp_path / "out", *SHORT)
    assert not (tmp_path / "out").exists()
