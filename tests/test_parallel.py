"""The same call on threads and on a Dask cluster: a scheduler and two workers, each a process of its own."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mammoprep import panoptic, parallel
from mammoprep.check import check
from mammoprep.convert import Options, convert
from mammoprep.convert.options import Work
from mammoprep.convert.workers import KILLED
from mammoprep.errors import MammoprepError
from mammoprep.evaluation.runs import Options as Scoring
from mammoprep.evaluation.runs import evaluate
from mammoprep.parallel import Workers, each, on_cluster
from mammoprep.phantom import write as write_phantoms
from mammoprep.readers import READERS


@dataclass
class Cluster:
    address: str
    processes: list[subprocess.Popen]  # the scheduler, then the workers


@contextmanager
def started(folder, *, nanny=False):
    """Start a scheduler and two workers; with a nanny a worker that dies is replaced, and one death is one too many."""
    pytest.importorskip("distributed", reason="the extra [cluster] is not installed")
    place, logs = folder / "scheduler.json", (folder / "cluster.log").open("wb")
    environment = os.environ | {
        "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0" if nanny else "3",
        "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
        "PYTHONPATH": os.pathsep.join([str(Path(parallel.__file__).parents[1]), str(Path(__file__).parent)]),
    }
    where = ("--scheduler-file", str(place), "--no-dashboard")
    workers = [("--nworkers", "2")] if nanny else [("--no-nanny",)] * 2
    commands = [("dask_scheduler", "--host", "127.0.0.1", "--port", "0")]
    commands += [("dask_worker", "--nthreads", "1", "--host", "127.0.0.1", *more) for more in workers]
    processes = []
    try:
        for command, *options in commands:
            line = [sys.executable, "-m", f"distributed.cli.{command}", *where, *options]
            processes.append(subprocess.Popen(line, cwd=folder, env=environment, stdout=logs, stderr=logs))
        wait_until(place.exists)
        cluster = Cluster(json.loads(place.read_text())["address"], processes)
        wait_until(lambda: threads(cluster) == 2)
        yield cluster
    finally:
        for process in processes[::-1]:
            process.kill()  # a nanny's workers end with it
            process.wait()
        logs.close()


def wait_until(holds):
    for _ in range(600):
        if holds():
            return
        time.sleep(0.1)
    raise TimeoutError


def threads(cluster):
    from distributed import Client

    with Client(cluster.address, set_as_default=False) as client:
        return sum(client.nthreads().values())


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with started(tmp_path_factory.mktemp("cluster"), nanny=True) as cluster:
        yield cluster.address


def square(number):
    if number == 7:
        raise MammoprepError("7 is not for squaring. Take another.")
    return number * number


def deadly_square(number):
    if number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


@pytest.mark.parametrize("workers", [Workers(1), Workers(3)])
def test_results_come_in_the_order_of_the_items(workers):
    assert list(each(square, range(6), workers=workers)) == [0, 1, 4, 9, 16, 25]


@pytest.mark.parametrize("workers", [Workers(1), Workers(2)])
def test_error_of_a_call_is_raised(workers):
    with pytest.raises(MammoprepError, match="7 is not for squaring"):
        list(each(square, range(9), workers=workers))


def test_several_workers_are_threads_of_this_process():
    names = list(each(lambda _: threading.current_thread().name, range(40), workers=Workers(2)))
    assert threading.main_thread().name not in names


def test_batches_hold_all_in_order():
    assert [*parallel.batched(iter("abcde"), 2)] == [["a", "b"], ["c", "d"], ["e"]]
    assert [*parallel.batched([], 2)] == []


@pytest.mark.parametrize("batch", [1, 4])
def test_cluster_gives_the_same_results_and_errors(cluster, batch):
    how = {"workers": Workers(1, cluster), "batch": batch}
    assert list(each(slow_or_fast, range(60), **how)) == [number * number for number in range(60)]
    assert list(each(square, [], **how)) == []
    with pytest.raises(MammoprepError, match="7 is not for squaring"):
        list(each(square, range(9), **how))


def slow_or_fast(number):
    """Let what comes first be done last."""
    time.sleep(0.3 if number == 0 else 0)
    return number * number


def test_cluster_takes_no_more_items_than_it_has_room_for(cluster):
    taken = []
    results = on_cluster(square, (taken.append(i) or i for i in range(10, 10**6)), address=cluster)
    assert next(results) == 100
    results.close()
    assert len(taken) <= 2 * parallel.AHEAD * (1 + parallel.AHEAD)


def test_item_that_kills_its_workers_costs_itself_alone(cluster):
    how = {"address": cluster, "batch": 3}
    found = list(on_cluster(deadly_square, range(20), killed=lambda number: f"{number} kills", **how))
    assert found == [number * number if number != 7 else "7 kills" for number in range(20)]
    with pytest.raises(MammoprepError, match="One of the images kills every worker that takes it"):
        list(on_cluster(deadly_square, [7], **how))


def test_killed_worker_loses_nothing_and_the_last_one_is_waited_for_in_vain(tmp_path, monkeypatch):
    """Half-way through a conversion one of two workers is killed; in a second one the other."""
    write_phantoms(tmp_path / "raw", patients=4, long_side=160)
    how = {"reader": READERS["vindr"], "root": tmp_path / "raw", "options": Options(labels="birads")}
    convert(**how, out=tmp_path / "here", work=Work(workers=1))
    with started(tmp_path) as cluster:
        victims = cluster.processes[1:]
        done = []

        def kill(count, total):
            done.append(count)
            if count == 6:
                victims.pop().kill()

        there = Work(cluster=cluster.address, on_progress=kill)
        convert(**how, out=tmp_path / "there", work=there)
        assert done == [*range(17)]
        assert files_of(tmp_path / "here") == files_of(tmp_path / "there")
        monkeypatch.setattr(parallel, "PATIENCE_S", 0.2)
        monkeypatch.setattr(parallel, "WORKERLESS_S", 0.5)
        with pytest.raises(MammoprepError, match=r"has had no workers for 0\.5 s"):
            convert(**how, out=tmp_path / "never", work=there)
    assert not (tmp_path / "never").exists()
    convert(**how, out=tmp_path / "never", work=Work(workers=1, existing="resume"))
    assert files_of(tmp_path / "here") == files_of(tmp_path / "never")


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_image_that_no_worker_outlives_is_listed(cluster, tmp_path, monkeypatch):
    write_phantoms(tmp_path / "raw", patients=1, long_side=160)
    victim = sorted((tmp_path / "raw").rglob("*.dicom"))[1]
    victim.write_bytes(b"deadly")
    monkeypatch.setattr("mammoprep.convert.workers._make", deadly_make)
    work = Work(cluster=cluster)
    counts = convert(
        READERS["vindr"], tmp_path / "raw", out=tmp_path / "out", options=Options(labels="birads"), work=work
    )
    assert (counts.images, counts.skipped["image"]) == (3, {KILLED: 1})


def deadly_make(task, *, job):
    """Convert, but die of a file that says so."""
    from mammoprep.convert import case

    if (job.root / task[1].source).read_bytes() == b"deadly":
        os.kill(os.getpid(), signal.SIGKILL)
    return case.make(task[1], number=task[0], job=job)


def test_cluster_converts_checks_and_scores_to_the_same_bytes(cluster, tmp_path, monkeypatch):
    """The raw folder and the data set are named by relative paths, which the workers cannot follow."""
    write_phantoms(tmp_path / "raw", patients=3, long_side=160)
    monkeypatch.chdir(tmp_path)
    for name, address in (("here", None), ("there", cluster)):
        work = Work(workers=1, cluster=address)
        convert(READERS["vindr"], Path("raw"), out=tmp_path / name, options=Options(labels="birads"), work=work)
    assert len(files_of(tmp_path / "here")) > 10
    assert files_of(tmp_path / "here") == files_of(tmp_path / "there")
    source = Path("here")
    both = (Workers(1), Workers(1, cluster))
    how = [Scoring(workers=workers) for workers in both]
    reports = [evaluate(source, _predictions(tmp_path), options=options).report.to_json() for options in how]
    assert reports[0] == reports[1]
    assert reports[0]["sweep"]["PQ"][0] == 1.0
    image = sorted((source / "images").iterdir())[3]
    image.write_bytes(b"no image")
    checked = [check(source, workers=workers).to_json() for workers in both]
    assert checked[0] == checked[1]
    assert {*checked[0]["problems"]} == {"hashes", "image-png"}


def _predictions(root):
    """The truth, taken for a prediction."""
    out = root / "predictions"
    if not out.exists():
        out.mkdir()
        (out / "panoptic").symlink_to(root / "here" / "panoptic")
        (out / "panoptic.json").write_bytes((root / "here" / "panoptic.json").read_bytes())
    return Path("predictions")


def test_cluster_predicts_to_the_same_bytes(cluster, dataset, tmp_path, small_preset, capsys):
    """A run of the real small network, in batches of two that a part of 16 images holds; two parts."""
    import torch

    from mammoprep.cli import main
    from mammoprep_model import checkpoint, zoo

    torch.manual_seed(0)
    torch.set_num_threads(1)
    preset = replace(zoo.PRESETS["tiny"], train=small_preset.train)
    facts = {"dataset": "", "data_hash": "", "folds_hash": "", "fold": 0, "seed": 0, "weights": {}, "versions": {}}
    config = checkpoint.RunConfig(
        preset=preset, categories=panoptic.load(dataset).categories, device="cpu", git_commit=None, **facts
    )
    run = tmp_path / "run"
    run.mkdir()
    checkpoint.write_run(run, config)
    checkpoint.save(run, checkpoint.tensors_of(checkpoint.assemble(config)), state={})
    images = tmp_path / "images"
    images.mkdir()
    for number in range(18):
        grey = panoptic.read_png(dataset / "images" / f"case-{number % 6 + 1}.png")
        panoptic.write_png(images / f"{number:02d}.png", grey[: 48 - number])
    for out, more in (("here", ()), ("there", ("--cluster", cluster))):
        with pytest.raises(SystemExit) as ended:
            main(["predict", str(run), str(images), str(tmp_path / out), "--device=cpu", "--no-pseudonymise", *more])
        assert ended.value.code == 0
    assert len(files_of(tmp_path / "here")) == 3 * 18 + 4
    assert files_of(tmp_path / "here") == files_of(tmp_path / "there")


@pytest.mark.parametrize("address", ["nonsense", "tcp://127.0.0.1:1", "tcp://127.0.0.1", "tcp://127.0.0.1:99999"])
def test_address_without_a_scheduler_is_one_line(address):
    pytest.importorskip("distributed", reason="the extra [cluster] is not installed")
    with pytest.raises(MammoprepError, match=f"No Dask scheduler answers at {address}. Start `dask scheduler`"):
        list(each(square, [1], workers=Workers(1, address)))


def test_missing_extra_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MammoprepError, match=r"pip install 'mammoprep\[cluster\]'"):
        list(each(square, [1], workers=Workers(1, "tcp://127.0.0.1:8786")))


@pytest.mark.parametrize(
    ("threads", "versions", "line"),
    [
        ({}, {}, "has no workers. Start `dask worker tcp://127.0.0.1:8786`"),
        ({"tcp://w": 1}, {"numpy": "1.0"}, r"The worker tcp://w has numpy 1\.0, this machine .*Install the same"),
    ],
)
def test_cluster_that_cannot_do_it_is_one_line(monkeypatch, threads, versions, line):
    distributed = pytest.importorskip("distributed", reason="the extra [cluster] is not installed")
    closed = []

    class Client:
        def __init__(self, *_, **__):
            pass

        def wait_for_workers(self, count, timeout):
            if not threads:
                raise TimeoutError

        def run(self, function):
            return {"tcp://w": function() | versions}

        def close(self):
            closed.append(True)

    monkeypatch.setattr(distributed, "Client", Client)
    monkeypatch.setattr(parallel, "_check_reachable", lambda address: None)
    with pytest.raises(MammoprepError, match=line):
        list(each(square, [1], workers=Workers(1, "tcp://127.0.0.1:8786")))
    assert closed
