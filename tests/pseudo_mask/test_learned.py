"""The recipe `learned`: its arithmetic by hand, its sampling, and what it draws."""

import numpy as np
import pytest

from mammoprep.errors import MammoprepError
from mammoprep.pseudo_mask import LEARNED, Learned, learned, segment
from mammoprep.records import Box


def flat(shape=(200, 300), value=30_000):
    return np.full(shape, value, np.uint16)


def disc(radius: int, *, stretch: int = 1):
    """Give a bright ellipse in a dark image, its truth and its box."""
    y, x = np.mgrid[: 4 * radius, : 4 * radius * stretch]
    truth = ((x + 0.5) / stretch - 2 * radius) ** 2 + (y + 0.5 - 2 * radius) ** 2 < radius**2
    box = Box(stretch * radius, radius, 3 * stretch * radius, 3 * radius)
    return np.where(truth, 45_000, 20_000).astype(np.uint16), truth, box


def test_convolution_by_hand():
    image = np.arange(9, dtype=np.float32).reshape(1, 3, 3)
    kernel = np.zeros((2, 1, 3, 3), np.float32)
    kernel[0, 0, 1, 2] = 1  # the right-hand neighbour
    kernel[1, 0, 1, 1] = -1
    weights = {"c.weight": kernel, "c.bias": np.array([10, 2], np.float32)}
    found = learned._convolve(image, "c", weights)
    assert found[0].tolist() == [[11, 12, 10], [14, 15, 10], [17, 18, 10]]
    assert found[1].tolist() == [[2, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert learned._convolve(image, "c", weights, rectify=False)[1].tolist() == [[2, 1, 0], [-1, -2, -3], [-4, -5, -6]]


def test_the_network_is_the_one_that_torch_runs():
    torch = pytest.importorskip("torch")
    weights = learned.load()
    image = np.random.default_rng(0).normal(size=(8, learned.GRID, learned.GRID)).astype(np.float32)

    def layer(x, name, rectify=True):
        kernel = torch.from_numpy(weights[f"{name}.weight"])
        y = torch.nn.functional.conv2d(
            x, kernel, torch.from_numpy(weights[f"{name}.bias"]), padding=kernel.shape[-1] // 2
        )
        return y.relu() if rectify else y

    x, skipped = torch.from_numpy(image)[None], []
    for scale in "123":
        skipped.append(layer(layer(x, f"e{scale}.0"), f"e{scale}.1"))
        x = torch.nn.functional.max_pool2d(skipped[-1], 2)
    x = layer(layer(x, "e4.0"), "e4.1")
    for scale in "321":
        x = torch.nn.functional.interpolate(layer(x, f"u{scale}"), scale_factor=2)
        x = layer(x + skipped.pop(), f"d{scale}.0")
    expected = layer(x, "out", rectify=False)[0, 0].numpy()
    assert learned.run(image, weights=weights) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("window", [(40, 30, 72, 62), (50, 20, 290, 180), (0, 0, 9, 5), (299, 199, 300, 200)])
def test_a_ramp_is_sampled_where_its_points_lie(window):
    x0, y0, x1, y1 = window
    ramp = np.tile(100 * np.arange(300, dtype=np.uint16), (200, 1))
    points = learned.sample(ramp, window) * 65_535
    places = x0 + (np.arange(learned.GRID) - learned.MARGIN + 0.5) * (x1 - x0) / learned.SIDE - 0.5
    assert points[7] == pytest.approx(100 * np.clip(places, 0, 299), abs=100 * max(1, (x1 - x0) / learned.SIDE) / 2)
    assert np.ptp(points, axis=0).max() < 1


def test_features_are_those_that_the_docstring_names():
    points = np.zeros((learned.GRID, learned.GRID), np.float32)
    points[:, learned.GRID // 2 :] = 1
    found = learned.features(points, (10, 20, 74, 52), height=1000)
    grey, rank, x, y, radius, shape, size, contrast = found[:, learned.GRID // 2, 0]
    assert found.shape == (8, learned.GRID, learned.GRID)
    assert (grey, rank) == (pytest.approx(-0.5 / 0.501, abs=1e-5), -1)
    assert (x, y) == (pytest.approx(-1.21875), pytest.approx(0.03125))
    assert radius == pytest.approx(x**2 + y**2)
    assert (shape, size) == (pytest.approx(np.log(2)), pytest.approx(np.log(np.sqrt(64 * 32) / 1000) + 2))
    assert contrast == pytest.approx(np.log(0.501) + 3)


@pytest.mark.parametrize("grain", [0, 6000])
@pytest.mark.parametrize(("radius", "stretch"), [(8, 1), (40, 1), (40, 2), (200, 1)])
def test_a_bright_ellipse_is_drawn(radius, stretch, grain):
    pixels, truth, box = disc(radius, stretch=stretch)
    noise = np.random.default_rng(0).normal(0, grain, pixels.shape)
    pixels = np.clip(pixels + noise, 0, 65_535).astype(np.uint16)
    found = segment(pixels, box, recipe=LEARNED)
    assert (found.method, found.threshold, found.fallback) == ("learned", None, False)
    assert 2 * (found.mask & truth).sum() / (found.mask.sum() + truth.sum()) > 0.95


@pytest.mark.parametrize("box", [Box(0, 0, 1, 1), Box(-5, -5, 40, 30), Box(250, 150, 400, 400), Box(100, 0, 101, 200)])
def test_any_box_gives_a_mask_in_the_box_the_same_each_time(box):
    pixels = flat()
    pixels[20:90, 10:60] = 50_000
    first, second = (segment(pixels, box, recipe=LEARNED) for _ in range(2))
    assert first.mask.any()
    outside = first.mask.copy()
    outside[max(0, int(box.y0)) : int(box.y1), max(0, int(box.x0)) : int(box.x1)] = False
    assert not outside.any()
    assert np.array_equal(first.mask, second.mask)


def test_where_the_network_draws_nothing_the_ellipse_stands_in(monkeypatch):
    monkeypatch.setattr(learned, "draw", lambda pixels, window, *, weights: np.zeros((20, 40), bool))
    found = segment(flat(), Box(10, 10, 50, 30), recipe=LEARNED)
    assert (found.method, found.threshold, found.fallback) == ("ellipse", None, True)
    assert found.mask[20, 11:49].all()
    assert not found.mask[10, 10]


def test_a_network_that_is_not_there_is_refused():
    with pytest.raises(MammoprepError, match="cdd-cesm-1"):
        Learned("cdd-cesm-1")


def test_the_weights_are_small_plain_arrays():
    assert learned.WEIGHTS.stat().st_size < 300_000
    assert sum(array.size for array in learned.load().values()) == 113_917
