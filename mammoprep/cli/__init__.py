"""The command line: one file a command; each declares options, calls one function and prints its result."""

import errno
import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Annotated

import typer
from typer import TyperException

from mammoprep import __version__
from mammoprep.cli import (
    analyse_diffusion,
    benchmark,
    check,
    compare,
    console,
    convert,
    demo,
    doctor,
    evaluate,
    examples,
    export,
    folds,
    gallery,
    inspect,
    models,
    predict,
    pretrain,
    readers,
    train,
    weights,
)
from mammoprep.errors import MammoprepError

app = typer.Typer(
    name="mammoprep",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_BROKEN = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENODEV),
    *(errno.ENXIO, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH),
}
"""Errors of disks and network shares, which are no bugs."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mammoprep {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """From a raw mammography collection to a trained segmenter and scores that hold."""


app.add_typer(convert.app, name="convert", epilog=examples.of("convert"))
app.command()(readers.readers)
app.command()(inspect.inspect)
app.command()(check.check)
app.command()(folds.folds)
app.command()(gallery.gallery)
app.command()(models.models)
app.command()(weights.weights)
app.command()(pretrain.pretrain)
app.command()(train.train)
app.command()(predict.predict)
app.command()(evaluate.evaluate)
app.command()(compare.compare)
app.command()(benchmark.benchmark)
app.command()(export.export)
app.command("analyse-diffusion")(analyse_diffusion.analyse_diffusion)
app.command()(demo.demo)
app.command()(doctor.doctor)
examples.give(app.registered_commands)


def _with_nearest(text: str) -> str:
    """Name the choice nearest to a value that is none of an option's choices."""
    text = text.replace("Value error, ", "")
    wrong = re.search(r"'([^']*)' is not one of (.*)", text)
    near = get_close_matches(wrong[1], re.findall(r"'([^']*)'", wrong[2]), n=1, cutoff=0.5) if wrong else ()
    return f"{text} Did you mean {near[0]!r}?" if near else text


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 problems found, 2 wrong input or options (one line on stderr)."""
    try:
        code = app(list(arguments) if arguments is not None else None, standalone_mode=False)
    except (MammoprepError, TyperException) as error:
        text = _with_nearest(error.format_message()) if isinstance(error, TyperException) else str(error)
        if text and not console.is_one_of_many():  # without a sub-command the help was all there is to say
            sys.stderr.write("mammoprep: " + " ".join(text.split()) + "\n")
        sys.exit(2)
    except OSError as error:
        if error.errno not in _BROKEN:
            raise
        what = f"a file could not be read or written: {error.strerror}"  # whose name may be a patient's
        sys.stderr.write(f"mammoprep: {what}. Mend that, then go on with --resume where there is one.\n")
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        if not console.is_one_of_many():
            sys.stderr.write("mammoprep: stopped.\n")
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)
