"""JSON that can be written again as it was read."""

import pytest

from mammoprep.strict_json import REACH, SUSPECT, loads


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"area": NaN}', "a number in it is none"),
        ("[-Infinity]", "a number in it is none"),
        ("[1e999]", "a number in it is none"),
        ("[1E+999]", "a number in it is none"),
        (f"[{'1' * 400}.5]", "a number in it is none"),
        ("9" * 5000, "integer string"),
        (r'{"name": "\ud800"}', "no Unicode"),
        (r'{"\uDFFF": 1}', "no Unicode"),
        ("[" * 100_000 + "]" * 100_000, "too deeply"),
        ('{"a":' * 100_000, "too deeply"),
        ("{", "Expecting"),
    ],
)
def test_what_cannot_be_written_again_is_refused(text, reason):
    with pytest.raises(ValueError, match=reason):
        loads(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('["NaN", "Infinity"]', ["NaN", "Infinity"]),
        ("[1e300, 12e-999]", [1e300, 0.0]),
        ("1" * 400, int("1" * 400)),
        (r'"\ud83d\ude00"', "\N{GRINNING FACE}"),
        ('{"a": 1, "a": 2}', {"a": 2}),  # RFC 8259 leaves it open; as Python, the last holds
    ],
)
def test_what_only_looks_like_it_is_read(text, value):
    assert loads(text) == value


def test_what_makes_a_text_suspect_is_seen_in_its_reach():
    for text in ("NaN", "Infinity", "e+999", "7" * 309, r"\uD812"):
        assert SUSPECT.search(text)
        assert len(text) <= REACH
