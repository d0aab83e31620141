"""The PREDICTIONS of a run by the workers of a Dask cluster, each of which loads the network once."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import NoReturn

from mammoprep import panoptic, parallel
from mammoprep_model import checkpoint, inference
from mammoprep_model.data import Picture
from mammoprep_model.inference import Options, Part, Runner
from mammoprep_model.predictions import Predicted

_turn = threading.Lock()


@dataclass(frozen=True)
class Remote:
    """What a worker needs to have the network of a run.

    `weights` are the places of pretrained parts by name, `sha256` is that of model.safetensors: a worker that lives
    longer than the run does not take an older one for it.
    """

    run: Path
    weights: tuple[tuple[str, str], ...]
    device: str
    sha256: str


def remote(run: Path, *, weights: Mapping[str, str], device: str) -> Remote:
    """Describe the network of a run to workers, which stand in other folders."""
    places = {**checkpoint.read_run(run).weights, **weights}
    whole = {part: str(Path(place).resolve()) if Path(place).exists() else place for part, place in places.items()}
    digest = panoptic.file_hash(run / "model.safetensors")
    return Remote(run.resolve(), tuple(sorted(whole.items())), device, digest)


def predict(network: Remote, pictures: Sequence[Picture], *, out: Path, address: str, options: Options) -> None:
    """Write the PREDICTIONS that `inference.predict` writes, the same parts through the network of each worker."""
    own = replace(options, on_progress=None, on_estimate=None, also=None)

    def run(root: Path, parts: Iterator[Part], left: int) -> Iterator[Predicted]:
        work = partial(_predict_part, network=network, root=root, options=own)
        for found in parallel.on_cluster(work, parts, address=address, in_order=False, killed=_refuse_killer):
            yield from found

    config = replace(checkpoint.read_run(network.run), device=str(checkpoint.pick_device(network.device)))
    inference.write(run, pictures, out=out, config=config, options=options)


def _predict_part(part: Part, *, network: Remote, root: Path, options: Options) -> list[Predicted]:
    """Predict a part on a worker; where that has several threads, one at a time."""
    with _turn:
        return list(inference.predict_part(_load_once(network), part, root=root, options=options))


@lru_cache(maxsize=1)
def _load_once(network: Remote) -> Runner:
    found, config = checkpoint.load(network.run, weights=dict(network.weights), device=network.device)
    return Runner(found, config=config)


def _refuse_killer(part: Part) -> NoReturn:
    raise parallel.killer(f"One of the images from {part.pictures[0].name} to {part.pictures[-1].name}")
