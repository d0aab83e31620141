"""The same call on threads and on a Dask cluster of two worker processes on this machine."""

import sys
import threading
import warnings
from pathlib import Path

import pytest

from mammoprep import parallel
from mammoprep.convert import Options, convert
from mammoprep.convert.options import Work
from mammoprep.errors import MammoprepError
from mammoprep.evaluation.runs import Options as Scoring
from mammoprep.evaluation.runs import evaluate
from mammoprep.parallel import Workers, each
from mammoprep.phantom import write as write_phantoms
from mammoprep.readers import READERS


@pytest.fixture(scope="module")
def cluster():
    """The address of a scheduler with two workers, each a process of its own."""
    distributed = pytest.importorskip("distributed", reason="the extra [cluster] is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        local = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1", silence_logs=50
        )
    yield local.scheduler_address
    local.close()


def square(number):
    if number == 7:
        raise MammoprepError("7 is not for squaring. Take another.")
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


def test_cluster_gives_the_same_results_and_errors(cluster):
    assert list(each(square, range(6), workers=Workers(1, cluster))) == [0, 1, 4, 9, 16, 25]
    with pytest.raises(MammoprepError, match="7 is not for squaring"):
        list(each(square, range(9), workers=Workers(1, cluster)))


def test_cluster_converts_and_scores_to_the_same_bytes(cluster, tmp_path, monkeypatch):
    """The raw folder and the data set are named by relative paths, which the workers cannot follow."""
    write_phantoms(tmp_path / "raw", patients=3, long_side=160)
    monkeypatch.chdir(tmp_path)
    for name, address in (("here", None), ("there", cluster)):
        work = Work(workers=1, cluster=address)
        convert(READERS["vindr"], Path("raw"), out=tmp_path / name, options=Options(labels="birads"), work=work)
    files = sorted(path.relative_to("here") for path in Path("here").rglob("*") if path.is_file())
    assert len(files) > 10
    assert all((tmp_path / "here" / file).read_bytes() == (tmp_path / "there" / file).read_bytes() for file in files)
    source = Path("here")
    reports = [
        evaluate(source, _predictions(tmp_path), options=Scoring(workers=Workers(1, address))).report.to_json()
        for address in (None, cluster)
    ]
    assert reports[0] == reports[1]
    assert reports[0]["sweep"]["PQ"][0] == 1.0


def _predictions(root):
    """The truth, taken for a prediction."""
    out = root / "predictions"
    if not out.exists():
        out.mkdir()
        (out / "panoptic").symlink_to(root / "here" / "panoptic")
        (out / "panoptic.json").write_bytes((root / "here" / "panoptic.json").read_bytes())
    return Path("predictions")


@pytest.mark.parametrize("address", ["nonsense", "tcp://127.0.0.1:1", "tcp://127.0.0.1", "tcp://127.0.0.1:99999"])
def test_address_without_a_scheduler_is_one_line(address):
    pytest.importorskip("distributed", reason="the extra [cluster] is not installed")
    with pytest.raises(MammoprepError, match=f"No Dask scheduler answers at {address}. Start `dask scheduler`"):
        list(each(square, [1], workers=Workers(1, address)))


def test_missing_extra_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MammoprepError, match=r"pip install 'mammoprep\[cluster\]'"):
        list(each(square, [1], workers=Workers(1, "tcp://127.0.0.1:8786")))


def test_scheduler_without_workers_is_one_line(monkeypatch):
    distributed = pytest.importorskip("distributed", reason="the extra [cluster] is not installed")
    closed = []

    class Client:
        def __init__(self, *_, **__):
            pass

        def scheduler_info(self):
            return {"workers": {}}

        def close(self):
            closed.append(True)

    monkeypatch.setattr(distributed, "Client", Client)
    monkeypatch.setattr(parallel, "_check_reachable", lambda address: None)
    with pytest.raises(MammoprepError, match="has no workers. Start `dask worker tcp://127.0.0.1:8786`"):
        list(each(square, [1], workers=Workers(1, "tcp://127.0.0.1:8786")))
    assert closed
