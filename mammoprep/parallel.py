"""The same call for many items: on threads of this machine, or on the workers of a Dask cluster."""

import platform
import socket
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from mammoprep.errors import MammoprepError

PATIENCE_S = 30
"""Seconds after which a scheduler that does not answer is not there."""
WORKERLESS_S = 300
"""Seconds that a cluster without workers is given to get one; a worker's nanny takes a few."""
AHEAD = 4
"""Calls for each thread of a cluster that are sent before the first of them is done."""
DECISIVE = (
    *("mammoprep", "imagecodecs", "numpy", "opencv-python-headless", "pillow", "pycocotools", "pydicom"),
    *("scikit-image", "scipy", "shapely"),
)
"""Packages of which another version may give other bytes."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Workers:
    """How many calls run at a time on this machine, or the address of the Dask scheduler whose workers run them."""

    count: int = 1
    cluster: str | None = None


ONE = Workers()


def batched(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Yield some items at a time, in their order."""
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


def each(
    function: Callable[[_Item], _Result],
    items: Iterable[_Item],
    *,
    workers: Workers = ONE,
    batch: int = 1,
    killed: Callable[[_Item], _Result] | None = None,
) -> Iterator[_Result]:
    """Yield the result for each item, in the order of the items.

    An error in one call is raised here. For a cluster see `on_cluster`.
    """
    if workers.cluster is not None:
        yield from on_cluster(function, items, address=workers.cluster, batch=batch, killed=killed)
    elif workers.count == 1:
        yield from map(function, items)
    else:
        from joblib import Parallel, delayed

        calls = (delayed(function)(item) for item in items)
        yield from Parallel(n_jobs=workers.count, prefer="threads", return_as="generator")(calls)


def on_cluster(
    function: Callable[[_Item], _Result],
    items: Iterable[_Item],
    *,
    address: str,
    batch: int = 1,
    in_order: bool = True,
    killed: Callable[[_Item], _Result] | None = None,
) -> Generator[_Result]:
    """Yield the result for each item from the workers of the Dask scheduler at `address`, as tcp://HOST:PORT.

    Function and items are pickled, `batch` items a call; the workers must see the same folders under the same paths.
    What a worker was at when it died is done by another. An item that kills its workers again when it runs alone gets
    its result from `killed`; without that it is a MammoprepError. No more than some items are in memory.
    """
    client = _connect(address)
    try:
        yield from _Run(function, batched(items, batch), client=client, in_order=in_order, killed=killed or _refuse)
    finally:
        client.close()


def killer(what: str) -> MammoprepError:
    """Give the error for what no worker outlives."""
    return MammoprepError(
        f"{what} kills every worker that takes it, most likely because memory runs out. Give the workers more "
        "(dask worker --memory-limit), or look into their logs."
    )


def _refuse(item: object) -> Any:
    raise killer("One of the images")


class _Run(Generic[_Item, _Result]):
    """Batches of items on their way through a cluster; iterating gives their results."""

    def __init__(
        self,
        function: Callable[[_Item], _Result],
        batches: Iterator[list[_Item]],
        *,
        client: Any,
        in_order: bool,
        killed: Callable[[_Item], _Result],
    ) -> None:
        self._function, self._batches, self._client = function, batches, client
        self._in_order, self._killed = in_order, killed
        self._sent = 0
        self._flying: dict[str, tuple[Any, Sequence[tuple[int, _Item]]]] = {}  # futures must be held to go on
        self._landed: SimpleQueue[Any] = SimpleQueue()
        self._suspects: deque[tuple[int, _Item]] = deque()
        self._alone: str | None = None  # the call that runs while no other does
        self._room, self._counted = 0, -float("inf")

    def __iter__(self) -> Iterator[_Result]:
        expected, waiting = 0, dict[int, _Result]()
        while self._launch(len(waiting)):
            for place, result in self._land():
                waiting[place] = result
                if not self._in_order:
                    yield waiting.pop(place)
            while expected in waiting:
                yield waiting.pop(expected)
                expected += 1

    def _launch(self, waiting: int) -> bool:
        """Send what there is room for; tell whether anything is on its way.

        What was on a worker that died too often runs alone, so that the guilty takes no other down.
        """
        if self._suspects:
            if not self._flying:
                self._alone = self._send([self._suspects.popleft()])
            return True
        room = max(1, self._threads()) * AHEAD
        while len(self._flying) < room and waiting < AHEAD * room and (batch := next(self._batches, None)):
            self._send(list(enumerate(batch, start=self._sent)))
            self._sent += len(batch)
        return bool(self._flying)

    def _send(self, batch: Sequence[tuple[int, _Item]]) -> str:
        future = self._client.submit(_call, self._function, [item for _, item in batch], pure=False)
        self._flying[future.key] = future, batch
        future.add_done_callback(self._landed.put)
        return str(future.key)

    def _land(self) -> Iterator[tuple[int, _Result]]:
        """Wait for a call to end, and yield its results, each with the place of its item."""
        from distributed import KilledWorker

        future = self._next()
        _, batch = self._flying.pop(future.key)
        try:
            results = future.result()
        except KilledWorker:
            if self._alone == future.key:
                results = [self._killed(batch[0][1])]
            else:
                self._suspects.extend(batch)
                return
        except CancelledError as error:
            raise _gone() from error
        yield from zip((place for place, _ in batch), results, strict=True)

    def _next(self) -> Any:
        since = monotonic()
        while True:
            try:
                return self._landed.get(timeout=PATIENCE_S)
            except Empty:
                if self._threads():
                    since = monotonic()
                elif monotonic() - since > WORKERLESS_S:
                    raise MammoprepError(
                        f"The Dask cluster has had no workers for {WORKERLESS_S} s: they died or were stopped. "
                        "Look into their logs, start others and say the same again."
                    ) from None

    def _threads(self) -> int:
        """Give the number of threads of the cluster, which may grow and shrink; asked for now and then."""
        if not self._room or monotonic() - self._counted > PATIENCE_S:
            try:
                self._room = sum(self._client.nthreads().values())
            except (OSError, TimeoutError) as error:
                raise _gone() from error
            self._counted = monotonic()
        return self._room


def _call(function: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    return [function(item) for item in items]


def _gone() -> MammoprepError:
    return MammoprepError("The Dask scheduler went away. Start it and its workers again, and say the same again.")


def _connect(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError as error:
        raise MammoprepError("--cluster needs Dask. Type: pip install 'mammoprep[cluster]'") from error
    _check_reachable(address)
    make: Any = Client
    client = make(address, timeout=PATIENCE_S, set_as_default=False)
    try:
        _check_workers(client, address)
    except BaseException:
        client.close()
        raise
    return client


def _check_workers(client: Any, address: str) -> None:
    """Refuse a cluster without workers, or with one that would give other bytes than this machine."""
    try:
        client.wait_for_workers(1, timeout=PATIENCE_S)
    except TimeoutError as error:
        raise MammoprepError(
            f"The Dask scheduler at {address} has no workers. Start `dask worker {address}`."
        ) from error
    here = _versions()
    try:
        found = client.run(_versions)
    except ImportError as error:
        raise MammoprepError(
            f"The workers of {address} lack {error.name}. Install the same mammoprep there as here."
        ) from error
    for worker, there in found.items():
        for package, needed in here.items():
            if there.get(package) != needed:
                raise MammoprepError(
                    f"The worker {worker} has {package} {there.get(package)}, this machine {needed}, which may give "
                    "other bytes. Install the same on both (pip install -c constraints.txt)."
                )


def _versions() -> dict[str, str | None]:
    """Give the versions on which the bytes may depend."""
    found: dict[str, str | None] = {"Python": ".".join(platform.python_version_tuple()[:2])}
    for package in DECISIVE:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def _check_reachable(address: str) -> None:
    """Refuse an address where nobody listens: a Dask client that cannot connect goes on complaining after its error."""
    try:
        place = urlsplit(address)
        if place.scheme not in ("tcp", "tls") or place.hostname is None or place.port is None:
            raise ValueError("no tcp://HOST:PORT")
        socket.create_connection((place.hostname, place.port), timeout=PATIENCE_S).close()
    except (OSError, ValueError) as error:
        raise MammoprepError(
            f"No Dask scheduler answers at {address}. Start `dask scheduler`, and name it as tcp://HOST:PORT."
        ) from error
