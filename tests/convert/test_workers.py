import subprocess
import sys
import threading
from contextlib import suppress

import psutil
import pytest

from mammoprep.convert.workers import stopping


@pytest.mark.parametrize(
    ("name", "error", "told"),
    [("ExecutorManagerThread", KeyError, 0), ("ExecutorManagerThread", OSError, 1), ("another", KeyError, 1)],
)
def test_loky_s_own_error_alone_is_hushed_while_workers_are_stopped(monkeypatch, name, error, told):
    heard = []
    monkeypatch.setattr(threading, "excepthook", heard.append)

    def fail():
        raise error(6)

    with stopping():
        thread = threading.Thread(target=fail, name=name)
        thread.start()
        thread.join()
    assert len(heard) == told
    assert threading.excepthook == heard.append


def test_workers_end_when_the_process_that_started_them_was_killed(tmp_path):
    """A process starts one worker as joblib does, and is killed; the worker, idle by then, ends by itself."""
    script = """
import os, signal, sys
from pathlib import Path
from mammoprep.convert.case import Case
from mammoprep.convert.workers import make_one
from mammoprep.convert.options import Options
from mammoprep.convert.case import Job
from joblib.externals.loky import get_reusable_executor

def make(record, *, number, job):
    return Case(os.getpid(), image="an image")

job = Job(Path("."), Path("."), Options(labels="any"), ())
made = get_reusable_executor(1).submit(make_one, make, None, number=1, job=job, parent=os.getpid()).result()
print(made.number, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=False)
    with suppress(psutil.NoSuchProcess):
        worker = psutil.Process(int(done.stdout))
        if worker.status() != psutil.STATUS_ZOMBIE:
            worker.wait(timeout=60)  # TimeoutExpired where it lives on
        assert worker.status() == psutil.STATUS_ZOMBIE  # which nobody has reaped, else NoSuchProcess


def test_a_worker_that_has_grown_is_replaced_and_nothing_hangs(tmp_path):
    """From its second image on, each worker grows by 350 MiB, which joblib takes for a leak; warnings are errors."""
    (tmp_path / "image").touch()
    script = """
import os, sys, time
from pathlib import Path
from mammoprep.convert import case, workers
from mammoprep.convert.options import Options

def make(record, *, number, job):
    os.kept = [*getattr(os, "kept", []), b"0" * (350 * 2**20 if hasattr(os, "kept") else 1)]
    time.sleep(1.1)  # joblib looks once a second
    return case.Case(number, image=str(os.getpid()))

case.make = make
job = case.Job(Path(sys.argv[1]), Path("."), Options(labels="any"), ())
made = list(workers.make_all([(n, None) for n in range(8)], job=job, workers=2))
print(len(made), len({each.image for each in made}))
"""
    command = [sys.executable, "-W", "error", "-c", script, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert not done.stderr
    images, processes = map(int, done.stdout.split())
    assert images == 8
    assert processes > 2
