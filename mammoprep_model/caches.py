"""What a network's frozen parts give for training views that come back, computed once and kept on disk.

A file is named after the pixels of the view and lies in a folder named after all else that its content depends on:
another image, other weights or settings never find it. The folder may be deleted at any time.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mammoprep import panoptic
from mammoprep_model.augment import variants
from mammoprep_model.config import TrainConfig
from mammoprep_model.segmenter import Batch, Cacheable

Answer = dict[str, Tensor]
"""What the frozen parts give for one view."""
GIB = 2**30


class Cache:
    """Answers of frozen parts in a folder, up to `limit` bytes; without a network it keeps and finds nothing."""

    def __init__(
        self, network: Cacheable | None = None, *, folder: Path = Path(), key: str = "", limit: int = 0
    ) -> None:
        self._network = network
        self._folder = folder / key[:16]
        self._key = key
        self._room = limit - sum(path.stat().st_size for path in folder.rglob("*.safetensors"))

    def read(self, batch: Batch) -> Batch:
        """Add the answers that lie on disk; it may be called by several threads."""
        if self._network is None:
            return batch
        return replace(batch, frozen=tuple(self._read(path) for path in self._paths(batch)))

    def fill(self, batch: Batch) -> Batch:
        """Compute the answers that `read` did not find, and keep them while there is room."""
        missing = [at for at, found in enumerate(batch.frozen) if found is None]
        if self._network is None or not missing:
            return batch
        answers = dict(zip(missing, self._network.frozen(batch.images[missing]), strict=True))
        for at, path in enumerate(self._paths(batch)):
            if at in answers and not path.is_file():
                self._write(path, answers[at])
        return replace(batch, frozen=tuple(answers.get(at, found) for at, found in enumerate(batch.frozen)))

    def _paths(self, batch: Batch) -> Iterator[Path]:
        for image in batch.images.cpu().contiguous():
            yield self._folder / f"{hashlib.sha256(image.numpy()).hexdigest()}.safetensors"

    def _read(self, path: Path) -> Answer | None:
        """Read a file; one that is torn or that another key wrote is removed."""
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                if (file.metadata() or {}).get("key") == self._key:
                    return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError):
            pass
        with suppress(OSError):
            path.unlink()
        return None

    def _write(self, path: Path, answer: Answer) -> None:
        content = save({name: value.cpu().contiguous() for name, value in answer.items()}, metadata={"key": self._key})
        if len(content) > self._room:
            return
        # Several processes may write the same answer: each beside, under a name of its own.
        beside = path.with_suffix(f".{os.getpid()}.partial")
        with panoptic.writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_bytes(content)
            os.replace(beside, path)
        self._room -= len(content)


def open_cache(network: object, *, folder: Path, config: TrainConfig, images: int) -> tuple[Cache, str]:
    """Give the cache of a training on so many images, and the line that says what it will hold, or why nothing.

    Nothing is written yet. Call it, as `fill`, under the autocast of the training.
    """
    if not config.cache_gib:
        return Cache(), ""
    if not variants(config):
        wanted = "Say train.augment=none or flip and train.view=whole for one, or train.cache_gib=0."
        return Cache(), f"No cache: train.augment={config.augment}, view={config.view} makes ever new views. {wanted}"
    state = network.frozen_state() if isinstance(network, Cacheable) else {}
    if not isinstance(network, Cacheable) or not state:
        return Cache(), "No cache: this model has no frozen part that sees the image alone."
    device = next(iter(state.values())).device
    answer = network.frozen(torch.zeros(1, 3, config.crop, config.crop, device=device))[0]
    each, views = sum(value.nbytes for value in answer.values()), images * variants(config)
    kinds = (device.type, *(f"{name} {value.dtype} {list(value.shape)}" for name, value in sorted(answer.items())))
    key = _key(state, (torch.__version__, *kinds))
    limit = min(int(config.cache_gib * GIB), shutil.disk_usage(_existing(folder)).free // 2)
    held = min(views, limit // each)
    line = f"Cache: {views} views of {each / 2**20:.1f} MiB, {views * each / GIB:.2f} GiB in all, into {folder}"
    short = "" if held == views else f"; {held} of them fit into {limit / GIB:.2f} GiB"
    return Cache(network, folder=folder, key=key, limit=limit), f"{line}{short}."


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.resolve().parents) if path.exists())


def _key(state: Mapping[str, Tensor], settings: Sequence[str]) -> str:
    """Give the SHA-256 of tensors and settings."""
    digest = hashlib.sha256(json.dumps(list(settings)).encode())
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
