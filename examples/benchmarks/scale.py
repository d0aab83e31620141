"""Measure what grows with the number of images, and what does not: all that happens beside the pixels.

Every stage runs in a process of its own on stubs: no pixel is decoded or written, an image is 4 x 4 pixels and takes no
time. So what is left is the coordinating process: tables, records, numbers, journal, JSON, folds, checks, tallies.
Seconds are of the processor, since other work may be on it; MiB is the peak above what the imports take.

Type: python examples/benchmarks/scale.py [RECORDS …]        (default: 1000 10000 100000)
"""

import csv
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import numpy as np

from mammoprep import check, convert, folds, panoptic
from mammoprep.check import duplicates, hashes
from mammoprep.check import pixels as checked
from mammoprep.convert import case
from mammoprep.evaluation import runs
from mammoprep.readers import READERS
from mammoprep.records import Box, Finding, Reader, Record

SIDE = 4
CLASS = "BI-RADS 4"
WRITTEN = panoptic.Written(100, "0" * 64)
LESION = {"size": [SIDE, SIDE], "counts": "02>"}
"""The first two pixels of the first column."""


def has_lesion(number: int) -> bool:
    """Give one image in ten a lesion."""
    return number % 10 == 0


def read(root: Path, *, labels: str) -> Iterator[Record]:
    """Yield as many records as a file says, four of a patient, with ids as long as VinDr-Mammo's."""
    for number in range(int((root / "count").read_text())):
        name, patient = f"{number:032x}", f"{number // 4:032x}"
        found = (Finding(Box(0, 0, 1, 2), CLASS, f"table.csv row {number}"),) if has_lesion(number) else ()
        yield Record(f"images/{patient}/{name}.dicom", name, patient, findings=found, lesion_free=not found)


STUB = Reader("stub", "stub", {"birads": (CLASS,)}, ("count",), lambda root: (root / "count",), read)


def ids_of(number: int) -> panoptic.Ids:
    """Draw an image's segments: breast above background, and a lesion on both."""
    ids = np.full((SIDE, SIDE), 3, dtype=np.int32)
    ids[0] = 2
    if has_lesion(number):
        ids[:2, 0] = 1
    return ids


RUNS = {lesion: panoptic.runs_of(ids_of(0 if lesion else 1)) for lesion in (True, False)}


def make(record: Record, *, number: int, job: case.Job) -> case.Case:
    """Give what a conversion gives, without an image."""
    del job
    ids, segments, instances = ids_of(0 if record.findings else 1), [], []
    for segment_id in np.unique(ids).tolist():
        mask = ids == segment_id
        segments.append(panoptic.Segment(segment_id, segment_id, int(mask.sum()), panoptic.mask_box(mask)))
    if record.findings:
        facts = {"attributes": {"finding_categories": ["Mass"], "finding_birads": CLASS}}
        how = {"pseudo_mask": {"method": "adaptive-otsu", "threshold": 0.5, "fallback": False}}
        segments[0] = replace(segments[0], extra={**how, **facts})
        entry = {"image_id": number, "category_id": 1, "segmentation": LESION}
        instances = [{**entry, "bbox": [0, 0, 1, 2], "area": 2, "iscrowd": 0, **facts}]
    cells = [
        record.image_id,
        record.patient_id,
        record.patient_id,
        "L",
        "CC",
        "B",
        "training",
        SIDE,
        SIDE,
        0,
        0,
        1.0,
        1.0,
    ]
    cells += [0.085, "SIEMENS", len(instances), int(record.lesion_free), record.source, ""]
    row = dict(zip(case.COLUMNS, cells, strict=True))
    image = panoptic.Image(number, record.image_id, SIDE, SIDE, tuple(segments))
    return case.Case(number, image=image, row=row, instances=tuple(instances), files=(WRITTEN, WRITTEN))


def look(job: checked.Job) -> checked.Seen:
    """Find nothing wrong with an image's pixels, and no other like it."""
    return checked.Seen((), sha256(job.drawn.image.name.encode()).digest())


def runs_of(path: Path) -> panoptic.Runs:
    """Give what a map of segments holds, by its name."""
    return RUNS[has_lesion(int(path.stem, 16))]


def write_tables(root: Path, count: int) -> None:
    """Write VinDr-Mammo's table of findings: a row an image, one in ten with a box."""
    names = "study_id series_id image_id laterality view_position height width breast_birads breast_density"
    names += " finding_categories finding_birads xmin ymin xmax ymax split"
    with (root / "finding_annotations.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names.split())
        for number in range(count):
            study, what = f"{number // 4:032x}", "Mass" if has_lesion(number) else "No Finding"
            box = (CLASS, 100.5, 200.5, 300.5, 400.5) if has_lesion(number) else ("",) * 5
            row = (study, f"{study[:-1]}a", f"{number:032x}", "L", "CC", 3518, 2800, CLASS, "DENSITY C", [what], *box)
            writer.writerow((*row, "training"))


def read_tables(root: Path) -> None:
    """Go through the records of VinDr-Mammo's tables, as their reader gives them."""
    for _ in READERS["vindr"].read(root / "tables", labels="birads"):
        pass


def convert_all(root: Path) -> None:
    """Convert: number the records, keep the journal, count, write JSON and CSV."""
    case.make = make
    options, work = convert.Options(labels="birads"), convert.Work(workers=1)
    convert.convert(STUB, root / "raw", out=root / "dataset", options=options, work=work)


def make_folds(root: Path) -> None:
    """Make five folds."""
    folds.make(root / "dataset")


def check_all(root: Path) -> None:
    """Hold tables, JSON and folds against the rules."""
    checked.look, hashes._differs = look, lambda dataset, line: None
    report = check.check(root / "dataset")
    if report.problems:
        raise SystemExit(f"{report.problems[0]}")


def evaluate(root: Path) -> None:
    """Score the truth, taken for a prediction: both matchings, AP, FROC, strata; no intervals."""
    panoptic.read_id_runs = runs_of
    runs.evaluate(root / "dataset", root / "predictions", options=runs.Options(resamples=0))


def write_predictions(root: Path) -> None:
    """Make the truth a prediction."""
    out = root / "predictions"
    out.mkdir()
    (out / "panoptic.json").hardlink_to(root / "dataset" / "panoptic.json")
    entries = panoptic.read_entries(root / "dataset" / "instances.json", ("annotations",), hint="", wrong="")
    results = (
        {**{key: entry[key] for key in ("image_id", "category_id", "segmentation")}, "score": 0.5}
        for _, entry in entries
    )
    panoptic.write_entries(out / "instances.json", {"": results})


def load_coco(root: Path) -> None:
    """Load instances.json with pycocotools, as other tools do."""
    from pycocotools.coco import COCO

    COCO(str(root / "dataset" / "instances.json"))


def load_panoptic(root: Path) -> None:
    """Load panoptic.json at once, as panopticapi and detectron2 do."""
    json.loads((root / "dataset" / "panoptic.json").read_text())


def find_duplicates(root: Path) -> None:
    """Compare the fingerprints of all images in pairs: the one step whose time grows with the square."""
    count = int((root / "raw" / "count").read_text())
    prints = np.random.default_rng(0).integers(0, 2**64, (count, 8), dtype=np.uint64)
    names = [str(number) for number in range(count)]
    list(duplicates.find(names, [name.encode() for name in names], prints, dict(zip(names, names, strict=True))))


STAGES: dict[str, Callable[[Path], None]] = {
    "VinDr-Mammo's tables to records": read_tables,
    "convert": convert_all,
    "folds": make_folds,
    "check": check_all,
    "evaluate": evaluate,
    "(pycocotools loads instances.json)": load_coco,
    "(json loads panoptic.json)": load_panoptic,
    "check: near-duplicates": find_duplicates,
}
MOST = {"check: near-duplicates": 100_000}
"""Records above which a stage takes too long to be measured."""


def peak() -> float:
    """Give the largest memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(stage: str, root: Path) -> None:
    """Print the seconds and the MiB that a stage takes."""
    before, start = peak(), process_time()
    STAGES[stage](root)
    print(process_time() - start, peak() - before)


def main(counts: list[int]) -> None:
    """Print a line for each stage and number of records."""
    print(f"{'stage':36} {'records':>8} {'seconds':>8} {'us/record':>10} {'MiB':>7} {'bytes/record':>13}")
    for count in counts:
        with TemporaryDirectory() as name:
            root = Path(name)
            for folder in ("tables", "raw"):
                (root / folder).mkdir()
            (root / "raw" / "count").write_text(str(count))
            write_tables(root / "tables", count)
            for stage in STAGES:
                if count > MOST.get(stage, count):
                    continue
                if stage == "evaluate":
                    write_predictions(root)
                line = [sys.executable, __file__, "--stage", stage, name]
                done = subprocess.run(line, capture_output=True, text=True, check=True)
                seconds, mib = map(float, done.stdout.split()[-2:])
                per = f"{seconds / count * 1e6:10.0f} {mib:7.1f} {mib * 2**20 / count:13.0f}"
                print(f"{stage:36} {count:8} {seconds:8.2f} {per}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--stage"]:
        measure(sys.argv[2], Path(sys.argv[3]))
    else:
        main([int(text) for text in sys.argv[1:]] or [1_000, 10_000, 100_000])
