"""Raw folders and DATASETs: the same collection gives the same counts."""

import shutil
from pathlib import Path

import pytest

from mammoprep import convert, inventory, panoptic, phantom
from mammoprep.errors import MammoprepError, MissingFileError, UnknownNameError
from mammoprep.readers import READERS, recognise

REAL = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("phantoms")
    phantom.write(home / "raw", patients=6, long_side=128)
    return home / "raw"


@pytest.fixture
def raw(phantoms, tmp_path) -> Path:
    return Path(shutil.copytree(phantoms, tmp_path / "raw"))


def inspect(source, **options):
    return inventory.inspect(source, recognise=recognise, **options)


def test_tables_alone_say_who_and_what(phantoms):
    found = inspect(phantoms)
    assert (found.source, found.labels) == ("VinDr-Mammo (mammoprep convert vindr)", "birads")
    assert (found.images, found.files, found.patients, found.studies) == (24, 24, 6, 6)
    assert found.images_by["laterality"] == {"L": 12, "R": 12}
    assert found.images_by["manufacturer"] == {"not stated": 24}
    assert list(found.classes) == ["BI-RADS 3", "BI-RADS 4", "BI-RADS 5"]
    assert not inventory.is_known(found.sizes_mm)


def test_a_data_set_has_the_counts_of_its_raw_folder(phantoms, tmp_path):
    before = inspect(phantoms, read_pixels=True)
    options = convert.Options(labels="birads")
    convert.convert(READERS["vindr"], phantoms, out=tmp_path / "dataset", options=options)
    after = inspect(tmp_path / "dataset")
    assert after.source == "DATASET of vindr"
    for name in ("images", "files", "patients", "studies", "lesion_free", "without_finding", "classes", "skipped"):
        assert getattr(before, name) == getattr(after, name)
    assert before.images_by == after.images_by
    assert before.findings_per_image == after.findings_per_image
    assert inventory.is_known(after.sizes_mm)


def test_mirrored_and_cropped_images_have_the_sizes_of_their_lesions(phantoms, tmp_path):
    found = []
    for name, changes in (("plain", {}), ("aimed", {"crop_breast": True, "flip_right": True})):
        options = convert.Options(labels="birads", long_side=0, **changes)
        convert.convert(READERS["vindr"], phantoms, out=tmp_path / name, options=options)
        found.append(inspect(tmp_path / name))
    assert any(float(row["scale_x"]) < 0 for row in panoptic.load_cases(tmp_path / "aimed"))
    assert (found[0].sizes_px, found[0].sizes_mm) == (found[1].sizes_px, found[1].sizes_mm)


def test_another_label_scheme_has_other_classes(phantoms):
    found = inspect(phantoms, labels="finding")
    assert found.classes["Mass"].findings > 0
    assert "finding" not in found.skipped


def test_findings_without_a_class_and_files_that_are_not_there_are_left_out_with_their_reason(raw):
    next(raw.rglob("*.dicom")).unlink()
    found = inspect(raw)
    assert (found.images, found.files) == (24, 23)
    assert found.skipped["image"] == {"the file is not there": 1}
    assert found.skipped["finding"] == {"no class under --labels birads": 1}


def test_pixels_tell_manufacturer_millimetres_and_what_cannot_be_read(raw):
    first, second = sorted(raw.rglob("*.dicom"))[:2]
    first.write_bytes(b"")
    second.write_bytes(b"no image at all")
    assert "image" not in inspect(raw).skipped
    found = inspect(raw, read_pixels=True)
    assert found.images_by["manufacturer"]["not stated"] == 2
    assert sum(found.images_by["manufacturer"].values()) == 24
    assert found.skipped["image"]["the file is empty"] == 1
    assert sum(found.skipped["image"].values()) == 2
    assert inventory.is_known(found.sizes_mm)


def test_an_image_of_another_size_than_the_table_says_is_left_out(raw):
    table = raw / "finding_annotations.csv"
    lines = table.read_text().splitlines()
    image_id = lines[1].split(",")[2]
    table.write_text("\n".join(line.replace(",128,", ",127,") if image_id in line else line for line in lines) + "\n")
    found = inspect(raw, read_pixels=True)
    assert any("the table says 127x" in reason for reason in found.skipped["image"])


def test_the_progress_is_told(phantoms):
    told = []
    inspect(phantoms, on_progress=lambda done, total: told.append((done, total)))
    assert told == [(number, 24) for number in range(1, 25)]


def test_sizes_of_a_data_set_are_native(tmp_path):
    """At a quarter of the size 20 stored pixels are 80 native ones, 8 mm at a tenth of a millimetre each."""
    lesion = panoptic.Segment(1, 1, 100, (10, 10, 20, 5))
    image = panoptic.Image(1, "one", 40, 40, (lesion, panoptic.Segment(2, 3, 1500, (0, 0, 40, 40))))
    panoptic.write_panoptic(tmp_path, categories=panoptic.make_categories(["mass"]), images=[image])
    columns = "image_id,patient_id,scale_x,scale_y,crop_x0,crop_y0,pixel_spacing_mm,lesion_free"
    (tmp_path / "cases.csv").write_text(f"{columns}\none,p1,0.25,0.25,8,4,0.1,0\n")
    found = inspect(tmp_path)
    assert found.sizes_px["64-128"] == {"mass": 1}
    assert found.sizes_mm["5-10"] == {"mass": 1}
    assert found.files == 0


def test_real_annotations_are_counted_whole():
    if not (REAL / "cdd-cesm").is_dir():
        pytest.skip(f"{REAL / 'cdd-cesm'} is not there: the release's tables are needed")
    found = inspect(REAL / "cdd-cesm")
    left_out = found.skipped["finding"]
    assert found.images == 1233
    assert found.files == 0
    # 2,971 outlines: those of a class, those on the images called Normal, six repeats
    assert sum(of.findings for of in found.classes.values()) + sum(left_out.values()) == 2971
    assert left_out["the outline repeats an earlier one of the image"] == 6


def test_what_is_neither_is_one_line(tmp_path, phantoms):
    with pytest.raises(MissingFileError, match="nowhere does not exist"):
        inspect(tmp_path / "nowhere")
    with pytest.raises(MammoprepError, match="is neither a DATASET nor the folder of a data set that is known"):
        inspect(tmp_path)
    with pytest.raises(MammoprepError, match=f"Name {phantoms}"):
        inspect(phantoms.parent)


def test_options_that_do_not_fit_are_refused(phantoms, tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean 'birads'"):
        inspect(phantoms, labels="birad")
    convert.convert(READERS["vindr"], phantoms, out=tmp_path / "d", options=convert.Options(labels="birads", limit=2))
    with pytest.raises(MammoprepError, match="Leave out --pixels"):
        inspect(tmp_path / "d", read_pixels=True)
    with pytest.raises(MammoprepError, match="Leave out --labels"):
        inspect(tmp_path / "d", labels="birads")


def test_figures_are_drawn(phantoms, tmp_path):
    import cv2

    found = inspect(phantoms, labels="finding")
    inventory.draw(found, tmp_path / "figures")
    inventory.draw(found, tmp_path / "again")
    for name in ("counts.png", "sizes.png"):
        picture = cv2.imread(str(tmp_path / "figures" / name))
        assert picture.shape[1] >= 700
        assert (picture != 255).mean() > 0.02
        assert (tmp_path / "figures" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_a_figure_folder_that_is_a_file_is_one_line(phantoms, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MammoprepError, match="could not be written"):
        inventory.draw(inspect(phantoms), tmp_path / "file")


def test_a_damaged_manifest_or_table_of_a_data_set_is_no_crash(phantoms, tmp_path):
    convert.convert(
        READERS["vindr"], phantoms, out=tmp_path / "dataset", options=convert.Options(labels="birads", limit=2)
    )
    (tmp_path / "dataset" / "manifest.json").write_text("[7]")
    assert inspect(tmp_path / "dataset").source == "DATASET of unknown origin"
    (tmp_path / "dataset" / "skipped.csv").write_bytes(b"source,stage,reason\n\xff\xfe\n")
    with pytest.raises(MammoprepError, match="skipped.csv cannot be read as CSV"):
        inspect(tmp_path / "dataset")
