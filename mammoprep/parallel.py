"""The same call for many items: on threads of this machine, or on the workers of a Dask cluster."""

import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from mammoprep.errors import MammoprepError

PATIENCE_S = 10
"""Seconds after which a scheduler that does not answer is not there."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Workers:
    """How many calls run at a time on this machine, or the address of the Dask scheduler whose workers run them."""

    count: int = 1
    cluster: str | None = None


ONE = Workers()


def each(function: Callable[[_Item], _Result], items: Iterable[_Item], *, workers: Workers = ONE) -> Iterator[_Result]:
    """Yield the result for each item, in the order of the items.

    An error in one call is raised here. On a cluster, function and items are pickled, and the workers must see the same
    folders under the same paths.
    """
    if workers.cluster is None and workers.count == 1:
        yield from map(function, items)
        return
    from joblib import Parallel, delayed

    calls = (delayed(function)(item) for item in items)
    if workers.cluster is None:
        yield from Parallel(n_jobs=workers.count, prefer="threads", return_as="generator")(calls)
        return
    with on_cluster(workers.cluster):
        yield from Parallel(n_jobs=-1, return_as="generator")(calls)


@contextmanager
def on_cluster(address: str) -> Iterator[None]:
    """Let joblib's calls inside the block run on the workers of the Dask scheduler at `address`, as tcp://HOST:PORT."""
    client = _connect(address)
    try:
        from joblib import parallel_config

        with parallel_config("dask", client=client):
            yield
    finally:
        client.close()


def _connect(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError as error:
        raise MammoprepError("--cluster needs Dask. Type: pip install 'mammoprep[cluster]'") from error
    _check_reachable(address)
    make: Any = Client
    client = make(address, timeout=PATIENCE_S, set_as_default=False)
    if not client.scheduler_info()["workers"]:
        client.close()
        raise MammoprepError(f"The Dask scheduler at {address} has no workers. Start `dask worker {address}`.")
    return client


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
