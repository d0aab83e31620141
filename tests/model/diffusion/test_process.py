"""The forward process and the variational bound: values worked out by hand, and by sampling."""

import math

import pytest
import torch
from torch.distributions import Normal

from mammoprep_model.diffusion.process import Process


@pytest.fixture
def process() -> Process:
    """Two steps: beta 0.05 and 0.999 at most, so 0.05 and 10 cut down to it."""
    return Process(2, low=0.0)


def test_beta_rises_in_a_straight_line_from_a_ten_thousandth_to_a_fiftieth():
    betas = Process(1000, low=0.0).betas
    assert betas[[0, -1]].tolist() == pytest.approx([1e-4, 0.02])
    assert (betas[1:] - betas[:-1]).std() < 1e-12


def test_fewer_steps_end_in_almost_the_same_noise():
    """What is left of a mask is exp(-sum of beta) about: 10 in both cases."""
    kept = [float(Process(steps, low=0.0).kept[-1]) for steps in (100, 1000)]
    assert kept == pytest.approx([2.0e-5, 4.0e-5], rel=0.3)


def test_noise_is_added_by_the_roots_of_the_shares(process: Process):
    """alpha-bar is 0.95, then 0.95 * 0.001."""
    clean, noise = torch.tensor([1.0, 1.0]).view(2, 1, 1, 1), torch.tensor([2.0, -1.0]).view(2, 1, 1, 1)
    found = process.noised(clean, torch.tensor([0, 1]), noise).flatten().tolist()
    assert found == pytest.approx(
        [math.sqrt(0.95) + 2 * math.sqrt(0.05), math.sqrt(0.00095) - math.sqrt(0.99905)], abs=1e-6
    )


def test_the_true_noise_gives_the_mask_back():
    process, steps = Process(50, low=-1.0), torch.tensor([0, 20, 49])
    clean = torch.randint(2, (3, 2, 4, 4)) * 2.0 - 1
    noise = torch.randn(3, 2, 4, 4)
    assert torch.allclose(process.clean(process.noised(clean, steps, noise), steps, noise), clean, atol=1e-3)


def test_variances_lie_between_the_posteriors_and_beta(process: Process):
    """At t = 1: beta (1 - 0.95) / (1 - 0.00095); at t = 0 the same, for the posterior has none there."""
    least, largest = (each.flatten().exp().tolist() for each in process.log_variances(torch.tensor([0, 1])))
    assert least == pytest.approx([0.999 * 0.05 / 0.99905] * 2)
    assert largest == pytest.approx([0.05, 0.999])


def test_the_bound_is_zero_where_mean_and_variance_are_the_posteriors(process: Process):
    clean, noise, steps = torch.rand(1, 1, 3, 3).round(), torch.randn(1, 1, 3, 3), torch.tensor([1])
    noised = process.noised(clean, steps, noise)
    found = process.bound(clean, noised, steps, noise=noise, share=-torch.ones_like(noise))
    assert float(found) == pytest.approx(0, abs=1e-6)


def test_the_bound_is_the_divergence_of_two_normal_distributions():
    """torch.distributions says the same for a wrong noise and a variance half way, in bits times T / 1000."""
    process, steps = Process(10, low=0.0), torch.tensor([4])
    clean, noise = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2), torch.tensor([0.3, -0.8]).view(1, 1, 1, 2)
    noised, wrong = process.noised(clean, steps, noise), noise + 0.5
    found = process.bound(clean, noised, steps, noise=wrong, share=torch.zeros_like(noise))
    beta, kept, before = (float(table[k]) for table, k in ((process.betas, 4), (process.kept, 4), (process.kept, 3)))

    def mean(start: torch.Tensor) -> torch.Tensor:
        return (math.sqrt(before) * beta * start + math.sqrt(1 - beta) * (1 - before) * noised) / (1 - kept)

    posterior = beta * (1 - before) / (1 - kept)
    true = Normal(mean(clean), math.sqrt(posterior))
    guess = Normal(mean(process.clean(noised, steps, wrong)), math.sqrt(math.sqrt(posterior * beta)))
    divergence = torch.distributions.kl_divergence(true, guess).mean() / math.log(2) * 10 / 1000
    assert float(found) == pytest.approx(float(divergence), rel=1e-4)


def test_the_last_steps_bins_hold_all_probability():
    """Over the 256 levels of [-1, 1] the likelihoods of one distribution add up to 1."""
    process, levels = Process(10, low=-1.0), torch.arange(256) * 2 / 255 - 1
    clean = levels.view(256, 1, 1, 1)
    steps, noised = torch.zeros(256, dtype=torch.long), torch.full((256, 1, 1, 1), 0.3)
    noise = torch.full_like(noised, 0.1)
    bits = process.bound(clean, noised, steps, noise=noise, share=torch.ones_like(noise)) / (10 / 1000)
    assert float((2.0**-bits).sum()) == pytest.approx(1, abs=1e-4)


def test_the_bound_teaches_the_variance_alone():
    process, steps = Process(10, low=0.0), torch.tensor([3])
    clean, noise = torch.zeros(1, 1, 2, 2), torch.randn(1, 1, 2, 2)
    predicted, share = (torch.randn(1, 1, 2, 2, requires_grad=True) for _ in range(2))
    process.bound(clean, process.noised(clean, steps, noise), steps, noise=predicted, share=share).sum().backward()
    assert predicted.grad is None
    assert share.grad is not None
