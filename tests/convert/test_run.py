"""A raw folder becomes a DATASET: the same bytes each time, resumed or not; whole or not at all."""

import csv
import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from pycocotools.coco import COCO

from mammoprep import panoptic, readers
from mammoprep.convert import RECIPES, Options, Work, convert, dataset, is_complete, preview, run, workers
from mammoprep.convert import case as one_image
from mammoprep.convert.case import Case, Job
from mammoprep.errors import MammoprepError
from mammoprep.panoptic import Journal
from mammoprep.pseudo_mask import DICE, Recipe
from mammoprep.records import Box, Finding, MaskFile, Skipped

OPTIONS = Options(labels="size", long_side=30)
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "cdd-cesm-mini"


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


class Stop(KeyboardInterrupt):
    """A Ctrl-C that no test run takes for its own."""


def stop_after(images):
    """Press Ctrl-C when so many images are done."""

    def report(done, total):
        if done >= images:
            raise Stop

    return report


def test_the_dataset_is_what_the_contract_lists(reader, raw, tmp_path, contents):
    convert(reader, raw, out=tmp_path / "out", options=OPTIONS)

    names = {f"{folder}/{name}.png" for folder in ("images", "panoptic") for name in ("one", "two", "three", "four")}
    tables = {"panoptic.json", "instances.json", "cases.csv", "skipped.csv", "manifest.json", "SHA256SUMS"}
    assert contents(tmp_path / "out").keys() == names | tables
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"]


def test_ids_follow_the_sorted_sources_and_a_skipped_file_leaves_a_gap(reader, raw, tmp_path):
    (raw / "a/2.png").write_bytes(b"no image")

    convert(reader, raw, out=tmp_path / "out", options=OPTIONS)

    images = panoptic.load(tmp_path / "out").images
    assert [(image.id, image.name) for image in images] == [(1, "one"), (3, "three"), (4, "four")]
    assert [row["image_id"] for row in table(tmp_path / "out" / "cases.csv")] == ["one", "three", "four"]


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # pycocotools' own, under NumPy 2
def test_pycocotools_loads_the_instances(reader, raw, tmp_path):
    convert(reader, raw, out=tmp_path / "out", options=OPTIONS)

    with redirect_stdout(None):
        coco = COCO(str(tmp_path / "out" / "instances.json"))
    assert coco.getAnnIds() == [1, 2, 3]
    assert [coco.anns[i]["image_id"] for i in (1, 2, 3)] == [1, 1, 4]
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == ["small", "large"]
    assert all(coco.annToMask(annotation).sum() == annotation["area"] for annotation in coco.anns.values())


def test_what_was_left_out_is_listed_and_sorted(reader, raw, tmp_path):
    (raw / "b/4.png").unlink()

    convert(reader, raw, out=tmp_path / "out", options=OPTIONS)

    assert (tmp_path / "out" / "skipped.csv").read_bytes() == (
        b"source,stage,reason\n"
        b"b/4.png,image,the file is not there\n"
        b"row 4,finding,no class under --labels size\n"
        b"table.json row 6,table,no image has that name\n"
    )


def test_the_manifest_says_what_the_result_follows_from(reader, raw, tmp_path):
    summary = convert(reader, raw, out=tmp_path / "out", options=replace(OPTIONS, reader={"extra": True}))

    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    keys = {"format", "dataset", "options", "labels", "versions", "seed", "counts", "inputs", "outputs"}
    assert manifest.keys() == keys
    assert manifest["inputs"] == {"table.json": hashlib.sha256(b'{"rows": 5}').hexdigest()}
    assert (manifest["dataset"], manifest["labels"]) == ("tiny", "size")
    assert (manifest["options"]["long_side"], manifest["options"]["extra"]) == (30, True)
    assert (manifest["options"]["recipe"]["sigma"], manifest["options"]["recipe"]["unit"]) == (1, "box")
    assert manifest["counts"] == summary.to_json()
    assert str(tmp_path) not in json.dumps(manifest)


def test_the_summary_counts(reader, raw, tmp_path):
    (raw / "a/2.png").unlink()

    summary = convert(reader, raw, out=tmp_path / "out", options=OPTIONS)

    assert (summary.images, summary.patients) == (3, 3)
    assert summary.findings == {"small": 1, "large": 2}
    assert summary.skipped == {
        "finding": {"no class under --labels size": 1},
        "image": {"the file is not there": 1},
        "table": {"no image has that name": 1},
    }
    assert summary.skipped_images == 1


def test_the_summary_counts_pseudo_masks_by_method(reader, raw, records, tmp_path):
    records[0] = replace(records[0], findings=(Finding(Box(1, 10, 12, 32), "large", "row 5"),))

    summary = convert(reader, raw, out=tmp_path / "out", options=OPTIONS)

    assert sum(summary.pseudo_masks.values()) == 1
    assert summary.fallbacks == 1 - summary.pseudo_masks.get("otsu", 0)


@pytest.mark.parametrize(("name", "recipe"), RECIPES.items())
def test_the_summary_says_which_recipe_made_the_masks_and_what_it_scores(reader, raw, records, tmp_path, name, recipe):
    options = replace(OPTIONS, recipe=recipe)
    drawn = convert(reader, raw, out=tmp_path / "drawn", options=options)
    assert (drawn.recipe, drawn.recipe_dice) == ("", None)  # no box, no recipe
    records[0] = replace(records[0], findings=(Finding(Box(1, 10, 12, 32), "large", "row 5"),))

    for summary in (convert(reader, raw, out=tmp_path / "out", options=options), preview(reader, raw, options=options)):
        assert (summary.recipe, summary.recipe_dice) == (name, DICE[recipe])


def test_a_changed_recipe_has_no_measured_dice(reader, raw, records, tmp_path):
    records[0] = replace(records[0], findings=(Finding(Box(1, 10, 12, 32), "large", "row 5"),))

    summary = convert(reader, raw, out=tmp_path / "out", options=replace(OPTIONS, recipe=Recipe(sigma=2)))

    assert (summary.recipe, summary.recipe_dice) == ("with options of its own", None)


def test_workers_that_an_earlier_run_left_in_another_folder_find_a_relative_one(reader, raw, tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        shutil.copytree(raw, tmp_path / name / "raw")
        monkeypatch.chdir(tmp_path / name)
        made = convert(reader, Path("raw"), out=Path("out"), options=OPTIONS, work=Work(workers=2))
        assert made.images == 4
        shutil.rmtree("raw")


def test_any_number_of_workers_gives_the_same_bytes(reader, raw, tmp_path, contents):
    for count in (1, 2):
        convert(reader, raw, out=tmp_path / f"out{count}", options=OPTIONS, work=Work(workers=count))

    assert contents(tmp_path / "out1") == contents(tmp_path / "out2")


@pytest.mark.parametrize("images", [1, 3, 4])
def test_a_resumed_run_gives_the_same_bytes_as_one_that_was_not_stopped(reader, raw, tmp_path, contents, images):
    convert(reader, raw, out=tmp_path / "whole", options=OPTIONS)
    out = tmp_path / "out"
    with pytest.raises(Stop):
        convert(reader, raw, out=out, options=OPTIONS, work=Work(workers=1, on_progress=stop_after(images)))
    assert not out.exists()
    made = []

    work = Work(workers=1, existing="resume", on_progress=lambda done, total: made.append((done, total)))
    convert(reader, raw, out=out, options=OPTIONS, work=work)

    assert made == [(done, 4) for done in range(images, 5)]
    assert contents(out) == contents(tmp_path / "whole")
    assert not panoptic.partial_of(out).exists()


def test_two_workers_can_be_stopped_and_resumed(reader, raw, tmp_path, contents):
    convert(reader, raw, out=tmp_path / "whole", options=OPTIONS)
    out = tmp_path / "out"
    with pytest.raises(Stop):
        convert(reader, raw, out=out, options=OPTIONS, work=Work(workers=2, on_progress=stop_after(1)))

    convert(reader, raw, out=out, options=OPTIONS, work=Work(workers=2, existing="resume"))

    assert contents(out) == contents(tmp_path / "whole")


def test_a_torn_journal_line_is_made_again(reader, raw, tmp_path, contents):
    convert(reader, raw, out=tmp_path / "whole", options=OPTIONS)
    out = interrupted(reader, raw, tmp_path)
    journal = panoptic.lock_of(out)
    journal.write_bytes(journal.read_bytes()[:-9])

    convert(reader, raw, out=out, options=OPTIONS, work=Work(existing="resume"))

    assert contents(out) == contents(tmp_path / "whole")


def test_a_png_that_went_missing_is_made_again(reader, raw, tmp_path, contents):
    convert(reader, raw, out=tmp_path / "whole", options=OPTIONS)
    out = interrupted(reader, raw, tmp_path)
    (panoptic.partial_of(out) / "panoptic" / "one.png").unlink()

    convert(reader, raw, out=out, options=OPTIONS, work=Work(existing="resume"))

    assert contents(out) == contents(tmp_path / "whole")


def test_a_file_that_was_skipped_is_tried_again(reader, raw, tmp_path, contents):
    convert(reader, raw, out=tmp_path / "whole", options=OPTIONS)
    good = (raw / "a/2.png").read_bytes()
    (raw / "a/2.png").write_bytes(b"half a download")
    out = interrupted(reader, raw, tmp_path, images=3)
    (raw / "a/2.png").write_bytes(good)

    convert(reader, raw, out=out, options=OPTIONS, work=Work(existing="resume"))

    assert contents(out) == contents(tmp_path / "whole")


def interrupted(reader, raw, tmp_path, images=2):
    """Leave an interrupted run of so many images."""
    with pytest.raises(Stop):
        convert(
            reader, raw, out=tmp_path / "out", options=OPTIONS, work=Work(workers=1, on_progress=stop_after(images))
        )
    return tmp_path / "out"


def test_resume_refuses_other_options_and_names_the_difference(reader, raw, tmp_path):
    out = interrupted(reader, raw, tmp_path)

    with pytest.raises(MammoprepError, match="options bits = 8, now 16"):
        convert(reader, raw, out=out, options=replace(OPTIONS, bits=16), work=Work(existing="resume"))

    convert(reader, raw, out=out, options=OPTIONS, work=Work(existing="resume"))
    assert is_complete(out)


def test_resume_refuses_a_changed_table(reader, raw, tmp_path):
    out = interrupted(reader, raw, tmp_path)
    (raw / "table.json").write_text("{}")

    with pytest.raises(MammoprepError, match=r"inputs table\.json"):
        convert(reader, raw, out=out, options=OPTIONS, work=Work(existing="resume"))


def test_resume_refuses_another_version(reader, raw, tmp_path, monkeypatch):
    out = interrupted(reader, raw, tmp_path)
    monkeypatch.setattr(run, "version", lambda package: "99")

    with pytest.raises(MammoprepError, match=r"versions \S+ = \S+, now 99"):
        convert(reader, raw, out=out, options=OPTIONS, work=Work(existing="resume"))


def test_resume_of_nothing_begins(reader, raw, tmp_path):
    summary = convert(reader, raw, out=tmp_path / "out", options=OPTIONS, work=Work(existing="resume"))
    assert summary.images == 4


def test_resume_of_a_complete_dataset_gives_its_counts_and_touches_nothing(reader, raw, tmp_path, contents):
    out = tmp_path / "out"
    summary = convert(reader, raw, out=out, options=OPTIONS)
    before = contents(out)

    assert convert(reader, raw, out=out, options=OPTIONS, work=Work(existing="resume")) == summary
    with pytest.raises(MammoprepError, match="options long_side = 30, now 20"):
        convert(reader, raw, out=out, options=replace(OPTIONS, long_side=20), work=Work(existing="resume"))
    assert contents(out) == before


def test_an_interrupted_run_is_neither_ignored_nor_thrown_away(reader, raw, tmp_path):
    out = interrupted(reader, raw, tmp_path)

    with pytest.raises(MammoprepError, match=r"out\.partial holds an interrupted run\. Say --resume .* or --overwrite"):
        convert(reader, raw, out=out, options=OPTIONS)

    assert panoptic.partial_of(out).is_dir()
    convert(reader, raw, out=out, options=replace(OPTIONS, bits=16), work=Work(existing="overwrite"))
    assert not panoptic.partial_of(out).exists()


def test_an_interrupted_overwrite_leaves_the_old_dataset_and_can_be_resumed(reader, raw, tmp_path, contents):
    out = tmp_path / "out"
    convert(reader, raw, out=out, options=replace(OPTIONS, bits=16))
    before = contents(out)
    work = Work(workers=1, existing="overwrite", on_progress=stop_after(2))
    with pytest.raises(Stop):
        convert(reader, raw, out=out, options=OPTIONS, work=work)
    assert contents(out) == before

    convert(reader, raw, out=out, options=OPTIONS, work=Work(existing="resume"))

    assert panoptic.read_png(out / "images" / "one.png").dtype == "uint8"


def test_a_folder_that_holds_something_is_refused(reader, raw, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")

    with pytest.raises(MammoprepError, match="is not empty"):
        convert(reader, raw, out=out, options=OPTIONS)
    with pytest.raises(MammoprepError, match="was not written by mammoprep"):
        convert(reader, raw, out=out, options=OPTIONS, work=Work(existing="overwrite"))
    assert (out / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("out", ["raw", "raw/out", ".", "raw/../raw/a"])
def test_raw_and_out_may_not_hold_one_another(reader, raw, tmp_path, contents, out):
    before = contents(raw)
    with pytest.raises(MammoprepError, match="hold one another"):
        convert(reader, raw, out=tmp_path / out, options=OPTIONS)
    assert contents(raw) == before


def test_without_a_single_usable_image_nothing_is_left(reader, raw, tmp_path):
    for path in raw.rglob("*.png"):
        path.write_bytes(b"no image")

    with pytest.raises(MammoprepError, match="none of 4 images could be converted; 4 of them: "):
        convert(reader, raw, out=tmp_path / "out", options=OPTIONS)

    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_tables_without_an_image_are_an_error(reader, raw, records, tmp_path):
    records.clear()
    with pytest.raises(MammoprepError, match=r"no image that these options ask for \(no image has that name\)"):
        convert(reader, raw, out=tmp_path / "out", options=OPTIONS)


def test_two_files_of_one_name_are_an_error(reader, raw, records, tmp_path):
    records[0] = replace(records[0], image_id="one")
    with pytest.raises(MammoprepError, match="one image_id to two files"):
        convert(reader, raw, out=tmp_path / "out", options=OPTIONS)


def test_limit_takes_the_first_sources(reader, raw, tmp_path):
    convert(reader, raw, out=tmp_path / "out", options=replace(OPTIONS, limit=2))
    assert [row["source"] for row in table(tmp_path / "out" / "cases.csv")] == ["a/1.png", "a/2.png"]


def test_an_unknown_label_scheme_names_the_nearest(reader, raw, tmp_path):
    with pytest.raises(MammoprepError, match="There is no label scheme of Tiny 'sise'. Did you mean 'size'?"):
        convert(reader, raw, out=tmp_path / "out", options=Options(labels="sise"))


def test_preview_lists_a_finding_whose_mask_file_is_missing(reader, raw, records):
    records[0] = replace(records[0], findings=(Finding(MaskFile("b/4_mask.png"), "large", "row 5"),))

    assert preview(reader, raw, options=OPTIONS).findings == {"small": 1, "large": 1}
    assert preview(reader, raw, options=OPTIONS).skipped["finding"]["mask file: the file is not there"] == 1


def test_preview_counts_and_writes_nothing(reader, raw, tmp_path, contents):
    (raw / "b/4.png").unlink()
    before = contents(tmp_path)

    summary = preview(reader, raw, options=OPTIONS)

    assert (summary.images, summary.patients) == (3, 2)
    assert summary.findings == {"small": 1, "large": 1}
    assert summary.skipped["image"] == {"the file is not there": 1}
    assert summary.skipped["finding"] == {"no class under --labels size": 1}
    assert contents(tmp_path) == before


def test_a_full_disk_leaves_nothing_where_nothing_was_done(reader, raw, tmp_path, monkeypatch):
    fill_disk(monkeypatch, after=0)

    with pytest.raises(MammoprepError, match="could not be written: No space left on device"):
        convert(reader, raw, out=tmp_path / "out", options=OPTIONS)

    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_a_full_disk_keeps_what_is_done(reader, raw, tmp_path, monkeypatch, contents):
    convert(reader, raw, out=tmp_path / "whole", options=OPTIONS)
    with monkeypatch.context() as patch:
        fill_disk(patch, after=2)
        with pytest.raises(MammoprepError, match="No space left on device.* say --resume"):
            convert(reader, raw, out=tmp_path / "out", options=OPTIONS)

    convert(reader, raw, out=tmp_path / "out", options=OPTIONS, work=Work(existing="resume"))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_disk_that_fills_up_at_the_journal_leaves_nothing_of_no_use(reader, raw, tmp_path, monkeypatch):
    def tear(journal, entry):
        journal._file.write(b'{"number"')
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    genuine = Journal.append
    monkeypatch.setattr(Journal, "append", lambda self, entry: (tear if "number" in entry else genuine)(self, entry))
    with pytest.raises(MammoprepError, match="No space left on device"):
        convert(reader, raw, out=tmp_path / "out", options=OPTIONS)

    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_a_table_that_cannot_be_read_is_one_line(reader, raw, tmp_path):
    (raw / "table.json").unlink()
    (raw / "table.json").mkdir()
    with pytest.raises(MammoprepError, match=r"table\.json cannot be read: Is a directory"):
        convert(reader, raw, out=tmp_path / "out", options=OPTIONS)


def fill_disk(monkeypatch, *, after):
    written = []

    def write_png(path, pixels):
        if len(written) >= after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        written.append(path)
        return genuine(path, pixels)

    genuine = panoptic.write_png
    monkeypatch.setattr(panoptic, "write_png", write_png)


def killing(marks, *, deaths):
    """Give a maker of images that kills its process at the fourth one, so many times."""
    genuine = one_image.make

    def make(record, *, number, job):
        if number == 4 and len(list(marks.iterdir())) < deaths:
            (marks / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return genuine(record, number=number, job=job)

    return make


def test_a_killed_worker_is_told_and_the_rest_tried_by_half_as_many(reader, raw, tmp_path, monkeypatch, contents):
    convert(reader, raw, out=tmp_path / "whole", options=OPTIONS)
    marks, notes = tmp_path / "marks", []
    marks.mkdir()
    monkeypatch.setattr(one_image, "make", killing(marks, deaths=1))

    convert(reader, raw, out=tmp_path / "out", options=OPTIONS, work=Work(workers=2, on_note=notes.append))

    assert notes == ["A worker process was killed, most likely because memory ran out. Going on with 1."]
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_worker_killed_twice_is_one_line_and_can_be_resumed(reader, raw, tmp_path, monkeypatch, contents):
    convert(reader, raw, out=tmp_path / "whole", options=OPTIONS)
    marks = tmp_path / "marks"
    marks.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(one_image, "make", killing(marks, deaths=2))
        with pytest.raises(MammoprepError, match="A worker process was killed.* --resume --workers 1"):
            convert(reader, raw, out=tmp_path / "out", options=OPTIONS, work=Work(workers=2))

    convert(reader, raw, out=tmp_path / "out", options=OPTIONS, work=Work(workers=1, existing="resume"))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_worker_whose_parent_was_killed_makes_nothing(reader, raw, records, tmp_path):
    def make(record, *, number, job):
        raise AssertionError

    job = Job(raw, tmp_path, OPTIONS, ())
    assert workers.make_one(make, records[0], number=1, job=job, parent=1) == Case(1)


@pytest.mark.parametrize("gone", ["deleted", "unmounted"])
def test_a_raw_folder_that_vanishes_stops_the_run_and_skips_nothing(reader, raw, tmp_path, contents, gone):
    convert(reader, raw, out=tmp_path / "whole", options=OPTIONS)
    away, out = tmp_path / "away", tmp_path / "out"

    def vanish(done, total):
        if done == 1:
            raw.rename(away)
            if gone == "unmounted":
                raw.mkdir()

    with pytest.raises(MammoprepError, match=r"raw cannot be read any more: a share that is gone\?.*--resume to go on"):
        convert(reader, raw, out=out, options=OPTIONS, work=Work(workers=1, on_progress=vanish))

    if raw.exists():
        raw.rmdir()
    away.rename(raw)
    convert(reader, raw, out=out, options=OPTIONS, work=Work(workers=1, existing="resume"))
    assert contents(out) == contents(tmp_path / "whole")


def test_a_second_convert_into_the_same_folder_is_refused(reader, raw, tmp_path):
    refused = []

    def begin_another(done, total):
        if done == 1:
            for existing in ("refuse", "resume", "overwrite"):
                with pytest.raises(MammoprepError, match=r"Another process is writing \S+/out\.") as error:
                    convert(reader, raw, out=tmp_path / "out", options=OPTIONS, work=Work(existing=existing))
                refused.append(error)

    convert(reader, raw, out=tmp_path / "out", options=OPTIONS, work=Work(workers=1, on_progress=begin_another))
    assert len(refused) == 3
    assert is_complete(tmp_path / "out")


def test_what_a_killed_run_left_of_an_image_that_is_now_gone_is_not_kept(reader, raw, tmp_path):
    out = interrupted(reader, raw, tmp_path)
    torn = panoptic.partial_of(out) / "images" / "four.png"
    torn.write_bytes(b"\x89PNG")
    (raw / "b/4.png").unlink()

    convert(reader, raw, out=out, options=OPTIONS, work=Work(existing="resume"))

    assert sorted(path.name for path in (out / "images").iterdir()) == ["one.png", "three.png", "two.png"]


def test_a_png_of_another_length_is_made_again_and_with_verify_one_of_other_bytes(reader, raw, tmp_path, contents):
    convert(reader, raw, out=tmp_path / "whole", options=OPTIONS)
    out = interrupted(reader, raw, tmp_path)
    short = panoptic.partial_of(out) / "images" / "one.png"
    other = panoptic.partial_of(out) / "panoptic" / "two.png"
    short.write_bytes(short.read_bytes()[:-1])
    other.write_bytes(other.read_bytes()[::-1])

    convert(reader, raw, out=out, options=OPTIONS, work=Work(existing="resume", verify=True))

    assert contents(out) == contents(tmp_path / "whole")


def test_verify_finds_a_file_that_the_disk_changed_and_resume_makes_it_again(
    reader, raw, tmp_path, monkeypatch, contents
):
    convert(reader, raw, out=tmp_path / "whole", options=OPTIONS, work=Work(verify=True))
    out, genuine = tmp_path / "out", dataset.write

    def write(folder, *args, **named):
        genuine(folder, *args, **named)
        path = folder / "images" / "one.png"
        path.write_bytes(path.read_bytes()[::-1])

    with monkeypatch.context() as patch:
        patch.setattr(dataset, "write", write)
        with pytest.raises(MammoprepError, match=r"images/one\.png is not what was written.*--resume"):
            convert(reader, raw, out=out, options=OPTIONS, work=Work(verify=True))
    convert(reader, raw, out=out, options=OPTIONS, work=Work(existing="resume"))

    assert contents(out) == contents(tmp_path / "whole")
    (out / "cases.csv").write_text("")
    with pytest.raises(MammoprepError, match=r"cases\.csv is not what was written\. Say --overwrite"):
        convert(reader, raw, out=out, options=OPTIONS, work=Work(existing="resume", verify=True))


def test_the_hashes_are_those_of_the_files_and_sha256sum_reads_them(reader, raw, tmp_path, contents):
    convert(reader, raw, out=tmp_path / "out", options=OPTIONS)

    files = contents(tmp_path / "out")
    own = {"SHA256SUMS", "manifest.json"}
    assert dict(panoptic.read_sums(tmp_path / "out")) == {
        name: hashlib.sha256(content).hexdigest() for name, content in files.items() if name not in own
    }
    sums = hashlib.sha256(files["SHA256SUMS"]).hexdigest()
    assert json.loads(files["manifest.json"])["outputs"] == {"SHA256SUMS": sums}
    checked = subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=tmp_path / "out", check=False)
    assert checked.returncode == 0


@pytest.mark.parametrize(
    ("cores", "free", "images", "count"),
    [
        (8, 10**12, 10**4, 8),
        (8, 3 * workers.WORKER_BYTES, 10**4, 3),
        (8, 1, 10**4, 1),
        (8, 10**12, 17, 2),
        (8, 10**12, 0, 1),
    ],
    ids=["cores", "memory", "always one", "few images", "no image"],
)
def test_workers_are_capped_by_cores_memory_and_images(monkeypatch, cores, free, images, count):
    monkeypatch.setattr(workers.joblib, "cpu_count", lambda: cores)
    monkeypatch.setattr(workers.psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
    monkeypatch.setattr(workers, "CONTAINER_LIMIT", Path("/nowhere"))

    assert workers.count(images) == count


@pytest.mark.parametrize(("text", "count"), [(str(2 * workers.WORKER_BYTES), 2), ("max", 8)])
def test_a_container_s_memory_limit_counts(monkeypatch, tmp_path, text, count):
    (tmp_path / "memory.max").write_text(text + "\n")
    monkeypatch.setattr(workers.joblib, "cpu_count", lambda: 8)
    monkeypatch.setattr(workers.psutil, "virtual_memory", lambda: SimpleNamespace(available=10**12))
    monkeypatch.setattr(workers, "CONTAINER_LIMIT", tmp_path / "memory.max")

    assert workers.count(10**4) == count


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"long_side": -1}, "--long-side is -1"),
        ({"bits": 12}, "--bits is 12"),
        ({"limit": 0}, "--limit is 0"),
        ({"stuff": ("brest", "background")}, "Did you mean 'breast'"),
        ({"stuff": ("breast",)}, "lacks background"),
        ({"window": "1/-5"}, "1/-5"),
    ],
)
def test_options_out_of_range_are_refused(wrong, text):
    with pytest.raises(MammoprepError, match=text):
        Options(labels="size", **wrong)


def test_there_is_at_least_one_worker():
    with pytest.raises(MammoprepError, match="--workers is 0"):
        Work(workers=0)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real files of ../shared/data are not here")
def test_every_region_of_the_real_annotations_is_drawn_or_listed(tmp_path):
    reader = readers.READERS["cdd-cesm"]

    summary = convert(reader, SHARED, out=tmp_path / "out", options=Options(labels="pathology", long_side=256))

    assert summary.images == 143
    assert sum(summary.findings.values()) + sum(summary.skipped["finding"].values()) == 532
    data = panoptic.load(tmp_path / "out")
    assert all(data.ids_of(image).min() > 0 for image in data.images)


def test_names_that_are_not_utf_8_and_control_characters_do_not_break_a_table(raw, reader, records, tmp_path):
    """A shared folder of the past may hold names in Latin-1; DICOM texts may hold carriage returns."""
    strange = os.fsdecode(b"a/\xfcber.png")
    shutil.copy(raw / records[0].source, raw / strange)
    told = replace(records[0], source=strange, view="C\rC\n")
    table = replace(reader, read=lambda root, *, labels: iter([told, Skipped("\udcff", "table", "a\rb")]))
    convert(table, raw, out=tmp_path / "out", options=Options(labels="size"), work=Work(workers=1))

    (row,) = panoptic.load_cases(tmp_path / "out")
    assert (row["source"], row["view"]) == (r"a/\udcfcber.png", "C C ")
    assert (tmp_path / "out" / "skipped.csv").read_text().splitlines()[1] == r"\udcff,table,a b"
