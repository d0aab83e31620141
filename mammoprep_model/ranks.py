"""The processes that train one network together, one a GPU, as torchrun starts them."""

import os
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, distributed

from mammoprep.errors import MammoprepError

_Word = TypeVar("_Word")
_PATIENCE = timedelta(days=30)
"""The others wait while the first process predicts; those whose peer has died are told by the connection."""


class PeerError(MammoprepError):
    """Another process ended the training; the text is what it said."""


class Ranks:
    """One process among the `size` that train together. Without torchrun it is alone, and nothing is exchanged.

    Words go from CPU to CPU (gloo), gradients from GPU to GPU (NCCL). Whoever fails says so in place of its next word,
    so that all end with the same error; whatever may fail must therefore stand between words, not beside gradients.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.rank = int(os.environ.get("RANK", "0"))
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self._device = device

    @property
    def is_first(self) -> bool:
        """Tell whether this is the process that writes, predicts and reports."""
        return self.rank == 0

    def __enter__(self) -> Self:
        if self.size > 1:
            on_gpu = self._device != "cpu" and torch.cuda.is_available()
            if on_gpu:
                _take_gpu()
            _join("cpu:gloo,cuda:nccl" if on_gpu else "gloo", size=self.size)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.size == 1:
            return
        if isinstance(error, Exception) and not isinstance(error, PeerError):
            with suppress(PeerError):
                self._exchange((_line(error, rank=self.rank), None))
        distributed.destroy_process_group()

    def share(self, batch_size: int) -> int:
        """Give the images of a step that each process takes."""
        if batch_size % self.size:
            nearest = max(batch_size // self.size, 1) * self.size
            raise MammoprepError(
                f"train.batch_size = {batch_size} cannot be dealt to {self.size} processes alike."
                f" Say --set train.batch_size={nearest}, or start another number of processes."
            )
        return batch_size // self.size

    def gather(self, word: _Word) -> list[_Word]:
        """Give what each process says, in the order of the ranks; wait for the slowest. Raises `PeerError`."""
        if self.size == 1:
            return [word]
        said = self._exchange((None, word))
        for error, _ in said:
            if error is not None:
                raise PeerError(error)
        return [each for _, each in said]

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Tell of each flag whether a process has raised it."""
        return tuple(any(column) for column in zip(*self.gather(flags), strict=True))

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Put the sum over all processes in the place of each tensor."""
        if self.size > 1:
            self._wait([distributed.all_reduce(tensor, async_op=True) for tensor in tensors])

    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Put the first process's values in the place of each tensor."""
        if self.size > 1:
            self.gather(None)
            self._wait([distributed.broadcast(tensor, src=0, async_op=True) for tensor in tensors])

    def _wait(self, works: Iterable[Any]) -> None:
        try:
            for work in works:
                work.wait()
        except RuntimeError as error:
            raise _lost(error) from error

    def _exchange(self, word: tuple[str | None, Any]) -> list[tuple[str | None, Any]]:
        said: list[Any] = [None] * self.size
        try:
            distributed.all_gather_object(said, word)
        except RuntimeError as error:
            raise _lost(error) from error
        return said


def _join(backend: str, *, size: int) -> None:
    """Meet the other processes."""
    try:
        distributed.init_process_group(backend, timeout=_PATIENCE)
    except (ValueError, RuntimeError) as error:
        raise MammoprepError(
            f"The {size} processes of WORLD_SIZE do not meet: {error} Start them with torchrun, or unset WORLD_SIZE."
        ) from error


def _take_gpu() -> None:
    """Compute on the GPU with this process's number on its machine."""
    wanted, present = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
    if wanted > present:
        raise MammoprepError(f"{wanted} processes cannot share {present} GPUs. Lower --nproc-per-node.")
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))


def _line(error: Exception, *, rank: int) -> str:
    return str(error) if isinstance(error, MammoprepError) else f"Process {rank} failed: {error!r}."


def _lost(error: RuntimeError) -> PeerError:
    reason = (str(error).splitlines() or ["no reason given"])[0]
    return PeerError(
        f"Another process of this training has ended ({reason}). Go on from the last checkpoint with --resume."
    )
