"""Phantom folders: the release's layout, true masks, boxes like a reader's, stored pixels of three manufacturers."""

import ast
import csv
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pydicom
import pytest

from mammoprep import panoptic, phantom
from mammoprep.errors import MammoprepError
from mammoprep.phantom import breast, detectors, lesions, studies, truth
from mammoprep.readers import READERS, recognise
from mammoprep.records import Record

SIDE = 128
HEX = re.compile(r"[0-9a-f]{32}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "raw"
    phantom.write(root, patients=12, long_side=SIDE)
    return root


def rows(root: Path, name: str) -> list[dict[str, str]]:
    with (root / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def truth_of(root: Path, image_id: str):
    return panoptic.read_png(root.with_name("raw-truth") / f"{image_id}.png")


def header_line(root: Path, name: str) -> str:
    return (root / name).read_bytes().split(b"\n")[0].decode()


def view(position: str = "MLO", laterality: str = "L", detector: str = "SIEMENS") -> studies.View:
    return next(
        each
        for each in studies.plan(8, seed=3, long_side=SIDE)
        if (each.position, each.laterality, each.detector.manufacturer) == (position, laterality, detector)
    )


def test_folder_has_the_layout_of_the_release(folder):
    assert sorted(path.name for path in folder.iterdir()) == [
        "breast-level_annotations.csv",
        "finding_annotations.csv",
        "images",
        "metadata.csv",
    ]
    files = list(folder.glob("images/*/*"))
    assert len(files) == 48
    assert all(HEX.fullmatch(path.parent.name) and HEX.fullmatch(path.stem) for path in files)
    assert {path.suffix for path in files} == {".dicom"}


def test_tables_have_the_columns_of_the_release(folder):
    shared = "study_id,series_id,image_id,laterality,view_position,height,width,breast_birads,breast_density"
    boxes = "finding_categories,finding_birads,xmin,ymin,xmax,ymax"
    assert header_line(folder, "finding_annotations.csv") == f"{shared},{boxes},split"
    assert header_line(folder, "breast-level_annotations.csv") == f"{shared},split"
    assert header_line(folder, "metadata.csv").split(",")[:3] == [
        "SOP Instance UID",
        "Series Instance UID",
        "SOP Instance UID",
    ]


def test_metadata_writes_lists_as_the_release_does(folder):
    by_maker = {row["Manufacturer"]: row for row in rows(folder, "metadata.csv")}
    giotto = by_maker["IMS GIOTTO"]
    assert giotto["Window Center"].startswith("[10482")
    assert giotto["Window Center"].count(",") == 4
    assert giotto["Window Center & Width Explanation"].startswith("['CURRENT', 'STANDARD'")
    assert by_maker["Planmed"]["Pixel Padding Value"] == "10000"
    assert re.fullmatch(r"0\d\dY", giotto["Patient's Age"])


def test_every_study_has_four_views(folder):
    views: dict[str, list[str]] = {}
    for row in rows(folder, "breast-level_annotations.csv"):
        views.setdefault(row["study_id"], []).append(row["laterality"] + row["view_position"])
    assert len(views) == 12
    assert set(map(tuple, views.values())) == {("LCC", "LMLO", "RCC", "RMLO")}


def test_rows_without_a_finding_stand_alone_and_have_no_box(folder):
    by_image: dict[str, list[dict[str, str]]] = {}
    for row in rows(folder, "finding_annotations.csv"):
        by_image.setdefault(row["image_id"], []).append(row)
    empty = [group for group in by_image.values() if "['No Finding']" in {row["finding_categories"] for row in group}]
    assert len(by_image) == 48
    assert empty
    assert all(len(group) == 1 and not group[0]["xmin"] and not group[0]["finding_birads"] for group in empty)


def test_box_is_the_true_mask_with_a_margin(folder):
    found = 0
    for image_id in {row["image_id"] for row in rows(folder, "finding_annotations.csv")}:
        ids = truth_of(folder, image_id)
        marked = [r for r in rows(folder, "finding_annotations.csv") if r["image_id"] == image_id and r["xmin"]]
        assert ids.dtype == np.uint8
        assert set(np.unique(ids)) == set(range(len(marked) + 1))
        for number, row in enumerate(marked, start=1):
            y, x = np.nonzero(ids == number)
            mask_edges = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1], float)
            box_edges = np.array([float(row[key]) for key in ("xmin", "ymin", "xmax", "ymax")])
            extent = np.tile(mask_edges[2:] - mask_edges[:2], 2)
            outwards = (box_edges - mask_edges) * (-1, -1, 1, 1) / extent
            assert np.all((outwards > -0.03) & (outwards < 0.15))
            found += 1
    assert found > 20


def test_some_boxes_leave_the_image(folder):
    marked = [row for row in rows(folder, "finding_annotations.csv") if row["xmin"]]
    over = [row for row in marked if float(row["xmin"]) < 0 or float(row["xmax"]) > int(row["width"])]
    assert 0 < len(over) < len(marked)


def test_forty_patients_hold_enough_of_each_class_and_every_quirk():
    views = list(studies.plan(40, seed=0, long_side=SIDE))
    kinds = [kind for each in views for kind in each.kinds]
    for birads in (3, 4, 5):
        assert sum(kind.birads == birads for kind in kinds) >= 20
    assert any(kind.birads is None for kind in kinds)
    assert any(len(kind.categories) == 2 for kind in kinds)
    assert any(len(each.kinds) > 1 for each in views)
    assert any(each.birads >= 3 and not each.kinds for each in views)
    assert {each.split for each in views} == {"training", "test"}
    series = {each.study_id: set() for each in views}
    for each in views:
        series[each.study_id].add(each.series_id)
    assert {len(ids) for ids in series.values()} == {1, 2}


def test_breast_birads_is_its_worst_finding_in_both_views():
    breasts: dict[tuple[str, str], list[studies.View]] = {}
    for each in studies.plan(40, seed=0, long_side=SIDE):
        breasts.setdefault((each.study_id, each.laterality), []).append(each)
    for cc, mlo in breasts.values():
        worst = max((kind.birads or 0 for kind in mlo.kinds), default=0)
        assert cc.birads == mlo.birads
        assert cc.birads == worst if worst else cc.birads in (1, 2)
        assert set(cc.kinds) <= set(mlo.kinds)


def test_true_sizes_are_those_of_the_detectors():
    sizes = {(each.height, each.width) for each in studies.plan(4, seed=0, long_side=0)}
    assert sizes == {(3518, 2800), (2812, 2012), (3580, 2812)}
    assert {each.pixel_mm for each in studies.plan(4, seed=0, long_side=0)} == {0.085}


def test_smaller_images_have_larger_pixels(folder):
    row = next(row for row in rows(folder, "metadata.csv") if row["Manufacturer"] == "SIEMENS")
    assert ast.literal_eval(row["Pixel Spacing"]) == [round(0.085 * 3518 / SIDE, 6)] * 2


def test_dicom_is_de_identified_as_the_release_is(folder):
    for path in sorted(folder.glob("images/*/*.dicom")):
        with pydicom.config.disable_value_validation():
            content = pydicom.dcmread(path)
            ids = (content.SOPInstanceUID, content.StudyInstanceUID)
            assert content.file_meta.MediaStorageSOPClassUID == "1.2.3.4"
        assert ids == (path.stem, path.parent.name)
        for keyword in ("SOPClassUID", "PatientID", "PatientName", "StudyDate"):
            assert keyword not in content
        assert not content.file_meta.TransferSyntaxUID.is_compressed
        assert len(content.PixelData) == content.Rows * content.Columns * 2


def test_folder_shows_all_three_manufacturers_styles(folder):
    with pydicom.config.disable_value_validation():
        contents = [pydicom.dcmread(path) for path in folder.glob("images/*/*.dicom")]
    styles = {
        (c.Manufacturer, c.PhotometricInterpretation, c.PixelPaddingValue, np.size(c.WindowCenter)) for c in contents
    }
    assert styles == {
        ("SIEMENS", "MONOCHROME2", 0, 1),
        ("Planmed", "MONOCHROME1", 10000, 1),
        ("IMS GIOTTO", "MONOCHROME2", 0, 5),
    }
    assert {c.file_meta.TransferSyntaxUID.is_implicit_VR for c in contents} == {True, False}


@pytest.mark.parametrize(
    ("detector", "shown", "stored"),
    [
        # centre - 0.5 + (brightness - 0.5) * (width - 1), rounded half to even; MONOCHROME1 stores 1 - brightness
        (detectors.SIEMENS, 0.25, 1261),  # 1635.5 - 374.75
        (detectors.PLANMED, 0.25, 5456),  # 3637.5 + 1818.75
        (detectors.GIOTTO, 0.75, 13102),  # 10481.5 + 2620.25
    ],
)
def test_stored_values_undo_the_first_window(detector, shown, stored):
    image = np.full((1, 1), shown, np.float32)
    assert detectors.store(image, np.array([[True]]), detector=detector) == stored


def test_outside_the_breast_lies_padding_alone():
    image = np.full((4, 1), 0.5, np.float32)
    outside = np.zeros((4, 1), bool)
    assert set(detectors.store(image, outside, detector=detectors.SIEMENS).flat) == {0}
    assert set(detectors.store(image, outside, detector=detectors.PLANMED).flat) == {10000}
    assert list(detectors.store(image, outside, detector=detectors.GIOTTO).flat) == [1294, 862, 431, 0]


@pytest.mark.parametrize("detector", detectors.DETECTORS[1:])
def test_breast_never_looks_like_padding(detector):
    extremes = detectors.store(np.array([[0.0, 1.0]], np.float32), np.ones((1, 2), bool), detector=detector)
    limit = detector.padding if detector.padding_limit is None else detector.padding_limit
    assert not np.any((extremes >= detector.padding) & (extremes <= limit))
    assert extremes.max() < 2**detector.bits


@pytest.mark.parametrize(("laterality", "edge"), [("L", 0), ("R", -1)])
def test_chest_wall_is_on_the_breasts_own_side(laterality, edge):
    pixels, _, _ = phantom.draw(view("CC", laterality))
    assert (pixels[:, edge] > 0).mean() > 0.6
    assert not pixels[:, -1 - edge].any()


def test_mlo_shows_the_pectoral_muscle_and_cc_does_not():
    drawn = {
        position: breast.draw((SIDE, SIDE), position=position, density="B", rng=np.random.default_rng(0))
        for position in ("CC", "MLO")
    }
    assert not drawn["CC"].muscle.any()
    assert drawn["MLO"].muscle[0, 0] == 1
    assert drawn["MLO"].muscle[-1, -1] == 0


def test_denser_breasts_are_brighter():
    means = []
    for density in ("A", "B", "C", "D"):
        drawn = breast.draw((SIDE, SIDE), position="CC", density=density, rng=np.random.default_rng(0))
        means.append(float(drawn.brightness[drawn.skin < 1].mean()))
    assert means == sorted(means)


@pytest.mark.parametrize(
    "kind", [lesions.ROUND, lesions.IRREGULAR, lesions.CLUSTER, lesions.SPICULATED, lesions.CALCIFIED]
)
def test_lesion_brightens_its_mask_and_nothing_far_away(kind):
    rng = np.random.default_rng(1)
    healthy = breast.draw((320, 256), position="CC", density="B", rng=rng)
    brightness, truth = lesions.add(healthy, (kind,), pixel_mm=0.9, rng=rng)
    gain = brightness - healthy.brightness
    assert gain[truth == 1].mean() > 0.1
    assert gain[truth == 0].mean() < 0.01
    diameter = 2 * np.sqrt((truth == 1).sum() / np.pi) * 0.9
    assert 0.5 * kind.diameter[0] < diameter < 1.3 * kind.diameter[1]


def test_two_lesions_do_not_overlap():
    rng = np.random.default_rng(2)
    healthy = breast.draw((320, 256), position="CC", density="B", rng=rng)
    _, both = lesions.add(healthy, (lesions.SPICULATED, lesions.ROUND), pixel_mm=0.9, rng=np.random.default_rng(5))
    _, first = lesions.add(healthy, (lesions.SPICULATED,), pixel_mm=0.9, rng=np.random.default_rng(5))
    assert set(np.unique(both)) == {0, 1, 2}
    assert np.array_equal(both == 1, first == 1)


def test_contrast_rises_with_birads():
    assert lesions.ROUND.contrast < lesions.IRREGULAR.contrast < lesions.SPICULATED.contrast


def test_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    for name, seed in (("a", 4), ("b", 4), ("c", 5)):
        phantom.write(tmp_path / name, patients=1, seed=seed, long_side=SIDE)
    content = {
        name: {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()}
        for name in ("a", "a-truth", "b", "b-truth", "c")
    }
    assert content["a"] == content["b"]
    assert content["a-truth"] == content["b-truth"]
    assert content["a"].keys().isdisjoint(path for path in content["c"] if path.suffix == ".dicom")


def test_truth_goes_where_it_is_told(tmp_path):
    phantom.write(tmp_path / "raw", patients=1, long_side=SIDE, truth=tmp_path / "masks")
    assert len(list((tmp_path / "masks").glob("*.png"))) == 4


def test_reader_takes_every_image_and_skips_nothing(folder):
    assert recognise(folder).name == "vindr"
    records = list(READERS["vindr"].read(folder, labels="birads"))
    assert all(isinstance(record, Record) for record in records)
    assert len(records) == 48
    assert all((folder / record.source).is_file() for record in records)


@pytest.mark.parametrize("options", [{"patients": 0}, {"long_side": 100}, {"long_side": -1}])
def test_impossible_sizes_are_refused(tmp_path, options):
    with pytest.raises(MammoprepError, match="Ask for"):
        phantom.write(tmp_path / "raw", **options)
    assert not any(tmp_path.iterdir())


def test_folder_that_holds_something_is_refused_and_left_alone(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "mine.txt").write_text("mine")
    with pytest.raises(MammoprepError, match="not empty"):
        phantom.write(tmp_path / "raw", patients=1, long_side=SIDE)
    assert [path.name for path in tmp_path.rglob("*")] == ["raw", "mine.txt"]


def write_dataset(root: Path, *, ids) -> None:
    (root / "panoptic").mkdir(parents=True)
    panoptic.write_ids(root / "panoptic" / "a.png", ids)
    segments = [
        panoptic.Segment(number, min(number, 3), int((ids == number).sum()), panoptic.mask_box(ids == number))
        for number in np.unique(ids).tolist()
    ]
    image = panoptic.Image(1, "a", *ids.shape, tuple(segments))
    panoptic.write_panoptic(root, categories=panoptic.make_categories(["x", "y"], ["background"]), images=[image])


def test_dice_is_that_of_the_lesion_covered_most(tmp_path):
    # At half the size: class x covers columns 0-3, of lesion 1 (columns 0-2) 3 and of lesion 2 (column 3) 1.
    ids = np.full((2, 6), 3, np.int32)
    ids[:, :4] = 1
    true = np.zeros((4, 12), np.uint8)
    true[:, :6], true[:, 6:8] = 1, 2
    write_dataset(tmp_path / "dataset", ids=ids)
    (tmp_path / "truth").mkdir()
    panoptic.write_png(tmp_path / "truth" / "a.png", true)
    # 2 * 6 / (8 + 6)
    assert truth.dice(tmp_path / "dataset", tmp_path / "truth") == {"x": [pytest.approx(12 / 14)], "y": []}


def test_dice_of_a_mask_that_covers_no_lesion_is_zero(tmp_path):
    ids = np.full((2, 6), 3, np.int32)
    ids[:, :1], ids[:, 2:] = 1, 2
    write_dataset(tmp_path / "dataset", ids=ids)
    (tmp_path / "truth").mkdir()
    panoptic.write_png(tmp_path / "truth" / "a.png", np.eye(2, 6, 2, np.uint8))
    assert truth.dice(tmp_path / "dataset", tmp_path / "truth")["x"] == [0.0]


@pytest.mark.parametrize("name", ["inbreast", "csaw-cc", "mini-mias", "cmmd"])
def test_other_collections_are_recognised_and_the_same_each_time(tmp_path, name):
    module = import_module(f"mammoprep.phantom.{name.replace('-', '_')}")
    for folder in ("one", "two"):
        module.write(tmp_path / folder, patients=1, seed=5)
    found = recognise(tmp_path / "one")
    first, second = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "one", tmp_path / "two")
    )

    assert found is not None
    assert found.name == name
    assert first.keys() == second.keys()
    assert all(first[path] == second[path] for path in first if path.suffix != ".xlsx")  # which holds the time
