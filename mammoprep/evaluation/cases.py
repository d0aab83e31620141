"""What is scored, image by image, in a temporary database on disk: memory does not grow with the images."""

import json
import sqlite3
import weakref
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from math import nan

from mammoprep.evaluation.detections import Instance
from mammoprep.panoptic import Image, Rle, Segment
from mammoprep.shelf import spilling

TRUTH, PREDICTED = 0, 1
"""The two sides."""
LARGEST = 2**63 - 1
"""The largest number that the database can hold."""
_ROWS = 64
"""Images that are read from the database at a time."""
_BOX = (0, 0, 0, 0)

_TABLES = """
    CREATE TABLE image (side INTEGER, id INTEGER, name TEXT, height INTEGER, width INTEGER);
    CREATE UNIQUE INDEX image_id ON image (side, id);
    CREATE UNIQUE INDEX image_name ON image (side, name);
    CREATE TABLE segments (side INTEGER, image INTEGER, listed TEXT);
    CREATE UNIQUE INDEX segments_image ON segments (side, image);
    CREATE TABLE instance (image INTEGER, side INTEGER, category INTEGER, counts TEXT, crowd INTEGER, score REAL);
    CREATE TABLE facts (name TEXT PRIMARY KEY, patient TEXT, view TEXT, density TEXT, manufacturer TEXT,
                        square_mm REAL, lesion_free INTEGER);
    CREATE TABLE chosen (id INTEGER PRIMARY KEY);
    CREATE TABLE semantic (name TEXT PRIMARY KEY);
"""
_CASES = """
    SELECT image.id, image.name, image.height, image.width, own.listed, predicted.id, theirs.listed, facts.*
    FROM chosen JOIN image ON image.side = 0 AND image.id = chosen.id
    LEFT JOIN segments AS own ON own.side = 0 AND own.image = image.id
    LEFT JOIN image AS predicted ON predicted.side = 1 AND predicted.id = image.id
    LEFT JOIN segments AS theirs ON theirs.side = 1 AND theirs.image = image.id
    LEFT JOIN facts ON facts.name = image.name
    ORDER BY image.id
"""


@dataclass(frozen=True, slots=True)
class Facts:
    """What cases.csv says of an image; a text is empty, `square_mm` NaN where it says nothing.

    `square_mm`: mm² of a stored pixel; `lesion_free`: False where the image has a finding, be it of no class here.
    """

    patient_id: str = ""
    view: str = ""
    density: str = ""
    manufacturer: str = ""
    square_mm: float = nan
    lesion_free: bool = True


@dataclass(frozen=True, slots=True)
class Case:
    """One image of the data set and what is predicted for it.

    `predicted` is None where the panoptic predictions lack the image; segments carry the category ids
    that are scored, and no boxes.
    """

    truth: Image
    predicted: Image | None
    lesions: tuple[Instance, ...]
    detections: tuple[Instance, ...]
    facts: Facts


class Cases:
    """The images chosen to be scored, in the order of their ids, each time that they are gone through.

    `renumber` maps the category ids of either side to those that are scored.
    """

    renumber: tuple[Mapping[int, int], Mapping[int, int]] = ({}, {})

    def __init__(self) -> None:
        self._base = sqlite3.connect("", check_same_thread=False)  # a temporary file
        weakref.finalize(self, self._base.close)
        with spilling():
            self._base.executescript(_TABLES)

    def __len__(self) -> int:
        return self._count("SELECT COUNT(*) FROM chosen")

    def __iter__(self) -> Iterator[Case]:
        with spilling():
            self._base.execute("CREATE INDEX IF NOT EXISTS instance_image ON instance (image)")
        rows = self._base.execute(_CASES)
        while some := rows.fetchmany(_ROWS):
            instances = self._instances(some[0][0], some[-1][0])
            for number, name, height, width, own, predicted, theirs, *facts in some:
                size = (height, width)
                yield Case(
                    truth=Image(number, name, *size, _segments(own, self.renumber[TRUTH])),
                    predicted=Image(number, name, *size, _segments(theirs, self.renumber[PREDICTED]))
                    if predicted
                    else None,
                    lesions=tuple(instances[number, TRUTH]),
                    detections=tuple(instances[number, PREDICTED]),
                    facts=_facts(facts),
                )

    def _instances(self, first: int, last: int) -> defaultdict[tuple[int, int], list[Instance]]:
        found: defaultdict[tuple[int, int], list[Instance]] = defaultdict(list)
        asked = """SELECT instance.image, instance.side, category, height, width, counts, crowd, score
                   FROM instance JOIN image ON image.side = 0 AND image.id = instance.image
                   WHERE instance.image BETWEEN ? AND ? ORDER BY instance.rowid"""
        for number, side, category, height, width, counts, crowd, score in self._base.execute(asked, (first, last)):
            code: Rle = {"size": [height, width], "counts": counts}
            found[number, side].append(Instance(category, code, bool(crowd), score))
        return found

    def add_image(self, side: int, image: Image) -> str | None:
        """Take an image in without its segments; give what of it, "image" or "image name", was there before."""
        row = (side, image.id, image.name, image.height, image.width)
        try:
            self._run("INSERT INTO image VALUES (?, ?, ?, ?, ?)", row)
        except sqlite3.IntegrityError:
            known = self._first("SELECT 1 FROM image WHERE side = ? AND id = ?", (side, image.id))
            return "image name" if known is None else "image"
        return None

    def add_segments(self, side: int, image_id: int, segments: Sequence[Segment]) -> bool:
        """Take the segments of an image in; tell whether it had none before."""
        listed = json.dumps([(s.id, s.category_id, s.area, int(s.iscrowd)) for s in segments])
        try:
            self._run("INSERT INTO segments VALUES (?, ?, ?)", (side, image_id, listed))
        except sqlite3.IntegrityError:
            return False
        return True

    def add_instances(self, side: int, instances: Iterable[tuple[int, Instance]]) -> None:
        """Take in the lesions, or the detections, of chosen images, each with its image's id."""
        rows = ((i, side, e.category_id, e.code["counts"], int(e.crowd), e.score) for i, e in instances)
        with spilling():
            self._base.executemany(
                "INSERT INTO instance SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE EXISTS (SELECT 1 FROM chosen WHERE id = ?1)",
                rows,
            )

    def add_facts(self, facts: Iterable[tuple[str, Facts]]) -> None:
        """Take in what is known of images by their names; what is said last counts."""
        rows = ((name, *astuple(each)) for name, each in facts)
        with spilling():
            self._base.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def add_semantic(self, names: Iterable[str]) -> None:
        """Take in the names of the images that have a semantic map."""
        with spilling():
            self._base.executemany("INSERT INTO semantic VALUES (?)", ((name,) for name in names))

    def choose(self, image_ids: Collection[int] | None) -> int | None:
        """Choose what is scored, None for every image; give an id that there is no image of."""
        with spilling():
            if image_ids is None:
                self._base.execute("INSERT INTO chosen SELECT id FROM image WHERE side = 0")
            else:
                self._base.executemany("INSERT OR IGNORE INTO chosen VALUES (?)", ((number,) for number in image_ids))
        found = self._first("SELECT MIN(id) FROM chosen WHERE id NOT IN (SELECT id FROM image WHERE side = 0)")
        return None if found is None else int(found)

    def name_of(self, side: int, image_id: int) -> str:
        """Give the name of an image; its id where there is none."""
        found = self._first("SELECT name FROM image WHERE side = ? AND id = ?", (side, image_id))
        return str(image_id) if found is None else str(found)

    def size_of(self, image_id: int) -> tuple[int, int] | None:
        """Give the height and width of a true image."""
        found = self._base.execute("SELECT height, width FROM image WHERE side = 0 AND id = ?", (image_id,)).fetchone()
        return None if found is None else (found[0], found[1])

    def stray_segments(self, side: int) -> bool:
        """Tell whether segments are listed of an image that is not."""
        asked = """SELECT 1 FROM segments WHERE side = ?1
                   AND NOT EXISTS (SELECT 1 FROM image WHERE image.side = ?1 AND image.id = segments.image)"""
        return self._first(asked, (side,)) is not None

    def stray_prediction(self) -> tuple[int, str] | None:
        """Give the id and name of a predicted image that is none of the data set's."""
        asked = """SELECT id, name FROM image AS p WHERE side = 1
                   AND NOT EXISTS (SELECT 1 FROM image AS t WHERE t.side = 0 AND t.id = p.id AND t.name = p.name)"""
        found = self._base.execute(asked).fetchone()
        return None if found is None else (found[0], found[1])

    def stray_semantic(self) -> str | None:
        """Give the name of a semantic map that is of no image of the data set."""
        found = self._first("SELECT MIN(name) FROM semantic WHERE name NOT IN (SELECT name FROM image WHERE side = 0)")
        return None if found is None else str(found)

    def unpredicted(self, piece: str) -> tuple[int, str] | None:
        """Give how many chosen images lack a piece, `panoptic` or `semantic`, and the first one's name."""
        lacking = {
            "panoptic": "NOT EXISTS (SELECT 1 FROM image AS p WHERE p.side = 1 AND p.id = chosen.id)",
            "semantic": "image.name NOT IN (SELECT name FROM semantic)",
        }[piece]
        where = f"FROM chosen JOIN image ON image.side = 0 AND image.id = chosen.id WHERE {lacking}"
        first = self._first(f"SELECT name {where} ORDER BY image.id LIMIT 1")
        return None if first is None else (self._count(f"SELECT COUNT(*) {where}"), str(first))

    def _run(self, command: str, row: Sequence[int | str]) -> None:
        with spilling():
            self._base.execute(command, row)

    def _first(self, asked: str, values: Sequence[int | str] = ()) -> str | int | None:
        found = self._base.execute(asked, values).fetchone()
        value: str | int | None = None if found is None else found[0]
        return value

    def _count(self, asked: str) -> int:
        return int(self._base.execute(asked).fetchone()[0])


def _segments(listed: str | None, renumber: Mapping[int, int]) -> tuple[Segment, ...]:
    return tuple(
        Segment(number, renumber.get(category, category), area, _BOX, bool(crowd))
        for number, category, area, crowd in json.loads(listed or "[]")
    )


def _facts(row: Sequence[object]) -> Facts:
    name, patient, view, density, manufacturer, square_mm, lesion_free = row
    if name is None:
        return Facts()
    millimetres = square_mm if isinstance(square_mm, float) else nan
    return Facts(str(patient), str(view), str(density), str(manufacturer), millimetres, bool(lesion_free))
