"""The journal: it survives a kill, and belongs to one set of options."""

import pytest

from mammoprep.convert.journal import Journal
from mammoprep.errors import MammoprepError

HEADER = {"options": {"bits": 8, "stuff": ["breast"]}, "inputs": {"table.csv": "aa"}}


def written(path, *entries):
    journal = Journal(path, header=HEADER)
    for entry in entries:
        journal.append(entry)
    journal.close()
    return path


def reopened(path):
    journal = Journal(path, header=HEADER)
    entries = list(journal.entries())
    journal.close()
    return entries


def test_entries_come_back_from_earlier_runs_and_this_one(tmp_path):
    path = written(tmp_path / "journal", {"number": 1}, {"number": 2, "text": "é\n"})

    journal = Journal(path, header=HEADER)
    journal.append({"number": 3})

    assert list(journal.entries()) == [{"number": 1}, {"number": 2, "text": "é\n"}, {"number": 3}]
    journal.close()


@pytest.mark.parametrize("cut", [1, 5, 13])
def test_a_torn_last_line_is_cut_off_and_written_anew(tmp_path, cut):
    path = written(tmp_path / "journal", {"number": 1}, {"number": 2})
    path.write_bytes(path.read_bytes()[:-cut])

    journal = Journal(path, header=HEADER)
    journal.append({"number": 9})
    journal.close()

    assert reopened(path) == [{"number": 1}, {"number": 9}]


def test_a_line_that_a_full_disk_tore_is_no_entry(tmp_path):
    journal = Journal(tmp_path / "journal", header=HEADER)
    journal.append({"number": 1})
    with (tmp_path / "journal").open("a") as file:
        file.write('{"numb')

    assert list(journal.entries()) == [{"number": 1}]
    journal.close()


def test_a_journal_whose_header_is_torn_begins_anew(tmp_path):
    path = tmp_path / "journal"
    path.write_text('{"options": {"bi')
    assert reopened(path) == []


@pytest.mark.parametrize(
    ("header", "difference"),
    [
        (HEADER | {"options": {"bits": 16, "stuff": ["breast"]}}, "options bits = 8, now 16"),
        (HEADER | {"options": {"bits": 8}}, "options stuff = ['breast'], now None"),
        (HEADER | {"inputs": {"table.csv": "bb"}}, "inputs table.csv = aa, now bb"),
        (HEADER | {"labels": "finding"}, "labels = None, now finding"),
    ],
)
def test_another_header_is_refused_by_the_name_of_the_difference(tmp_path, header, difference):
    path = written(tmp_path / "journal", {"number": 1})

    with pytest.raises(MammoprepError) as refused:
        Journal(path, header=header)

    assert difference in str(refused.value)
    assert reopened(path) == [{"number": 1}]


def test_what_is_no_json_is_refused_before_it_is_written(tmp_path):
    journal = Journal(tmp_path / "journal", header=HEADER)
    with pytest.raises(ValueError, match="not JSON compliant"):
        journal.append({"area": float("nan")})
    journal.close()
    assert reopened(tmp_path / "journal") == []
