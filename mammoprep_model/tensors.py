"""Tensors from files of weights, and models from tensors: nothing is unpickled, nothing is made up."""

import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mammoprep.errors import MammoprepError
from mammoprep_model import weight_files, weights

State = dict[str, Tensor]
_UNREADABLE = (OSError, ValueError, RuntimeError, pickle.UnpicklingError, SafetensorError, StrictDataclassError)


def read(place: Path, names: Sequence[str] = ()) -> State:
    """Read the tensors of a file, or of the first of the named files in a folder, shards and all; floats as float32."""
    path = place if place.is_file() else weight_files.find(place, names)
    files = weight_files.shards(path) if path else []
    content = {name: value for file in files for name, value in _tensors(file).items()}
    return {name: value.float() if value.is_floating_point() else value for name, value in content.items()}


def _tensors(path: Path) -> State:
    """Read one file; of a trainer's checkpoint, what stands under `state_dict` or `model`."""
    if path.suffix == ".safetensors":
        return load_file(path)
    content: Any = torch.load(path, map_location="cpu", weights_only=True)
    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds a {type(content).__name__} instead of named tensors")
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


def model(architecture: Any, config: Any, state: Mapping[str, Tensor], *, new: tuple[str, ...] = ()) -> Any:
    """Build a transformers model in float32 from tensors; a name that they lack is a KeyError, but for `new`.

    A tensor of another shape is a ValueError. from_pretrained translates the names of published files to those of the
    installed version.
    """
    built, info = architecture.from_pretrained(
        None,
        config=config,
        state_dict=dict(state),
        dtype=torch.float32,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )
    check_shapes(info)
    if missing := sorted(name for name in info["missing_keys"] if not name.startswith(new)):
        raise KeyError(missing[0])
    return built


def check_shapes(info: Mapping[str, Any]) -> None:
    """Refuse tensors of other shapes than the configuration has, told by `output_loading_info`.

    transformers itself would say no more than to look at a report of its own.
    """
    for name, found, wanted in sorted(info["mismatched_keys"]):
        raise ValueError(f"{name} has the shape {tuple(found)}, while its configuration asks for {tuple(wanted)}")


def fill(network: Any, state: Mapping[str, Tensor]) -> Any:
    """Put tensors into a model; a name too many or too few is a KeyError."""
    if wrong := sorted(network.state_dict().keys() ^ state.keys()):
        raise KeyError(wrong[0])
    network.load_state_dict(state)
    return network


@contextmanager
def quietly() -> Iterator[None]:
    """Keep transformers' bars and reports off the screen: what is wrong is said by us, in one line."""
    from transformers.utils import logging

    screen: Any = logging  # its functions are not annotated
    level, has_bars = screen.get_verbosity(), screen.is_progress_bar_enabled()
    screen.set_verbosity_error()
    screen.disable_progress_bar()
    try:
        yield
    finally:
        screen.set_verbosity(level)
        if has_bars:
            screen.enable_progress_bar()


@contextmanager
def reading(part: str, place: Path) -> Iterator[None]:
    """Say which part of which folder or file could not be read, and why."""
    try:
        with quietly():
            yield
    except (*_UNREADABLE, KeyError) as error:
        reason = f"it has no {error.args[0]}" if isinstance(error, KeyError) else str(error).split("\n")[0]
        raise MammoprepError(f"{place} is no readable {part}: {reason}. {weights.needs(part)}") from error
