import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from mammoprep_model.odise.class_head import ClassHead, encode, names_of, pool

TEXTS = [torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]), torch.tensor([[0, 0, 1.0]])]
"""Two texts of the first class, one of the second."""
EMPTY = torch.tensor([1.0, 1, 1])


@pytest.fixture
def head() -> ClassHead:
    torch.manual_seed(0)
    return ClassHead(TEXTS, empty=EMPTY, hidden=4)


def example() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(2, 5, 4), torch.randn(2, 5, 8, 8), torch.randn(2, 4, 8, 8)


def test_features_are_averaged_where_the_mask_is_above_zero():
    features = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    masks = torch.tensor([[[[5.0, -1.0], [0.1, 0.0]], [[-1.0, -1.0], [-1.0, 9.0]]]])
    assert pool(features, masks).flatten().tolist() == pytest.approx([2, 4])


def test_an_empty_mask_pools_zero():
    assert pool(torch.ones(1, 3, 2, 2), -torch.ones(1, 1, 2, 2)).tolist() == [[[0, 0, 0]]]


def test_no_gradient_reaches_the_masks_through_the_pool():
    features, masks = torch.rand(1, 3, 2, 2, requires_grad=True), torch.rand(1, 1, 2, 2, requires_grad=True)
    pool(features, masks).sum().backward()
    assert masks.grad is None
    assert features.grad.abs().min() > 0


def test_logits_are_scaled_cosines_with_the_best_text_and_none_last(head: ClassHead):
    queries, masks, features = example()
    logits = head(queries, masks, features)
    embedded = head.embed(head.project_pooled(pool(features, masks)) + queries)
    texts = head.project_text(torch.stack([*TEXTS[0], *TEXTS[1], EMPTY]))
    cosines = nn.functional.cosine_similarity(embedded[:, :, None], texts[None, None], dim=-1) / 0.07
    expected = torch.stack([cosines[..., :2].amax(-1), cosines[..., 2], cosines[..., 3]], dim=-1)
    assert torch.allclose(logits, expected, atol=1e-4)


def test_the_scale_stops_at_100(head: ClassHead):
    head.log_scale.data.fill_(math.log(1e6))
    logits = head(*example())
    assert 50 < logits.abs().max() <= 100 + 1e-3


def test_the_embedding_of_none_is_trained_and_those_of_names_are_not(head: ClassHead):
    head(*example()).sum().backward()
    assert head.null.grad.abs().max() > 0
    assert not head.text.requires_grad


def test_the_published_size_has_the_published_parameters():
    network = ClassHead([torch.zeros(1, 768)], empty=torch.zeros(768), hidden=256)
    assert sum(parameter.numel() for parameter in network.parameters()) == 264_192 + 197_632 + 1


def test_a_class_is_also_found_under_its_plain_names():
    assert names_of("BI-RADS 4", synonyms=True) == ("BI-RADS 4", "suspicious abnormality")
    assert names_of("BI-RADS 4", synonyms=False) == ("BI-RADS 4",)


def test_an_unknown_class_has_its_bare_name():
    assert names_of("Mass", synonyms=True) == ("Mass",)


def lengths(texts: Sequence[str]) -> Tensor:
    """Encode a text by its length and by how many "a" are in it."""
    return torch.tensor([[len(text), text.count("a")] for text in texts], dtype=torch.float32)


def test_a_bare_prompt_is_the_name_alone():
    assert encode(["mass", "cyst"], prompt="{}", text=lengths).tolist() == [[4, 1], [4, 0]]


def test_the_embeddings_of_several_templates_are_averaged():
    # "a mass" and "one mass!": 6 and 9 letters, two and one "a".
    assert encode(["mass"], prompt="a {} | one {}!", text=lengths).tolist() == [[7.5, 1.5]]
