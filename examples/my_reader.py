"""A reader of your own: one table, one box a row. An entry point in your package's pyproject.toml makes it known.

[project.entry-points."mammoprep.readers"]
my-data = "my_package.my_reader:READER"
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from mammoprep import tables
from mammoprep.convert import Options, convert
from mammoprep.records import Box, Finding, Reader, Record

COLUMNS = ("file", "patient", "grade", "x0", "y0", "x1", "y1")


def read(root: Path, *, labels: str = "grade") -> Iterator[Record]:
    """Yield a record a row of boxes.csv; each names another file."""
    for row in tables.load(root / "boxes.csv", columns=COLUMNS).rows:
        box = Box(*(float(row[corner]) for corner in COLUMNS[3:]))
        findings = (Finding(box, row["grade"], row.where),)
        yield Record(row["file"], Path(row["file"]).stem, row["patient"], findings=findings)


SCHEMES, TABLE = {"grade": ("low", "high")}, "boxes.csv"
READER = Reader("my-data", "My data", SCHEMES, (TABLE,), lambda root: (root / TABLE,), read)

if __name__ == "__main__":  # python examples/my_reader.py RAW OUT
    print(convert(READER, Path(sys.argv[1]), out=Path(sys.argv[2]), options=Options(labels="grade")))
