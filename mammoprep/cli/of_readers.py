"""The sub-commands of `mammoprep convert` that readers bring, each made from its reader; those of other packages too.

What `read` takes by keyword becomes an option; `Annotated[type, "help"]` says what may be given and what for.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperGroup

from mammoprep.cli import examples
from mammoprep.errors import MammoprepError, UnknownNameError

if TYPE_CHECKING:
    from mammoprep.records import Reader


class OfReaders(TyperGroup):
    """The sub-commands that are written out, and one for each other reader."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Name them all; a broken one stays out of the list, and says why when it is asked for."""
        from mammoprep.readers import READERS, load_plugin, plugins

        def loads(name: str) -> bool:
            with suppress(MammoprepError):
                return bool(load_plugin(found[name]))
            return False

        found = plugins()
        return [*READERS, *filter(loads, sorted(found))]

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        """Give a sub-command."""
        if written := super().get_command(ctx, cmd_name):
            return written
        single = typer.Typer(add_completion=False)
        single.command(cmd_name, epilog=examples.of(f"convert {cmd_name}"))(command_of(named(cmd_name)))
        return typer.main.get_command(single)


def named(name: str) -> "Reader":
    """Give the reader of a data set; another package is loaded only for one of its own."""
    from mammoprep.readers import READERS, load_plugin, plugins

    if name in READERS:
        return READERS[name]
    found = plugins()
    if name not in found:
        raise UnknownNameError(name, kind="data set", known=(*READERS, *found))
    return load_plugin(found[name])


def with_options(reader: "Reader", given: Sequence[str]) -> "Reader":
    """Give a reader that takes options said as `patient=REGEX`, or `normals` alone for one that is yes or no."""
    parameters = inspect.signature(reader.read).parameters.values()
    defaults = {
        each.name.replace("_", "-"): each.default
        for each in parameters
        if each.name not in ("labels", "key") and isinstance(each.default, str | bool | tuple)
    }
    values: dict[str, str | bool | tuple[str, ...]] = {}
    for text in given:
        option, equals, value = text.partition("=")
        if option not in defaults:
            raise UnknownNameError(option, kind=f"--option of {reader.name}", known=defaults)
        default, name = defaults[option], option.replace("-", "_")
        if isinstance(default, bool) == bool(equals):
            raise MammoprepError(f"--option {text}: say {option if equals else f'{option}=VALUE'}.")
        if isinstance(default, bool):
            values[name] = True
        else:
            before = values.get(name, ())
            values[name] = (*before, value) if isinstance(default, tuple) and isinstance(before, tuple) else value
    return replace(reader, read=partial(reader.read, **values)) if values else reader


def command_of(reader: "Reader") -> Callable[..., int]:
    """Give the command of a reader: its label schemes, where there is a choice, and what else its `read` takes."""
    from mammoprep.cli.convert import Common, Out, Raw, convert_with, with_common
    from mammoprep.readers import sheet

    default = next(iter(reader.labels))

    def command(*, raw: Any, out: Any, common: Any, labels: str = default, **own: Any) -> int:
        return convert_with(reader, raw, out=out, options=common.options(labels, own), common=common)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    shown = [inspect.Parameter(name, kind, annotation=hint) for name, hint in (("raw", Raw), ("out", Out))]
    if len(reader.labels) > 1:
        hint = Annotated[Literal[tuple(reader.labels)], typer.Option(help="Label scheme.")]  # type: ignore[valid-type]
        shown.append(inspect.Parameter("labels", kind, annotation=hint, default=default))
    shared = inspect.Parameter("common", inspect.Parameter.KEYWORD_ONLY, annotation=Common)
    command.__signature__ = inspect.Signature([*shown, *_own(reader), shared])  # type: ignore[attr-defined]
    command.__doc__ = sheet(reader).partition("\n")[0] or f"{reader.title}: read by another package."
    return with_common(command)


def _own(reader: "Reader") -> Iterator[inspect.Parameter]:
    """Yield what a reader alone takes, as options."""
    hints = get_type_hints(reader.read, include_extras=True)
    for name, each in inspect.signature(reader.read).parameters.items():
        if name in ("root", "labels") or not isinstance(each.default, str | bool):
            continue
        hint, text = hints.get(name), f"Of the reader {reader.name}."
        if get_origin(hint) is Annotated:
            hint, text = get_args(hint)[:2]
        option = typer.Option(f"--{name.replace('_', '-')}", help=text, show_default=each.default not in ("", False))
        yield each.replace(kind=each.POSITIONAL_OR_KEYWORD, annotation=Annotated[hint or type(each.default), option])
