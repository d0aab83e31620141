"""Measure how a gallery of many cases behaves in Chromium: seconds to write it, to open it, to filter it; memory.

Type `python examples/benchmarks/gallery.py [IMAGES]` in a checkout, with Debian's chromium and chromium-driver. The
images are twenty phantoms over and over, with lesions, predictions and facts that differ.
"""

import os
import runpy
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import psutil
from joblib import cpu_count

from mammoprep import convert, gallery, panoptic, parallel, phantom
from mammoprep.evaluation.verdicts import verdicts
from mammoprep.readers import READERS

DRIVER = Path(__file__).resolve().parents[2] / "tests" / "gallery" / "conftest.py"


def write_many(small: Path, out: Path, *, count: int) -> None:
    """Write a DATASET of `count` images, whose files are links to those of a small one."""
    source = panoptic.load(small)
    rows = {row["image_id"]: row for row in panoptic.load_cases(small)}
    for folder in ("images", "panoptic"):
        (out / folder).mkdir(parents=True)
    images, lines = [], [",".join(panoptic.CASE_COLUMNS)]
    for number in range(1, count + 1):
        image = source.images[number % len(source.images)]
        name = f"case-{number:06d}"
        for folder in ("images", "panoptic"):
            os.link(small / folder / f"{image.name}.png", out / folder / f"{name}.png")
        images.append(replace(image, id=number, name=name))
        row = rows[image.name] | {"image_id": name, "patient_id": f"patient-{number // 4:06d}", "source": f"{name}.dcm"}
        lines.append(",".join(row[column] for column in panoptic.CASE_COLUMNS))
    panoptic.write_panoptic(out, categories=source.categories, images=images)
    (out / "cases.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    panoptic.write_json(out / "manifest.json", panoptic.read_json(small / "manifest.json", hint=""))


ACTIONS = {
    "filter by class and hit": "chosen.facets = {class: Object.values(data.classes)[0][0], verdict: 'hit'}",
    "search": "Object.assign(chosen, {facets: {}, search: '0123'})",
    "order by the largest lesion": "Object.assign(chosen, {search: '', order: 'large'})",
}
OPENED = 20
"""Cases that are opened, spread over all."""


def look(page: Path, folder: Path) -> None:
    """Open the pages and print what the browser needed."""
    with runpy.run_path(str(DRIVER))["browser"](folder) as browser:
        browser.size(1280, 800)
        begun = time.perf_counter()
        browser.open(page)
        browser.wait("document.querySelectorAll('.card img').length")
        browser.wait("[...document.querySelectorAll('.card img')].slice(0, 12).every(image => image.complete)")
        print(f"open, to the first pictures: {time.perf_counter() - begun:.2f} s")
        for title, script in ACTIONS.items():
            timed = f"const begun = performance.now(); {script}; choose(); return performance.now() - begun"
            print(f"{title}: {browser.run(timed):.0f} ms, {browser.text('#count')}")
        begun = time.perf_counter()
        step = browser.run("return data.images.length") // OPENED
        for place in range(0, OPENED * step, step):
            browser.run("openCase(chosen.places[arguments[0]])", place)
            told = "document.querySelector('#told h2')?.textContent === data.images[shown.case].name"
            browser.wait(f"shown.case === chosen.places[{place}] && {told}")
        print(f"open a case: {(time.perf_counter() - begun) / OPENED * 1000:.0f} ms, mean of {OPENED}")
        heap = browser.run("return performance.memory.usedJSHeapSize")
        print(f"JavaScript heap {heap / 2**20:.0f} MiB, the tab's process {tab_bytes() / 2**20:.0f} MiB resident")


def tab_bytes() -> int:
    """Give the resident memory of the largest renderer below this process."""
    processes = psutil.Process().children(recursive=True)
    return max(each.memory_info().rss for each in processes if "--type=renderer" in each.cmdline())


def main(count: int) -> None:
    """Write, look, print."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        phantom.write(root / "raw", patients=5, seed=0, long_side=1024)
        convert.convert(READERS["vindr"], root / "raw", out=root / "small", options=convert.Options(labels="birads"))
        write_many(root / "small", root / "many", count=count)
        begun = time.perf_counter()
        material = gallery.load(root / "many", [root / "many"])
        options = gallery.Options(judge=verdicts, workers=parallel.Workers(cpu_count()))
        gallery.write(material, root / "pages", options=options)
        took = time.perf_counter() - begun
        size = sum(path.stat().st_size for path in (root / "pages").rglob("*") if path.is_file())
        index = (root / "pages" / "data" / "index.js").stat().st_size
        print(f"{count} images written in {took:.0f} s; {size / 2**20:.0f} MiB, of which the index {index / 2**20:.1f}")
        look(root / "pages" / "index.html", root)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
