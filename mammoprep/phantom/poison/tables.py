"""Tables that lie: cells, encodings and separators of CSV; parts, rows and sizes of XLSX workbooks."""

import csv
import io
import re
import zipfile
from collections.abc import Callable, Mapping
from functools import cache
from random import Random

from mammoprep.phantom.poison import binary
from mammoprep.phantom.poison.binary import Poison

NASTY = (
    *("", "nan", "inf", "-1", "0", "1e308", "1e-400", "9" * 5000, "1" * 20, "0x10", "٣", "1_000", "-0", "true"),
    *("../../etc/passwd", "/etc/passwd", "C:\\x", "a/../b", "a\\b", "a" * 300, "a" * 200_000, "a/" * 3000),
    *(
        "{",
        "[]",
        '{"name": NaN}',
        "[" * 5000,
        "'\"",
        ",;\t",
        "=1+1",
        "\u202e",
        "\u2028",
        "Ж名",
        "NULL",
        ";".join("x" * 99),
    ),
    '{"name": "polygon", "all_points_x": [0, 1e999, 3], "all_points_y": [0, 1, "\\ud800"]}',
    '{"label": "\\ud800"}',
)
"""Cells that no column expects."""
_BLANKS = 3 * 10**8


def _rows(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), delimiter=_delimiter(data)))


def _delimiter(data: bytes) -> str:
    head = data.split(b"\n", 1)[0]
    return ";" if head.count(b";") > head.count(b",") else ","


def _written(rows: list[list[str]], delimiter: str) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _cells(data: bytes, rng: Random) -> bytes:
    rows = _rows(data)
    for _ in range(rng.choice((1, 1, 3, 20))):
        row = rng.choice(rows)
        if row:
            row[rng.randrange(len(row))] = rng.choice(NASTY)
    return _written(rows, _delimiter(data))


def _column(data: bytes, rng: Random) -> bytes:
    """Fill a column with one value, rename it, or leave it out."""
    rows = _rows(data)
    place, value = rng.randrange(len(rows[0])), rng.choice(NASTY)
    how = rng.randrange(3)
    for number, row in enumerate(rows):
        if how == 2:
            del row[place : place + 1]
        elif how == 0 and number and place < len(row) or how == 1 and not number:
            row[place] = value
    return _written(rows, _delimiter(data))


def _quote(data: bytes, rng: Random) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + b'"' + data[place:]


def _separators(data: bytes, rng: Random) -> bytes:
    return data.replace(b",", rng.choice((b";", b"\t", b"|", b",,"))).replace(
        b"\n", rng.choice((b"\n", b"\r", b"\r\r\n"))
    )


def _encoded(data: bytes, rng: Random) -> bytes:
    text = data.decode("utf-8-sig") + rng.choice(("", "é", "Ж"))
    return text.encode(rng.choice(("utf-16", "utf-16-le", "utf-32", "cp037", "latin-1", "utf-7")), "replace")


def _nul(data: bytes, rng: Random) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + b"\0" + data[place:]


def _twice(data: bytes, rng: Random) -> bytes:
    """Repeat rows, the header among them."""
    lines = data.splitlines(keepends=True)
    chosen = rng.choice(lines)
    return b"".join(lines) + chosen * rng.choice((1, 1, 500))


def _many_columns(data: bytes, rng: Random) -> bytes:
    return data.replace(b"\n", b"," * 20_000 + b"\n")


def _rezipped(change: Callable[[bytes, Random], bytes], *, where: str = "") -> Poison:
    """Give a poison that changes one part of a workbook, sums right; `where` stands in the name of that part."""

    def poison(data: bytes, rng: Random) -> bytes:
        with zipfile.ZipFile(io.BytesIO(data)) as whole:
            parts = {name: whole.read(name) for name in whole.namelist()}
        chosen = rng.choice([name for name in parts if where in name] or list(parts))
        return _zipped(parts | {chosen: change(parts[chosen], rng)})

    return poison


def _zipped(parts: Mapping[str, bytes]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", compresslevel=1) as archive:
        for name, part in parts.items():
            archive.writestr(zipfile.ZipInfo(name), part, zipfile.ZIP_DEFLATED)  # whose date is 1980's
    return written.getvalue()


def _part(part: bytes, rng: Random) -> bytes:
    how = rng.choice(sorted(binary.POISONS))
    return binary.POISONS[how](part, rng) if part else part


def _far_row(part: bytes, rng: Random) -> bytes:
    rows = rng.choice((b"1048576", b"99999999999", b"0", b"-5", b"x"))
    return re.sub(rb'<row r="\d+"', b'<row r="' + rows + b'"', part, count=rng.choice((0, 1)))


def _far_cell(part: bytes, rng: Random) -> bytes:
    cells = rng.choice((b"XFD1048576", b"ZZZZ1", b"A0", b"", b"A99999999999"))
    return re.sub(rb'<c r="[A-Z]+\d+"', b'<c r="' + cells + b'"', part, count=rng.choice((0, 1)))


def _cell_kind(part: bytes, rng: Random) -> bytes:
    kinds = rng.choice((b"s", b"d", b"n", b"b", b"e", b"inlineStr", b"x"))
    part = re.sub(rb' t="\w+"', b' t="' + kinds + b'"', part, count=rng.choice((0, 1)))
    values = rng.choice((b"-1", b"1e999", b"nan", b"99999999", b"", b"9" * 5000, b"&#0;"))
    return re.sub(rb"<v>[^<]*</v>", b"<v>" + values + b"</v>", part, count=rng.choice((0, 1)))


@cache
def _bomb(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    blanks = b"<sheetData>" + b" " * _BLANKS
    return _zipped({name: part.replace(b"<sheetData>", blanks) for name, part in parts.items()})


def _zip_bomb(data: bytes, rng: Random) -> bytes:
    """Blow the sheets up by 300 MB of blanks."""
    return _bomb(data)


def _wide_rows(part: bytes, rng: Random) -> bytes:
    """Thousands of rows with one cell in the last column that there is."""
    row = b"".join(b'<row r="%d"><c r="XFD%d"><v>1</v></c></row>' % (n, n) for n in range(2, 20_000))
    return part.replace(b"</sheetData>", row + b"</sheetData>")


def _laughing(part: bytes, rng: Random) -> bytes:
    lines = b"".join(b'<!ENTITY l%d "%s">' % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 12))
    start = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "ha">' + lines + b"]>"
    body = re.sub(rb"^<\?xml[^>]*\?>", b"", part)
    return start + body.replace(b"<v>", b"<v>&l11;", 1).replace(b"<t>", b"<t>&l11;", 1)


def _locked(data: bytes, rng: Random) -> bytes:
    """Say that every part is encrypted."""
    damaged = bytearray(data)
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(mark)
        while at >= 0:
            damaged[at + place] |= 1
            at = data.find(mark, at + 4)
    return bytes(damaged)


TEXT: Mapping[str, Poison] = {
    "cells of another kind": _cells,
    "a column of another kind": _column,
    "a quotation mark": _quote,
    "other separators": _separators,
    "another encoding": _encoded,
    "a byte 0": _nul,
    "rows twice": _twice,
    "20,000 columns more": _many_columns,
}
WORKBOOK: Mapping[str, Poison] = {
    "a part damaged": _rezipped(_part),
    "a row far down": _rezipped(_far_row, where="worksheets/"),
    "a cell far away": _rezipped(_far_cell, where="worksheets/"),
    "cells of another kind": _rezipped(_cell_kind, where="worksheets/"),
    "rows of 16,384 cells": _rezipped(_wide_rows, where="worksheets/"),
    "billion laughs": _rezipped(_laughing),
    "zip bomb": _zip_bomb,
    "encrypted parts": _locked,
}
