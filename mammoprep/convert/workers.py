"""Many images at once: as many processes as cores and free memory allow, results as they come."""

import os
import signal
import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from functools import cache, partial
from pathlib import Path
from time import sleep
from typing import Any

import joblib
import psutil
from threadpoolctl import threadpool_limits

from mammoprep import parallel
from mammoprep.convert import case
from mammoprep.convert.case import Case, Job
from mammoprep.errors import MammoprepError
from mammoprep.records import Record, Skipped

WORKER_BYTES = 400 * 2**20
"""Memory that a worker may need at its peak. 3518 x 2800 pixels take 203 MiB, most of them for what is imported
(examples/benchmarks/convert.py); the largest digitised films have twice the pixels."""
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""A container's own limit (cgroup v2), which psutil does not see: bytes, or `max` for none."""
_BATCH = 4
"""Images a call on a cluster, of which a scheduler takes some 300 a second."""
KILLED = "it killed every worker that took it, most likely because memory ran out"
"""Why an image is left out that no worker of a cluster outlives."""
LEAST_IMAGES = 8
"""Images below which another worker takes longer to start than it saves."""
_LOOK_S = 0.5
"""Seconds between two looks of a worker at whether its parent lives."""
_KILLED = "A worker process was killed, most likely because memory ran out."


def count(images: int, *, more: int = 0) -> int:
    """Give the number of workers for so many images, where each needs so many bytes `more` than usual."""
    cores: int = joblib.cpu_count()
    return max(1, min(cores, _free_memory() // (WORKER_BYTES + more), images // LEAST_IMAGES))


def _free_memory() -> int:
    free: int = psutil.virtual_memory().available
    try:
        return min(free, int(CONTAINER_LIMIT.read_text(encoding="ascii")))
    except (OSError, ValueError):
        return free


@contextmanager
def stopping() -> Iterator[None]:
    """Hush the KeyError with which loky's manager thread may end while its workers are stopped.

    Stopping drops the calls that wait, and leaves their numbers in the thread's queue, where it looks them up
    (joblib 1.6, `add_call_item_to_queue`). The thread would have ended next, and its workers are gone by then.
    """
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if not (args.exc_type is KeyError and args.thread and args.thread.name == "ExecutorManagerThread"):
            before(args)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


def make_all(
    tasks: Iterable[tuple[int, Record]],
    *,
    job: Job,
    workers: int,
    cluster: str | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Generator[Case]:
    """Yield the Case of each numbered record as it is done, in any order.

    Where a worker process is killed, `tasks` is gone through again, and the rest tried once more by half as many.
    Raises MammoprepError where one of those is killed too, or where the raw folder is gone.
    """
    if cluster:
        work = partial(_make, job=job)
        yield from parallel.on_cluster(work, tasks, address=cluster, batch=_BATCH, in_order=False, killed=_left_out)
        return
    if workers == 1:
        with threadpool_limits(1):  # on a busy machine two threads of BLAS wait for each other
            yield from (make_one(case.make, record, number=number, job=job) for number, record in tasks)
        return
    done = set()
    try:
        with closing(_in_processes(_calls(tasks, job, parent=os.getpid()), workers=workers)) as cases:
            for made in cases:
                done.add(made.number)
                yield made
    except BrokenProcessPool:
        workers = max(1, workers // 2)
        if on_note:
            on_note(f"{_KILLED} Going on with {workers}.")
        rest = (task for task in tasks if task[0] not in done)
        try:
            yield from _in_processes(_calls(rest, job, parent=os.getpid()), workers=workers)
        except BrokenProcessPool as error:
            raise MammoprepError(f"{_KILLED} Say --resume --workers {max(1, workers // 2)} to go on.") from error


def _calls(tasks: Iterable[tuple[int, Record]], job: Job, *, parent: int | None = None) -> Iterator[Any]:
    call = joblib.delayed(make_one)
    return (call(case.make, record, number=number, job=job, parent=parent) for number, record in tasks)


def _in_processes(calls: Iterable[Any], *, workers: int) -> Generator[Case]:
    """Yield results from so many processes; one worker too is a process of its own, which may die alone."""
    with joblib.parallel_config("loky", inner_max_num_threads=1):
        at_once = 1 if workers == 1 else "2 * n_jobs"
        pool = joblib.Parallel(n_jobs=max(2, workers), pre_dispatch=at_once, return_as="generator_unordered")
        cases = pool(calls)
    try:
        with warnings.catch_warnings():
            # joblib replaces a worker that has grown, and warns of it in a thread of its own: as an error it would hang
            warnings.filterwarnings("ignore", "A worker stopped while", UserWarning)
            for made in cases:  # noqa: UP028 - "yield from" would close it before the warning is muted
                yield made
    finally:
        with stopping(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*cancelled|.*not used", UserWarning)  # after Ctrl-C, that is meant
            cases.close()


def make_one(make: Callable[..., Case], record: Record, *, number: int, job: Job, parent: int | None = None) -> Case:
    """Make one image, unless the process `parent` that asked for it was killed: the next run may be at work already."""
    if parent is not None:
        if os.getppid() != parent:
            return Case(number)
        _end_with(parent)
    made = make(record, number=number, job=job)
    if made.image is None and not _holds_something(job.root):
        raise MammoprepError(
            f"{job.root} cannot be read any more: a share that is gone? What is done is kept. When it is back, say"
            " --resume to go on."
        )
    return made


@cache
def _end_with(parent: int) -> None:
    """End this worker process when the one that started it was killed; joblib would keep it for minutes."""

    def watch() -> None:
        while os.getppid() == parent:
            sleep(_LOOK_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _make(task: tuple[int, Record], *, job: Job) -> Case:
    return make_one(case.make, task[1], number=task[0], job=job)


def _left_out(task: tuple[int, Record]) -> Case:
    """List an image that no worker of a cluster outlives; --resume tries it again."""
    return Case(task[0], (Skipped(task[1].shown, "image", KILLED),))


def _holds_something(folder: Path) -> bool:
    """Tell whether a folder can be listed and is not empty, as the mount point of a share that is gone is."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except OSError:
        return False
