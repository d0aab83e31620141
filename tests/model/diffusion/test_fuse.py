"""Samples fused: STAPLE worked out by hand and on raters of known quality; what their spread says."""

import numpy as np
import pytest
import torch

from mammoprep_model.diffusion import fuse


def of(*rows: str) -> np.ndarray:
    """Ratings, a row a rater and a digit a pixel."""
    return np.array([[digit == "1" for digit in row] for row in rows])


def test_raters_who_agree_are_believed():
    truth, sensitivity, specificity = fuse.staple_binary(of("1100", "1100", "1100"))
    assert truth.round(6).tolist() == [1, 1, 0, 0]
    assert sensitivity.tolist() == pytest.approx([1, 1, 1])
    assert specificity.tolist() == pytest.approx([1, 1, 1])


def test_two_of_three_outvote_one_and_he_is_found_out():
    """Truth 1111 0000 by two raters; the third misses one of four and adds one of four: 3/4 and 3/4."""
    truth, sensitivity, specificity = fuse.staple_binary(of("11110000", "11110000", "01110001"))
    assert truth.round(4).tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert sensitivity.tolist() == pytest.approx([1, 1, 0.75], abs=1e-4)
    assert specificity.tolist() == pytest.approx([1, 1, 0.75], abs=1e-4)


def test_one_round_is_warfields_e_and_m_step(monkeypatch: pytest.MonkeyPatch):
    """p = q = 0.9, prior 3/6: pixels rated 11, 10, 00 have 81/82, 1/2 and 1/82; then p_1 = (81/82 + 1/2) / 1.5."""
    monkeypatch.setattr(fuse, "_ROUNDS", 1)
    monkeypatch.setattr(fuse, "_START", 0.9)
    truth, sensitivity, specificity = fuse.staple_binary(of("110", "100"))
    assert truth.tolist() == pytest.approx([81 / 82, 1 / 2, 1 / 82])
    assert sensitivity.tolist() == pytest.approx([(81 / 82 + 1 / 2) / 1.5, 81 / 82 / 1.5])
    assert specificity.tolist() == pytest.approx([81 / 82 / 1.5, (1 / 2 + 81 / 82) / 1.5])


def test_quality_of_random_raters_is_recovered():
    draw = np.random.default_rng(0)
    truth = draw.random(20_000) < 0.3
    p, q = np.array([0.95, 0.9, 0.8, 0.7, 0.85]), np.array([0.97, 0.9, 0.95, 0.8, 0.7])
    ratings = np.where(truth, draw.random((5, 20_000)) < p[:, None], draw.random((5, 20_000)) > q[:, None])
    found, sensitivity, specificity = fuse.staple_binary(ratings)
    assert sensitivity == pytest.approx(p, abs=0.03)
    assert specificity == pytest.approx(q, abs=0.03)
    assert ((found > 0.5) == truth).mean() > ((ratings.mean(0) > 0.5) == truth).mean()


@pytest.mark.parametrize("digit", "01")
def test_what_nobody_or_everybody_saw_stays_so(digit: str):
    truth, _, _ = fuse.staple_binary(of(digit * 4, digit * 4))
    assert truth.tolist() == [int(digit)] * 4


def samples(*rows: str) -> torch.Tensor:
    """Samples (S, 2, 1, W) of two channels, the digit the channel that is 1."""
    first = torch.tensor([[float(digit == "0") for digit in row] for row in rows])
    return torch.stack([first, 1 - first], dim=1)[:, :, None]


def test_channels_are_fused_one_by_one_and_add_up_to_one():
    fused = fuse.staple(samples("00001111", "00001111", "10001110"))
    assert torch.allclose(fused.sum(dim=0), torch.ones(1, 8))
    assert fused.argmax(dim=0)[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_the_mean_is_the_share_of_the_samples():
    assert fuse.mean(samples("01", "11", "11", "01"))[1, 0].tolist() == [0.5, 1]


def test_spread_is_one_where_half_contradicts_half():
    """Of four samples 2, 1 and 0 differ: twice the root of 1/4, 3/16 and 0."""
    found = fuse.spread(samples("000", "000", "110", "100"))
    assert found is not None
    assert found[0].tolist() == pytest.approx([1, 2 * (3 / 16) ** 0.5, 0])


def test_one_sample_has_no_spread():
    assert fuse.spread(samples("01")) is None
