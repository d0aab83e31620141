"""Kill convert, predict, train and evaluate again and again; what --resume makes of it must be a run left alone's.

A kill falls on a moment at which the process touches a file (each open, rename, deletion … that Python's audit hooks
see), on the middle of a file or of a journal's line, or on any moment of the time that a whole run takes. After each,
OUT must be absent, unfinished by what `mammoprep check` says, what it was before, or whole; in the end whole. Type:
python examples/benchmarks/kill.py [convert predict train evaluate] [--kills 100] [--seed 0]
"""

import argparse
import os
import random
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # a process that has threads cannot be forked

import joblib  # noqa: F401 E402  what a command imports is imported once, and forked
import torch  # noqa: E402

import mammoprep.convert  # noqa: F401 E402
import mammoprep_model.trainer  # noqa: F401 E402
from mammoprep import panoptic, phantom  # noqa: E402
from mammoprep.check import hashes  # noqa: E402
from mammoprep.cli import main as command_line  # noqa: E402
from mammoprep.evaluation import runs  # noqa: F401 E402

MOST_IN_A_ROW = 4
"""Kills, at most, before a run is left to end."""
TIMED = 0.2
"""Share of the kills that fall on any moment of time."""
TOUCHING = {
    *("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.scandir", "os.listdir"),
    *("shutil.rmtree", "fcntl.flock"),
}
"""Audit events."""
TRAINING = {
    **{"steps": 6, "checkpoint_every": 2, "validate_every": 3, "batch_size": 2},
    **{"size": 64, "crop": 64, "cpu_threads": 1},
}


class WrongError(Exception):
    """A kill did what it must not."""


@dataclass(frozen=True)
class Command:
    """A command line into `out`; `other` are options that give another result, to be replaced by `replace`."""

    arguments: Sequence[str]
    out: Path
    other: Sequence[str]
    replace: Sequence[str] = ("--overwrite",)

    @property
    def name(self) -> str:
        """Give the sub-command."""
        return self.arguments[0]

    def is_begun(self, whole: Mapping[str, bytes]) -> bool:
        """Tell whether there is something to resume, or all of it: a kill may come when only tidying up is left."""
        found = contents(self.out)
        if self.name == "train":
            return found.get("run.json") == whole["run.json"]
        return (panoptic.lock_of if self.name == "evaluate" else panoptic.partial_of)(self.out).exists() or (
            self.name != "evaluate" and found == whole
        )

    def look(self, *, whole: Mapping[str, bytes], old: Mapping[str, bytes]) -> str:
        """Say what a kill left."""
        found = contents(self.out)
        if hashes.unfinished(self.out) or (self.name == "evaluate" and found and "scores.json" not in found):
            if self.name in ("convert", "predict") and found not in ({}, old):
                raise WrongError(f"{self.out} is neither what it was nor absent, and its .partial lies beside it")
            return "unfinished"
        states = {"absent": {}, "whole": whole, "as before": old}
        state = next((state for state, content in states.items() if content == found), None)
        if state is None:
            raise WrongError(f"{self.out} looks finished, and is not what a run left alone gives")
        return state


def contents(out: Path) -> dict[str, bytes]:
    """Read the files of a folder, without what is measured in seconds and torch's own state.pt."""
    found = {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and path.suffix != ".pt" and "tensorboard" not in path.parts
    }
    if "log.csv" in found:  # images/s and memory come last
        found["log.csv"] = b"\n".join(b",".join(row.split(b",")[:-2]) for row in found["log.csv"].splitlines())
    return found


class Moments:
    """Counts the moments at which this process touches a file below `home`, and ends it at the one numbered `last`."""

    def __init__(self, home: Path, *, last: int = 0) -> None:
        """Begin to count."""
        self.home, self.last, self.count = str(home), last, 0
        sys.addaudithook(self._hear)
        writing, appending = Path.write_bytes, panoptic.Journal.append

        def write_bytes(path: Path, content: Any) -> int:
            if str(path).startswith(self.home) and self._is_last():
                writing(path, content[: len(content) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return writing(path, content)

        def append(journal: Any, entry: Any) -> None:
            if self._is_last():
                journal._file.write(b'0123abcd {"image": 1')
                journal._file.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            appending(journal, entry)

        Path.write_bytes, panoptic.Journal.append = write_bytes, append  # type: ignore[method-assign, assignment]

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if (
            event in TOUCHING
            and (event == "fcntl.flock" or str(arguments[0]).startswith(self.home))
            and self._is_last()
        ):
            os.kill(os.getpid(), signal.SIGKILL)

    def _is_last(self) -> bool:
        self.count += 1
        return self.count == self.last


def run(arguments: Sequence[str], *, home: Path, last: int = 0, seconds: float = 0.0) -> tuple[int, str]:
    """Run a command line in a process of its own, until the moment or the seconds given; give exit code and output."""
    child = os.fork()
    if not child:
        _run_here(arguments, home=home, last=last)
    if seconds:
        sleep(seconds)
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, (home / "said").read_text()


def _run_here(arguments: Sequence[str], *, home: Path, last: int) -> None:
    code = 1
    try:
        with (home / "said").open("w") as file:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
        torch.set_num_threads(1)
        moments = Moments(home / "out", last=last)
        try:
            command_line(arguments)
        except SystemExit as ended:
            code = int(str(ended.code or 0))
        (home / "count").write_text(str(moments.count))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def must(arguments: Sequence[str], *, home: Path) -> None:
    """Run a command line that has to end well."""
    code, said = run(arguments, home=home)
    if code:
        raise WrongError(f"exit code {code}: {' '.join(arguments)}\n{said}")


def commands(home: Path, chosen: Sequence[str]) -> list[Command]:
    """Make what the commands take, as few images as have a lesion in every fold; give those chosen."""
    raw, dataset, trained, predicted = home / "raw", home / "dataset", home / "run", home / "predictions"
    drawing = os.fork()  # which starts threads
    if not drawing:
        phantom.write(raw, patients=6, long_side=160)
        os._exit(0)
    os.waitpid(drawing, 0)
    convert = ("convert", "vindr", str(raw))
    sizes = ("--long-side", "96", "--workers", "1")
    must([*convert, str(dataset), *sizes], home=home)
    must(["folds", str(dataset), "-k", "2"], home=home)
    settings = [f"--set=train.{key}={value}" for key, value in TRAINING.items()]
    train = ("train", str(dataset), "--model", "tiny", "--device", "cpu", *settings)
    must([*train, "--out", str(trained)], home=home)
    predict = ("predict", str(trained), str(dataset))
    must([*predict, str(predicted), "--device", "cpu"], home=home)
    evaluate = ("evaluate", str(dataset), str(predicted))
    out = home / "out"
    found = [
        Command((*convert, str(out / "convert"), *sizes), out / "convert", ("--bits", "16")),
        Command((*predict, str(out / "predict"), "--device", "cpu"), out / "predict", ("--flip",)),
        Command((*train, "--out", str(out / "train")), out / "train", ("--seed", "1")),
        Command((*evaluate, "--out", str(out / "evaluate")), out / "evaluate", ("--resamples", "9"), replace=()),
    ]
    return [command for command in found if command.name in chosen]


def torture(command: Command, *, kills: int, home: Path, chance: random.Random) -> Counter[str]:
    """Kill a command so many times; give how often it was left how, and how often it ended in a row of kills."""
    shutil.rmtree(home / "out", ignore_errors=True)
    must([*command.arguments, *command.other], home=home)
    old = home / "old"
    shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(command.out, old)
    begun = perf_counter()
    must([*command.arguments, *command.replace], home=home)
    seconds, moments = perf_counter() - begun, int((home / "count").read_text())
    whole, before = contents(command.out), contents(old)
    seen: Counter[str] = Counter(moments=moments)
    order = cycle(chance.sample(range(1, moments + 1), moments))
    while seen["kills"] < kills:
        shutil.rmtree(home / "out")
        (home / "out").mkdir()
        replaces = chance.random() < 0.5
        if replaces:
            shutil.copytree(old, command.out)
        first = command.replace if replaces else ()
        for place in range(chance.randint(1, MOST_IN_A_ROW) + 1)[::-1]:
            arguments = [*command.arguments, *(["--resume"] if command.is_begun(whole) else first)]
            until: dict[str, Any] = {} if place == 0 else {"last": next(order)}
            if until and chance.random() < TIMED:
                until = {"seconds": chance.uniform(0.01, seconds)}
            code, said = run(arguments, home=home, **until)
            if code == 0:
                break
            if code != -signal.SIGKILL:
                raise WrongError(f"exit code {code}: {' '.join(arguments)}\n{said}")
            seen["kills"] += 1
            seen[command.look(whole=whole, old=before if replaces else {})] += 1
        _check_end(command, whole)
        seen["runs"] += 1
    return seen


def _check_end(command: Command, whole: Mapping[str, bytes]) -> None:
    """Refuse a result that is not that of a run left alone, and anything left beside it."""
    found = contents(command.out)
    wrong = sorted(name for name in found.keys() | whole.keys() if found.get(name) != whole.get(name))
    if wrong:
        raise WrongError(f"{command.name}: {', '.join(wrong)} differ from a run left alone")
    beside = [path.name for path in command.out.parent.iterdir() if path != command.out]
    if beside:
        raise WrongError(f"{command.name}: {', '.join(beside)} left behind")


def main() -> int:
    """Print a line a command; exit with 1 where a kill did what it must not."""
    names = ("convert", "predict", "train", "evaluate")
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("commands", nargs="*", default=names, metavar="command", help=", ".join(names))
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    try:
        with TemporaryDirectory() as folder:
            for command in commands(Path(folder), given.commands):
                chance = random.Random(f"{given.seed} {command.name}")
                seen = torture(command, kills=given.kills, home=Path(folder), chance=chance)
                left = ", ".join(f"{seen[state]} {state}" for state in ("absent", "as before", "unfinished", "whole"))
                print(
                    f"{command.name}: {seen['moments']} moments, {seen['kills']} kills left {left}; {seen['runs']} runs"
                    " ended in the bytes of a run left alone",
                    flush=True,
                )
    except WrongError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
