"""A RUN folder: what training writes, and all that is needed to have the network back."""

import io
import json
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from mammoprep import panoptic
from mammoprep.errors import MammoprepError, MissingFileError, UnknownNameError
from mammoprep.panoptic import Category
from mammoprep_model import speed, zoo
from mammoprep_model.config import Preset, TrainConfig
from mammoprep_model.segmenter import Segmenter
from mammoprep_model.settings import from_json

_HINT = "A RUN folder is written by `mammoprep train`."


@dataclass(frozen=True)
class RunConfig:
    """What run.json says: with it and model.safetensors a network is rebuilt alone.

    `preset` is resolved, every value written out. `data_hash` is the SHA-256 of the data set's manifest.json, or of its
    panoptic.json where another tool made it; `folds_hash` is that of folds.json. `weights` are the places of pretrained
    parts that were named by hand. `trained_parameters` counts what the optimiser moves; None in older runs.
    """

    preset: Preset
    categories: tuple[Category, ...]
    dataset: str
    data_hash: str
    folds_hash: str
    fold: int
    seed: int
    weights: Mapping[str, str]
    device: str
    versions: Mapping[str, str]
    git_commit: str | None
    trained_parameters: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Give run.json's content."""
        return {
            "preset": self.preset.name,
            "family": zoo.family_of(self.preset.model),
            "config": {"model": asdict(self.preset.model), "train": asdict(self.preset.train)},
            "categories": [category.to_json() for category in self.categories],
            "dataset": self.dataset,
            "manifest_sha256": self.data_hash,
            "folds_sha256": self.folds_hash,
            "fold": self.fold,
            "seed": self.seed,
            "weights": dict(self.weights),
            "device": self.device,
            "versions": dict(self.versions),
            "git_commit": self.git_commit,
            "trained_parameters": self.trained_parameters,
        }


def write_run(run: Path, config: RunConfig) -> None:
    """Write run.json."""
    panoptic.write_bytes(run / "run.json", (json.dumps(config.to_json(), indent=1, ensure_ascii=False) + "\n").encode())


def trained_parameters(network: Segmenter) -> int:
    """Count the parameters that training moves."""
    return sum(parameter.numel() for parameter in module_of(network).parameters() if parameter.requires_grad)


def write_folds(run: Path, config: RunConfig, *, folds: int) -> None:
    """Write the run.json of a folder whose `fold-<k>` are runs of their own."""
    content = {key: value for key, value in config.to_json().items() if key not in ("fold", "trained_parameters")}
    panoptic.write_bytes(
        run / "run.json", (json.dumps({**content, "folds": list(range(folds))}, indent=1) + "\n").encode()
    )


def read_run(run: Path) -> RunConfig:
    """Read run.json."""
    path = run / "run.json"
    content = panoptic.read_json(path, hint=_HINT)
    if "folds" in content:
        raise MammoprepError(f"{run} holds {len(content['folds'])} folds. Name one of them: {run / 'fold-0'}.")
    try:
        return RunConfig(
            preset=_preset(content),
            categories=tuple(Category.from_json(entry) for entry in content["categories"]),
            dataset=content["dataset"],
            data_hash=content["manifest_sha256"],
            folds_hash=content["folds_sha256"],
            **{key: content[key] for key in ("fold", "seed", "weights", "device", "versions", "git_commit")},
            trained_parameters=content.get("trained_parameters"),
        )
    except (KeyError, TypeError) as error:
        raise MammoprepError(f"{path} is not a run's: {error!s} is missing or of another type. {_HINT}") from error


@dataclass(frozen=True)
class Choices:
    """What a run is started with, so that resuming it need not repeat them."""

    preset: Preset
    fold: int | Literal["all"]
    seed: int
    weights: Mapping[str, str] = field(default_factory=dict)


def read_choices(run: Path) -> Choices:
    """Read with what a run, of one fold or of all, was started."""
    path = run / "run.json"
    content = panoptic.read_json(path, hint="There is nothing to resume; leave --resume out to start.")
    try:
        fold: int | Literal["all"] = "all" if "folds" in content else content["fold"]
        return Choices(_preset(content), fold, content["seed"], content["weights"])
    except (KeyError, TypeError) as error:
        raise MammoprepError(f"{path} is not a run's: {error!s} is missing or of another type. {_HINT}") from error


def _preset(content: Mapping[str, Any]) -> Preset:
    known, family = zoo.PRESETS.get(content["preset"]), content.get("family", "odise")
    if family not in zoo.FAMILIES:
        raise UnknownNameError(family, kind="family of networks", known=zoo.FAMILIES)
    return Preset(
        name=content["preset"],
        summary=known.summary if known else "",
        model=from_json(zoo.FAMILIES[family].values, content["config"]["model"]),
        train=from_json(TrainConfig, content["config"]["train"]),
    )


def save(run: Path, tensors: Mapping[str, torch.Tensor], *, state: Mapping[str, Any]) -> None:
    """Write the tensors that predict to model.safetensors, then the state that goes on to state.pt, each whole or not.

    `state` holds weights of its own, so that a machine which dies between the two files leaves a consistent state:
    resuming needs state.pt alone, predicting model.safetensors alone.
    """
    content = safetensors.torch.save(dict(tensors), metadata={"format": "pt"})
    panoptic.write_bytes(run / "model.safetensors", content)
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    panoptic.write_bytes(run / "state.pt", buffer.getbuffer())


def tensors_of(network: Segmenter) -> dict[str, torch.Tensor]:
    """Copy what must be saved of a network."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.trained_state().items()}


def load_state(run: Path) -> dict[str, Any] | None:
    """Read what `save` put into state.pt; None where training stopped before its first checkpoint."""
    path = run / "state.pt"
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise MammoprepError(f"{path} is not readable. Start again with --overwrite.") from error
    return state


def load(run: Path, *, weights: Mapping[str, str] | None = None, device: str = "auto") -> tuple[Segmenter, RunConfig]:
    """Rebuild the trained network of a run, ready to predict, and what run.json says.

    `weights` names other places for pretrained parts than training had.
    """
    config, path = read_run(run), weights_of(run)
    try:
        tensors = safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise MammoprepError(f"{path} is not readable ({error}). Copy the run again.") from error
    config = replace(config, weights={**config.weights, **(weights or {})}, device=str(pick_device(device)))
    network = assemble(_without_start(config))
    restore(network, tensors, where=path)
    module_of(network).eval()
    return network, config


def weights_of(run: Path) -> Path:
    """Give the file of a run's trained parameters."""
    path = run / "model.safetensors"
    if not path.is_file():
        raise MissingFileError(path, hint="Training has written no checkpoint yet; continue it with --resume.")
    return path


def assemble(config: RunConfig) -> Segmenter:
    """Build the untrained network of a run on its device, as fast there as the run's precision lets it be."""
    values = config.preset.model
    build = import_module(zoo.FAMILIES[zoo.family_of(values)].network).build
    network: Any = build(values, categories=config.categories, weights=config.weights).to(config.device)
    train, on_gpu = config.preset.train, config.device != "cpu"
    if on_gpu and train.mixed_precision:
        speed.to_bfloat16(network)
        speed.to_channels_last(network)
    if train.compile:
        speed.compile_blocks(network)
    made: Segmenter = network
    return made


def _without_start(config: RunConfig) -> RunConfig:
    """Leave out what only training needed to start: a trained run has the weights that came from it."""
    model, trained = config.preset.model, config.preset.model.trained
    started = {*model.parts} - {*trained.parts}
    places = {part: place for part, place in config.weights.items() if part not in started}
    return replace(config, preset=replace(config.preset, model=trained), weights=places)


def untrained(config: RunConfig) -> Segmenter:
    """Build the network of a run as it was before its first step."""
    torch.manual_seed(config.seed)
    return assemble(config)


def module_of(network: Segmenter) -> nn.Module:
    """Give a network as the torch module that the contract says it is."""
    if not isinstance(network, nn.Module):
        raise TypeError(f"{type(network).__name__} is no torch.nn.Module")
    return network


def restore(network: Segmenter, tensors: Mapping[str, torch.Tensor], *, where: Path) -> None:
    """Put trained tensors into a network; tensors of another network are refused."""
    try:
        network.load_trained(tensors)
    except MammoprepError as error:
        raise MammoprepError(f"{where} does not fit run.json. {error} Copy the run again.") from error


def pick_device(name: str) -> torch.device:
    """Give the device called `auto`, `cpu` or `cuda`; `auto` is the GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise MammoprepError("torch sees no CUDA GPU. Leave --device out, or install a torch built for CUDA.")
    return torch.device(name)


def check_categories(config: RunConfig, categories: tuple[Category, ...], *, where: Path) -> None:
    """Refuse a data set whose classes are not the run's; the line names the difference."""
    theirs = [(category.id, category.name, category.isthing) for category in categories]
    ours = [(category.id, category.name, category.isthing) for category in config.categories]
    if theirs == ours:
        return
    names, known = [name for _, name, _ in theirs], [name for _, name, _ in ours]
    missing, extra = [name for name in known if name not in names], [name for name in names if name not in known]
    parts = [f"it lacks {', '.join(missing)}"] * bool(missing) + [f"it adds {', '.join(extra)}"] * bool(extra)
    difference = " and ".join(parts) or f"it orders them {', '.join(names)}, the run {', '.join(known)}"
    raise MammoprepError(f"{where} has other categories than the run: {difference}. Convert it with the same labels.")
