"""The mark of scores whose predictions were told where the lesions are, and the footnote that says so."""

from pathlib import Path

from mammoprep import panoptic

TRUTH = "ground-truth"
"""What manifest.json of PREDICTIONS calls prompts that give away where the lesions are."""
MARK = "†"
"""Stands beside scores of such predictions, wherever they are shown."""
FOOTNOTE = (
    f"{MARK} Predicted with prompts from the ground truth, which gave away where the lesions are and of which class: "
    "how well they are outlined, not how well they are found."
)


def knows_truth(predictions: Path) -> bool:
    """Tell whether PREDICTIONS were made with prompts from the ground truth, as their manifest.json says."""
    path = predictions / "manifest.json"
    content = panoptic.read_json(path, hint="It comes with the predictions.") if path.is_file() else None
    return isinstance(content, dict) and content.get("prompts") == TRUTH
