"""Workbooks as Excel 97 left them: BIFF8 records in the one stream of an OLE2 file."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path


def write(path: Path, sheets: Mapping[str, Sequence[Sequence[str | float]]]) -> None:
    """Write sheets of rows; a text may have 255 characters of Latin-1, all of it some 60 kilobytes."""
    stream = _workbook(sheets).ljust(4096, b"\0")
    count = -(-len(stream) // 512)
    chain = [-3, -2, *range(3, count + 2), -2]  # sector 0 holds this table, 1 the folder, the others the stream
    header = struct.pack("<8s16x5H6x", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", 0x3E, 3, 0xFFFE, 9, 6)
    header += struct.pack("<2I2i3i3i", 0, 1, 1, 0, 4096, -2, 0, -2, 0, 0) + struct.pack("<108i", *[-1] * 108)
    table = struct.pack("<128i", *chain, *[-1] * (128 - len(chain)))
    folder = _entry("Root Entry", kind=5, child=1, start=-2, size=0)
    folder += _entry("Workbook", kind=2, child=-1, start=2, size=len(stream))
    path.write_bytes(header + table + folder.ljust(512, b"\0") + stream.ljust(count * 512, b"\0"))


def _entry(name: str, *, kind: int, child: int, start: int, size: int) -> bytes:
    text = f"{name}\0".encode("utf-16-le")
    return struct.pack("<64sH2B3i36xiQ", text, len(text), kind, 1, -1, -1, child, start, size)


def _workbook(sheets: Mapping[str, Sequence[Sequence[str | float]]]) -> bytes:
    bodies = [_sheet(rows) for rows in sheets.values()]
    start = _record(0x0809, struct.pack("<4H2I", 0x0600, 5, 0, 0, 0, 6))
    end = _record(0x000A)
    offset = len(start) + len(end) + sum(12 + len(name) for name in sheets)
    names = b""
    for name, body in zip(sheets, bodies, strict=True):
        names += _record(0x0085, struct.pack("<IHBB", offset, 0, len(name), 0) + name.encode())
        offset += len(body)
    return start + names + end + b"".join(bodies)


def _sheet(rows: Sequence[Sequence[str | float]]) -> bytes:
    records = _record(0x0809, struct.pack("<4H2I", 0x0600, 16, 0, 0, 0, 6))
    for row, cells in enumerate(rows):
        for column, cell in enumerate(cells):
            place = struct.pack("<3H", row, column, 0)
            if isinstance(cell, str):
                text = struct.pack("<HB", len(cell), 0) + cell.encode("latin-1")
                records += _record(0x0204, place + text) if cell else b""
            else:
                records += _record(0x0203, place + struct.pack("<d", cell))
    return records + _record(0x000A)


def _record(kind: int, data: bytes = b"") -> bytes:
    return struct.pack("<2H", kind, len(data)) + data
