"""A preset's values by name: `train.learning_rate=3e-4` from the command line, JSON from a run folder."""

import types
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from mammoprep.errors import MammoprepError, UnknownNameError
from mammoprep_model import balance
from mammoprep_model.config import Preset, TrainConfig

Config = TypeVar("Config")

_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def change(config: Config, assignments: Iterable[str]) -> Config:
    """Give the config with `<field>=value` carried out, of a preset `train.<field>=value` and `model.<field>=value`.

    Lists are written with commas, `lr` is short for `learning_rate`. A key that does not exist names the nearest one.
    Of `train.steps` and `train.epochs` the last one named says how long.
    """
    for assignment in assignments:
        key, equals, text = (part.strip() for part in assignment.partition("="))
        names = setting_names(config)
        short = {_shortened(name): name for name in names if _shortened(name) != name}
        if not equals:
            raise MammoprepError(f"--set {assignment!r} is no setting. Write it as {next(iter(short))}=1e-4.")
        key = short.get(key, key)
        if key not in names:
            raise UnknownNameError(key, kind="setting", known=[*names, *short])
        config = _assign(config, path=key.split("."), text=text)
        if key == "train.steps":
            config = _assign(config, path=["train", "epochs"], text="0")
    return config


def setting_names(config: Any) -> list[str]:
    """List what `change` can set."""
    if isinstance(config, Preset):
        return [*_names(config.train, "train."), *_names(config.model, "model.")]
    return _names(config, "")


def _shortened(name: str) -> str:
    return f"{name.removesuffix('learning_rate')}lr" if name.endswith(".learning_rate") else name


def _names(config: Any, prefix: str) -> list[str]:
    names = []
    for field in fields(config):
        value, name = getattr(config, field.name), f"{prefix}{field.name}"
        names += _names(value, f"{name}.") if is_dataclass(value) else [name]
    return names


def _assign(config: Any, *, path: list[str], text: str) -> Any:
    name, *rest = path
    current = getattr(config, name)
    if rest:
        return replace(config, **{name: _assign(current, path=rest, text=text)})
    kind = get_type_hints(type(config))[name]
    try:
        return replace(config, **{name: _parse(text, kind)})
    except (KeyError, ValueError) as error:
        raise MammoprepError(f"{text!r} is no value for {name}: it takes {_wanted(kind)}, now {current!r}.") from error


def _wanted(kind: Any) -> str:
    """Say what a field takes: its choices, or its type."""
    if get_origin(kind) is Literal:
        return " or ".join(map(str, get_args(kind)))
    return str(kind) if get_args(kind) else getattr(kind, "__name__", str(kind))


def _parse(text: str, kind: Any) -> Any:
    """Read a value of a field's type; ValueError or KeyError where the text does not fit."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if text.lower() == "none" else _parse(text, next(arg for arg in inner if arg is not type(None)))
    if origin is Literal:
        return {str(choice): choice for choice in inner}[text]
    if origin is tuple:
        parts = [part for part in text.strip("()[] ").split(",") if part.strip()]
        kinds = [inner[0]] * len(parts) if inner[-1] is Ellipsis else list(inner)
        return tuple(_parse(part.strip(), each) for part, each in zip(parts, kinds, strict=True))
    return _TRUTH[text.lower()] if kind is bool else kind(text)


def from_json(kind: type[Config], content: Mapping[str, Any]) -> Config:
    """Rebuild a frozen dataclass from `dataclasses.asdict` after a way through JSON."""
    hints = get_type_hints(kind)
    unknown = set(content) - set(hints)
    if unknown:
        raise MammoprepError(f"{kind.__name__} has no field {min(unknown)!r}. Was it written by another version?")
    return kind(**{name: _restore(value, hints[name]) for name, value in content.items()})


def _restore(value: Any, kind: Any) -> Any:
    if is_dataclass(kind) and isinstance(kind, type):
        return from_json(kind, value)
    if isinstance(value, list):
        inner = get_args(kind)
        return tuple(_restore(item, inner[0] if inner else None) for item in value)
    return value


def check(config: TrainConfig) -> None:
    """Refuse values with which no training can run."""
    is_whole = config.crop > 0 and config.crop % max(config.stride, 1) == 0
    is_cut = config.view != "windows" and config.crop < config.size
    rules = {
        "stride": (config.stride >= 4 and config.stride % 4 == 0, "a multiple of 4"),
        "crop": (is_whole, f"a multiple of train.stride, {config.stride}"),
        "fit": (config.fit == "pad" or config.view == "whole", "pad where train.view is not whole"),
        "scale": (0 < config.scale[0] <= config.scale[1], "positive, from low to high"),
        "milestones": (0 <= config.milestones[0] <= config.milestones[1], "positive, from low to high"),
        "ema": (0 <= config.ema < 1, "at least 0 and below 1"),
        "augment": (
            config.augment in ("crop", "lsj") or not is_cut,
            "crop or lsj where train.crop is below train.size",
        ),
        "lesion_crops": (0 <= config.lesion_crops <= 1, "from 0 to 1"),
        "class_weights": (
            _are_weights(config.class_weights),
            "none, inverse, or a positive number for each lesion class: 1,2,4",
        ),
        "patience": (
            config.patience == 0 or (config.patience > 0 and config.validate_every > 0),
            "0 or more, and train.validate_every with it",
        ),
        "keep": (config.keep == "last" or not config.validate_every, "last where train.validate_every is above 0"),
    }
    for name in ("steps", "epochs", "cache_gib", "micro_batch", "validate_every", "cpu_threads", "clip_norm"):
        rules[name] = (getattr(config, name) >= 0, "0 or more")
    for name in ("plateau_patience", "early_stop"):
        rules[name] = (getattr(config, name) >= 0, "0 or more")
    for name in ("size", "batch_size", "checkpoint_every"):
        rules[name] = (getattr(config, name) >= 1, "1 or more")
    rules["learning_rate"] = (config.learning_rate > 0, "positive")
    for name, (kept, rule) in rules.items():
        if not kept:
            raise MammoprepError(f"train.{name} = {getattr(config, name)} cannot be used: it must be {rule}.")


def _are_weights(text: str) -> bool:
    try:
        balance.parse(text)
    except ValueError:
        return False
    return True
