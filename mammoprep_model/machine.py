"""What this machine has for training: the GPUs that torch sees, and the pretrained parts in the hub's cache."""

from dataclasses import dataclass

import torch

from mammoprep_model import weights


@dataclass(frozen=True)
class Gpu:
    """A GPU, and its memory in units of a million bytes."""

    name: str
    memory_mb: int


def gpus() -> list[Gpu]:
    """List the GPUs that torch can compute on."""
    found = [torch.cuda.get_device_properties(place) for place in range(torch.cuda.device_count())]
    return [Gpu(each.name, each.total_memory // 10**6) for each in found]


def cached_weights() -> dict[str, str | None]:
    """Give the folder of each pretrained part that lies whole in the hub's cache, None for the others."""
    found = {part: weights.cached(part) for part in weights.SOURCES}
    return {part: None if folder is None else str(folder) for part, folder in found.items()}
