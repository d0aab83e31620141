"""Names that stand for patients and files in outputs, stable under one key and not to be undone without it."""

import csv
import hashlib
import hmac
import io
import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mammoprep.errors import MammoprepError


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Gives 16 hexadecimal digits of HMAC-SHA-256 for a text of some kind; without a key the text itself."""

    key: bytes = b""

    def of(self, kind: str, text: str) -> str:
        """Give what outputs say in place of a text; nothing stays nothing."""
        if not self.key or not text:
            return text
        return hmac.new(self.key, f"{kind}\0{text}".encode(errors="surrogateescape"), hashlib.sha256).hexdigest()[:16]

    @property
    def fingerprint(self) -> str:
        """Tell one key from another without giving it away; `none` without a key."""
        return hashlib.sha256(b"fingerprint\0" + self.key).hexdigest()[:16] if self.key else "none"


PLAIN = Pseudonyms()
"""Every name stays what it is."""


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


def write_links(path: Path, names: Pseudonyms, files: Iterable[str]) -> None:
    """Write a table that leads from pseudonyms back to files."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("pseudonym", "file"))
    writer.writerows((names.of("file", name), name) for name in files)
    _write_private(path, table.getvalue())


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
