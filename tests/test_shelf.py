"""Things on disk come back in the order of their keys, and memory does not grow with them."""

import sqlite3
import tracemalloc

import pytest

from mammoprep import shelf
from mammoprep.convert import Options, run
from mammoprep.errors import MammoprepError
from mammoprep.records import Reader, Record, Skipped
from mammoprep.shelf import Again, Shelf, spilling


def test_things_come_by_number_then_by_text_then_as_they_came():
    found = Shelf[str]()
    for number, text in ((2, "a"), (1, "b"), (1, "a"), (2, "a"), (0, "z")):
        found.put(f"{number}{text}{len(found)}", number=number, text=text)
    assert list(found) == ["0z4", "1a2", "1b1", "2a0", "2a3"]
    assert list(found) == list(found)
    assert len(found) == 5


def test_texts_stand_in_the_order_that_python_gives_them():
    texts = ["Z", "a", "é", "", "a/b", "a\0b", "\U0001f600", "\uff00", "\udce9", "10", "9"]
    found = Shelf[str]()
    for text in texts:
        found.put(text, text=text)
    assert list(found) == sorted(texts)


def test_with_one_each_the_last_holds():
    found = Shelf[str](one_each=True)
    for number, thing in ((1, "first"), (2, "second"), (1, "third")):
        found.put(thing, number=number)
    assert list(found) == ["third", "second"]


def test_things_are_many_more_than_the_memory_kept(monkeypatch):
    monkeypatch.setattr(shelf, "CACHE", 2**14)
    found = Shelf[bytes]()
    for number in range(999, -1, -1):
        found.put(bytes([number % 256]) * 1000, number=number)
    assert [thing[0] for thing in found] == [number % 256 for number in range(1000)]


def test_full_disk_is_one_line():
    line = r"A temporary file in .* could not be written: database or disk is full\. .*TMPDIR"
    with pytest.raises(MammoprepError, match=line), spilling():
        raise sqlite3.OperationalError("database or disk is full")


def test_again_begins_each_time():
    begun = Again(lambda: iter("ab"))
    assert (list(begun), list(begun)) == (["a", "b"], ["a", "b"])


def test_records_and_what_was_left_out_take_no_memory_each(tmp_path):
    """Of 20,000 records, and as many lines of skipped.csv, less than 100 bytes each are held."""

    def read(root, *, labels, count=20_000):
        for number in range(count):
            yield Record(f"images/{number:032x}.dicom", f"{number:032x}", f"{number:032x}")
            yield Skipped(f"table.csv row {number}", "table", f"the reason {number:032x}")

    reader = Reader("stub", "Stub", {"birads": ("BI-RADS 4",)}, (), lambda root: (), read)
    run._read_tables(reader, tmp_path, Options(labels="birads", reader={"count": 1}))  # what this imports stays
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        records, skipped, _ = run._read_tables(reader, tmp_path, Options(labels="birads"))
        assert sum(1 for _ in records) == sum(1 for _ in skipped) == 20_000
        grown = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert grown < 100 * 20_000
