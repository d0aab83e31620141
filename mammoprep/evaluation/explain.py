"""Where on the sweep PQ is highest and why: both matchings by lesion size, and the pairs that only one of them has."""

from collections.abc import Mapping

import numpy as np

from mammoprep.errors import MammoprepError
from mammoprep.evaluation import counting, strata
from mammoprep.evaluation.counting import curve, mean_curve
from mammoprep.evaluation.matching import Matching
from mammoprep.evaluation.report import Curve, Explained
from mammoprep.evaluation.table import Table
from mammoprep.panoptic import Mask


def explain(tables: Mapping[Matching, Table]) -> dict[str, Explained] | None:
    """Explain the whole and each size of lesions from the tables of both matchings; None without panoptic ones."""
    one_to_one, paper = tables["one-to-one"], tables["paper"]
    if one_to_one.truths is None:
        return None
    found = {"all": _explain(one_to_one, paper, None)}
    for name in strata.SIZES:
        for title, masks in strata.size_masks(one_to_one, name):
            entry = _explain(one_to_one, paper, masks)
            if entry.lesions:
                found[title] = entry
    return found


def _explain(one_to_one: Table, paper: Table, masks: tuple[Mask, Mask] | None) -> Explained:
    truths, guesses = paper.truths, paper.guesses
    ours = one_to_one.truths
    if truths is None or guesses is None or ours is None:
        raise MammoprepError("Without panoptic predictions there is no PQ to explain. Give panoptic.json.")
    lesions, predictions = (np.isin(side.category, paper.things) for side in (truths, guesses))
    if masks is not None:
        lesions, predictions = lesions & masks[0], predictions & masks[1]
    rows, columns = truths.pairs[lesions], guesses.repeated[predictions]
    return Explained(
        lesions=int(lesions.sum()),
        one_to_one=_quality(one_to_one, masks),
        paper=_quality(paper, masks),
        extra_pairs=tuple((rows.sum(axis=0) - ours.pairs[lesions].sum(axis=0)).tolist()),
        lesions_taken_twice=tuple((rows > 1).sum(axis=0).tolist()),
        predictions_taken_twice=tuple((columns > 0).sum(axis=0).tolist()),
    )


def _quality(table: Table, masks: tuple[Mask, Mask] | None) -> Curve | None:
    counts = counting.count(table, *(masks or (None, None)))
    if counts is None:
        return None
    found = counting.qualities(counts).PQ
    return mean_curve(curve(found[number]) for number in table.things)
