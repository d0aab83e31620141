"""Images that are there twice: the same pixels, or the same picture in other pixels."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep.check.rules import Problem

SIDE = 16
BITS = 2 * SIDE * SIDE
LEAST_DISTANCE = 52
"""Bits, of 512, in which two pictures differ at least: see examples/benchmarks/check.py. Copies (JPEG of quality 50,
half size, gamma 0.6 to 1.6, a narrower window, noise, the outer 1 % cut off) differ in COPIES at most, pictures of a breast
from elsewhere, from the other side or in the other view in DIFFERENT at least."""
_ROWS = 64
"""Fingerprints that are compared with all others at a time."""

Fingerprint = NDArray[np.uint64]
"""A difference hash (8,) of 512 bits."""


def fingerprint(grey: NDArray[Any]) -> Fingerprint:
    """Say of 16 x 16 places of a picture (H, W) whether it brightens to the right, and downwards."""
    small = cv2.resize(grey, (SIDE + 1, SIDE + 1), interpolation=cv2.INTER_AREA).astype(np.int32)
    right, down = np.diff(small, axis=1)[:-1] > 0, np.diff(small, axis=0)[:, :-1] > 0
    return np.packbits(np.concatenate([right.ravel(), down.ravel()])).view(np.uint64)


def find(
    names: Sequence[str], digests: Sequence[bytes], fingerprints: Sequence[Fingerprint], patients: Mapping[str, str]
) -> Iterator[Problem]:
    """Yield a problem for each image with the pixels of an earlier one, or the picture of another patient's.

    `patients` gives the patient of an image's name; without one an image is compared for its pixels alone.
    """
    first: dict[bytes, str] = {}
    for name, digest in zip(names, digests, strict=True):
        twin = first.setdefault(digest, name)
        if twin != name:
            apart = patients.get(twin) != patients.get(name)
            whose = "of another patient" if apart else "of the same patient"
            yield Problem("identical-images", f"images/{name}.png", f"has the pixels of {twin}.png, {whose}")
    known = [i for i, name in enumerate(names) if patients.get(name) and first[digests[i]] == name]
    if len(known) > 1:
        groups = np.unique([patients[names[i]] for i in known], return_inverse=True)[1]
        for one, other, distance in _pairs(np.stack([fingerprints[i] for i in known]), groups):
            twin, name = names[known[one]], names[known[other]]
            what = f"shows what {twin}.png of another patient shows ({distance} of {BITS} bits differ)"
            yield Problem("near-duplicates", f"images/{name}.png", what)


def _pairs(prints: NDArray[np.uint64], groups: NDArray[np.intp]) -> Iterator[tuple[int, int, int]]:
    """Yield (earlier, later, distance) for each two of different groups that are nearer than LEAST_DISTANCE."""
    near = defaultdict(list)
    for start in range(0, len(prints), _ROWS):
        some = prints[start : start + _ROWS, None]
        distances = np.zeros((len(some), len(prints) - start), dtype=np.uint16)
        for word in range(prints.shape[1]):  # word by word, which keeps the arrays small
            distances += np.bitwise_count(some[..., word] ^ prints[None, start:, word])
        close = (distances < LEAST_DISTANCE) & (groups[start : start + _ROWS, None] != groups[None, start:])
        for row, column in zip(*np.nonzero(close), strict=True):
            if column > row:
                near[start + int(row)].append((start + int(column), int(distances[row, column])))
    yield from ((one, other, distance) for one in sorted(near) for other, distance in near[one])
