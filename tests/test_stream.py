"""JSON read entry by entry."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mammoprep.errors import MammoprepError, MissingFileError
from mammoprep.panoptic import read_entries, stream, write_entries, write_json
from mammoprep.panoptic.stream import BLOCK

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def entries(path, *lists):
    return [*read_entries(path, lists, hint="Do it again.", wrong="another shape")]


@given(st.lists(VALUES), st.integers(1, 9), st.sampled_from([None, 1]))
def test_list_comes_back_whatever_the_blocks(tmp_path_factory, values, block, indent):
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_text(json.dumps(values, indent=indent, ensure_ascii=False), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "BLOCK", block)
        assert entries(path) == [("", value) for value in values]


def test_lists_of_an_object_come_in_the_order_of_the_file(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"info": {"b": [1]}, "b": [{"x": 1}, 2], "other": [3, [4]], "n": 5, "a": [], "b2": [6]}')
    assert entries(path, "a", "b") == [("b", {"x": 1}), ("b", 2)]


@pytest.mark.parametrize("block", [1, 2, 3, 1000])
def test_number_that_a_block_cuts_is_whole(tmp_path, monkeypatch, block):
    monkeypatch.setattr(stream, "BLOCK", block)
    path = tmp_path / "a.json"
    path.write_text('[1234, -5.25e2,\n 7, "a\\u00e9]"]')
    assert [value for _, value in entries(path)] == [1234, -525.0, 7, "aé]"]


@pytest.mark.parametrize(
    "text",
    ["", "[", "[1", "[1,", "[1,]", "[1 2]", "[1] 2", '{"a": [1]', '{"a" [1]}', '{"a": [1],}', "[" * 100_000, "[nul]"],
)
def test_broken_json_is_named(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    lists = ("a",) if text.startswith("{") else ()
    with pytest.raises(MammoprepError) as caught:
        entries(path, *lists)
    assert str(caught.value).startswith(f"{path} is not readable JSON (")
    assert "\n" not in str(caught.value)


def test_text_that_is_no_utf8_is_named(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'["\xff"]')
    with pytest.raises(MammoprepError, match="not readable JSON"):
        entries(path)


@pytest.mark.parametrize(
    ("text", "lists"), [("{}", ()), ("3", ()), ("[]", ("a",)), ('{"b": []}', ("a",)), ('{"a": {}}', ("a",))]
)
def test_another_shape_is_said(tmp_path, text, lists):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(MammoprepError, match="^another shape$"):
        entries(tmp_path / "a.json", *lists)


def test_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(MissingFileError, match=r"a\.json does not exist\. Do it again\."):
        entries(tmp_path / "a.json")


@pytest.mark.parametrize("gap", range(BLOCK - 14, BLOCK - 4))
def test_half_a_surrogate_pair_is_seen_wherever_a_block_ends(tmp_path, gap):
    path = tmp_path / "a.json"
    path.write_text('["' + "x" * (gap - 2) + '", "\\ud800"]')
    with pytest.raises(MammoprepError, match="no Unicode"):
        list(read_entries(path, hint="", wrong=""))


@given(st.lists(VALUES), st.dictionaries(st.text(), st.lists(VALUES), max_size=3))
def test_lists_are_written_to_the_bytes_of_the_whole(tmp_path_factory, values, lists):
    root = tmp_path_factory.mktemp("json")
    lists.pop("", None)
    for content, streamed in ((values, {"": iter(values)}), (lists, {key: iter(each) for key, each in lists.items()})):
        if streamed:
            write_json(root / "whole.json", content)
            write_entries(root / "streamed.json", streamed)
            assert (root / "streamed.json").read_bytes() == (root / "whole.json").read_bytes()


def test_list_that_fails_leaves_the_old_file(tmp_path):
    def broken():
        yield 1
        yield float("nan")

    (tmp_path / "a.json").write_text("old")
    with pytest.raises(ValueError, match="JSON compliant"):
        write_entries(tmp_path / "a.json", {"a": broken()})
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.json", "old")]
