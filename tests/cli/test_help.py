"""Help is quick and complete: nothing heavy is imported, each command lists its options, a typo gets a hint."""

import shlex
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from mammoprep import __version__
from mammoprep.cli import app

HEAVY = ("torch", "cv2", "pandas", "numpy", "scipy", "skimage", "sklearn", "matplotlib", "pydicom", "pycocotools")


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=60)


def commands(group, before=()) -> dict[tuple[str, ...], list[str]]:
    """Every command with its options as they are typed; sub-commands stand after their group's name."""
    found = {}
    context = group.context_class(group)
    for name in group.list_commands(context):  # readers bring commands of their own
        command = group.get_command(context, name)
        if hasattr(command, "commands"):
            found |= commands(command, (*before, name))
        else:
            found[*before, name] = [option for each in command.params for option in each.opts if option[0] == "-"]
    return found


COMMANDS = commands(typer.main.get_command(app))


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from mammoprep.cli import main\n"
        "try: main(['--help'])\n"
        f"finally: print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = python("-c", code)
    assert done.returncode == 0
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_of_a_command_lists_each_option(command):
    result = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exit_code == 0
    assert "--json" in COMMANDS[command]
    assert [option for option in COMMANDS[command] if option not in result.output] == []


@pytest.mark.parametrize("command", [("convert",), *COMMANDS], ids=" ".join)
def test_help_of_a_command_ends_with_examples_that_parse(command, parse):
    result = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    _, mark, below = result.output.rpartition("Example")
    assert mark
    lines = [line.strip() for line in below.splitlines()[1:] if line.strip()]
    assert lines
    for line in lines:
        program, *typed = shlex.split(line)
        assert (program, tuple(typed[: len(command)])) == ("mammoprep", command)
        parse(typed)


def test_an_option_that_does_not_exist_would_not_parse(parse):
    with pytest.raises(typer.TyperException, match="--fould"):
        parse(["export", "DATASET", "OUT", "--to", "yolo", "--fould", "0"])


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["exp"], ["export"]),
        (["convert", "mini"], ["mini-mias"]),
        (["export", "DATASET", "OUT", "--to", "c"], ["coco", "cvat"]),
        (["train", "DATASET", "--mo"], ["--model"]),
    ],
)
def test_the_shell_completes_commands_options_and_choices(monkeypatch, typed, offered):
    monkeypatch.setenv("_MAMMOPREP_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", shlex.join(["mammoprep", *typed]))
    monkeypatch.setenv("COMP_CWORD", str(len(typed)))
    done = python("-c", "import sys; sys.argv = ['mammoprep']; from mammoprep.cli import main; main()")
    assert (done.stderr, done.stdout.split()) == ("", offered)


def test_help_lists_every_command():
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    assert [name for name, *_ in COMMANDS if f" {name} " not in result.output] == []


def test_module_runs_as_the_script_does():
    done = python("-m", "mammoprep", "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"mammoprep {__version__}\n", "")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["evalute"], "evaluate"),
        (["convert", "vinder"], "vindr"),
        (["folds", "data", "--sead", "1"], "--seed"),
        (["convert", "vindr", "raw", "out", "--labels", "birds"], "birads"),
    ],
)
def test_typo_gets_the_nearest_name_in_one_line(typed, meant):
    done = python("-m", "mammoprep", *typed)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("mammoprep: ")
    assert done.stderr.count("\n") == 1
    assert meant in done.stderr


@pytest.mark.parametrize("typed", [[], ["convert"]])
def test_without_a_sub_command_the_help_is_all(typed):
    done = python("-m", "mammoprep", *typed)
    assert (done.returncode, done.stderr) == (2, "")
    assert "Commands" in done.stdout
