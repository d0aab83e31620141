"""README and docs/ keep their word: links lead somewhere, pages build, what the tutorial says to type runs."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

import pytest

from mammoprep.cli import main

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


def prose(page: Path) -> str:
    """Give a page without its code, in which brackets are no links."""
    text = re.sub(
        r"^(```.*?^```|(?: {4}|\t).*?$)", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    return re.sub(r"`[^`]*`", "", text)


def links(page: Path) -> Iterator[str]:
    for found in _LINK.finditer(prose(page)):
        yield found[1] or found[2]


def anchors(page: Path) -> set[str]:
    """Give the anchors of a page's headings, as GitHub and MkDocs make them."""
    titles = re.findall(r"^#+ +(.+?) *$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r" ", "-", re.sub(r"[^\w\- ]", "", title.lower())) for title in titles}


def broken(page: Path) -> Iterator[str]:
    for link in links(page):
        if re.match(r"https?://|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            yield f"{page.name}: {link} leads nowhere"
        elif anchor and anchor not in anchors(target):
            yield f"{page.name}: {link}: {target.name} has no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_and_anchor_leads_somewhere(page):
    assert list(broken(page)) == []


def test_a_broken_link_would_be_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A title, here\n[a](nowhere.md) [b](#a-title-here) [c](page.md#no) `[d](code.md)`\n\n    [e](code.md)\n"
    )
    assert list(broken(page)) == [
        "page.md: nowhere.md leads nowhere",
        "page.md: page.md#no: page.md has no such heading",
    ]


def test_every_page_is_reached_from_the_readme_or_the_index():
    reached, left = set(), [ROOT / "README.md", ROOT / "docs" / "index.md"]
    while left:
        page = left.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        left += [(page.parent / link.partition("#")[0]).resolve() for link in links(page) if "://" not in link]
    assert set(PAGES) - reached == set()


def test_the_pages_build(tmp_path):
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: it comes with the extra [dev]")
    call = ["-m", "mkdocs", "build", "--quiet", "--strict", "-f", ROOT / ".ci" / "mkdocs.yml", "-d", tmp_path / "site"]
    done = subprocess.run([sys.executable, *call], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    made = {path.stem: path.read_text(encoding="utf-8") for path in (tmp_path / "site").glob("*.html")}
    assert made.keys() >= {page.stem for page in PAGES[1:]}
    assert [name for name, text in made.items() if re.search(r"<(script|link)[^>]*(src|href)=\"https?:", text)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_is_shown_parses(page, parse):
    lines = re.findall(r"^ *(mammoprep [a-z].*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert lines or page.name not in ("README.md", "tutorial.md", "training.md", "export.md", "gallery.md")
    for line in lines:
        if not re.search(r"\||<TAB>|\[", line):  # which stand for choices
            parse(shlex.split(line, comments=True)[1:])


def commands(page: Path) -> Iterator[list[str]]:
    """Give what a page tells to type: the lines of its blocks of bash."""
    for block in re.findall(r"^```bash\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if words := shlex.split(line, comments=True):
                yield words


def test_the_tutorial_runs_as_it_stands(tmp_path, monkeypatch, small_preset, fake_network):
    """Ten small patients and a network of two layers stand in for its forty and its `tiny`."""
    from mammoprep_model import zoo

    monkeypatch.setattr(zoo, "PRESETS", MappingProxyType({"tiny": small_preset}))
    monkeypatch.chdir(tmp_path)
    typed = list(commands(ROOT / "docs" / "tutorial.md"))
    for program, *arguments in typed:
        if program == "python":
            assert arguments[0] == "-c"
            exec(arguments[1].replace("patients=40", "patients=10").replace("long_side=640", "long_side=160"), {})
            continue
        assert program == "mammoprep"
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 0, arguments
    assert len(typed) > 10
    for name in ("vindr/folds.json", "runs/tiny/evaluation/sweep.png", "comparison/comparison.json", "yolo/data.yaml"):
        assert (tmp_path / name).is_file()
