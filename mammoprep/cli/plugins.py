"""Sub-commands of `mammoprep convert` for the readers that other packages bring by entry points."""

import inspect
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from mammoprep.errors import MammoprepError

if TYPE_CHECKING:
    from mammoprep.records import Reader


class WithPlugins(TyperGroup):
    """The sub-commands of convert, and one for each reader that another package brings by an entry point."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Name them all; a broken one stays out of the list, and says why when it is asked for."""
        from mammoprep.readers import load_plugin, plugins

        def loads(name: str) -> bool:
            with suppress(MammoprepError):
                return bool(load_plugin(found[name]))
            return False

        found = plugins()
        return [*super().list_commands(ctx), *filter(loads, sorted(found))]

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        """Give a sub-command; another package is loaded only for one of its own."""
        from mammoprep.readers import load_plugin, plugins

        command = super().get_command(ctx, cmd_name)
        if command is None and cmd_name in (found := plugins()):
            single = typer.Typer()
            single.command(cmd_name)(_command(load_plugin(found[cmd_name])))
            command = typer.main.get_command(single)
        return command


def _command(reader: "Reader") -> Callable[..., int]:
    """Give the command of a reader of another package: its label schemes, and what else its `read` takes by keyword."""
    from mammoprep.cli.convert import Common, Out, Raw, _convert_with, _with_common

    def command(*, raw: Path, out: Path, labels: str, common: Any, **own: Any) -> int:
        return _convert_with(reader, raw, out=out, options=common.options(labels, own), common=common)

    schemes = Literal[tuple(reader.labels)]  # type: ignore[valid-type]
    words: list[tuple[str, Any, Any]] = [(name, hint, ...) for name, hint in (("raw", Raw), ("out", Out))]
    words.append(("labels", Annotated[schemes, typer.Option(help="Label scheme.")], next(iter(reader.labels))))
    for name, each in inspect.signature(reader.read).parameters.items():
        if name not in ("root", "labels") and isinstance(each.default, str | bool):
            option = typer.Option(f"--{name.replace('_', '-')}", help=f"Of the reader {reader.name}.")
            words.append((name, Annotated[type(each.default), option], each.default))
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    shown = [inspect.Parameter(name, kind, annotation=hint, default=default) for name, hint, default in words]
    shared = inspect.Parameter("common", inspect.Parameter.KEYWORD_ONLY, annotation=Common)
    command.__signature__ = inspect.Signature([*shown, shared])  # type: ignore[attr-defined]
    command.__doc__ = f"{reader.title}: read by another package."
    return _with_common(command)
