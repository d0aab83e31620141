"""`mammoprep convert` on the command line: its options, exit codes, and one line for each mistake."""

import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, fields, replace
from importlib import import_module
from inspect import signature
from pathlib import Path
from time import perf_counter
from typing import get_args, get_type_hints

import numpy as np
import pytest
from pydicom import dcmread
from typer.main import get_command

from mammoprep import convert, panoptic, phantom
from mammoprep.cli import app, main
from mammoprep.cli.convert import Common
from mammoprep.cli.of_readers import command_of
from mammoprep.convert import RECIPES, Options, Summary
from mammoprep.phantom import cbis_ddsm as films
from mammoprep.pseudo_mask import ADAPTIVE, DICE, LEARNED, PAPER, Recipe
from mammoprep.readers import READERS

SMALL = ("--long-side", 128, "--workers", 1)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Two phantom patients in VinDr-Mammo's layout."""
    root = tmp_path_factory.mktemp("phantoms") / "raw"
    phantom.write(root, patients=2, long_side=256)
    return root


@pytest.fixture
def broken(raw, tmp_path):
    """The same with one file of eight cut off."""
    root = tmp_path / "broken"
    root.mkdir()
    for path in raw.rglob("*"):
        target = root / path.relative_to(raw)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, target)
    first = min(root.rglob("*.dicom"))
    content = first.read_bytes()
    first.unlink()
    first.write_bytes(content[: len(content) // 2])
    return root


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["convert", *map(str, arguments)])
    return ended.value.code


def commands():
    group = get_command(app).commands["convert"]
    context = group.make_context("convert", [], resilient_parsing=True)
    return {name: group.get_command(context, name) for name in group.list_commands(context)}


def test_a_raw_folder_becomes_a_dataset_and_a_table(raw, tmp_path, capsys):
    assert run("vindr", raw, tmp_path / "out", *SMALL) == 0

    printed = capsys.readouterr()
    assert "BI-RADS 3" in printed.out
    assert "patients" in printed.out
    assert f"Next: mammoprep folds {tmp_path / 'out'}" in printed.err
    assert len(panoptic.load(tmp_path / "out").images) == 8


def test_cbis_ddsm_from_kaggles_folder(tmp_path, capsys):
    films.write(tmp_path / "raw", patients=2, long_side=128, layout="kaggle")

    assert run("cbis-ddsm", tmp_path / "raw", tmp_path / "out", "--labels", "type", *SMALL, "--json") == 0

    assert json.loads(capsys.readouterr().out)["findings"] == {"mass": 4, "calcification": 2}


def test_images_whose_masks_are_all_missing_are_told(tmp_path, capsys):
    """They are stored without a lesion, which training would believe."""
    films.write(tmp_path / "raw", patients=2, long_side=128, layout="kaggle")
    (table,) = (tmp_path / "raw").rglob("dicom_info.csv")
    with table.open(newline="") as file:
        masks = [row for row in csv.DictReader(file) if row["SeriesDescription"] != "full mammogram images"]
    for row in masks:
        *_, series, name = Path(row["image_path"]).parts
        (table.parents[1] / "jpeg" / series / name).unlink()

    assert run("cbis-ddsm", tmp_path / "raw", tmp_path / "out", *SMALL, "--max-skipped", "1", "--json") == 0
    said = capsys.readouterr()
    bare = json.loads(said.out)["bare"]
    assert bare == json.loads(said.out)["images"] > 0
    assert f"could be drawn in {bare} images, which are stored as if they had none" in said.err


def test_json_is_the_counts_of_the_manifest(raw, tmp_path, capsys):
    run("vindr", raw, tmp_path / "out", *SMALL, "--json")

    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "out" / "manifest.json").read_text())["counts"]
    assert printed["images"] == 8


def test_the_options_reach_the_result(raw, tmp_path):
    options = (
        "--bits",
        16,
        "--stuff",
        "background",
        "--hull",
        "convex",
        "--sigma",
        3,
        "--labels",
        "finding",
        "--limit",
        3,
    )
    assert run("vindr", raw, tmp_path / "out", *SMALL, *options) == 0

    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    said = manifest["options"]
    assert (said["bits"], said["stuff"], said["limit"], manifest["labels"]) == (16, ["background"], 3, "finding")
    assert (said["recipe"]["hull"], said["recipe"]["sigma"]) == ("convex", 3)
    assert said["recipe"]["centre"] == ADAPTIVE.centre


@pytest.mark.parametrize(("name", "recipe"), RECIPES.items())
def test_each_recipe_is_told_with_what_it_scores(raw, tmp_path, capsys, name, recipe):
    assert run("vindr", raw, tmp_path / "out", *SMALL, "--limit", 4, "--recipe", name) == 0

    lines = [" ".join(line.replace("│", " ").split()) for line in capsys.readouterr().out.splitlines()]
    assert f"recipe {name}" in lines
    assert f"its mean Dice on real outlines {DICE[recipe]:.3f}" in lines
    said = json.loads((tmp_path / "out" / "manifest.json").read_text())["options"]["recipe"]
    assert said == json.loads(json.dumps(asdict(recipe)))


def test_the_default_recipe_is_adaptive_and_changes_start_from_the_named_one():
    assert Common().options("birads", {}).recipe == ADAPTIVE
    assert Common(recipe="paper", sigma=3, hull="convex").options("birads", {}).recipe == Recipe(sigma=3, hull="convex")
    assert Common(recipe="learned").options("birads", {}).recipe == LEARNED
    changed = Common(hull="concave", hull_ratio=0.4).options("birads", {}).recipe
    assert changed == replace(ADAPTIVE, hull="concave", hull_ratio=0.4)


def test_crop_and_flip_reach_the_result(raw, tmp_path):
    assert run("vindr", raw, tmp_path / "out", *SMALL, "--crop-breast", "--flip-right") == 0

    rows = panoptic.load_cases(tmp_path / "out")
    said = json.loads((tmp_path / "out" / "manifest.json").read_text())["options"]
    assert (said["crop_breast"], said["flip_right"], said["for_processing"]) == (True, True, False)
    assert all((float(row["scale_x"]) < 0) == (row["laterality"] == "R") for row in rows)
    stored = {image.name: image for image in panoptic.load(tmp_path / "out").images}
    kept = [stored[row["image_id"]].width / abs(float(row["scale_x"])) / int(row["native_width"]) for row in rows]
    assert max(kept) <= 1
    assert min(kept) < 0.95


def test_images_with_attributes_are_counted_in_the_table(raw, tmp_path, capsys):
    marked = shutil.copytree(raw, tmp_path / "raw")
    path = min(marked.rglob("*.dicom"))
    header = dcmread(path)
    header.BurnedInAnnotation = "YES"
    header.save_as(path, enforce_file_format=False)
    assert run("vindr", marked, tmp_path / "out", *SMALL) == 0

    assert "burned-in text" in capsys.readouterr().out
    counts = json.loads((tmp_path / "out" / "manifest.json").read_text())["counts"]
    assert counts["attributes"] == {"burned-in text": 1}


@pytest.mark.parametrize(("allowed", "code"), [((), 1), (("--max-skipped", 1), 0)])
def test_a_skipped_file_is_exit_code_1_unless_it_is_allowed(broken, tmp_path, capsys, allowed, code):
    assert run("vindr", broken, tmp_path / "out", *SMALL, *allowed) == code

    assert len(panoptic.load(tmp_path / "out").images) == 7
    assert ("1 image files were skipped" in capsys.readouterr().err) == bool(code)


@pytest.mark.parametrize(
    ("name", "options", "stuff"),
    [
        ("inbreast", ("--pectoral", "--labels", "birads-4abc"), 3),
        ("csaw-cc", ("--normals",), 2),
        ("mini-mias", ("--labels", "finding"), 2),
        ("cmmd", ("--missing-rows", "normal"), 2),
    ],
)
def test_every_collection_converts_with_its_own_options(tmp_path, capsys, name, options, stuff):
    import_module(f"mammoprep.phantom.{name.replace('-', '_')}").write(tmp_path / "raw", patients=3)
    assert run(name, tmp_path / "raw", tmp_path / "out", *SMALL, *options) == 0

    content = panoptic.load(tmp_path / "out")
    assert len(content.categories) - len(content.things) == stuff
    assert len(content.images) >= 4


def test_a_dry_run_counts_and_writes_nothing(raw, tmp_path, capsys):
    assert run("vindr", raw, tmp_path / "out", "--dry-run", "--json") == 0

    assert json.loads(capsys.readouterr().out)["images"] == 8
    assert list(tmp_path.iterdir()) == []


def test_resume_of_a_complete_dataset_says_so(raw, tmp_path, capsys):
    run("vindr", raw, tmp_path / "out", *SMALL)
    capsys.readouterr()

    assert run("vindr", raw, tmp_path / "out", *SMALL, "--resume") == 0
    assert "was complete already" in capsys.readouterr().err


def test_ctrl_c_says_how_to_go_on(raw, tmp_path, monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(convert, "convert", stop)
    assert run("vindr", raw, tmp_path / "out") == 130
    assert "--resume goes on from here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--hull", "conave"), "Did you mean 'concave'?"),
        (("--labels", "birad"), "Did you mean 'birads'?"),
        (("--bits", 12), "'16'"),
        (("--stuff", "brest,background"), "Did you mean 'breast'"),
        (("--window", "5/-1"), "5/-1"),
        (("--sigma", -1), "sigma is -1"),
        (("--recipe", "adaptiv"), "Did you mean 'adaptive'"),
        (("--recipe", "learned", "--sigma", 3), "--sigma changes nothing under --recipe learned"),
        (("--hull-ratio", 0.3), "--hull-ratio changes nothing where the hull is convex"),
        (("--workers", 0), "--workers is 0"),
        (("--limit", 0), "--limit is 0"),
        (("--long-side", -5), "--long-side is -5"),
        (("--max-skipped", -1), "--max-skipped"),
        (("--resume", "--overwrite"), "--resume"),
        (("--long-sid", 5), "--long-side"),
    ],
)
def test_a_wrong_option_is_one_line_and_exit_code_2(raw, tmp_path, capsys, arguments, text):
    assert run("vindr", raw, tmp_path / "out", *arguments) == 2

    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_raw_folder_is_one_line(raw, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for wrong, text in ((tmp_path / "nowhere", "does not exist"), (tmp_path / "empty", "is empty")):
        assert run("vindr", wrong, tmp_path / "out") == 2
        assert text in capsys.readouterr().err
    assert run("cdd-cesm", raw, tmp_path / "out") == 2
    assert "looks like VinDr-Mammo; use `mammoprep convert vindr`" in capsys.readouterr().err


def test_an_out_that_holds_something_is_refused_until_it_may_be_replaced(raw, tmp_path, capsys):
    run("vindr", raw, tmp_path / "out", *SMALL)
    assert run("vindr", raw, tmp_path / "out", *SMALL) == 2
    assert "is not empty" in capsys.readouterr().err
    assert run("vindr", raw, tmp_path / "out", *SMALL, "--overwrite") == 0


def test_there_is_a_sub_command_for_every_reader():
    assert commands().keys() == READERS.keys()


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_the_label_schemes_are_the_reader_s_the_default_first(reader):
    labels = signature(command_of(reader)).parameters.get("labels")

    schemes = tuple(reader.labels)
    assert (labels is not None) == (len(schemes) > 1)
    assert labels is None or get_args(get_args(labels.annotation)[0]) == schemes
    assert labels is None or labels.default == schemes[0]


@pytest.mark.parametrize(("name", "reader"), [(name, reader) for name, reader in READERS.items() if name != "folder"])
def test_what_a_reader_alone_takes_is_an_option_with_a_help_of_its_own(name, reader):
    own = {each.name: each.default for each in signature(reader.read).parameters.values()}
    options = {option.name: option for option in commands()[name].params}

    for word in own.keys() - {"root", "labels"}:
        assert options[word].default == own[word]
        assert options[word].help
        assert "Of the reader" not in options[word].help


def test_a_flag_and_a_choice_of_a_reader_reach_it(tmp_path, capsys):
    assert run("cdd-cesm", tmp_path, tmp_path / "out", "--modality", "both", "--normals") == 2
    assert "is empty. Name the folder of CDD-CESM" in capsys.readouterr().err
    assert run("cdd-cesm", tmp_path, tmp_path / "out", "--modality", "colour") == 2
    assert "'low-energy'" in capsys.readouterr().err


@pytest.mark.parametrize("name", READERS)
def test_every_common_option_stands_after_each_sub_command(name):
    assert {field.name for field in fields(Common)} <= {parameter.name for parameter in commands()[name].params}


def test_the_defaults_that_help_shows_are_those_that_hold():
    hints = get_type_hints(Common, include_extras=True)
    shown = {
        name: get_args(hints[name])[1].show_default for name in ("sigma", "threshold", "hull", "hull_ratio", "min_area")
    }

    values = {name: [getattr(recipe, name) for recipe in (PAPER, ADAPTIVE)] for name in shown}
    plain = {
        name: [f"{value:g}" if isinstance(value, float) else value for value in pair] for name, pair in values.items()
    }
    assert shown == {name: f"paper {paper}, adaptive {adaptive}" for name, (paper, adaptive) in plain.items()}
    assert Common().options("birads", {}) == Options(labels="birads")


def test_many_reasons_are_cut_short_in_the_table(raw, tmp_path, monkeypatch, capsys):
    reasons = {f"reason {i:02}": 100 - i for i in range(15)}
    summary = Summary(images=1, patients=1, findings={}, skipped={"finding": reasons})
    monkeypatch.setattr(convert, "preview", lambda *_, **__: summary)

    run("vindr", raw, tmp_path / "out", "--dry-run")

    printed = capsys.readouterr().out
    assert "reason 09" in printed
    assert "reason 10" not in printed
    assert str(sum(range(86, 91))) in printed  # the other five


@pytest.mark.parametrize("arguments", [["--help"], ["convert", "vindr", "--help"], ["folds", "--help"]])
def test_help_is_quick_and_imports_nothing_heavy(arguments):
    code = f"""
import sys
from mammoprep.cli import main
try:
    main({arguments})
finally:
    heavy = {{"torch", "cv2", "pandas", "numpy", "pydicom", "sklearn", "joblib"}} & set(sys.modules)
    sys.stderr.write(" ".join(heavy))
"""
    start = perf_counter()
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ended.stderr == ""
    assert "Usage" in ended.stdout
    assert perf_counter() - start < 2  # 0.25 s on a machine that does nothing else


@pytest.fixture
def own(tmp_path):
    """A folder of one picture with a box, whose patient a table names."""
    root = tmp_path / "own"
    root.mkdir()
    panoptic.write_png(root / "anna.png", np.pad(np.full((40, 20), 90, dtype=np.uint8), ((0, 0), (0, 20))))
    (root / "t.csv").write_text("file;wer;label;x0;y0;x1;y1\nanna;MRN7;cyst;2;5;15;25\n")
    return root


def test_a_known_data_set_is_told_to_who_takes_it_for_his_own_and_no_image_is_a_problem(raw, tmp_path, capsys):
    assert run("folder", raw, tmp_path / "out", "--dry-run") == 1
    notes = capsys.readouterr().err
    assert f"{raw} looks like VinDr-Mammo, which `mammoprep convert vindr` reads.\n" in notes
    assert "No image would be converted.\n" in notes


def test_a_label_map_of_one_s_own(own, tmp_path, capsys):
    values = np.zeros((40, 40), dtype=np.uint8)
    values[30:35, 2:7], values[36:38, 1:3], values[0, 0] = 2, 1, 3
    panoptic.write_png(own / "anna_mask.png", values)
    how = ("--column", "patient=wer", "--values", "1=cyst,2=mass", "--workers", 1, "--json")
    assert run("folder", own, tmp_path / "out", *how) == 0

    counts = json.loads(capsys.readouterr().out)
    assert counts["findings"] == {"cyst": 2, "mass": 1}
    assert counts["skipped"] == {"finding": {"the label map's value 3 has no class": 1}}
    assert run("folder", own, tmp_path / "no", "--values", "1:cyst") == 2
    assert "--values 1:cyst is not VALUE=CLASS" in capsys.readouterr().err


def test_a_folder_of_one_s_own_comes_out_under_pseudonyms(own, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("folder", own, out, "--column", "patient=wer", "--workers", 1) == 0

    text = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert b"MRN7" not in text
    assert b"anna" not in text
    links = (tmp_path / "out.key.csv").read_text().splitlines()
    assert links[0] == "pseudonym,file"
    assert f"{panoptic.load(out).images[0].name},anna.png" in links
    assert "keep them in the house" in capsys.readouterr().err


def test_the_same_key_gives_the_same_bytes_and_another_is_refused(own, tmp_path, capsys):
    how = ("folder", own, tmp_path / "out", "--column", "patient=wer", "--workers", 1, "--key")
    assert run(*how, tmp_path / "key") == 0
    before = (tmp_path / "out" / "cases.csv").read_bytes()
    assert run(*how, tmp_path / "key", "--overwrite") == 0
    assert (tmp_path / "out" / "cases.csv").read_bytes() == before
    capsys.readouterr()

    assert run(*how, tmp_path / "other", "--resume") == 2
    assert "was made with options key = " in capsys.readouterr().err


def test_plain_names_and_a_dry_run_need_no_key(own, tmp_path):
    how = ("folder", own, tmp_path / "out", "--column", "patient=wer", "--workers", 1)
    assert run(*how, "--dry-run") == 0
    assert run(*how, "--plain-names") == 0

    assert panoptic.load_cases(tmp_path / "out")[0]["patient_id"] == "MRN7"
    assert {path.name for path in tmp_path.iterdir()} == {"own", "out"}


@pytest.mark.parametrize("place", ["own", "out"])
def test_a_key_in_a_folder_that_may_be_passed_on_is_refused(own, tmp_path, capsys, place):
    assert run("folder", own, tmp_path / "out", "--key", tmp_path / place / "key") == 2
    assert "which may be passed on" in capsys.readouterr().err


def test_a_key_made_for_a_run_that_fails_is_not_left(own, tmp_path, capsys):
    assert run("folder", own, tmp_path / "out", "--column", "patient=who") == 2
    assert "no table has that column" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"own"}


def test_coco_takes_a_dataset(raw, tmp_path):
    assert run("vindr", raw, tmp_path / "out", *SMALL) == 0
    assert run("coco", tmp_path / "out", tmp_path / "again", *SMALL) == 0

    for name in ("panoptic.json", "instances.json", "cases.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
