"""Tables as people keep them: CSV, XLSX or XLS, any usual encoding, delimiter and spelling of columns, read to rows."""

import csv
import io
import math
import re
import sys
import warnings
import zipfile
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn, TypeVar

from mammoprep.errors import MammoprepError
from mammoprep.records import Skipped

MOST_BYTES, MOST_ROWS, MOST_CELLS = 2**28, 2**20, 2 * 10**7
"""What a workbook may hold once it is unpacked, blank rows and cells among them; Excel's own have so many rows."""
_BIFF = b"\xd0\xcf\x11\xe0"  # an OLE2 file, which holds the XLS of Excel 5 to 2003
_SHORT = 16
"""Characters below which a cell is likely to repeat; ids are longer."""
_Key = TypeVar("_Key", bound=Hashable)
_Line = tuple[int, list[str]]
"""A line number as a person sees it, from 1, and the cells of the row that begins there."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `where` says where it stands, such as `finding_annotations.csv row 17`; cells have no outer blanks."""

    where: str
    cells: Mapping[str, str]

    @property
    def place(self) -> str:
        """Say where it stands in its file, which a message may not be allowed to name."""
        return f"row {self.where.rpartition(' ')[2]}"

    def __getitem__(self, column: str) -> str:
        """Give a cell by the column's expected name; an optional column that is absent gives "" in every row."""
        return self.cells[column]


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a table, and those that cannot be read as rows; `header` are all its columns, as it spells them."""

    rows: tuple[Row, ...]
    skipped: tuple[Skipped, ...]
    header: tuple[str, ...] = ()

    def has(self, column: str) -> bool:
        """Tell whether there is a column of that name."""
        return _place(self.header, column) is not None


def find(root: Path, name: str) -> Path | None:
    """Find `name` in a folder whatever its case, blanks and punctuation; None where there is nothing like it."""
    try:
        entries = sorted(root.iterdir(), key=lambda entry: (entry.name != name, entry.name))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise MammoprepError(f"{root} cannot be listed ({error.strerror}). Check its access rights.") from error
    # Spreadsheet programs leave "~$table.xlsx" beside an open file, macOS "._table.xlsx".
    visible = (entry for entry in entries if not entry.name.startswith((".", "~$")))
    return next((entry for entry in visible if _plain(entry.name) == _plain(name)), None)


def files(folder: Path | None, *endings: str) -> list[Path]:
    """Give the files at any depth below a folder whose names end so, in either case, sorted; hidden ones are left out.

    None is a folder that was not found: it holds none.
    """
    if folder is None:
        return []
    found = (path for path in folder.rglob("*") if path.suffix.lower() in endings and not path.name.startswith("."))
    return sorted(found)


def inside(root: Path, paths: Sequence[Path]) -> Sequence[Path]:
    """Give the annotation files of a raw folder; one that is a link out of it is refused."""
    for path in paths:
        if not path.resolve().is_relative_to(root.resolve()):
            raise MammoprepError(f"{path} is a link that leaves the raw folder. Put the file itself there.")
    return paths


def load(path: Path, *, columns: Sequence[str], optional: Sequence[str] = (), sheet: str = "") -> Table:
    """Read the named columns of a CSV, XLSX or XLS file (told apart by content); of a workbook, the sheet `sheet`.

    CSV: UTF-8 or UTF-16 with or without mark, else Windows-1252; comma, semicolon or tab; any line ends; quoted line
    breaks. A column matches whatever its case, blanks and punctuation. Blank rows are passed over.

    Raises:
        MammoprepError: the file is empty, unreadable, or lacks one of `columns`.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MammoprepError(
            f"{path} cannot be read ({error.strerror}). Check that it is a file you may read."
        ) from error
    if data.startswith(b"PK"):
        lines = _workbook_lines(path, data, sheet=sheet)
    elif data.startswith(_BIFF):
        lines = _old_workbook_lines(path, data, sheet=sheet)
    else:
        lines = _text_lines(path, data, columns=(*columns, *optional))
    filled = [line for line in lines if any(line[1])]
    if len(filled) < 2:
        raise MammoprepError(f"{path} holds no rows. Download it again.")
    header = filled[0][1]
    _check_columns(path, header, columns)
    places = {column: _place(header, column) for column in (*columns, *optional)}
    return replace(_table(path.name, filled[1:], places=places, width=len(header)), header=tuple(header))


def keyed(
    rows: Iterable[Row], key: Callable[[Row], _Key | None], *, otherwise: str
) -> Generator[Skipped, None, dict[_Key, Row]]:
    """Return the first row of each key; list those that repeat one, and those without one: `otherwise` says why."""
    found: dict[_Key, Row] = {}
    for row in rows:
        name = key(row)
        if name is None:
            yield Skipped(row.where, "table", otherwise)
        elif name in found:
            yield Skipped(row.where, "table", f"the row is about the same as {found[name].place}, which holds")
        else:
            found[name] = row
    return found


def number(text: str) -> float | None:
    """Give a cell's finite number; None where it holds none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def same(cell: str, other: str) -> bool:
    """Say whether two cells hold the same number, or the same text whatever its case."""
    return cell.casefold() == other.casefold() or (number(cell) is not None and number(cell) == number(other))


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _place(header: Sequence[str], column: str) -> int | None:
    return next((place for place, cell in enumerate(header) if _plain(cell) == _plain(column)), None)


def _check_columns(path: Path, header: Sequence[str], columns: Iterable[str]) -> None:
    missing = [column for column in columns if _place(header, column) is None]
    if not missing:
        return
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    raise MammoprepError(
        f"{path} has no column {missing[0]!r}{more}{nearest(missing[0], header)}. Use the table as it was released."
    )


def nearest(name: str, found: Sequence[str]) -> str:
    """Name what is found in a file and nearly what was looked for; anything else in a file may name a patient."""
    near = get_close_matches(name, found, n=1)
    return f"; the nearest is {near[0][:60]!r}" if near else ""


def _table(file: str, lines: Iterable[_Line], *, places: Mapping[str, int | None], width: int) -> Table:
    rows, skipped = [], []
    for line, cells in lines:
        where = f"{file} row {line}"
        if len(cells) < width or any(cells[width:]):
            skipped.append(Skipped(where, "table", "the row has another number of cells than the header"))
        else:
            rows.append(Row(where, {name: "" if i is None else cells[i] for name, i in places.items()}))
    return Table(tuple(rows), tuple(skipped))


def _text_lines(path: Path, data: bytes, *, columns: Sequence[str]) -> list[_Line]:
    text = _decode(data)
    if "\0" in text:
        _refuse(path)
    first = next((line for line in text.splitlines() if line.strip()), "")
    try:
        header_of = {mark: next(csv.reader([first], delimiter=mark), []) for mark in ",;\t"}
        known = {
            mark: sum(_place(found, column) is not None for column in columns) for mark, found in header_of.items()
        }
        delimiter = max(known, key=lambda mark: known[mark])
        lines = [(line, [_once(cell.strip()) for cell in cells]) for line, cells in _parse(text, delimiter)]
    except csv.Error as error:
        raise MammoprepError(f"{path} cannot be read as CSV ({error}). Is a quotation mark left open?") from error
    # Where the semicolon parts the cells, the comma is the decimal point.
    return [(line, [_with_point(cell) for cell in cells]) for line, cells in lines] if delimiter == ";" else lines


def _once(cell: str) -> str:
    """Keep a short cell once: most columns repeat a few words, and of a million rows each copy takes 60 bytes."""
    return sys.intern(cell) if len(cell) < _SHORT else cell


def _decode(data: bytes) -> str:
    encodings = ("utf-16",) if data.startswith((b"\xff\xfe", b"\xfe\xff")) else ("utf-8-sig", "cp1252")
    for encoding in encodings:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1")


def _parse(text: str, delimiter: str) -> Iterator[_Line]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    line = 1
    for cells in reader:
        yield line, cells
        line = reader.line_num + 1


def _with_point(cell: str) -> str:
    return cell.replace(",", ".") if re.fullmatch(r"[-+]?\d+,\d+", cell) else cell


def _workbook_lines(path: Path, data: bytes, *, sheet: str) -> list[_Line]:
    import openpyxl

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # openpyxl warns of styles and validations, which no row depends on
            _check_unpacked(path, data)
            book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
            names = book.sheetnames
            name = _sheet(names, sheet)
            rows = []
            if name:
                book[name].reset_dimensions()  # the stored extent of a sheet can be wrong
                rows = _rows(path, ([_text(cell) for cell in row] for row in book[name].iter_rows(values_only=True)))
    except MammoprepError:
        raise
    except Exception as error:  # openpyxl lets every error of zip, XML and its own types through
        _refuse(path, cause=error)
    if not name:
        _refuse_sheets(path, names, sheet)
    return _numbered(rows)


def _old_workbook_lines(path: Path, data: bytes, *, sheet: str) -> list[_Line]:
    import xlrd

    try:
        book = xlrd.open_workbook(file_contents=data, on_demand=True, ragged_rows=True, logfile=io.StringIO())
        names = book.sheet_names()
        name = _sheet(names, sheet)
        cells = book.sheet_by_name(name).get_rows() if name else ()
        rows = _rows(path, ([_text(cell.value) for cell in row] for row in cells))
    except MammoprepError:
        raise
    except Exception as error:  # xlrd lets every error of struct, of indices and of its own types through
        _refuse(path, cause=error)
    if not name:
        _refuse_sheets(path, names, sheet)
    return _numbered(rows)


def _check_unpacked(path: Path, data: bytes) -> None:
    """Refuse a workbook that unpacks to more than a table holds; zipfile reads no more of a part than it says here."""
    with zipfile.ZipFile(io.BytesIO(data)) as parts:
        if sum(part.file_size for part in parts.infolist()) > MOST_BYTES:
            raise MammoprepError(f"{path} unpacks to more than {MOST_BYTES >> 20} MiB. Save it as CSV.")


def _rows(path: Path, rows: Iterable[list[str]]) -> list[list[str]]:
    """Take rows without the blanks at their ends, filled up to one width: as many as a table may have.

    A damaged number of a row or a cell makes billions of blank ones.
    """
    taken: list[list[str]] = []
    width = cells = 0
    for row in rows:
        while row and not row[-1]:
            row.pop()
        width, cells = max(width, len(row)), cells + len(row)
        taken.append(row)
        if cells > MOST_CELLS or len(taken) > MOST_ROWS:
            break
    if max(cells, width * sum(map(bool, taken))) > MOST_CELLS or len(taken) > MOST_ROWS:
        raise MammoprepError(f"{path} has more than {MOST_ROWS} rows or {MOST_CELLS} cells. Save it as CSV.")
    return [row + [""] * (width - len(row)) if row else row for row in taken]


def _numbered(rows: Sequence[list[str]]) -> list[_Line]:
    """Give a sheet's rows with their numbers, without the blank ones."""
    return [(line, row) for line, row in enumerate(rows, start=1) if row]


def _sheet(names: Sequence[str], wanted: str) -> str:
    """Give the name of the sheet that is wanted, or of the only one; "" where neither is there."""
    return next((name for name in names if _plain(name) == _plain(wanted)), names[0] if len(names) == 1 else "")


def _refuse_sheets(path: Path, names: Sequence[str], wanted: str) -> NoReturn:
    if not wanted:
        raise MammoprepError(f"{path} has {len(names)} sheets. Save the one that is meant as a file of its own.")
    raise MammoprepError(
        f"{path} has no sheet {wanted!r} among {len(names)}{nearest(wanted, names)}. Use the workbook as released."
    )


def _text(cell: object) -> str:
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return "" if cell is None else str(cell).strip()


def _refuse(path: Path, *, cause: Exception | None = None) -> NoReturn:
    raise MammoprepError(f"{path} is neither CSV nor XLSX nor XLS. Download it again, or save it as CSV.") from cause
