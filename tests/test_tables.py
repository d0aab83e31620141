"""Tables as spreadsheet programs, downloads and people leave them."""

import zipfile

import openpyxl
import pytest

from mammoprep.errors import MammoprepError
from mammoprep.tables import Row, files, find, keyed, load, number, same

COLUMNS = ("image_id", "xmin")


def write(folder, data, name="table.csv"):
    path = folder / name
    path.write_bytes(data)
    return path


def cells(path, columns=COLUMNS, **options):
    return [tuple(row[column] for column in columns) for row in load(path, columns=columns, **options).rows]


@pytest.mark.parametrize(
    "data",
    [
        b"image_id,xmin\na,1.5\nb,2\n",
        b"image_id,xmin\r\na,1.5\r\nb,2\r\n",
        b"image_id,xmin\ra,1.5\rb,2",
        b"\xef\xbb\xbfimage_id,xmin\na,1.5\nb,2\n",
        b"image_id;xmin\na;1,5\nb;2\n",
        b"image_id\txmin\na\t1.5\nb\t2\n",
        "image_id\txmin\r\na\t1.5\r\nb\t2\r\n".encode("utf-16"),
        b"\n image_id , xmin \n a , 1.5 \n,\n\nb,2\n",
        b'"#Image ID",XMIN,\n"a",1.5,\n"b",2,\n',
        b"xmin,other,image_id\n1.5,x,a\n2,y,b\n",
    ],
    ids=["plain", "crlf", "cr", "mark", "semicolon", "tab", "utf-16", "blanks", "spelling", "order"],
)
def test_a_resaved_csv_gives_the_same_rows(tmp_path, data):
    assert cells(write(tmp_path, data)) == [("a", "1.5"), ("b", "2")]


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-8-sig", "utf-16"])
def test_letters_beyond_ascii_survive_every_encoding(tmp_path, encoding):
    assert cells(write(tmp_path, "image_id,xmin\nç,1\n".encode(encoding))) == [("ç", "1")]


def test_a_byte_that_windows_does_not_define_is_no_crash(tmp_path):
    assert cells(write(tmp_path, b"image_id,xmin\n\x81,1\n")) == [("\x81", "1")]


def test_a_row_knows_its_line_though_a_cell_has_a_line_break(tmp_path):
    table = load(write(tmp_path, b'image_id,xmin\n"a\nb",1\n\nc,2\n'), columns=COLUMNS)

    assert [row.where for row in table.rows] == ["table.csv row 2", "table.csv row 5"]
    assert table.rows[0]["image_id"] == "a\nb"


def test_rows_of_another_width_are_listed(tmp_path):
    table = load(write(tmp_path, b"image_id,xmin\na,1,surplus\nb,2,,\nc\n"), columns=COLUMNS)

    assert [row["image_id"] for row in table.rows] == ["b"]
    assert [item.source for item in table.skipped] == ["table.csv row 2", "table.csv row 4"]
    assert {item.stage for item in table.skipped} == {"table"}


def test_a_decimal_comma_counts_only_where_the_semicolon_parts_the_cells(tmp_path):
    assert cells(write(tmp_path, b'image_id,xmin\na,"1,5"\n')) == [("a", "1,5")]


def test_an_optional_column_that_is_absent_is_blank(tmp_path):
    table = load(write(tmp_path, b"image_id\na\n"), columns=("image_id",), optional=("tags",))

    assert table.rows[0]["tags"] == ""


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "holds no rows"),
        (b"image_id,xmin\n", "holds no rows"),
        (b"image_id,x_mni\na,1\n", "no column 'xmin'; the nearest is 'x_mni'"),
        (b"one,two\na,1\n", "no column 'image_id' and 1 more"),
        (b"\x00\x01\x02\x03", "neither CSV nor XLSX"),
        (b"\xff\xfe\x00", "neither CSV nor XLSX"),
        (b"PK\x03\x04 cut short", "neither CSV nor XLSX"),
        (b'image_id,xmin\na,"' + b"x" * 140_000, "quotation mark"),
        (b"image_id," + b"x" * 140_000 + b"\na,1\n", "quotation mark"),
    ],
    ids=["empty", "header", "nearest", "all", "binary", "half", "zip", "quote", "long"],
)
def test_a_table_that_cannot_be_read_is_one_line(tmp_path, data, says):
    with pytest.raises(MammoprepError) as caught:
        load(write(tmp_path, data), columns=COLUMNS)

    assert says in str(caught.value)
    assert str(tmp_path / "table.csv") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_in_place_of_a_table_is_one_line(tmp_path):
    with pytest.raises(MammoprepError, match="cannot be read"):
        load(tmp_path, columns=COLUMNS)


def workbook(path, **sheets):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_a_workbook_gives_text_with_whole_numbers_whole(tmp_path):
    path = workbook(
        tmp_path / "t.xlsx", other=[["x"]], All=[["image_id", "xmin "], [" a ", 4.0], [None, None], ["b", 1.5]]
    )
    table = load(path, columns=COLUMNS, sheet="all")

    assert [(row.where, row["image_id"], row["xmin"]) for row in table.rows] == [
        ("t.xlsx row 2", "a", "4"),
        ("t.xlsx row 4", "b", "1.5"),
    ]


def test_a_workbook_is_known_by_its_content(tmp_path):
    workbook(tmp_path / "t.xlsx", all=[["image_id", "xmin"], ["a", "3$2"]])

    assert cells((tmp_path / "t.xlsx").rename(tmp_path / "t.csv"), sheet="all") == [("a", "3$2")]


def test_the_only_sheet_is_taken_whatever_its_name(tmp_path):
    assert cells(workbook(tmp_path / "t.xlsx", Sheet1=[["image_id", "xmin"], ["a", 1]]), sheet="all") == [("a", "1")]


def test_a_missing_sheet_is_one_line(tmp_path):
    path = workbook(tmp_path / "t.xlsx", one=[["image_id"]], two=[["image_id"]])

    with pytest.raises(MammoprepError, match="no sheet 'all' among 2. Use"):
        load(path, columns=("image_id",), sheet="all")


def test_find_ignores_case_blanks_and_punctuation_and_lock_files(tmp_path):
    for name in ("~$my_table.csv", "._my_table.csv", "My-Table .CSV"):
        (tmp_path / name).touch()

    assert find(tmp_path, "my_table.csv") == tmp_path / "My-Table .CSV"
    assert find(tmp_path, "my_table.xlsx") is None
    assert find(tmp_path / "nowhere", "my_table.csv") is None


def test_find_prefers_the_exact_name(tmp_path):
    for name in ("MY_TABLE.csv", "my_table.csv"):
        (tmp_path / name).touch()

    assert find(tmp_path, "my_table.csv") == tmp_path / "my_table.csv"


@pytest.mark.parametrize(
    ("text", "value"), [("2098.0", 2098.0), ("-1e1", -10.0), ("", None), ("nan", None), ("inf", None), ("1,5", None)]
)
def test_number(text, value):
    assert number(text) == value


@pytest.mark.parametrize(
    ("cell", "other", "equal"), [("2800", "2800.0", True), ("l", "L", True), ("L", "R", False), ("nan", "", False)]
)
def test_same(cell, other, equal):
    assert same(cell, other) is equal


def test_an_old_workbook_is_read_by_its_sheet(tmp_path, write_xls):
    rows = [("image_id", "xmin"), ("a", 22678622), ("", ""), ("b ", 1.5)]
    write_xls(tmp_path / "table.xls", {"Sheet1": rows, "Sheet2": [("name",), ("never",)]})
    table = load(tmp_path / "table.xls", columns=COLUMNS, sheet="Sheet1")

    assert [(row.where, row["image_id"], row["xmin"]) for row in table.rows] == [
        ("table.xls row 2", "a", "22678622"),
        ("table.xls row 4", "b", "1.5"),
    ]
    with pytest.raises(MammoprepError, match="no sheet 'all' among 2. Use"):
        load(tmp_path / "table.xls", columns=COLUMNS, sheet="all")


@pytest.mark.parametrize("length", [8, 600, 1500])
def test_an_old_workbook_that_is_cut_off_is_one_line(tmp_path, write_xls, length):
    write_xls(tmp_path / "whole.xls", {"Sheet1": [("image_id", "xmin"), ("a", 1)]})
    path = write(tmp_path, (tmp_path / "whole.xls").read_bytes()[:length], "table.xls")

    with pytest.raises(MammoprepError, match="neither CSV nor XLSX nor XLS"):
        load(path, columns=COLUMNS)


def test_files_are_found_at_any_depth_by_their_endings(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("a.DCM", "b/c.dcm", "b/._c.dcm", "d.png"):
        (tmp_path / name).touch()

    assert files(tmp_path, ".dcm") == [tmp_path / "a.DCM", tmp_path / "b" / "c.dcm"]
    assert files(None, ".dcm") == []


def test_rows_are_keyed_by_the_first_of_each_key(tmp_path):
    table = load(write(tmp_path, b"image_id,xmin\na,1\nA,2\n?,3\nb,4\n"), columns=COLUMNS)
    found: dict[str, Row] = {}

    def read():
        key = {"a": "a", "A": "a", "b": "b"}
        found.update((yield from keyed(table.rows, lambda row: key.get(row["image_id"]), otherwise="no letter")))

    skipped = list(read())

    assert {key: row["xmin"] for key, row in found.items()} == {"a": "1", "b": "4"}
    assert [(item.source, item.reason) for item in skipped] == [
        ("table.csv row 3", "the row is about the same as row 2, which holds"),
        ("table.csv row 4", "no letter"),
    ]


def write_sheet(path, old, new):
    """Write a workbook of one row, in whose sheet something is said otherwise."""
    book = openpyxl.Workbook()
    for row in (("image_id", "xmin"), ("a", 1)):
        book.worksheets[0].append(row)
    book.save(path)
    with zipfile.ZipFile(path) as parts:
        contents = {name: parts.read(name) for name in parts.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as parts:
        for name, content in contents.items():
            parts.writestr(name, content.replace(old, new) if "worksheets/" in name else content)


@pytest.mark.parametrize("row", [b"99999999999", b"2097152"])
def test_a_row_beyond_those_of_a_sheet_is_refused_and_not_waited_for(tmp_path, row):
    write_sheet(tmp_path / "table.xlsx", b'<row r="2"', b'<row r="%s"' % row)
    with pytest.raises(MammoprepError, match="more than 1048576 rows"):
        load(tmp_path / "table.xlsx", columns=("image_id", "xmin"))


def test_the_last_row_and_the_last_cell_of_a_sheet_are_read(tmp_path):
    write_sheet(tmp_path / "table.xlsx", b'<row r="2"', b'<row r="1048576"')
    assert [row.cells for row in load(tmp_path / "table.xlsx", columns=("image_id",)).rows] == [{"image_id": "a"}]
    write_sheet(tmp_path / "table.xlsx", b'r="B2"', b'r="XFD2"')
    table = load(tmp_path / "table.xlsx", columns=("image_id", "xmin"))
    assert [row.cells for row in table.rows] == [{"image_id": "a", "xmin": ""}]


def test_a_workbook_that_unpacks_to_too_much_is_refused_before(tmp_path, monkeypatch):
    monkeypatch.setattr("mammoprep.tables.MOST_BYTES", 2**20)
    write_sheet(tmp_path / "table.xlsx", b"<sheetData>", b"<sheetData>" + b" " * 2**20)
    with pytest.raises(MammoprepError, match="unpacks to more than 1 MiB"):
        load(tmp_path / "table.xlsx", columns=("image_id",))
