"""Predicting writes PREDICTIONS whole or not at all: sizes, batches, views, memory."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep_model import checkpoint, data, inference, predictions
from mammoprep_model.checkpoint import RunConfig
from mammoprep_model.config import Preset
from mammoprep_model.segmenter import Prediction


def run_config(preset: Preset) -> RunConfig:
    categories = panoptic.make_categories(["BI-RADS 3", "BI-RADS 4"])
    facts = {"dataset": "", "data_hash": "", "folds_hash": "", "fold": 0, "seed": 0, "weights": {}, "versions": {}}
    return RunConfig(preset=preset, categories=categories, device="cpu", git_commit=None, **facts)


@pytest.fixture
def config(small_preset: Preset, fake_network: Callable[..., Any]) -> RunConfig:
    torch.manual_seed(0)
    return run_config(small_preset)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_predictions_are_written_at_the_stored_size_in_the_order_of_ids(
    dataset: Path, config: RunConfig, tmp_path: Path
) -> None:
    source, out = panoptic.load(dataset), tmp_path / "out"
    pictures = data.pictures(source, [4, 2])
    progress: list[tuple[int, int]] = []
    options = inference.Options(on_progress=lambda done, total: progress.append((done, total)))
    inference.predict(checkpoint.assemble(config), pictures[::-1], out=out, config=config, options=options)
    written = panoptic.load(out)
    assert [image.id for image in written.images] == [2, 4]
    assert sorted(path.name for path in (out / "panoptic").iterdir()) == ["case-2.png", "case-4.png"]
    assert written.categories == config.categories
    for image in written.images:
        ids = written.ids_of(image)
        assert ids.shape == (48, 32)
        assert {segment.id: segment.area for segment in image.segments} == {
            int(number): int((ids == number).sum()) for number in np.unique(ids[ids > 0])
        }
        for folder in ("semantic", "heatmaps"):
            assert panoptic.read_png(out / folder / f"{image.name}.png").shape == (48, 32)
    results = panoptic.load_instances(out)
    assert {entry["image_id"] for entry in results} <= {2, 4}
    assert all(entry["segmentation"]["size"] == [48, 32] for entry in results)
    assert progress == [(1, 2), (2, 2)]


def test_the_batch_size_does_not_change_what_is_predicted(dataset: Path, config: RunConfig, tmp_path: Path) -> None:
    panoptic.write_png(dataset / "images" / "wide.png", np.full((20, 90), 99, np.uint8))
    wide = data.Picture(9, "wide", lambda: panoptic.read_png(dataset / "images" / "wide.png"))
    pictures = [*data.pictures(panoptic.load(dataset)), wide]
    network = checkpoint.assemble(config)
    for size in (1, 4):
        options = inference.Options(batch_size=size)
        inference.predict(network, pictures, out=tmp_path / str(size), config=config, options=options)
    one, four = contents(tmp_path / "1"), contents(tmp_path / "4")
    assert one.pop("manifest.json") != four.pop("manifest.json")
    assert one == four
    assert panoptic.read_png(tmp_path / "1" / "semantic" / "wide.png").shape == (20, 90)


def interrupted(dataset: Path, config: RunConfig, out: Path, *, size: int = 2, count: int = 3) -> list[data.Picture]:
    """Stop after so many pictures of six."""
    pictures = data.pictures(panoptic.load(dataset))

    def stop(done: int, total: int) -> None:
        if done == count:
            raise Stop

    options = inference.Options(batch_size=size, on_progress=stop)
    with pytest.raises(Stop):
        inference.predict(checkpoint.assemble(config), pictures, out=out, config=config, options=options)
    return pictures


class Stop(KeyboardInterrupt):
    """A Ctrl-C that no test run takes for its own."""


def test_an_interrupted_run_goes_on_in_the_same_batches_to_the_same_bytes(
    dataset: Path, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three batches of two the second was half written: it is predicted again, the first is not."""
    torch.manual_seed(0)
    network = checkpoint.assemble(config)
    options = inference.Options(batch_size=2)
    pictures = data.pictures(panoptic.load(dataset))
    inference.predict(network, pictures, out=tmp_path / "whole", config=config, options=options)
    monkeypatch.setattr(checkpoint, "assemble", lambda config: network)
    interrupted(dataset, config, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    sizes: list[int] = []
    genuine = network.predict
    monkeypatch.setattr(network, "predict", lambda images: sizes.append(len(images)) or genuine(images))
    progress: list[int] = []
    options = replace(options, existing="resume", on_progress=lambda done, total: progress.append(done))
    inference.predict(network, pictures, out=tmp_path / "out", config=config, options=options)
    assert (sizes, progress) == ([2, 2], [3, 4, 5, 6])
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_images_that_were_added_are_predicted_and_those_taken_away_are_not_kept(
    dataset: Path, config: RunConfig, tmp_path: Path
) -> None:
    """One comes before the others, so that each of them gets another id."""
    pictures = [replace(each, mark="as it was") for each in interrupted(dataset, config, tmp_path / "out", size=1)]
    options = inference.Options(batch_size=1, existing="resume")
    network = checkpoint.assemble(config)
    with pytest.raises(Stop):  # the marks are new, so nothing is done
        inference.predict(
            network, pictures, out=tmp_path / "out", config=config, options=replace(options, on_progress=stop)
        )
    first = data.Picture(1, "a-first", lambda: np.full((48, 32), 99, np.uint8))
    later = [first, *(replace(each, id=each.id + 1) for each in pictures[1:])]
    torn = tmp_path / "out.partial" / "heatmaps" / "case-6.png"
    torn.write_bytes(b"torn")
    inference.predict(network, later, out=tmp_path / "out", config=config, options=options)
    inference.predict(network, later, out=tmp_path / "whole", config=config, options=inference.Options(batch_size=1))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert not (tmp_path / "out" / "panoptic" / "case-1.png").exists()


def stop(done: int, total: int) -> None:
    if done == 2:
        raise Stop


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        ({"tiles": 2}, "tiles = 1, now 2"),
        ({"facts": {"weights": "b"}}, "weights = None, now b"),
        ({"batch_size": 3}, "batch_size = 2, now 3"),
    ],
)
def test_other_options_are_refused_by_name_unfinished_or_complete(
    dataset: Path, config: RunConfig, tmp_path: Path, changed: dict[str, Any], difference: str
) -> None:
    out, network = tmp_path / "out", checkpoint.assemble(config)
    pictures = interrupted(dataset, config, out)
    options = inference.Options(batch_size=2, existing="resume")
    with pytest.raises(MammoprepError, match=difference):
        inference.predict(network, pictures, out=out, config=config, options=replace(options, **changed))
    inference.predict(network, pictures, out=out, config=config, options=options)
    assert predictions.is_complete(out, pictures, header=options.header(config), verify=True)
    with pytest.raises(MammoprepError, match=difference):
        predictions.is_complete(out, pictures, header=replace(options, **changed).header(config))
    with pytest.raises(MammoprepError, match="of other images than these 5"):
        predictions.is_complete(out, pictures[1:], header=options.header(config))


def test_verify_finds_what_the_disk_changed(dataset: Path, config: RunConfig, tmp_path: Path) -> None:
    out, network = tmp_path / "out", checkpoint.assemble(config)

    def damage(folder: Path) -> None:
        path = folder / "semantic" / "case-2.png"
        path.write_bytes(path.read_bytes()[::-1])

    pictures = data.pictures(panoptic.load(dataset))
    options = inference.Options(verify=True, also=damage)
    with pytest.raises(MammoprepError, match=r"case-2\.png is not what was written.*--resume"):
        inference.predict(network, pictures, out=out, config=config, options=options)
    options = inference.Options(existing="resume", verify=True)
    inference.predict(network, pictures, out=out, config=config, options=options)
    damage(out)
    with pytest.raises(MammoprepError, match=r"case-2\.png is not what was written"):
        predictions.is_complete(out, pictures, header=options.header(config), verify=True)


def test_a_picture_that_cannot_be_read_leaves_what_resume_continues(
    dataset: Path, config: RunConfig, tmp_path: Path
) -> None:
    good = (dataset / "images" / "case-5.png").read_bytes()
    (dataset / "images" / "case-5.png").write_bytes(b"")
    pictures, network = data.pictures(panoptic.load(dataset)), checkpoint.assemble(config)
    with pytest.raises(MammoprepError, match=r"case-5\.png"):
        inference.predict(network, pictures[4:], out=tmp_path / "none", config=config)
    with pytest.raises(MammoprepError, match=r"case-5\.png"):
        inference.predict(network, pictures, out=tmp_path / "out", config=config)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset", "out.partial", "out.partial.journal"]
    (dataset / "images" / "case-5.png").write_bytes(good)
    options = inference.Options(existing="resume")
    inference.predict(network, pictures, out=tmp_path / "out", config=config, options=options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset", "out"]


class Bright(nn.Module):
    """A lesion wherever the image is bright, in one mask; it keeps what it was shown."""

    def __init__(self, room: int = 99) -> None:
        super().__init__()
        self.room = room
        self.shown: list[Tensor] = []

    def predict(self, images: Tensor) -> list[Prediction]:
        if len(images) > self.room:
            raise torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1 GiB. Other words."
            )
        self.shown.append(images)
        bright = images[:, 0] > 0.5
        scores = torch.tensor([[0.8, 0.0, 0.0, 0.0]])
        return [
            Prediction(each[None] * 12.0 - 6, scores, torch.stack([each, each & ~each, ~each, ~each]) * 0.5)
            for each in bright
        ]


def square(*, size: tuple[int, int], y: int, x: int, side: int) -> data.Picture:
    grey = np.zeros(size, np.uint8)
    grey[y : y + side, x : x + side] = 255
    return data.Picture(1, "square", lambda: grey)


@pytest.mark.parametrize(("stored_of", "shown"), [(None, 25), (lambda shape: (100, 128), 9)])
def test_a_network_trained_on_windows_sees_windows_at_stored_resolution(
    config: RunConfig, tmp_path: Path, stored_of: Any, shown: int
) -> None:
    """150 x 192 pixels are stored so, or at 100 x 128; padded, 5 x 5 windows of 64 overlap by half, or 3 x 3."""
    train = replace(config.preset.train, view="windows", crop=64, size=64, batch_size=1)
    config = replace(config, preset=replace(config.preset, train=train))
    picture = replace(square(size=(150, 192), y=30, x=36, side=24), stored_of=stored_of)
    network = Bright()
    inference.predict(network, [picture], out=tmp_path / "out", config=config)  # type: ignore[arg-type]
    assert {tuple(images.shape[-2:]) for images in network.shown} == {(64, 64)}
    assert sum(len(images) for images in network.shown) == shown
    entry = panoptic.load_instances(tmp_path / "out")[0]
    assert entry["segmentation"]["size"] == [150, 192]
    found = panoptic.decode_rle(entry["segmentation"])
    assert found[30:54, 36:60].mean() > 0.9
    assert found.sum() < 1.3 * 24 * 24


@pytest.mark.parametrize("flip", [False, True])
def test_windows_give_back_a_lesion_that_lies_across_them(config: RunConfig, tmp_path: Path, flip: bool) -> None:
    network = Bright()
    options = inference.Options(tiles=2, flip=flip, batch_size=3)
    picture = square(size=(128, 96), y=40, x=24, side=48)
    inference.predict(network, [picture], out=tmp_path / "out", config=config, options=options)
    # 128 x 128 pixels with padding, in windows of 64 from 0, 32 and 64
    assert sum(len(images) for images in network.shown) == 9 * (1 + flip)
    assert {tuple(images.shape[2:]) for images in network.shown} == {(64, 64)}
    (image,) = panoptic.load(tmp_path / "out").images
    # interpolated from a quarter of the resolution, a square loses its four corner pixels
    (instance,) = panoptic.load_instances(tmp_path / "out")
    score = pytest.approx(instance["score"], abs=1e-5)
    assert [(each.bbox, each.area, each.score) for each in image.segments] == [((24, 40, 48, 48), 48 * 48 - 4, score)]
    assert 0.75 < instance["score"] < 0.8
    assert panoptic.mask_box(panoptic.decode_rle(instance["segmentation"])) == (24, 40, 48, 48)
    heat = panoptic.read_png(tmp_path / "out" / "heatmaps" / "square.png")
    assert (heat[48, 48], heat[4, 4]) == (128, 0)


def test_a_mirrored_view_is_shown_mirrored_and_turned_back(config: RunConfig, tmp_path: Path) -> None:
    network = Bright()
    picture = square(size=(64, 64), y=8, x=4, side=8)
    options = inference.Options(flip=True, batch_size=2)
    inference.predict(network, [picture], out=tmp_path / "out", config=config, options=options)
    upright, mirrored = network.shown[0]
    assert torch.equal(mirrored, upright.flip(-1))
    (image,) = panoptic.load(tmp_path / "out").images
    assert [segment.bbox for segment in image.segments] == [(4, 8, 8, 8)]


def test_maps_have_the_size_that_the_picture_asks_for(config: RunConfig, tmp_path: Path) -> None:
    picture = replace(square(size=(64, 64), y=16, x=16, side=32), size_of=lambda shape: (2 * shape[0], 3 * shape[1]))
    inference.predict(Bright(), [picture], out=tmp_path / "out", config=config)
    (image,) = panoptic.load(tmp_path / "out").images
    assert (image.height, image.width) == (128, 192)
    assert [segment.bbox for segment in image.segments] == [(48, 32, 96, 64)]
    for folder in ("panoptic", "semantic", "heatmaps"):
        assert panoptic.read_png(tmp_path / "out" / folder / "square.png").shape[:2] == (128, 192)


def test_a_batch_too_large_for_the_gpu_is_run_view_by_view_from_then_on(config: RunConfig, tmp_path: Path) -> None:
    pictures = [replace(square(size=(64, 64), y=0, x=0, side=8), id=number, name=str(number)) for number in range(4)]
    network, options = Bright(room=1), inference.Options(batch_size=2)
    inference.predict(network, pictures, out=tmp_path / "out", config=config, options=options)
    assert [len(images) for images in network.shown] == [1] * 4
    assert len(panoptic.load(tmp_path / "out").images) == 4


def test_a_single_view_too_large_for_the_gpu_is_one_line_with_the_numbers(config: RunConfig, tmp_path: Path) -> None:
    pictures = [square(size=(64, 64), y=0, x=0, side=8)]
    with pytest.raises(MammoprepError, match=r"Tried to allocate 2\.00 GiB.*--device cpu"), inference.enough_memory():
        inference.predict(Bright(room=0), pictures, out=tmp_path / "out", config=config)
    assert not (tmp_path / "out").exists()


def test_the_time_for_all_is_told_once_after_the_first_batch(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([10.0, 13.0])
    monkeypatch.setattr(inference, "perf_counter", lambda: next(clock))
    pictures = [replace(square(size=(64, 64), y=0, x=0, side=8), id=number, name=str(number)) for number in range(5)]
    told: list[float] = []
    options = inference.Options(batch_size=2, flip=True, on_estimate=told.append)
    inference.predict(Bright(), pictures, out=tmp_path / "out", config=config, options=options)
    assert told == [pytest.approx(15.0)]  # one image of five, in two views, took 3 s


def test_what_is_added_is_there_with_the_rest_or_not_at_all(config: RunConfig, tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        assert (folder / "panoptic.json").is_file()
        raise MammoprepError("no")

    with pytest.raises(MammoprepError, match="no"):
        inference.predict(
            Bright(),
            [square(size=(64, 64), y=0, x=0, side=8)],
            out=tmp_path / "out",
            config=config,
            options=inference.Options(also=fail),
        )
    assert not (tmp_path / "out").exists()
