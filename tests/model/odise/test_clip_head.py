import pytest
import torch

from mammoprep_model.odise.clip_head import ClipHead

TEXTS = [torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([[-1.0, 0.0]])]
"""Two texts of the first class, east and north; one of the second, west."""
LOG3 = 1.0986122886681098


def mix(embedding: list[float], scores: list[float], *, share: float, scale: float = LOG3) -> list[float]:
    head = ClipHead(TEXTS, scale=scale, share=share)
    mixed: list[float] = head(torch.tensor([[scores]]), torch.tensor([[embedding]])).flatten().tolist()
    return mixed


def test_clip_alone_is_the_softmax_of_the_best_cosines():
    # Looking north: cosines 1 and 0, of which log 3 makes 3 : 1; "no object" keeps its 0.2.
    assert mix([0.0, 5.0], [0.1, 0.7], share=1.0) == pytest.approx([0.8 * 3 / 4, 0.8 / 4])


def test_half_and_half_is_the_geometric_mean():
    # sqrt(0.2 * 3/4) : sqrt(0.6 * 1/4) = sqrt(0.15) : sqrt(0.15), so both get half of what was 0.8.
    assert mix([0.0, 5.0], [0.2, 0.6], share=0.5) == pytest.approx([0.4, 0.4])


def test_the_published_share():
    weights = [0.2**0.7 * 0.75**0.3, 0.6**0.7 * 0.25**0.3]
    assert mix([0.0, 1.0], [0.2, 0.6], share=0.3) == pytest.approx([0.8 * each / sum(weights) for each in weights])


def test_no_share_changes_nothing():
    assert mix([1.0, 0.0], [0.25, 0.5], share=0.0) == pytest.approx([0.25, 0.5])


def test_a_mask_that_is_no_object_for_sure_stays_so():
    assert mix([1.0, 0.0], [0.0, 0.0], share=0.3) == [0, 0]


def test_nothing_of_it_is_trained_or_saved():
    head = ClipHead(TEXTS, scale=100, share=0.3)
    assert not list(head.parameters())
    assert not head.state_dict()
