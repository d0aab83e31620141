"""A backbone that has seen the validation patients is named; others are not."""

import json
from pathlib import Path

import pytest

from mammoprep_model.pretrain import leakage

MADE = {"manifest_sha256": "data", "folds_sha256": "folds", "fold": 1}


@pytest.mark.parametrize(
    ("facts", "flattered"),
    [
        ({}, False),  # made for this fold
        ({"fold": 0}, True),
        ({"fold": None, "folds_sha256": None}, True),
        ({"folds_sha256": "older"}, True),  # the same number, but of other folds
        ({"manifest_sha256": "another", "fold": 0}, False),
    ],
)
def test_only_this_data_set_without_this_folds_gap_is_named(
    tmp_path: Path, facts: dict[str, object], flattered: bool
) -> None:
    (tmp_path / "pretrain.json").write_text(json.dumps({**MADE, **facts}))
    found = leakage.remarks({"mam-e": str(tmp_path)}, data_hash="data", folds_hash="folds", fold=1)
    line = f"Fold 1: mam-e ({tmp_path}) was pretrained on this data set with this fold's validation patients"
    assert [each.startswith(line) for each in found] == [True] * flattered


def test_other_weights_say_nothing(tmp_path: Path) -> None:
    places = {"mam-e": str(tmp_path), "biomedclip": "microsoft/BiomedCLIP", "clip": str(tmp_path / "none.bin")}
    assert leakage.remarks(places, data_hash="data", folds_hash="folds", fold=1) == []
