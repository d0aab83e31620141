"""`mammoprep inspect` on the command line."""

import json

import pytest

from mammoprep import convert, phantom
from mammoprep.cli import main
from mammoprep.phantom import cmmd
from mammoprep.phantom import folder as own
from mammoprep.readers import READERS


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    root = tmp_path_factory.mktemp("inspect") / "raw"
    phantom.write(root, patients=2, long_side=128)
    return root


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["inspect", *map(str, arguments)])
    return ended.value.code


def test_the_tables_are_printed(raw, capsys):
    assert run(raw) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("VinDr-Mammo (mammoprep convert vindr), classes by --labels birads\n")
    for text in ("patients", "laterality", "BI-RADS 5", "longer side, native pixels"):
        assert text in printed
    assert "longer side, mm" not in printed
    assert "manufacturer" not in printed


def test_pixels_add_manufacturer_and_millimetres(raw, capsys):
    assert run(raw, "--pixels", "--workers", 1) == 0
    printed = capsys.readouterr().out
    assert "longer side, mm" in printed
    assert "SIEMENS" in printed


def test_json_is_one_object(raw, capsys):
    assert run(raw, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["images"], found["patients"]) == (8, 2)
    assert found["classes"].keys() == {"BI-RADS 3", "BI-RADS 4", "BI-RADS 5"}


def test_out_gets_the_figures(raw, tmp_path):
    assert run(raw, "--out", tmp_path / "figures") == 0
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["counts.png", "sizes.png"]


@pytest.fixture(scope="module")
def layouts(tmp_path_factory):
    """Folders of one's own, and of CMMD."""
    root = tmp_path_factory.mktemp("layouts")
    for layout in ("masks", "label-maps", "coco"):
        own.write(root / layout, layout=layout, patients=2, long_side=128)
    cmmd.write(root / "cmmd", patients=2, long_side=128)
    return root


@pytest.mark.parametrize(
    ("layout", "arguments", "sized"),
    [
        ("masks", ("--reader", "folder"), False),
        ("masks", ("--reader", "folder", "--pixels"), True),
        ("label-maps", ("--reader", "folder", "--option", "values=4=BI-RADS 4,5=BI-RADS 5"), True),
        ("coco", ("--reader", "folder"), True),
        ("coco", ("--reader", "coco", "--option", "patient=(.+)/"), True),
    ],
)
def test_a_reader_can_be_named_and_given_its_options(layouts, capsys, layout, arguments, sized):
    assert run(layouts / layout, *arguments, "--workers", 1, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    lesions = {name: of["findings"] for name, of in found["classes"].items()}
    assert lesions.keys() == {"BI-RADS 4", "BI-RADS 5"}
    assert (found["patients"], min(lesions.values()) > 0) == (2, True)
    assert sum(sum(sizes.values()) for sizes in found["sizes_px"].values()) == sum(lesions.values())
    assert ("not stated" in found["sizes_px"]) != sized


def test_what_an_empty_map_is_must_be_said(layouts, capsys):
    how = (layouts / "label-maps", "--reader", "folder", "--option", "values=4=a,5=b", "--json")
    assert run(*how) == 0
    found = json.loads(capsys.readouterr().out)
    (reason,) = found["skipped"]["selection"].items()
    assert (found["lesion_free"], found["without_finding"], reason[1]) == (0, 4, 4)
    assert run(*how, "--option", "empty=lesion-free") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["lesion_free"], found["without_finding"], found["skipped"]) == (4, 0, {})


def test_options_go_to_the_data_set_that_the_folder_looks_like(layouts, capsys):
    for more, free in (((), 0), (("--option", "missing-rows=normal"), 4)):
        assert run(layouts / "cmmd", *more, "--json") == 0
        assert json.loads(capsys.readouterr().out)["lesion_free"] == free


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--reader", "foldr"), "There is no data set 'foldr'. Did you mean 'folder'?"),
        (("--reader", "vindr"), "Name the folder of VinDr-Mammo that holds finding_annotations.csv."),
        (("--reader", "folder", "--option", "patent=x"), "There is no --option of folder 'patent'. Did you mean"),
        (("--reader", "folder", "--option", "patient"), "--option patient: say patient=VALUE."),
        (("--reader", "coco", "--option", "pectoral=yes"), "--option pectoral=yes: say pectoral."),
        (("--option", "patient=x"), "is no data set that is known, so --option has no meaning. Say --reader."),
        ((), "For images of your own say --reader folder, for COCO's JSON --reader coco."),
    ],
)
def test_a_wrong_reader_or_option_is_one_line(layouts, capsys, arguments, text):
    assert run(layouts / "coco", *arguments) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [("--reader", "coco"), ("--option", "patient=x")])
def test_a_data_set_needs_neither_reader_nor_option(raw, tmp_path, capsys, arguments):
    convert.convert(READERS["vindr"], raw, out=tmp_path / "d", options=convert.Options(labels="birads", limit=1))
    assert run(tmp_path / "d", *arguments) == 2
    assert "is a DATASET: its tables say all. Leave out --reader and --option." in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("--labels", "nothing"), ("--workers", 0)])
def test_a_wrong_option_is_one_line(raw, capsys, arguments):
    assert run(raw, *arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_folder_of_something_else_is_one_line(tmp_path, capsys):
    assert run(tmp_path) == 2
    assert "is neither a DATASET" in capsys.readouterr().err
