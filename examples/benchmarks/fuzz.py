"""Feed poisoned files to the command line, and see that it takes none for good, stops, dies or eats memory.

Raw folders of every reader, and DATASET and PREDICTIONS folders, are drawn; each run damages one or more of their files
by chance and calls a command as a user does, in a worker process. A run fails where the worker dies, or takes more
seconds or memory than the limits; where anything but exit code 0, 1 or 2 comes back, or 2 with more or less than one
line; where something is left behind that looks finished; where a damaged image is neither converted nor listed in
skipped.csv; where an image beside it is not converted to the same bytes; and where the DATASET breaks a rule.

Type: python examples/benchmarks/fuzz.py [--files 10000] [--seed 0] [--workers 2] [--only SCENE] [--run N]
"""

import argparse
import csv
import io
import os
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random

from fuzz_scenes import SCENES, Scene

from mammoprep import cli
from mammoprep.check import check
from mammoprep.errors import MammoprepError
from mammoprep.phantom.poison import kind_of, poison

SECONDS, HANGS = 5.0, 120.0
"""Processor time that a run may take; seconds after which a worker that says nothing is stopped."""
MEMORY = 2**30
"""Bytes that a worker may have in memory at a time."""
ALLOWED = ("tiny-lesion", "blank-image", "identical-images", "near-duplicates")
"""Rules of `check` about what images show, not about files: a damaged table can name one image twice."""
TAKEN_OVER = ("coordinates", "cases-values", "source", "patient")
"""Rules that a DATASET converted again breaks where its own cases.csv broke them, whose cells are taken over."""
LIBRARIES = re.compile(r"(PNG warning: |TIFF\w+: |\w+(Decode|Pre|Setup\w+): |\w*JPEG\w*: )")
"""What libpng and libtiff print by themselves of a damaged file; it is counted, and no other line may be."""


@dataclass
class Result:
    """What came of a run: what was done to which files, exit code, what is wrong, seconds, peak bytes, stderr."""

    number: int
    scene: str
    command: str = ""
    damage: list[tuple[str, str]] = field(default_factory=list)
    code: int | None = None
    wrong: str = ""
    seconds: float = 0.0
    peak: int = 0
    said: str = ""


def run(number: int, seed: int, homes: dict[str, Path], only: str) -> Result:
    """Damage files of a copy of a scene and call a command on it."""
    rng = Random(f"{seed} {number}")
    scene = rng.choice([scene for scene in SCENES if only in ("", scene.name)])
    made = Result(number, scene.name, rng.choice(scene.commands))
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "run"
        shutil.copytree(homes[scene.name], place, copy_function=os.link)
        for path in _victims(scene, place, rng):
            how, damaged = poison(path.read_bytes(), kind_of(path.name), rng=rng)
            path.unlink()  # the link, not the file drawn once
            path.write_bytes(damaged)
            made.damage.append((path.relative_to(place).as_posix(), how))
        made.command = made.command.format(out=place / "out", **{path.name: path for path in place.iterdir()})
        _measure_call(made)
        made.wrong = made.wrong or _judge(made, place, homes[scene.name])
        made.command = made.command.replace(name, "")
        made.said = made.said.replace(name, "")
    return made


def _victims(scene: Scene, place: Path, rng: Random) -> list[Path]:
    chosen: dict[Path, None] = {}
    for _ in range(scene.at_once):
        found = sorted(path for path in place.glob(rng.choice(scene.victims)) if path.is_file())
        chosen[rng.choice(found)] = None
    return list(chosen)


def _measure_call(made: Result) -> None:
    """Call the command line; take its exit code and what it says on stderr, its processor time and peak memory."""
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back (proc(5))
    start = time.process_time()
    with _printed() as texts:
        try:
            cli.main(made.command.split())
        except SystemExit as done:
            made.code = done.code if isinstance(done.code, int) else 0
        except BaseException:
            made.wrong = "traceback: " + " | ".join(traceback.format_exc().splitlines()[-7:])
    made.said = texts[0]
    made.seconds = time.process_time() - start
    status = Path("/proc/self/status").read_text()
    made.peak = 1024 * int(status.partition("VmHWM:")[2].split()[0])


@contextmanager
def _printed() -> Iterator[list[str]]:
    """Catch what Python and C libraries print on stdout and stderr; the text is there once the block has ended."""
    texts: list[str] = []
    kept = [os.dup(number) for number in (1, 2)]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        try:
            yield texts
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, own in zip((1, 2), kept, strict=True):
                os.dup2(own, number)
                os.close(own)
            err.seek(0)
            texts.append(err.read().decode("utf-8", "replace"))


def _judge(made: Result, place: Path, home: Path) -> str:
    """Say what is wrong with a run, nothing where it did what it should."""
    out, lines = place / "out", [line for line in made.said.splitlines() if not LIBRARIES.match(line)]
    if made.code not in (0, 1, 2):
        return f"exit code {made.code}"
    if made.seconds > SECONDS:
        return f"{made.seconds:.1f} s"
    if made.peak > MEMORY:
        return f"{made.peak / 2**20:.0f} MiB"
    if made.code == 2:
        left = [path.name for path in place.iterdir() if path.name.startswith("out")]
        one = len(lines) == 1 and lines[0].startswith("mammoprep: ")
        return "" if one and not left else f"exit 2, {len(lines)} lines, left {left}"
    if any(word in line for line in lines for word in ("Traceback", "Warning", "warning", "rror")):
        return "stderr is not clean"
    return _judge_dataset(out, made, place, home) if "{out}" in made.command or out.exists() else ""


def _judge_dataset(out: Path, made: Result, place: Path, home: Path) -> str:
    """Hold what was converted against the rules, the damaged files and what was drawn."""
    allowed = (*ALLOWED, *(TAKEN_OVER if made.scene == "coco reader" else ()))
    if broken := [problem for problem in check(out).problems if problem.rule not in allowed]:
        return f"{broken[0].rule}: {broken[0].where}: {broken[0].what}"
    rows = list(csv.DictReader(io.StringIO((out / "cases.csv").read_text())))
    listed = {row["source"]: row["image_id"] for row in rows}
    skipped = {row["source"] for row in csv.DictReader(io.StringIO((out / "skipped.csv").read_text()))}
    root = "dataset" if "convert coco" in made.command else "raw"
    damaged = {path.removeprefix(f"{root}/") for path, _ in made.damage}
    if made.scene == "pictures" and (lost := damaged - listed.keys() - skipped):
        return f"neither converted nor listed: {sorted(lost)}"
    if made.scene == "pictures" and (lost := _names(place / root) - damaged - listed.keys()):
        return f"whole, but not converted: {sorted(lost)}"
    whole = {row["source"]: row["image_id"] for row in csv.DictReader((home / "whole" / "cases.csv").open())}
    for source, image_id in listed.items():
        if source in whole and source not in damaged and image_id not in {Path(path).stem for path in damaged}:
            mine, theirs = (f / "images" / f"{i}.png" for f, i in ((out, image_id), (home / "whole", whole[source])))
            if mine.read_bytes() != theirs.read_bytes():
                return f"{source} is whole, but not converted to the same bytes"
    return ""


def _names(root: Path) -> set[str]:
    return {path.name for path in root.iterdir() if path.suffix != ".csv"}


# --- many of them -------------------------------------------------------------------------------------------------


def draw(home: Path, only: str) -> dict[str, Path]:
    """Draw the scenes, and convert each that is converted as it is: what whole images become."""
    homes: dict[str, Path] = {}
    for scene in SCENES:
        if only not in ("", scene.name):
            continue
        homes[scene.name] = place = home / scene.name.replace(" ", "-")
        place.mkdir()
        with _printed():
            scene.draw(place)
            if "{out}" in scene.commands[-1]:
                places = {path.name: path for path in place.iterdir()}
                try:
                    cli.main(scene.commands[-1].format(out=place / "whole", **places).split())
                except SystemExit as done:
                    if done.code == 2:
                        raise MammoprepError(f"The scene {scene.name} cannot be converted as it is drawn.") from None
    return homes


def work(pipe: Connection, seed: int, homes: dict[str, Path], only: str) -> None:
    """Run what the parent asks for, until it asks for nothing."""
    while (number := pipe.recv()) is not None:
        pipe.send(run(number, seed, homes, only))


class Worker:
    """A worker process and the run that it is at."""

    def __init__(self, *shared: object) -> None:
        self._shared = shared
        self.number: int | None = None
        self.since = 0.0
        self.pipe, self.process = self._start()

    def _start(self) -> tuple[Connection, BaseProcess]:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, *self._shared), daemon=True)
        process.start()
        theirs.close()
        return ours, process

    def ask(self, number: int | None) -> None:
        """Ask for a run; None ends the worker."""
        self.number, self.since = number, time.monotonic()
        self.pipe.send(number)

    def answer(self) -> Result | None:
        """Give the result, None while there is none; a worker that died or hangs is told of and replaced."""
        try:
            if self.pipe.poll():
                found: Result = self.pipe.recv()
                return found
        except (EOFError, ConnectionResetError):
            self.process.join()
            return self._replaced(f"the worker died: exit code {self.process.exitcode}")
        if time.monotonic() - self.since > HANGS:
            self.process.kill()
            return self._replaced(f"nothing came back in {HANGS:.0f} s")
        return None

    def _replaced(self, wrong: str) -> Result:
        self.pipe.close()
        self.pipe, self.process = self._start()
        return Result(self.number or 0, "?", wrong=wrong)


def run_all(files: int, *, seed: int, workers: int, homes: dict[str, Path], only: str) -> Iterator[Result]:
    """Yield the result of each run until so many files were damaged."""
    team = [Worker(seed, homes, only) for _ in range(workers)]
    following, damaged, busy = 0, 0, 0
    for worker in team:
        worker.ask(following)
        following, busy = following + 1, busy + 1
    while busy:
        wait([worker.pipe for worker in team if worker.number is not None], timeout=1)
        for worker in team:
            result = worker.answer() if worker.number is not None else None
            if result is None:
                continue
            damaged += max(1, len(result.damage))
            yield result
            if damaged < files:
                worker.ask(following)
                following += 1
            else:
                worker.ask(None)
                busy -= 1


class Sums:
    """What has come of the runs so far."""

    def __init__(self) -> None:
        self.codes, self.ways = Counter[str](), Counter[str]()
        self.failed = self.lines = 0
        self.slowest = self.largest = Result(0, "")

    def add(self, result: Result) -> None:
        """Add a run, and print it where it failed."""
        self.codes[str(result.code)] += 1
        self.ways.update(how for _, how in result.damage)
        self.failed += bool(result.wrong)
        self.lines += sum(bool(LIBRARIES.match(line)) for line in result.said.splitlines())
        self.slowest = max(self.slowest, result, key=lambda each: each.seconds)
        self.largest = max(self.largest, result, key=lambda each: each.peak)
        if result.wrong:
            print(f"run {result.number}, {result.scene}: {result.wrong}\n    {result.command} {result.damage}")
            print(f"    {result.said[-600:]}", flush=True)

    def __str__(self) -> str:
        files, runs = self.ways.total(), self.codes.total()
        codes = ", ".join(f"{code}: {count}" for code, count in sorted(self.codes.items()))
        return (
            f"{files} files damaged in {len(self.ways)} ways, {runs} runs: {self.failed} failed\n"
            f"exit codes {codes}; {self.lines} lines of libpng and libtiff\n"
            f"at most {self.slowest.seconds:.1f} s of processor time ({self.slowest.scene}), "
            f"{self.largest.peak / 2**20:.0f} MiB ({self.largest.scene})"
        )


def main() -> int:
    """Run what is asked for and print what came of it, after Ctrl-C too; 1 where a run failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", type=int, default=10_000, help="damaged files, after which no run begins")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="", choices=["", *(scene.name for scene in SCENES)], help="one scene")
    parser.add_argument("--run", type=int, help="this run alone, here, with all that it says")
    asked = parser.parse_args()
    sums = Sums()
    with tempfile.TemporaryDirectory() as name:
        homes = draw(Path(name), asked.only)
        if asked.run is not None:
            print(run(asked.run, asked.seed, homes, asked.only))
            return 0
        with suppress(KeyboardInterrupt):
            for result in run_all(asked.files, seed=asked.seed, workers=asked.workers, homes=homes, only=asked.only):
                sums.add(result)
    print(sums)
    return 1 if sums.failed else 0


if __name__ == "__main__":
    sys.exit(main())
