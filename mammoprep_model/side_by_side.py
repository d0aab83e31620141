"""Folds trained side by side: processes that each take folds in turn, each on a GPU of its own where there are some."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import torch

from mammoprep.errors import MammoprepError
from mammoprep_model.interrupts import Stopped, stop_requests, unheard
from mammoprep_model.plan import Job, Session

TrainOne = Callable[[Job, Session], None]
_CALLS = ("on_step", "on_predict", "on_note")
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_LOOK_S = 0.2
"""Seconds between two looks at whether somebody wants to stop."""


@dataclass(frozen=True)
class _Worker:
    """A process, its folds, and the end of the pipe on which it reports; its last word is how it ended."""

    process: SpawnProcess
    jobs: Sequence[Job]
    words: Connection

    @property
    def folds(self) -> str:
        return ", ".join(str(job.config.fold) for job in self.jobs)

    def ended_silently(self) -> MammoprepError:
        """Say that it died without a last word."""
        self.process.join()
        return MammoprepError(
            f"The process with fold {self.folds} died (exit code {self.process.exitcode}). Go on from the last"
            " checkpoint with --resume; if memory was short, with fewer --jobs."
        )


def train(jobs: Sequence[Job], *, train_one: TrainOne, session: Session) -> None:
    """Train folds in `session.jobs` processes; the result is that of one after another, to the byte.

    `train_one` is a function that a fresh process can import. Where one fails or is stopped all stop after their step,
    with a checkpoint; raises the first error, else `Stopped`.
    """
    count = min(session.jobs, len(jobs))
    gpus = _gpus() if jobs[0].config.device.startswith("cuda") else [None]
    quiet = replace(session, on_step=None, on_predict=None, on_note=None)
    workers: list[_Worker] = []
    try:
        with unheard():
            for place in range(count):
                gpu = gpus[place % len(gpus)]
                workers.append(_start(jobs[place::count], train_one=train_one, session=quiet, gpu=gpu))
        with stop_requests() as is_stopping:
            ended = _listen(workers, session=session, is_stopping=is_stopping)
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.join()
    errors = [error for error in ended if isinstance(error, MammoprepError)]
    if errors:
        raise errors[0]
    if any(ended):
        raise Stopped("Stopped; every fold that was begun holds a checkpoint.")


def _gpus() -> list[str | None]:
    """Name the GPUs as CUDA_VISIBLE_DEVICES does."""
    named = os.environ.get(_VISIBLE)
    return [*named.split(",")] if named else [str(number) for number in range(torch.cuda.device_count())]


def _start(jobs: Sequence[Job], *, train_one: TrainOne, session: Session, gpu: str | None) -> _Worker:
    spawn = multiprocessing.get_context("spawn")  # a forked process could not use CUDA
    ours, theirs = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_work, args=(theirs, jobs, train_one, session), daemon=True)
    with _seeing(gpu):
        process.start()
    theirs.close()
    return _Worker(process, jobs, ours)


@contextmanager
def _seeing(gpu: str | None) -> Iterator[None]:
    """Let processes that are started meanwhile see one GPU; later, a library may have asked for all of them."""
    before = os.environ.get(_VISIBLE)
    if gpu is not None:
        os.environ[_VISIBLE] = gpu
    try:
        yield
    finally:
        if before is not None:
            os.environ[_VISIBLE] = before
        else:
            os.environ.pop(_VISIBLE, None)


def _work(words: Connection, jobs: Sequence[Job], train_one: TrainOne, session: Session) -> None:
    """Train folds in turn, in a process of its own; report each call of the session, and how it ended."""
    calls: Mapping[str, Any] = {name: partial(_report, words, name) for name in _CALLS}
    ended: BaseException | None = None
    try:
        for job in jobs:
            train_one(job, replace(session, **calls))
    except (MammoprepError, KeyboardInterrupt) as error:
        ended = error
    words.send(("ended", (ended,)))


def _report(words: Connection, name: str, *arguments: Any) -> None:
    words.send((name, arguments))


def _listen(
    workers: Sequence[_Worker], *, session: Session, is_stopping: Callable[[], bool]
) -> list[BaseException | None]:
    """Pass on what the processes report until all have ended; give how. After the first bad end all are stopped."""
    left = {worker.words: worker for worker in workers}
    ended: list[BaseException | None] = []
    has_told = False
    while left:
        for words in wait(list(left), timeout=_LOOK_S):
            worker = left[words]  # type: ignore[index]  # of what was waited for
            try:
                name, arguments = worker.words.recv()
            except EOFError:
                name, arguments = "ended", (Stopped() if has_told else worker.ended_silently(),)
            if name == "ended":
                ended += arguments
                del left[worker.words]
            else:
                call = getattr(session, name)
                if call:
                    call(*arguments)
        if not has_told and (is_stopping() or any(ended)):
            has_told = True
            for worker in left.values():
                with suppress(ProcessLookupError):
                    os.kill(worker.process.pid or 0, signal.SIGTERM)
    return ended
