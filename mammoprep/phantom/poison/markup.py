"""JSON and XML that parsers choke on: too deep, too long, entities, numbers and characters that cannot be written."""

import json
import re
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

from mammoprep.phantom.poison.binary import Poison

_DEPTH = 100_000
NASTY: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1.5, 10**30, -(10**18), float("nan"), float("inf"), 1e308, 2**31, 2**63),
    *("", "\ud800", "a\0b", "../../x", "x" * 5000, "\u202e", "Ж名", "NaN", "1e999", "{", "/etc/passwd"),
    *([], {}, [[]], [None], {"": None}, [1] * 1000, [10**30], ["\ud800"]),
)
"""Values that stand where none of their kind belongs; some cannot be written as UTF-8, or as JSON at all."""


def _load(data: bytes) -> Any:
    return json.loads(data.decode("utf-8-sig"))


def _dump(content: Any) -> bytes:
    return json.dumps(content).encode()


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (container, key) of each value in a JSON value."""
    keys = content if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
    for key in keys:
        yield content, key
        yield from _places(content[key])


def _value(data: bytes, rng: Random) -> bytes:
    content = _load(data)
    places = list(_places(content))
    for _ in range(rng.choice((1, 1, 3))):
        container, key = rng.choice(places)
        container[key] = rng.choice(NASTY)
    return _dump(content)


def _everywhere(data: bytes, rng: Random) -> bytes:
    """Give one key another value in every entry that has it."""
    content = _load(data)
    places = list(_places(content))
    chosen, value = rng.choice([key for _, key in places]), rng.choice(NASTY)
    for container, key in places:
        if key == chosen:
            container[key] = value
    return _dump(content)


def _lost(data: bytes, rng: Random) -> bytes:
    content = _load(data)
    container, key = rng.choice(list(_places(content)))
    del container[key]
    return _dump(content)


def _other(data: bytes, rng: Random) -> bytes:
    return _dump(rng.choice(NASTY))


def _deep(data: bytes, rng: Random) -> bytes:
    opened, closed = rng.choice((("[", "]"), ('{"a":', "}")))
    deep = (opened * _DEPTH + "1" + closed * _DEPTH).encode()
    return rng.choice((deep, b'{"shapes": ' + deep + b"," + data[1:], deep[:_DEPTH]))


def _twice(data: bytes, rng: Random) -> bytes:
    """Say the first object's keys twice, the first time with nothing in them."""
    keys = re.findall(rb'"(?:images|annotations|categories|shapes|folds|regions|imagePath)"\s*:', data)
    empty = b"".join(key + b" [], " for key in keys[:3])
    return data.replace(b"{", b"{" + empty, 1)


def _number(data: bytes, rng: Random) -> bytes:
    """Put in a number too long to be one, or too large."""
    places = [match.span() for match in re.finditer(rb"(?<![\w.\"])\d+(?![\w.\"])", data)]
    if not places:
        return b"9" * 6000
    start, stop = rng.choice(places)
    return data[:start] + rng.choice((b"9" * 6000, b"1e999", b"-1e999", b"1" * 400, b"NaN", b"-0")) + data[stop:]


def _encoded(data: bytes, rng: Random) -> bytes:
    text = data.decode("utf-8-sig")
    return text.encode(rng.choice(("utf-16", "utf-16-be", "utf-32", "cp037", "utf-8-sig"))) + rng.choice((b"", b"\xff"))


def _laughs(data: bytes, rng: Random) -> bytes:
    lines = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    return f'<!DOCTYPE annotations [<!ENTITY l0 "ha">{lines}]><annotations>&l11;</annotations>'.encode()


def _quadratic(data: bytes, rng: Random) -> bytes:
    return b'<!DOCTYPE a [<!ENTITY e "' + b"x" * 100_000 + b'">]><annotations>' + b"&e;" * 10_000 + b"</annotations>"


def _external(data: bytes, rng: Random) -> bytes:
    target = rng.choice((b"file:///etc/passwd", b"http://127.0.0.1:9/x", b"file:///dev/zero"))
    return b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY e SYSTEM "' + target + b'">]><annotations>&e;</annotations>'


def _deep_xml(data: bytes, rng: Random) -> bytes:
    name = rng.choice((b"annotations", b"image", b"dict", b"array"))
    deep = (b"<" + name + b">") * _DEPTH + (b"</" + name + b">") * _DEPTH
    start = data.find(b">", data.find(b"<plist")) + 1 if b"<plist" in data else 0
    return data[:start] + deep + (b"</plist>" if start else b"")


def _declared(data: bytes, rng: Random) -> bytes:
    said = rng.choice((b"utf-16", b"ascii", b"KLINGON", b"cp037", b"utf-7", b"shift_jis", b"iso-8859-1"))
    body = data.partition(b"?>")[2] or data
    return b'<?xml version="1.0" encoding="' + said + b'"?>' + body + rng.choice((b"", b"<!-- \xe9 -->"))


def _attribute(data: bytes, rng: Random) -> bytes:
    """Give an attribute, or what stands between two tags, another value."""
    places = [match.span(1) for match in re.finditer(rb'(?:="([^"]*)"|>([^<]+)<)', data) if match[1] is not None]
    places += [match.span(1) for match in re.finditer(rb">([^<\s][^<]*)<", data)]
    if not places:
        return data[:50]
    start, stop = rng.choice(places)
    values = (
        b"",
        b"NaN",
        b"1e999",
        b"-1",
        b"9" * 6000,
        b"../../x",
        b"x" * 5000,
        b"&#0;",
        b"&#xD800;",
        b"1,1;2",
        b"\xff",
    )
    return data[:start] + rng.choice(values) + data[stop:]


def _without_tag(data: bytes, rng: Random) -> bytes:
    start, stop = rng.choice([match.span() for match in re.finditer(rb"<[^>]*>", data)] or [(0, 1)])
    return data[:start] + data[stop:]


JSON: Mapping[str, Poison] = {
    "a value of another kind": _value,
    "a key's values of another kind": _everywhere,
    "a key lost": _lost,
    "something else": _other,
    "100,000 deep": _deep,
    "keys twice": _twice,
    "a number too long": _number,
    "another encoding": _encoded,
}
XML: Mapping[str, Poison] = {
    "billion laughs": _laughs,
    "quadratic blow-up": _quadratic,
    "external entity": _external,
    "100,000 deep": _deep_xml,
    "another encoding declared": _declared,
    "an attribute of another kind": _attribute,
    "a tag lost": _without_tag,
}
