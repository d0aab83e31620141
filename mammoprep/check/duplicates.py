"""Images that are there twice: the same pixels, or the same picture in other pixels."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep import parallel
from mammoprep.check.rules import Problem
from mammoprep.parallel import ONE, Workers

SIDE = 16
NEAREST = 0.25
"""Of the places where one of two pictures brightens, the share where the other does not: different pictures reach it.

Of 183 real CDD-CESM images, both views and both kinds of a breast among them, the nearest two have 0.38, of 2,000
phantoms (two million pairs of other patients) 0.30. Copies of the real ones in JPEG of quality 50, at half the size,
with gamma 0.6 to 1.6, clipped, with noise, 2 pixels aside or without 1 % at each edge have 0.23 at most. Most copies
without 3 % and all mirrored ones are missed (examples/benchmarks/check.py). A share of all 512 bits parts less well: a
small breast leaves most of them dark.
"""
_ROWS, _COLUMNS = 64, 4096
"""So many fingerprints are compared with so many others at a time."""

Fingerprint = NDArray[np.uint64]
"""A difference hash (8,) of 512 bits."""


def fingerprint(grey: NDArray[Any]) -> Fingerprint:
    """Say of 16 x 16 places of a picture (H, W) whether it brightens to the right, and downwards."""
    small = cv2.resize(grey, (SIDE + 1, SIDE + 1), interpolation=cv2.INTER_AREA).astype(np.int32)
    right, down = np.diff(small, axis=1)[:-1] > 0, np.diff(small, axis=0)[:, :-1] > 0
    return np.packbits(np.concatenate([right.ravel(), down.ravel()])).view(np.uint64)


def find(
    names: Sequence[str],
    digests: Sequence[bytes],
    fingerprints: Sequence[Fingerprint] | NDArray[np.uint64],
    patients: Mapping[str, str],
    *,
    in_pairs: bool = True,
    workers: Workers = ONE,
) -> Iterator[Problem]:
    """Yield a problem for each image with the pixels of an earlier one, or the picture of another patient's.

    `patients` gives the patient of an image's name; without one an image is compared for its pixels alone. Pictures are
    compared `in_pairs`, on so many threads: a million images take hours.
    """
    first: dict[bytes, str] = {}
    for name, digest in zip(names, digests, strict=True):
        twin = first.setdefault(digest, name)
        if twin != name:
            theirs, own = patients.get(twin), patients.get(name)
            whose = "of the same patient" if theirs == own else "of another patient"
            what = f"has the pixels of {twin}.png" + (f", {whose}" if theirs and own else "")
            yield Problem("identical-images", f"images/{name}.png", what)
    if not in_pairs:
        return
    known = [i for i, name in enumerate(names) if patients.get(name) and first[digests[i]] == name]
    if len(known) > 1:
        numbers = {patient: number for number, patient in enumerate(dict.fromkeys(patients.values()))}
        groups = np.array([numbers[patients[names[i]]] for i in known])
        for one, other, apart in _pairs(np.asarray(fingerprints)[known], groups, workers):
            twin, name = names[known[one]], names[known[other]]
            what = f"shows what {twin}.png of another patient shows (distance {apart:.2f}, copies have up to {NEAREST})"
            yield Problem("near-duplicates", f"images/{name}.png", what)


def distances(some: NDArray[np.uint64], others: NDArray[np.uint64]) -> NDArray[np.float32]:
    """Give the Jaccard distances (M, N) of fingerprints (M, 8) and (N, 8): 0 same, about 0.7 by chance."""
    differ = np.zeros((len(some), len(others)), dtype=np.float32)
    for word in range(some.shape[1]):  # word by word, which keeps the arrays small
        differ += np.bitwise_count(some[:, word, None] ^ others[None, :, word])
    bits = [np.bitwise_count(side).sum(axis=1, dtype=np.float32) for side in (some, others)]
    either = (bits[0][:, None] + bits[1][None] + differ) / 2
    share: NDArray[np.float32] = differ / np.maximum(either, 1)
    return share


def _pairs(
    prints: NDArray[np.uint64], groups: NDArray[np.intp], workers: Workers = ONE
) -> Iterator[tuple[int, int, float]]:
    """Yield (earlier, later, distance) for each two of different groups that are nearer than NEAREST."""

    def near(first: int) -> list[tuple[int, int, float]]:
        found = []
        rows = slice(first, first + _ROWS)
        for start in range(first, len(prints), _COLUMNS):
            columns = slice(start, start + _COLUMNS)
            apart = distances(prints[rows], prints[columns])
            close = (apart < NEAREST) & (groups[rows, None] != groups[None, columns])
            places = ((first + int(row), start + int(column)) for row, column in zip(*np.nonzero(close), strict=True))
            found += [(*both, float(apart[both[0] - first, both[1] - start])) for both in places if both[0] < both[1]]
        return sorted(found)

    for found in parallel.each(near, range(0, len(prints), _ROWS), workers=Workers(workers.count)):
        yield from found
