"""The errors a user can cause: each says what, where and what to do next."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class MammoprepError(Exception):
    """Something in the input or the options is wrong; its text is the one line that the user reads."""

    def __reduce__(self) -> tuple[object, ...]:
        """Let the error come back from a worker process, whatever its class takes to be made."""
        return _rebuild, (type(self), str(self))


def _rebuild(kind: type[MammoprepError], text: str) -> MammoprepError:
    error = kind.__new__(kind, text)
    error.args = (text,)
    return error


class MissingFileError(MammoprepError):
    """A file or folder that should be there is not."""

    def __init__(self, path: Path, *, hint: str) -> None:
        super().__init__(f"{path} does not exist. {hint}")


class UnknownNameError(MammoprepError):
    """A name that is not in its list; the nearest one is suggested."""

    def __init__(self, name: str, *, kind: str, known: Iterable[str]) -> None:
        choices = list(known)
        near = get_close_matches(name, choices, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(choices)}."
        super().__init__(f"There is no {kind} {name!r}. {hint}")
