"""What every command prints with: results on stdout, messages and progress bars on stderr."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mammoprep.errors import MammoprepError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

MOST_ROWS = 10
"""Rows of a section of counts that a table shows where the whole is on file or in the JSON."""
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead of the table.")]

VERIFY_HELP = "Read again what was written and compare hashes."
CLUSTER_HELP = "Run on the workers of this Dask scheduler, which see the same folders."
Cluster = Annotated[str | None, typer.Option(metavar="tcp://HOST:PORT", help=CLUSTER_HELP)]


def stdout() -> "Console":
    """Give the console for results."""
    from rich.console import Console

    return Console(highlight=False)


def is_one_of_many() -> bool:
    """Tell whether torchrun started this process beside another one on this machine, which speaks for both."""
    return os.environ.get("LOCAL_RANK", "0") != "0"


def note(text: str) -> None:
    """Print a message on stderr."""
    sys.stderr.write(text + "\n")


def existing(*, resume: bool, overwrite: bool) -> Literal["refuse", "resume", "overwrite"]:
    """Give what becomes of an OUT that is there."""
    if resume and overwrite:
        raise MammoprepError("--resume goes on with an interrupted run, --overwrite begins anew. Say only --resume.")
    return "resume" if resume else "overwrite" if overwrite else "refuse"


def print_json(content: Any) -> None:
    """Print one JSON object on stdout."""
    sys.stdout.write(json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n")


def show_counts(sections: Iterable[tuple[str, Mapping[str, int | str]]]) -> None:
    """Print sections of counts, each under its title, as a table on stdout."""
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for title, counts in sections:
        table.add_section()
        if title:
            table.add_row(Text(title, style="bold"))
        for name, count in counts.items():
            table.add_row(Text(("  " if title else "") + name), str(count))
    stdout().print(table)


def shortened(counts: Mapping[str, int], *, elsewhere: str) -> dict[str, int]:
    """Give the first counts, and the sum of the others, which stand `elsewhere`."""
    shown = dict(list(counts.items())[:MOST_ROWS])
    rest = sum(counts.values()) - sum(shown.values())
    return {**shown, **({f"others, see {elsewhere}": rest} if rest else {})}


def bar() -> "Progress":
    """Give a bar on stderr with description, share, the field `facts` and the remaining time; no terminal, no bar."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    words, facts = TextColumn("{task.description}"), TextColumn("{task.fields[facts]}")
    screen = Console(stderr=True)
    columns = (words, BarColumn(), MofNCompleteColumn(), facts, TimeRemainingColumn())
    return Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal)


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar with rate and remaining time on stderr; yield the callback `(done, total)` that moves it."""
    with bar() as shown:
        task = shown.add_task(title, total=None, facts="")

        def move(done: int, total: int) -> None:
            speed = shown.tasks[0].speed
            shown.update(task, completed=done, total=total, facts=f"{speed:.1f}/s" if speed else "")

        yield move
