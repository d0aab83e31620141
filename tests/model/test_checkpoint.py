"""A run folder gives its network back, alone; what does not fit is named in one line."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from mammoprep import panoptic
from mammoprep.errors import MammoprepError, MissingFileError
from mammoprep_model import checkpoint, zoo
from mammoprep_model.checkpoint import RunConfig
from mammoprep_model.config import Architecture, Preset, TrainConfig
from mammoprep_model.segmenter import Segmenter

CATEGORIES = panoptic.make_categories(["BI-RADS 3", "BI-RADS 4"])


@pytest.fixture
def config(small_preset: Preset) -> RunConfig:
    return RunConfig(
        preset=small_preset,
        categories=CATEGORIES,
        dataset="data/vindr",
        data_hash="ab",
        folds_hash="cd",
        fold=2,
        seed=7,
        weights={"mam-e": "somewhere"},
        device="cpu",
        versions={"torch": "2"},
        git_commit=None,
    )


@pytest.fixture
def saved(tmp_path: Path, config: RunConfig, fake_network: Callable[..., Any]) -> tuple[Path, Segmenter]:
    run = tmp_path / "run"
    run.mkdir()
    torch.manual_seed(3)
    network = checkpoint.assemble(config)
    checkpoint.write_run(run, config)
    tensors = checkpoint.tensors_of(network)
    checkpoint.save(run, tensors, state={"step": 5, "network": tensors})
    return run, network


def test_run_json_comes_back_as_it_was(saved: tuple[Path, Segmenter], config: RunConfig) -> None:
    assert checkpoint.read_run(saved[0]) == replace(
        config, preset=replace(config.preset, summary=zoo.preset("tiny").summary)
    )


def test_run_json_says_what_the_documentation_promises(saved: tuple[Path, Segmenter]) -> None:
    content = json.loads((saved[0] / "run.json").read_text())
    promised = {"preset", "config", "categories", "dataset", "manifest_sha256", "fold", "seed", "versions", "device"}
    assert promised | {"git_commit", "weights"} <= set(content)
    assert content["config"]["train"]["learning_rate"] == 0.01
    assert content["categories"][0] == CATEGORIES[0].to_json()


def test_a_loaded_network_predicts_the_same(saved: tuple[Path, Segmenter]) -> None:
    run, network = saved
    loaded, config = checkpoint.load(run, device="cpu")
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(loaded.predict(images)[0].masks, network.predict(images)[0].masks)
    assert config.categories == CATEGORIES
    assert not checkpoint.module_of(loaded).training


def test_only_what_was_trained_is_saved(saved: tuple[Path, Segmenter]) -> None:
    from safetensors import safe_open

    with safe_open(saved[0] / "model.safetensors", "pt") as file:
        assert set(file.keys()) == {"0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias"}


def test_the_state_holds_the_weights_too_so_that_it_is_enough_to_resume(saved: tuple[Path, Segmenter]) -> None:
    state = checkpoint.load_state(saved[0])
    assert state is not None
    assert state["step"] == 5
    assert torch.equal(state["network"]["0.weight"], saved[1].trained_state()["0.weight"])


def test_weights_named_anew_replace_those_of_training(
    saved: tuple[Path, Segmenter], monkeypatch: pytest.MonkeyPatch, fake_network: Callable[..., Any]
) -> None:
    seen: dict[str, str] = {}

    def build(config: object, *, categories: Any, weights: dict[str, str]) -> Any:
        seen.update(weights)
        return fake_network(config, categories=categories, weights=weights)

    monkeypatch.setattr("mammoprep_model.odise.network.build", build)
    checkpoint.load(saved[0], weights={"mam-e": "elsewhere"}, device="cpu")
    assert seen == {"mam-e": "elsewhere"}


@dataclass(frozen=True)
class Linear(Architecture):
    """Values of a family that the tests have."""

    channels: int = 3


def test_another_family_is_rebuilt_by_its_own_module(
    tmp_path: Path, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("linear_network")
    vars(module)["build"] = lambda values, categories, weights: nn.Conv2d(values.channels, len(categories), 1)
    monkeypatch.setitem(sys.modules, "linear_network", module)
    monkeypatch.setattr(zoo, "FAMILIES", {**zoo.FAMILIES, "linear": zoo.Family(Linear, "linear_network")})
    checkpoint.write_run(tmp_path, replace(config, preset=Preset("mine", "", Linear(channels=5), TrainConfig())))

    found = checkpoint.read_run(tmp_path)
    network = checkpoint.module_of(checkpoint.assemble(found))
    assert found.preset.model == Linear(channels=5)
    assert [tuple(p.shape) for p in network.parameters()] == [(len(CATEGORIES), 5, 1, 1), (len(CATEGORIES),)]


def test_a_family_of_another_version_is_named(saved: tuple[Path, Segmenter]) -> None:
    path = saved[0] / "run.json"
    path.write_text(path.read_text().replace('"family": "odise"', '"family": "odyssey"'))
    with pytest.raises(MammoprepError, match="no family of networks 'odyssey'.*odise"):
        checkpoint.read_run(saved[0])


def test_a_run_of_before_there_were_families_is_odise(saved: tuple[Path, Segmenter], config: RunConfig) -> None:
    path = saved[0] / "run.json"
    path.write_text(path.read_text().replace(' "family": "odise",\n', ""))
    assert checkpoint.read_run(saved[0]).preset.model == config.preset.model


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"run\.json does not exist.*mammoprep train"):
        checkpoint.load(tmp_path)


def test_a_run_of_several_folds_asks_for_one(tmp_path: Path, config: RunConfig) -> None:
    checkpoint.write_folds(tmp_path, config, folds=3)
    with pytest.raises(MammoprepError, match=r"holds 3 folds.*fold-0"):
        checkpoint.load(tmp_path)
    choices = checkpoint.read_choices(tmp_path)
    assert (choices.preset.train, choices.fold, choices.seed) == (config.preset.train, "all", 7)


@pytest.mark.parametrize(("name", "reason"), [("preset", "preset"), ("seed", "seed"), ("categories", "categories")])
def test_a_run_json_that_lacks_something_is_named(saved: tuple[Path, Segmenter], name: str, reason: str) -> None:
    path = saved[0] / "run.json"
    content = json.loads(path.read_text())
    del content[name]
    path.write_text(json.dumps(content))
    with pytest.raises(MammoprepError, match=f"not a run's: '{reason}'"):
        checkpoint.read_run(saved[0])


def test_a_run_without_a_checkpoint_yet_says_so(saved: tuple[Path, Segmenter]) -> None:
    (saved[0] / "model.safetensors").unlink()
    with pytest.raises(MissingFileError, match="no checkpoint yet"):
        checkpoint.load(saved[0])


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt"])
def test_a_damaged_file_is_one_line(saved: tuple[Path, Segmenter], name: str) -> None:
    path = saved[0] / name
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(MammoprepError, match="not readable"):
        checkpoint.load(saved[0]) if name.startswith("model") else checkpoint.load_state(saved[0])


def test_the_state_is_never_unpickled(saved: tuple[Path, Segmenter]) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(saved[0] / "evil"),)

    torch.save({"step": Evil()}, saved[0] / "state.pt")
    with pytest.raises(MammoprepError, match="not readable"):
        checkpoint.load_state(saved[0])
    assert not (saved[0] / "evil").exists()


@pytest.mark.parametrize(
    ("names", "difference"),
    [
        (["BI-RADS 3"], "it lacks BI-RADS 4"),
        (["BI-RADS 3", "BI-RADS 4", "BI-RADS 5"], "it adds BI-RADS 5"),
        (["benign", "BI-RADS 4"], "it lacks BI-RADS 3 and it adds benign"),
        (["BI-RADS 4", "BI-RADS 3"], "it orders them BI-RADS 4, BI-RADS 3"),
    ],
)
def test_other_categories_are_named(config: RunConfig, names: list[str], difference: str) -> None:
    with pytest.raises(MammoprepError, match=difference):
        checkpoint.check_categories(config, panoptic.make_categories(names), where=Path("vindr"))


def test_the_same_categories_pass_whatever_their_colours(config: RunConfig) -> None:
    other = tuple(replace(category, color=(1, 2, 3)) for category in CATEGORIES)
    assert checkpoint.check_categories(config, other, where=Path("vindr")) is None


def test_a_gpu_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert checkpoint.pick_device("auto").type == "cpu"
    with pytest.raises(MammoprepError, match="no CUDA GPU"):
        checkpoint.pick_device("cuda")


def test_a_trained_run_asks_for_no_start_of_its_mask_generator(
    saved: tuple[Path, Segmenter], config: RunConfig, monkeypatch: pytest.MonkeyPatch, fake_network: Callable[..., Any]
) -> None:
    model = replace(config.preset.model, mask_generator="m2f-coco")
    places = {"mam-e": "somewhere", "m2f-coco": "gone"}
    started = replace(config, preset=replace(config.preset, model=model), weights=places)
    checkpoint.write_run(saved[0], started)
    seen: list[Any] = []

    def build(config: Any, *, categories: Any, weights: dict[str, str]) -> Any:
        seen.append((config.mask_generator, weights))
        return fake_network(config, categories=categories, weights=weights)

    monkeypatch.setattr("mammoprep_model.odise.network.build", build)
    _, found = checkpoint.load(saved[0], device="cpu")
    assert seen == [("random", {"mam-e": "somewhere"})]
    assert found.preset.model.mask_generator == "m2f-coco"
