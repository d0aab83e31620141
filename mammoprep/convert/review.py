"""A reviewer's marks applied: what was rejected is left out, and listed."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep.panoptic import Review
from mammoprep.records import Record, Skipped

REJECTED = "rejected in review"
NOT_HERE = "rejected in review, but not in this conversion"
"""Why a mark changes nothing: other options leave out what it is of."""


def check(review: Review, manifest: Mapping[str, Any]) -> None:
    """Refuse a review of other raw data than those of a manifest."""
    if review.identity != panoptic.identity_of(manifest):
        raise MammoprepError(
            f"{review.path} is a review of another data set: other annotation files, reader or key of pseudonyms. "
            "Name the RAW folder that the reviewed DATASET was converted from, and its --key if it has one."
        )


def apply(review: Review, records: Iterable[Record]) -> tuple[list[Record], list[Skipped]]:
    """Give the records without what was rejected, numbered as all of them are, and what was left out."""
    rejected = {(mark.image, mark.finding) for mark in review.marks if mark.mark == "reject"}
    unused = set(rejected)
    kept: list[Record] = []
    skipped: list[Skipped] = []
    for place, record in enumerate(records, start=1):
        whole = (record.image_id, "")
        if whole in rejected:
            unused -= {mark for mark in rejected if mark[0] == record.image_id}
            skipped.append(Skipped(record.shown, "selection", REJECTED))
            continue
        out = [finding for finding in record.findings if (record.image_id, finding.source) in rejected]
        unused -= {(record.image_id, finding.source) for finding in out}
        skipped += [Skipped(finding.source, "selection", REJECTED) for finding in out]
        findings = tuple(finding for finding in record.findings if finding not in out)
        kept.append(replace(record, number=record.number or place, findings=findings))
    skipped += [
        Skipped(f"review: {image} {finding}".strip(), "selection", NOT_HERE) for image, finding in sorted(unused)
    ]
    return kept, skipped
