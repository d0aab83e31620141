"""Pseudonyms over what any reader yields: patients, studies and files renamed, words in no list left out."""

from dataclasses import replace

import pytest

from mammoprep.convert import Options, Work, convert, pseudonymised
from mammoprep.panoptic import load_cases
from mammoprep.pseudonyms import Pseudonyms
from mammoprep.records import Finding, MaskFile, Polygon, Reader, Record, Skipped
from tests.convert.conftest import square

NAMES = Pseudonyms(b"k" * 32)
OTHER = Pseudonyms(b"j" * 32)
TRIANGLE = Polygon(((0, 0), (4, 0), (4, 4)))


def file(path):
    return NAMES.of("file", path)


@pytest.fixture
def hospital(tmp_path):
    for name in ("ward 7/anna.png", "lists/lesions of may.csv", "anna row 3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.fixture
def renamed(hospital):
    """Give what comes out of a reader that yields the given items."""

    def rename(*items):
        reader = Reader("r", "R", {"kind": ("benign mass",)}, (), lambda root: (), lambda root: iter(items))
        return list(pseudonymised(reader, NAMES).read(hospital))

    return rename


def image(**values):
    return Record(source="ward 7/anna.png", image_id="anna", patient_id="MRN-7", **values)


def test_an_image_is_known_by_its_file_and_numbered_anew(renamed):
    facts = {"study_id": "acc-1", "laterality": "L", "view": "cc", "density": "B", "split": "Test", "number": 41}
    (record,) = renamed(image(**facts))

    assert record.source == "ward 7/anna.png"  # where it is read
    assert (record.shown, record.image_id, record.number) == (file("ward 7/anna.png"), file("ward 7/anna.png"), 0)
    assert (record.patient_id, record.study_id) == (NAMES.of("patient", "MRN-7"), NAMES.of("study", "acc-1"))
    assert (record.laterality, record.view, record.density, record.split) == ("L", "cc", "B", "Test")


def test_words_in_no_list_fall_away_and_are_listed(renamed):
    *listed, record = renamed(image(view="anna", density="roe", split="MRN-7"))

    assert (record.view, record.density, record.split) == ("", "", "")
    assert [(item.source, item.stage) for item in listed] == [(file("ward 7/anna.png"), "table")] * 3
    assert listed[0].reason == "its view is no word that is known, and might be a name: left out"


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("ward 7/anna.png", file("ward 7/anna.png")),
        ("ward 7/gone.png", file("ward 7/gone.png")),
        ("lists/lesions of may.csv row 17", file("lists/lesions of may.csv") + " row 17"),
        ("lesions of may.csv image 3 region 2", file("lists/lesions of may.csv") + " image 3 region 2"),
        ("lesions of may.csv annotation roe", file("lists/lesions of may.csv")),
        ("lesions of may.csv row 12345678", file("lists/lesions of may.csv")),
        ("anna row 3", file("anna row 3")),  # a file's whole name
        ("roe row 3", file("roe row 3")),  # no file: what it is cannot be told
    ],
)
def test_places_in_files_keep_their_numbers(renamed, source, shown):
    assert renamed(Skipped(source, "table", "why")) == [Skipped(shown, "table", "why")]


def test_attributes_are_words_of_the_lists(renamed):
    said = {"shape": "box", "pathology": "Benign Mass", "birads": ["4a", "5"], "name": "roe", "findings": ["5", "roe"]}
    finding = Finding(TRIANGLE, "benign mass", "lesions of may.csv row 2", {**said, "roe": "box"})
    (record,) = renamed(image(findings=(finding,)))

    (found,) = record.findings
    assert (found.label, found.shape) == ("benign mass", TRIANGLE)
    assert found.attributes == {"shape": "box", "pathology": "Benign Mass", "birads": ["4a", "5"]}


def test_of_how_a_mask_was_made_numbers_and_methods_go_on(renamed):
    made = {
        "pseudo_mask": {"method": "otsu", "threshold": 3.5, "fallback": False, "by": "roe"},
        "mask_file": {"source": "ward 7/anna.png", "scale_x": 1.0, "scale_y": 2, "residual": 0},
        "roe": {},
    }
    finding = Finding(MaskFile("m/roe.png", others=("m/anna.png",)), None, "x", made=made)
    (record,) = renamed(image(findings=(finding,)))

    (found,) = record.findings
    assert (found.shape.source, found.shape.shown) == ("m/roe.png", (file("m/roe.png"), file("m/anna.png")))
    assert found.made == {
        "pseudo_mask": {"method": "otsu", "threshold": 3.5, "fallback": False},
        "mask_file": {"source": file("ward 7/anna.png"), "scale_x": 1.0, "scale_y": 2, "residual": 0},
    }


@pytest.mark.parametrize("change", [{"method": "roe"}, {"threshold": "otsu"}, {"fallback": ["roe"]}])
def test_another_word_on_how_a_mask_was_made_does_not_go_on(renamed, change):
    made = {"pseudo_mask": {"method": "otsu", "threshold": 3.5, "fallback": False} | change}
    (record,) = renamed(image(findings=(Finding(TRIANGLE, None, "x", made=made),)))
    assert record.findings[0].made == {}


def test_cells_of_an_earlier_conversion_are_measures_and_words_of_the_lists(renamed):
    given = {"scale_x": "0.5", "crop_x0": "roe", "manufacturer": "SIEMENS", "attributes": "implant; spot compression"}
    (record,) = renamed(image(given={**given, "source": "anna.png", "patient_id": "MRN-7", "note": "roe"}))
    (other,) = renamed(image(given={"manufacturer": "Roe", "attributes": "implant; roe"}))

    kept = {name: given[name] for name in ("scale_x", "manufacturer", "attributes")}
    assert record.given == {**kept, "source": file("ward 7/anna.png")}
    assert other.given == {"source": file("ward 7/anna.png")}


def test_any_reader_converts_under_pseudonyms_in_their_order(raw, reader, tmp_path):
    findings = (square(2, 4, 6), replace(square(4, 20, 6), shape=MaskFile("mask.png")))
    read = reader.read

    def with_mask(root, *, labels):
        for item in read(root, labels=labels):
            yield replace(item, findings=findings) if getattr(item, "image_id", "") == "two" else item

    (raw / "mask.png").write_bytes((raw / "a/1.png").read_bytes())
    options, work = Options(labels="size"), Work(workers=1)
    for key in (NAMES, OTHER):
        named = pseudonymised(replace(reader, read=with_mask), key)
        convert(named, raw, out=tmp_path / key.fingerprint, options=options, work=work)

    rows, others = (load_cases(tmp_path / key.fingerprint) for key in (NAMES, OTHER))
    assert [row["image_id"] for row in rows] == sorted(map(file, ("a/1.png", "a/2.png", "b/3.png", "b/4.png")))
    assert len({row["patient_id"] for row in rows}) == 3
    assert not {row["patient_id"] for row in rows} & {row["patient_id"] for row in others}
    text = b"".join(path.read_bytes() for path in (tmp_path / NAMES.fingerprint).glob("*.*"))
    assert file("table.json").encode() in text
    for name in (b"table.json", b"mask.png", b"a/1", b'"p1"', b",p1,"):
        assert name not in text
