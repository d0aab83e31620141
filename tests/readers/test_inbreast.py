"""INbreast in its real layout, one quirk a test."""

import plistlib

import numpy as np
import pytest

from mammoprep import convert, panoptic
from mammoprep.convert import Options
from mammoprep.errors import MammoprepError, UnknownNameError
from mammoprep.phantom import inbreast as phantom
from mammoprep.phantom import scene, studies
from mammoprep.readers import READERS, inbreast
from mammoprep.records import Polygon, Record, Skipped, Stroke

HEADER = "Patient ID;Patient age;Laterality;View;Acquisition date;File Name;ACR;Bi-Rads"
NUMBER, PATIENT = "22678622", "61b13c59bcba149d"
DICOM = f"AllDICOMs/{NUMBER}_{PATIENT}_MG_R_CC_ANON.dcm"
RING = ["(1095.870605, 2162.239990)", "(1100, 2162)", "(1100, -4.5)"]
BOMB = b"""<?xml version="1.0"?>
<!DOCTYPE plist [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<plist version="1.0"><dict><key>Images</key><array><string>&b;</string></array></dict></plist>"""


def roi(points, name="Mass"):
    return {"Area": 1.0, "Name": name, "NumberOfPoints": len(points), "Point_px": points, "Type": 15}


def plist(*regions):
    return plistlib.dumps({"Images": [{"ImageIndex": 0, "NumberOfROIs": len(regions), "ROIs": list(regions)}]})


def write(root, *rows, xml=None, muscle=None, dicoms=(DICOM,)):
    """Write a raw folder: rows are cells from Laterality to Bi-Rads; xml and muscle are the bytes of NUMBER's files."""
    lines = [HEADER, *(f"removed;removed;{row}" for row in rows or [f"R;CC;201001;{NUMBER};4;4a"])]
    (root / "INbreast.csv").write_bytes("".join(f"{line}\r\n" for line in lines).encode())
    for folder, content in (("AllXML", xml), ("PectoralMuscle/Pectoral Muscle XML", muscle)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        if content is not None:
            (root / folder / f"{NUMBER}.xml").write_bytes(content)
    (root / "AllDICOMs").mkdir(exist_ok=True)
    for name in dicoms:
        (root / name).touch()
    return root


def read(root, **options):
    items = list(inbreast.read(root, **options))
    return [item for item in items if isinstance(item, Record)], [item for item in items if isinstance(item, Skipped)]


def test_an_outlined_image_becomes_a_record(tmp_path):
    (record,), skipped = read(write(tmp_path, xml=plist(roi(RING))))

    assert skipped == []
    assert (record.source, record.image_id) == (DICOM, NUMBER)
    assert (record.patient_id, record.study_id) == (PATIENT, PATIENT)
    assert (record.laterality, record.view, record.density, record.pixel_spacing_mm) == ("R", "CC", "D", 0.07)
    assert (record.lesion_free, record.regions) == (False, {})
    assert record.findings[0].shape == Polygon(((1095.870605, 2162.23999), (1100.0, 2162.0), (1100.0, -4.5)))
    assert record.findings[0].source == f"AllXML/{NUMBER}.xml ROI 1"
    assert record.findings[0].attributes == {"name": "Mass", "birads": "4a"}


@pytest.mark.parametrize(
    ("cell", "scheme", "label"),
    [
        ("4a", "birads", "BI-RADS 4"),
        ("4a", "birads-4abc", "BI-RADS 4a"),
        ("4C", "birads-4abc", "BI-RADS 4c"),
        ("6", "birads", "BI-RADS 6"),
        ("4", "birads-4abc", None),
        ("0", "birads", None),
        ("", "birads", None),
    ],
)
def test_birads_with_and_without_their_letters(tmp_path, cell, scheme, label):
    (record,), _ = read(write(tmp_path, f"R;CC;201001;{NUMBER};4;{cell}", xml=plist(roi(RING))), labels=scheme)

    assert record.findings[0].label == label


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("Assymetry", "Asymmetry"),
        ("Espiculated Region", "Spiculated Region"),
        ("Spiculated region ", "Spiculated Region"),
        ("Calcifications", "Calcification"),
        ("CLUSTER", "Cluster"),
        ("Distortion", "Distortion"),
        ("Unnamed", None),
        ("Point 3", None),
    ],
)
def test_spelling_variants_are_one_name(tmp_path, name, label):
    (record,), _ = read(write(tmp_path, xml=plist(roi(RING, name))), labels="finding")

    assert record.findings[0].label == label
    assert record.findings[0].attributes["name"] == name.strip()


def test_one_and_two_points_are_drawn_as_points(tmp_path):
    one, two = roi(["(5, 6)"], "Calcification"), roi(["(50.5, 6)", "(90, 6)"], "Calcification")
    (record,), skipped = read(write(tmp_path, xml=plist(one, two)))
    width = inbreast.POINT_DIAMETER

    assert [finding.shape for finding in record.findings] == [
        Stroke(((5.0, 6.0),), width),
        Stroke(((50.5, 6.0),), width),
        Stroke(((90.0, 6.0),), width),
    ]
    assert record.findings[0].attributes["drawn_width"] == width
    assert skipped == []


def test_outlines_that_cannot_be_drawn_are_listed(tmp_path):
    broken = [roi([]), {"Name": "Mass"}, roi(["(1, 2)", "(nan, 2)", "(3, 4)"]), roi(["1, 2"]), roi(["(1e9, 2)"])]
    (record,), skipped = read(write(tmp_path, xml=plist(roi(RING), *broken, roi(RING, "Cluster"))))

    assert len(record.findings) == 1
    assert [(item.source, item.reason[:20]) for item in skipped] == [
        (f"AllXML/{NUMBER}.xml ROI 2", "the outline has no p"),
        (f"AllXML/{NUMBER}.xml ROI 3", "the outline has no p"),
        (f"AllXML/{NUMBER}.xml ROI 4", "a point is not two n"),
        (f"AllXML/{NUMBER}.xml ROI 5", "a point is not two n"),
        (f"AllXML/{NUMBER}.xml ROI 6", "a point is not two n"),
        (f"AllXML/{NUMBER}.xml ROI 7", "the outline repeats "),
    ]


def test_an_image_whose_outlines_all_fail_is_not_used(tmp_path):
    records, skipped = read(write(tmp_path, f"R;CC;201001;{NUMBER};4;1", xml=plist(roi([]))))

    assert records == []
    assert skipped[-1] == Skipped(DICOM, "selection", "none of its outlines can be drawn")


@pytest.mark.parametrize(
    "content", [BOMB, b"", b"<plist>", b"bplist00", plistlib.dumps([1]), plistlib.dumps({"Images": [{"ROIs": [1]}]})]
)
def test_an_outline_file_that_is_no_property_list_of_outlines_costs_the_image(tmp_path, content):
    records, skipped = read(write(tmp_path, xml=content))

    assert records == []
    assert [(item.source, item.stage) for item in skipped] == [(DICOM, "image")]
    assert "its outlines are no property list" in skipped[0].reason


@pytest.mark.parametrize(("grade", "free"), [("1", True), ("2", False), ("4b", False)])
def test_an_image_without_outlines_is_lesion_free_at_birads_1_alone(tmp_path, grade, free):
    records, skipped = read(write(tmp_path, f"R;CC;201001;{NUMBER};4;{grade}"))

    assert [record.lesion_free for record in records] == [True] * free
    assert [item.reason for item in skipped] == [f"BI-RADS {grade}, yet without outlines"] * (not free)


def test_the_muscle_is_a_region_where_it_is_asked_for(tmp_path):
    root = write(tmp_path, xml=plist(roi(RING)), muscle=plist(roi(RING, "Pectoral Muscle"), roi(["(1, 1)"])))
    (without,), _ = read(root)
    (record,), skipped = read(root, pectoral=True)

    assert without.regions == {}
    assert record.regions == {"pectoral muscle": (record.findings[0].shape,)}
    assert [(item.source, item.stage) for item in skipped] == [(f"Pectoral Muscle XML/{NUMBER}.xml ROI 2", "table")]
    assert len(inbreast.tables(root)) == 3


@pytest.mark.parametrize(
    ("folder", "options"), [("AllXML", {}), ("AllDICOMs", {}), ("PectoralMuscle", {"pectoral": True})]
)
def test_a_folder_of_outlines_that_is_missing_is_one_line(tmp_path, folder, options):
    write(tmp_path)
    (tmp_path / folder).rename(tmp_path / "elsewhere")

    with pytest.raises(MammoprepError, match=f"{folder} does not exist"):
        read(tmp_path, **options)


def test_rows_and_files_that_have_no_partner_are_listed(tmp_path):
    others = ["AllDICOMs/1_ab_MG_L_ML_ANON.dcm", "AllDICOMs/scan.dcm", f"AllDICOMs/{NUMBER}_{PATIENT}_MG_R_FB_ANON.dcm"]
    rows = [f"R;CC;201001;{NUMBER};4;4a", f"R;CC;201001;{NUMBER};4;2", "R;CC;201001;999;;1", "R;CC;201001;;;1"]
    write(tmp_path, *rows, xml=plist(roi(RING)), dicoms=(DICOM, *others))
    (tmp_path / "AllXML" / "7.xml").write_bytes(plist())
    records, skipped = read(tmp_path)

    assert [record.source for record in records] == [DICOM]
    assert {(item.source, item.stage) for item in skipped} == {
        ("INbreast.csv row 3", "table"),
        ("INbreast.csv row 5", "table"),
        ("AllDICOMs/999", "image"),
        ("AllXML/7.xml", "table"),
        *((other, "table") for other in others),
    }


def test_a_file_whose_name_tells_no_patient_counts_as_skipped(tmp_path):
    records, skipped = read(write(tmp_path, xml=plist(roi(RING)), dicoms=(f"AllDICOMs/{NUMBER}.dcm",)))

    assert records == []
    assert [(item.source, item.stage) for item in skipped] == [(f"AllDICOMs/{NUMBER}.dcm", "image")]


def test_the_table_holds_where_a_file_s_name_says_otherwise(tmp_path):
    (record,), skipped = read(write(tmp_path, f"L;FB;201001;{NUMBER};{' ' * 193};2", xml=plist(roi(RING))))

    assert (record.laterality, record.view, record.density) == ("L", "FB", "")
    assert [item.reason[:10] for item in skipped] == ["Laterality", "View diffe"]


def test_of_the_workbook_only_the_first_sheet_is_read(tmp_path, write_xls):
    write(tmp_path, xml=plist(roi(RING)))
    expected = read(tmp_path)[0]
    (tmp_path / "INbreast.csv").unlink()
    header = [*HEADER.split(";"), "Mass ", "Micros"]
    sums = ["", "", "", "", "", "", "", "", 108, 308]
    row = ["removed", "removed", "R", "CC", 201001, 22678622, 4, "4a", "X", ""]
    write_xls(tmp_path / "INbreast.xls", {"Sheet1": [header, row, [""], sums], "Sheet2": [["Jane Roe", 46]]})
    records, skipped = read(tmp_path)

    assert records == expected
    assert [(item.source, item.stage) for item in skipped] == [("INbreast.xls row 4", "table")]


def test_an_unknown_scheme_suggests_the_nearest(tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean 'finding'"):
        read(write(tmp_path), labels="findings")


def test_a_phantom_converts_to_its_own_lesions_and_muscles(tmp_path):
    phantom.write(tmp_path / "raw", patients=2, long_side=160)
    options = Options(labels="birads", reader={"pectoral": True})
    convert.convert(READERS["inbreast"], tmp_path / "raw", out=tmp_path / "out", options=options)
    content = panoptic.load(tmp_path / "out")

    assert [category.name for category in content.categories[-3:]] == ["pectoral muscle", "breast", "background"]
    muscle = content.categories[-3].id
    views = list(studies.plan(2, seed=0, long_side=160))
    for view, image in zip(views, content.images, strict=True):
        shown, ids = scene.draw(view), content.ids_of(image)
        drawn = {segment.category_id: ids == segment.id for segment in image.segments}
        assert len(image.segments) - (muscle in drawn) == 2 + len(view.kinds)
        assert (muscle in drawn) is (view.position == "MLO")
        if muscle in drawn:
            overlap = np.count_nonzero(drawn[muscle] & shown.muscle)
            assert overlap > 0.95 * np.count_nonzero(shown.muscle & (ids > len(view.kinds)))
        for number in range(1, len(view.kinds) + 1):
            both = np.count_nonzero((ids == number) & (shown.ids == number))
            assert 2 * both > 0.9 * (np.count_nonzero(ids == number) + np.count_nonzero(shown.ids == number))


@pytest.mark.parametrize("encoding", ["KLINGON", "utf-7", "shift_jis"])
def test_outlines_in_an_encoding_that_is_none_cost_the_image(tmp_path, encoding):
    said = plist(roi(RING)).replace(b'encoding="UTF-8"', f'encoding="{encoding}"'.encode())
    records, skipped = read(write(tmp_path, xml=said))
    assert records == []
    assert "its outlines are no property list" in skipped[0].reason
