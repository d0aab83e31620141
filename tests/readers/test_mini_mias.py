"""mini-MIAS in its real layout, one quirk a test."""

import numpy as np
import pytest

from mammoprep import convert, panoptic
from mammoprep.convert import Options
from mammoprep.errors import MammoprepError, UnknownNameError
from mammoprep.phantom import mini_mias as phantom
from mammoprep.phantom import scene, studies
from mammoprep.readers import READERS, mini_mias
from mammoprep.records import Ellipse, Record, Skipped

README = "INFORMATION ABOUT THE DATABASE\n\n  the first column is mdb001 and so on\n"


def write(root, *rows, name="Info.txt", films=("mdb001.pgm",)):
    (root / name).write_text("\r\n".join(["REFNUM BG CLASS SEVERITY X Y RADIUS", "", *rows, ""]))
    for film in films:
        (root / film).parent.mkdir(exist_ok=True)
        (root / film).touch()
    return root


def read(root, **options):
    items = list(mini_mias.read(root, **options))
    return [item for item in items if isinstance(item, Record)], [item for item in items if isinstance(item, Skipped)]


def test_a_circle_counts_from_the_lower_left_corner(tmp_path):
    (record,), skipped = read(write(tmp_path, "mdb001 G CIRC B 535 425 197"))

    assert skipped == []
    assert (record.source, record.image_id, record.size) == ("mdb001.pgm", "mdb001", (1024, 1024))
    assert (record.laterality, record.view, record.density, record.pixel_spacing_mm) == ("R", "MLO", "", 0.2)
    assert record.findings[0].shape == Ellipse(535.0, 599.0, 197.0, 197.0)  # 1024 - 425
    assert (record.findings[0].label, record.findings[0].source) == ("benign", "Info.txt row 3")
    assert record.findings[0].attributes == {"class": "Circumscribed Mass", "severity": "benign", "tissue": "G"}


@pytest.mark.parametrize(
    ("kind", "label"),
    [
        ("CALC", "Calcification"),
        ("SPIC", "Spiculated Mass"),
        ("MISC", "Other Mass"),
        ("ARCH", "Architectural Distortion"),
        ("asym", "Asymmetry"),
    ],
)
def test_every_class_has_its_name(tmp_path, kind, label):
    root = write(tmp_path, f"mdb001 D {kind} M 1 2 3")

    assert read(root)[0][0].findings[0].label == "malignant"
    assert read(root, labels="finding")[0][0].findings[0].label == label


def test_several_rows_of_an_id_are_one_image(tmp_path):
    rows = ["mdb005 F CIRC B 477 133 30", "mdb005 F CIRC B 500 168 26", "mdb005 F CIRC B 500 168 26"]
    (record,), skipped = read(write(tmp_path, *rows, films=("mdb005.pgm",)))

    assert len(record.findings) == 2
    assert [(item.source, item.stage) for item in skipped] == [("Info.txt row 5", "finding")]


def test_films_that_follow_each_other_are_one_patient(tmp_path):
    records, _ = read(write(tmp_path, *(f"mdb00{number} D NORM " for number in (1, 2, 3, 4))))

    assert [record.patient_id for record in records] == ["pair001", "pair001", "pair002", "pair002"]
    assert [record.laterality for record in records] == ["R", "L", "R", "L"]
    assert all(record.lesion_free for record in records)


@pytest.mark.parametrize("row", ["mdb059 F CIRC B", "mdb059 D CALC M *NOTE 3*", "mdb059 D CALC M 1 2 0"])
def test_an_abnormality_without_a_circle_costs_the_image(tmp_path, row):
    records, skipped = read(write(tmp_path, row, films=("mdb059.pgm",)))

    assert records == []
    assert [(item.source, item.stage) for item in skipped] == [
        ("Info.txt row 3", "finding"),
        ("mdb059.pgm", "selection"),
    ]


def test_a_circle_beside_a_row_without_one_is_used(tmp_path):
    (record,), skipped = read(write(tmp_path, "mdb001 F CIRC B", "mdb001 F CIRC B 1 2 3", "mdb001 F NORM"))

    assert (len(record.findings), record.lesion_free) == (1, False)
    assert [(item.source, item.stage) for item in skipped] == [
        ("Info.txt row 3", "finding"),
        ("Info.txt row 5", "table"),
    ]


@pytest.mark.parametrize("row", ["mdb002 X CIRC B 1 2 3", "mdb002 G", "mdb002 G NORM 1 2 3", "mdb002"])
def test_a_row_that_cannot_be_read_is_listed(tmp_path, row):
    records, skipped = read(write(tmp_path, "mdb001 G NORM ", row))

    assert [record.image_id for record in records] == ["mdb001"]
    assert [(item.source, item.stage) for item in skipped] == [("Info.txt row 4", "table")]


def test_the_readme_is_read_where_it_holds_the_table(tmp_path):
    write(tmp_path, "mdb001 G NORM ")
    (tmp_path / "Info.txt").write_text(README)
    (tmp_path / "README").write_text(README + "mdb001 G CIRC B 535 425 197\n")
    (record,), _ = read(tmp_path)

    assert record.findings[0].source == "README row 4"


def test_films_may_lie_in_a_folder_and_strays_are_listed(tmp_path):
    films = ("all-mias/MDB001.PGM", "all-mias/mdb322.pgm", "all-mias/._mdb001.pgm")
    (record,), skipped = read(write(tmp_path, "mdb001 G NORM ", films=films))

    assert record.source == "all-mias/MDB001.PGM"
    assert skipped == [Skipped("all-mias/mdb322.pgm", "table", "no row of the table names the file")]


def test_a_table_that_is_missing_or_another_s_is_one_line(tmp_path):
    with pytest.raises(MammoprepError, match="Info.txt does not exist"):
        read(tmp_path)
    with pytest.raises(MammoprepError, match="has no row like 'mdb001 G CIRC B"):
        read(write(tmp_path, "a,b"))
    with pytest.raises(UnknownNameError, match="Did you mean 'pathology'"):
        read(tmp_path, labels="patology")


def test_a_phantom_s_circles_enclose_its_lesions(tmp_path):
    phantom.write(tmp_path / "raw", patients=2)
    options = Options(labels="pathology", long_side=0)
    convert.convert(READERS["mini-mias"], tmp_path / "raw", out=tmp_path / "out", options=options)
    content = panoptic.load(tmp_path / "out")
    views = {view.stream[1:3]: view for view in studies.plan(2, seed=0, long_side=1024) if view.position == "MLO"}
    order = [views[patient, side] for patient in (0, 1) for side in (1, 0)]  # right, then left

    assert len(content.images) == 4
    for view, image in zip(order, content.images, strict=True):
        shown, ids = scene.draw(scene.squared(view, 1024)), content.ids_of(image)
        lesions = np.isin(ids, [segment.id for segment in image.segments if segment.category_id <= 2])
        inside = np.count_nonzero(lesions & (shown.ids > 0))
        assert inside >= 0.98 * np.count_nonzero(shown.ids)
        assert lesions.any() == bool(view.kinds)
