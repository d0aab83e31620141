"""JSON that can be written again: no NaN or infinity, no half of a surrogate pair, no deeper than can be read."""

import json
import re
from typing import Any

SUSPECT = re.compile(r"NaN|Infinity|[eE]\+?\d{3}|\d{309}|\\u[dD][89a-fA-F]")
"""What text has at least once where a value in it cannot be written again: a quick look, and most text has none."""
REACH = 309
"""Characters of the longest that SUSPECT needs to see at once."""


def loads(text: str, *, nan: bool = False) -> Any:
    """Give the value of a JSON text; a ValueError says why it has none. `nan` lets NaN and infinity through."""
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if SUSPECT.search(text):
        check(content, nan=nan)
    return content


def check(content: Any, *, nan: bool = False) -> None:
    """Raise ValueError for a value that cannot be written as JSON in UTF-8."""
    try:
        json.dumps(content, ensure_ascii=False, allow_nan=nan).encode()
    except UnicodeEncodeError:
        raise ValueError("a text in it is no Unicode") from None
    except (RecursionError, ValueError):
        raise ValueError("a number in it is none, or it is nested too deeply") from None
