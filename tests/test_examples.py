"""Each example runs as it stands."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(name: str, *folders: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name, *folders],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_convert_and_look(tmp_path):
    printed = run("convert_and_look.py", tmp_path / "look")
    assert "12 images of 3 patients" in printed
    paths = [Path(line) for line in printed.splitlines() if line.endswith(".png")]
    assert len(paths) == 4
    assert all(path.is_file() for path in paths)


def test_score_your_own(tmp_path):
    printed = run("score_your_own.py", tmp_path / "own").splitlines()
    assert sum(line.startswith("IoU > ") for line in printed) == 18
    assert printed[-1].startswith("not given: ")
    assert "dice" in printed[-1]


def test_train_gpu_says_in_one_line_that_there_is_no_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    call = [sys.executable, EXAMPLES / "benchmarks" / "train_gpu.py"]
    done = subprocess.run(call, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "no CUDA GPU" in done.stderr


def test_train_memory_counts_tensors_while_they_live(monkeypatch):
    """Two of 4 KiB at once, then a view of one, then a number, for which 512 bytes are given; softmax is in float32."""
    import torch

    monkeypatch.syspath_prepend(str(EXAMPLES / "benchmarks"))
    import train_memory

    with train_memory.nothing_computed() as memory:
        first = torch.empty(32, 32)
        assert memory.now == 4096
        second = first.T.contiguous()
        assert memory.now == 8192
        shown = first[1:]
        del first, second
        assert memory.now == 4096
        del shown
        number = torch.empty(())
        assert (memory.now, memory.peak) == (512, 8192)
        with torch.autocast("cpu", torch.bfloat16):
            layer = torch.nn.Linear(8, 8)
            mapped = layer(torch.empty(2, 8))
            assert mapped.dtype == torch.bfloat16
            assert torch.nn.functional.softmax(mapped, -1).dtype == torch.float32
    assert number.numel() == 1


def test_my_reader(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    cv2.imwrite(str(raw / "a.png"), np.pad(np.full((40, 20), 90, dtype=np.uint8), ((0, 0), (0, 20))))
    (raw / "boxes.csv").write_text("file,patient,grade,x0,y0,x1,y1\na.png,p1,high,2,5,15,25\n")
    assert "Summary(images=1, patients=1, findings={'low': 0, 'high': 1}" in run("my_reader.py", raw, tmp_path / "out")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_every_example_is_tested_here(path):
    assert f'"{path.name}"' in Path(__file__).read_text()
