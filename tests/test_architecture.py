"""The house rules, read from the source by AST: who may import whom, who may print, how long a file may be."""

import ast
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("mammoprep", "mammoprep_model")

FLOORS = (
    ("errors", "records", "strict_json"),
    (
        "exports",
        "pixels",
        "outlines",
        "pseudo_mask",
        "anatomy",
        "panoptic",
        "tables",
        "parallel",
        "shelf",
        "pseudonyms",
    ),
    ("readers", "convert", "folds", "check", "inventory", "gallery", "evaluation", "phantom", "targets"),
    ("cli",),
)
EVALUATION = ("matching", "tally", "scores", "statistics", "figures")
"""Each may import what stands before it; further modules there are held by the rule against cycles."""
FOR_THE_MODEL = (
    "mammoprep",
    *(f"mammoprep.{room}" for room in ("errors", "panoptic", "parallel", "shelf", "evaluation")),
)
MODEL = ("config", "", "network", "checkpoint", "trainer")
"""The order inside mammoprep_model: values, parts, each family's network, …; "" is all that is not named here."""
BESIDE_TRAINER = (
    *("predictions", "inference", "cluster", "validation", "plan", "state", "descent", "side_by_side"),
    *("cost", "transfer", "benchmark", "analysis", "analysis_figures"),
    *("pretrain.loop", "pretrain.run"),
)
SAME_PLACE = {"segmenter": "config", "zoo": "config", **dict.fromkeys(BESIDE_TRAINER, "trainer")}
NO_FAMILIES = ("mammoprep_model.pretrain",)
"""Folders without a network: their modules may import one another."""
MODEL_LIBRARIES = {"torch", "diffusers", "transformers", "safetensors"}
LIGHT = {"typer", "rich", "mammoprep", "mammoprep.cli", "mammoprep.errors", "mammoprep.records"}
"""What a file of the command line may import when it is loaded, beside the standard library."""
NAMELESS = {"utils", "util", "helpers", "common", "misc"}
MOST_LINES, MOST_FUNCTION_LINES = 400, 60
TOP_LEVEL = {
    ".ci",
    ".gitignore",
    ".pre-commit-config.yaml",
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "constraints.txt",
    "docs",
    "examples",
    "mammoprep",
    "mammoprep_model",
    "pyproject.toml",
    "tests",
}


@dataclass(frozen=True)
class Import:
    """One imported module; `inside` says that a function's body imports it, `typing` that only type checkers do."""

    target: str
    line: int
    inside: bool
    typing: bool


@dataclass(frozen=True)
class Module:
    name: str
    path: Path
    text: str
    tree: ast.Module
    imports: tuple[Import, ...]

    @property
    def package(self) -> str:
        return self.name.split(".")[0]

    @property
    def room(self) -> str:
        return room_of(self.name)


def room_of(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def modules(root: Path) -> list[Module]:
    """Read every module of both packages below `root`."""
    paths = [path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))]
    names = {path: dotted(path.relative_to(root)) for path in paths}
    found = []
    for path in paths:
        text = path.read_text(encoding="utf-8")
        tree = parse(text)
        found.append(Module(names[path], path.relative_to(root), text, tree, tuple(imports(tree, set(names.values())))))
    return found


@cache
def parse(text: str) -> ast.Module:
    return ast.parse(text)


def dotted(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imports(tree: ast.Module, known: set[str]) -> Iterator[Import]:
    """Yield what is imported where; `from package import module` counts as an import of the module."""
    for node, inside, typing in walk(tree, inside=False, typing=False):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, inside, typing)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield Import(full if full in known else base, node.lineno, inside, typing)


def walk(node: ast.AST, *, inside: bool, typing: bool) -> Iterator[tuple[ast.stmt, bool, bool]]:
    """Yield every statement below `node`, and whether a function or a type checker's branch holds it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield child, inside, typing
        if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            is_typing = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
            yield from walk(child, inside=inside or is_function, typing=typing or is_typing)


def relative_imports(module: Module) -> Iterator[tuple[int, str]]:
    for each in module.imports:
        if each.target.startswith("."):
            yield each.line, "imports are absolute"


def downwards(module: Module) -> Iterator[tuple[int, str]]:
    """Inside mammoprep: a room imports from lower floors and from itself."""
    if module.package != "mammoprep" or module.room in ("", "__main__"):
        return
    floor = floor_of(module.room)
    if floor is None:
        yield 1, f"the room {module.room!r} stands on no floor: give it one in architecture.md and in FLOORS"
        return
    for each in module.imports:
        if not each.target.startswith("mammoprep.") or room_of(each.target) == module.room:
            continue
        below = floor_of(room_of(each.target))
        if below is None or below >= floor:
            way = "sideways" if below == floor else "upwards"
            yield each.line, f"{module.room} (floor {floor}) imports {each.target} {way}; imports go downwards only"


def floor_of(room: str) -> int | None:
    return next((floor for floor, rooms in enumerate(FLOORS) if room in rooms), None)


def inside_evaluation(module: Module) -> Iterator[tuple[int, str]]:
    order = [f"mammoprep.evaluation.{name}" for name in EVALUATION]
    if module.name not in order:
        return
    for each in module.imports:
        if each.target in order[order.index(module.name) :]:
            yield each.line, f"{module.name} imports {each.target}; the order is {' → '.join(EVALUATION)}"


def readers_apart(module: Module) -> Iterator[tuple[int, str]]:
    if not module.name.startswith("mammoprep.readers."):
        return
    own = ".".join(module.name.split(".")[:3])  # a reader may be a package
    for each in module.imports:
        if each.target.startswith("mammoprep.readers") and not f"{each.target}.".startswith(f"{own}."):
            yield each.line, "a reader imports no other reader: what two share moves a floor down"


def model_stays_out(module: Module) -> Iterator[tuple[int, str]]:
    """Allow mammoprep_model in the bodies of cli alone, torch nowhere in mammoprep."""
    if module.package != "mammoprep":
        return
    for each in module.imports:
        top = each.target.split(".")[0]
        if top in MODEL_LIBRARIES:
            yield each.line, f"mammoprep imports {top}; only mammoprep_model may"
        if top == "mammoprep_model" and not (module.room == "cli" and (each.inside or each.typing)):
            yield each.line, "mammoprep_model is imported inside a function's body of cli and nowhere else in mammoprep"


def cli_loads_light(module: Module) -> Iterator[tuple[int, str]]:
    if module.package != "mammoprep" or module.room != "cli":
        return
    for each in module.imports:
        top = each.target.split(".")[0]
        light = each.target in LIGHT or top in LIGHT - {"mammoprep"} or each.target.startswith("mammoprep.cli.")
        if not (each.inside or each.typing or light or top in sys.stdlib_module_names):
            yield each.line, f"{each.target} is heavy: import it in the command's body"


def model_borders(module: Module) -> Iterator[tuple[int, str]]:
    if module.package != "mammoprep_model":
        return
    for each in module.imports:
        target = each.target
        if target.split(".")[0] == "mammoprep" and ".".join(target.split(".")[:2]) not in FOR_THE_MODEL:
            allowed = "errors, panoptic, parallel, shelf, evaluation"
            yield each.line, f"mammoprep_model imports {target}; of mammoprep it may use {allowed}"


def model_order(module: Module) -> Iterator[tuple[int, str]]:
    if module.package != "mammoprep_model":
        return
    for each in module.imports:
        if each.target.startswith("mammoprep_model.") and place_of(each.target) > place_of(module.name):
            yield (
                each.line,
                f"{module.name} imports {each.target}: config → parts → network → checkpoint → trainer, inference",
            )


def place_of(name: str) -> int:
    family, _, part = name.removeprefix("mammoprep_model.").rpartition(".")
    if family in ("", "mammoprep_model") or part in ("network", "config"):
        own = SAME_PLACE.get(part, part)
    else:
        own = SAME_PLACE.get(f"{family}.{part}", "")
    return MODEL.index(own if own in MODEL else "")


def family_parts_apart(module: Module) -> Iterator[tuple[int, str]]:
    """Of a family's folder, network wires the parts; a part may import the family's config alone."""
    family, _, own = module.name.rpartition(".")
    if family.count(".") != 1 or not family.startswith("mammoprep_model.") or own == "network":
        return
    if family in NO_FAMILIES:
        return
    for each in module.imports:
        if each.target.startswith(f"{family}.") and each.target != f"{family}.config":
            yield each.line, "the parts of a network never import one another: network wires them"


def quiet(module: Module) -> Iterator[tuple[int, str]]:
    """Only cli prints or exits."""
    if module.name.startswith("mammoprep.cli") or module.name.endswith("__main__"):
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Name):
            text = node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            text = f"{node.value.id}.{node.attr}"
        else:
            continue
        if text in ("print", "exit", "quit", "SystemExit", "sys.exit", "os._exit", "sys.stdout", "sys.stderr"):
            yield node.lineno, f"{text}: only cli prints or exits"


def short(module: Module) -> Iterator[tuple[int, str]]:
    lines = len(module.text.splitlines())
    if lines > MOST_LINES:
        yield lines, f"the file has {lines} lines; {MOST_LINES} is the end"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MOST_FUNCTION_LINES:
                yield node.lineno, f"{node.name} has {length} lines; {MOST_FUNCTION_LINES} is the end"


def named(module: Module) -> Iterator[tuple[int, str]]:
    if module.name.split(".")[-1] in NAMELESS:
        yield 1, "a thing without a home does not have its name yet: no utils"


UNPICKLERS = {"dill", "cloudpickle", "shelve", "marshal", "yaml", "tarfile"}
"""Modules that run, or unpack anywhere, what a file says."""
LOADERS = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
}
"""What may load a file, and what it must be told."""
FORBIDDEN = {"joblib.load", "extractall", "unpack_archive", "read_pickle"}

OWN_PICKLES = {"mammoprep.shelf"}
"""Reads what the same process wrote to a temporary file without a name, which no other can open."""


def unpickles_nothing(module: Module) -> Iterator[tuple[int, str]]:
    """Nothing that was not written here is unpickled, and no archive is unpacked."""
    for each in module.imports:
        if each.target.split(".")[0] in UNPICKLERS:
            yield each.line, f"{each.target} runs or unpacks what a file says"
    for node in ast.walk(module.tree):
        text = ast.unparse(node) if isinstance(node, ast.Attribute | ast.Name) else ""
        if text.startswith("pickle.") and text != "pickle.UnpicklingError" and module.name not in OWN_PICKLES:
            yield node.lineno, f"{text}: a pickle may hold any code"
        if text in FORBIDDEN or text.split(".")[-1] in FORBIDDEN:
            yield node.lineno, f"{text} runs or unpacks what a file says"
        if isinstance(node, ast.Call) and (name := ast.unparse(node.func)) in LOADERS:
            key, value = LOADERS[name]
            told = [word.value for word in node.keywords if word.arg == key]
            if not (told and isinstance(told[0], ast.Constant) and told[0].value is value):
                yield node.lineno, f"{name} without {key}={value} may unpickle"


RULES: tuple[Callable[[Module], Iterator[tuple[int, str]]], ...] = (
    relative_imports,
    downwards,
    inside_evaluation,
    readers_apart,
    model_stays_out,
    cli_loads_light,
    model_borders,
    model_order,
    family_parts_apart,
    quiet,
    short,
    named,
    unpickles_nothing,
)


def violations(root: Path, *, only: str = "") -> list[str]:
    """Give a line for each broken rule: file, line, rule what is wrong. `only` looks at one file and for circles."""
    found = modules(root)
    broken = [
        f"{module.path}:{line}: [{rule.__name__}] {text}"
        for module in found
        for rule in RULES
        if only in ("", str(module.path))
        for line, text in rule(module)
    ]
    return list(dict.fromkeys(broken + cycles(found)))


def cycles(found: list[Module]) -> list[str]:
    """Look for modules that need one another to load."""
    names = {module.name for module in found}
    graph = {
        module.name: {each.target for each in module.imports if not (each.inside or each.typing)} & names
        for module in found
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        paths = {module.name: module.path for module in found}
        return [f"{paths[error.args[1][0]]}:1: [cycles] imports run in a circle: {' → '.join(error.args[1])}"]
    return []


def test_the_house_keeps_its_rules():
    broken = violations(ROOT)
    assert not broken, "\n".join(broken)


def test_every_module_was_read():
    names = {module.name for module in modules(ROOT)}
    assert {"mammoprep", "mammoprep.panoptic", "mammoprep.cli", "mammoprep_model.odise.network"} <= names


PLANTED = {
    "relative_imports": ("mammoprep/panoptic.py", "from .errors import MammoprepError"),
    "downwards": ("mammoprep/folds.py", "from mammoprep import gallery"),
    "inside_evaluation": ("mammoprep/evaluation/matching.py", "from mammoprep.evaluation.tally import Tally"),
    "readers_apart": ("mammoprep/readers/vindr.py", "import mammoprep.readers.cdd_cesm"),
    "model_stays_out": ("mammoprep/cli/train.py", "from mammoprep_model import trainer"),
    "cli_loads_light": ("mammoprep/cli/folds.py", "from mammoprep import panoptic"),
    "model_borders": ("mammoprep_model/data.py", "from mammoprep.pixels import read"),
    "model_order": ("mammoprep_model/losses.py", "from mammoprep_model import checkpoint"),
    "family_parts_apart": ("mammoprep_model/odise/captioner.py", "from mammoprep_model.odise import backbone"),
    "quiet": ("mammoprep/convert/run.py", "print('done')"),
    "named": ("mammoprep/utils.py", ""),
    "unpickles_nothing": ("mammoprep_model/weights.py", "torch.load('x')"),
}


@pytest.fixture
def house(tmp_path):
    """A copy of both packages in which a rule may be broken."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def append(path: Path, text: str) -> int:
    """Add a last line and give its number."""
    before = path.read_text() if path.exists() else ""
    path.write_text(before + text)
    return before.count("\n") + 1


@pytest.mark.parametrize("rule", PLANTED)
def test_planted_violation_is_named_with_file_line_and_rule(house, rule):
    path, text = PLANTED[rule]
    line = append(house / path, text)
    assert any(message.startswith(f"{path}:{line}: [{rule}] ") for message in violations(house, only=path))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("mammoprep/pseudo_mask/learned.py", "import torch"),
        ("mammoprep/gallery/site.py", "def later():\n    from mammoprep_model import inference"),
        ("mammoprep/folds.py", "from mammoprep.cli import console"),
        ("mammoprep/folds.py", "import sys\nsys.exit(1)"),
        ("mammoprep/attic.py", ""),
        ("mammoprep_model/data.py", "import pickle\npickle.loads(b'')"),
        ("mammoprep_model/data.py", "torch.load('x', weights_only=False)"),
        ("mammoprep/folds.py", "import numpy as np\nnp.load('x', allow_pickle=True)"),
        ("mammoprep/folds.py", "import joblib\njoblib.load('x')"),
        ("mammoprep/folds.py", "import shutil\nshutil.unpack_archive('x')"),
        ("mammoprep/folds.py", "import tarfile"),
    ],
)
def test_other_ways_to_break_a_rule_are_seen_too(house, path, text):
    before = set(violations(house, only=path))
    append(house / path, text)
    assert set(violations(house, only=path)) - before


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("mammoprep/cli/train.py", "def later():\n    from mammoprep_model import trainer"),
        ("mammoprep/cli/train.py", "if TYPE_CHECKING:\n    import numpy as np"),
        ("mammoprep/folds.py", "from mammoprep import __version__"),
        ("mammoprep_model/data.py", "from mammoprep.evaluation import scores"),
    ],
)
def test_what_is_allowed_is_not_reported(house, path, text):
    before = violations(house, only=path)
    append(house / path, text)
    assert violations(house, only=path) == before


def test_long_file_and_long_function_are_reported(house):
    text = "def long():\n" + "    x = 1\n" * MOST_FUNCTION_LINES + "y = 2\n" * (MOST_LINES - MOST_FUNCTION_LINES)
    (house / "mammoprep/anatomy.py").write_text(text)
    assert violations(house, only="mammoprep/anatomy.py") == [
        f"mammoprep/anatomy.py:{MOST_LINES + 1}: [short] the file has {MOST_LINES + 1} lines; {MOST_LINES} is the end",
        "mammoprep/anatomy.py:1: [short] long has 61 lines; 60 is the end",
    ]


def test_circle_of_imports_is_reported(house):
    append(house / "mammoprep/convert/options.py", "import mammoprep.convert.run\n")
    assert any("[cycles] imports run in a circle" in message for message in violations(house))


def test_top_level_of_the_repository_is_fixed():
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("this is no git checkout")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("git does not list this checkout")
    names = {line.split("/")[0] for line in listed.stdout.splitlines()}
    assert names - TOP_LEVEL == set(), "the top level is fixed by architecture.md"
