"""Many images at once: as many processes as cores and free memory allow, results as they come."""

import threading
import warnings
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

import joblib
import psutil

from mammoprep import parallel
from mammoprep.convert import case
from mammoprep.convert.case import Case, Job
from mammoprep.errors import MammoprepError
from mammoprep.records import Record

WORKER_BYTES = 400 * 2**20
"""Memory that a worker may need at its peak. 3518 x 2800 pixels take 203 MiB, most of them for what is imported
(examples/benchmarks/convert.py); the largest digitised films have twice the pixels."""
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""A container's own limit (cgroup v2), which psutil does not see: bytes, or `max` for none."""
LEAST_IMAGES = 8
"""Images below which another worker takes longer to start than it saves."""


def count(images: int) -> int:
    """Give the number of workers for so many images."""
    cores: int = joblib.cpu_count()
    return max(1, min(cores, _free_memory() // WORKER_BYTES, images // LEAST_IMAGES))


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
    tasks: Sequence[tuple[int, Record]], *, job: Job, workers: int, cluster: str | None = None
) -> Generator[Case]:
    """Yield the Case of each numbered record as it is done, in any order."""
    if cluster:
        calls = (joblib.delayed(case.make)(record, number=number, job=job) for number, record in tasks)
        with parallel.on_cluster(cluster):
            yield from joblib.Parallel(n_jobs=-1, return_as="generator_unordered")(calls)
        return
    if workers == 1:
        yield from (case.make(record, number=number, job=job) for number, record in tasks)
        return
    calls = (joblib.delayed(case.make)(record, number=number, job=job) for number, record in tasks)
    with joblib.parallel_config("loky", inner_max_num_threads=1):
        cases = joblib.Parallel(n_jobs=workers, return_as="generator_unordered")(calls)
    try:
        for made in cases:  # noqa: UP028 - "yield from" would close it before the warning is muted
            yield made
    except BrokenProcessPool as error:
        raise MammoprepError(
            "A worker process was killed, most likely because memory ran out. "
            f"Say --resume --workers {max(1, workers // 2)} to go on."
        ) from error
    finally:
        with stopping(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*cancelled|.*not used", UserWarning)  # after Ctrl-C, that is meant
            cases.close()
