"""Whether a pretrained backbone has seen the patients on which a segmenter is scored."""

from collections.abc import Mapping
from pathlib import Path

from mammoprep import panoptic

NAME = "pretrain.json"
"""What lies beside a backbone's weights and says how it came about."""


def remarks(places: Mapping[str, str], *, data_hash: str, folds_hash: str, fold: int) -> list[str]:
    """Say which pretrained parts at `places` have learnt from this data set, the fold's validation patients included.

    Parts that were not made by `mammoprep pretrain`, or from another conversion, say nothing.
    """
    found = []
    for part, place in places.items():
        path = Path(place).expanduser() / NAME
        if not path.is_file():
            continue
        facts = panoptic.read_json(path, hint="It comes with the weights.")
        left_out = facts.get("fold") if facts.get("folds_sha256") == folds_hash else None
        if facts.get("manifest_sha256") == data_hash and left_out != fold:
            found.append(
                f"Fold {fold}: {part} ({place}) was pretrained on this data set with this fold's validation patients,"
                f" so its scores are flattered. Pretrain with --fold {fold}."
            )
    return found
