"""Names that stand for patients and files in outputs, stable under one key and not to be undone without it."""

import csv
import hashlib
import hmac
import io
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mammoprep.errors import MammoprepError


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Gives 16 hexadecimal digits of HMAC-SHA-256 for a text of some kind."""

    key: bytes = field(repr=False)

    def of(self, kind: str, text: str) -> str:
        """Give what outputs say in place of a text; nothing stays nothing."""
        if not text:
            return ""
        return hmac.new(self.key, f"{kind}\0{text}".encode(errors="surrogateescape"), hashlib.sha256).hexdigest()[:16]

    def of_file(self, path: str) -> str:
        """Give what outputs call a file of the raw folder, known by its POSIX path relative to it."""
        return self.of("file", path)

    @property
    def fingerprint(self) -> str:
        """Tell one key from another without giving it away."""
        return hashlib.sha256(b"fingerprint\0" + self.key).hexdigest()[:16]

    def hide(self, text: str, *, root: Path, paths: Iterable[str]) -> str:
        """Put pseudonyms in place of files and folders below `root` that a message names, whole or by a file's name."""
        found = {form: self.of_file(path) for path in paths for form in _forms(root, path) if form in text}
        for form in sorted(found, key=len, reverse=True):
            text = re.sub(rf"(?<![\w.-]){re.escape(form)}(?![\w-])", found[form], text)
        return text


def _forms(root: Path, path: str) -> Iterator[str]:
    yield from (str(root / path), str(root.resolve() / path))
    if Path(path).suffix:  # a folder's name alone, which may be any word, is in no message
        yield from (path, Path(path).name)


def listed(root: Path) -> list[str]:
    """Give all files and folders below a folder, but for hidden ones, as sorted POSIX paths relative to it."""
    found = []
    for place, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        names = (name for name in (*folders, *files) if not name.startswith("."))
        found += [Path(place, name).relative_to(root).as_posix() for name in names]
    return sorted(found)


def load_key(path: Path) -> Pseudonyms:
    """Read a key file of 64 hexadecimal digits; where there is none, make it."""
    if not path.exists():
        _write_private(path, secrets.token_hex(32) + "\n")
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise MammoprepError(f"{path} cannot be read as a key. Name another file for the key.") from error
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise MammoprepError(f"{path} is no key: 64 hexadecimal digits are expected. Name another file for the key.")
    return Pseudonyms(bytes.fromhex(text))


def throw_away() -> Pseudonyms:
    """Give pseudonyms whose key is kept nowhere."""
    return Pseudonyms(secrets.token_bytes(32))


def write_links(path: Path, names: Pseudonyms, files: Iterable[str]) -> None:
    """Write a table that leads from pseudonyms back to files."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("pseudonym", "file"))
    writer.writerows((names.of_file(name), name) for name in files)
    _write_private(path, table.getvalue())


def read_links(dataset: Path) -> dict[str, str]:
    """Read the table beside a DATASET that leads from its pseudonyms to files; nothing where there is none."""
    path = dataset.resolve()
    path = path.with_name(f"{path.name}.key.csv")
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return {row.get("pseudonym") or "": row.get("file") or "" for row in csv.DictReader(file)}


def _write_private(path: Path, text: str) -> None:
    """Write a file whole or not at all, readable by its owner alone."""
    beside = path.with_name(f"{path.name}.partial")
    try:
        beside.unlink(missing_ok=True)
        with open(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(text.encode(errors="surrogateescape"))  # a file's name need not be UTF-8
        os.replace(beside, path)
    except OSError as error:
        raise MammoprepError(
            f"{path} could not be written ({error.strerror}). Name another file for the key."
        ) from error
