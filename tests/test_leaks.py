"""Nothing leaks: a mark in every place of the raw files that may hold an identity is in nothing that comes out."""

import json
import logging

import cv2
import numpy as np
import openpyxl
import pytest
from pydicom.uid import ExplicitVRLittleEndian

from mammoprep import panoptic
from mammoprep.cli import main
from mammoprep.phantom import cbis_ddsm, cmmd, csaw_cc, inbreast, mini_mias
from mammoprep.phantom import folder as phantom_folder
from mammoprep.phantom import write as write_vindr
from mammoprep.readers import READERS
from mammoprep.records import Record
from tests.planted import DATE, MARK, ROOT, marks_in, pixels, word, write_book, write_dicom, write_json, write_picture

BOX = {"x0": 4, "y0": 20, "x1": 12, "y1": 28}
POINTS = [[4, 20], [12, 20], [12, 28]]


@pytest.fixture(autouse=True)
def logs(caplog):
    caplog.set_level(logging.DEBUG)
    return caplog


@pytest.fixture
def run(capsys, caplog):
    """Give a function that runs a command, and checks that what it says has no mark; it gives code and words."""

    def call(*arguments):
        caplog.clear()  # Pillow tells what it writes, too
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        assert marks_in(f"{said.out}\0{said.err}\0{caplog.text}".encode()) == []
        return int(str(ended.value.code)), said.out + said.err

    return call


def leaks(*folders):
    """Give what is found of marks in the names and bytes of all files in folders."""
    paths = [path for folder in folders for path in (folder, *folder.rglob("*"))]
    assert any(path.is_file() for path in paths)
    found = {path.name: marks_in(path.name.encode() + (path.read_bytes() if path.is_file() else b"")) for path in paths}
    return {name: marks for name, marks in found.items() if marks}


@pytest.fixture
def hospital(tmp_path):
    """A folder that has every kind of file that is read, and a mark wherever it has room for one."""
    root = tmp_path / "hospital"
    ward = root / word("ward")
    names = [
        ward / f"{word('file')}{ending}" for ending in (".dcm", "", ".png", ".jpg", ".tif", ".pgm", ".dcm", ".dcm")
    ]
    uids = [write_dicom(path, everything=path == names[0]) for path in names if path.suffix in ("", ".dcm")]
    for path in names:
        if path.suffix not in ("", ".dcm"):
            write_picture(path)
    rows = [[path.relative_to(root).as_posix() for path in names]]
    header = ["image", "patient", "study", "view", "density", "split", "label", "x0", "y0", "x1", "y1", word("column")]
    people = [[path, word("patient"), word("study")] for path in rows[0][:6]]
    lines = [[*who, "CC", "B", "train", "benign", *BOX.values(), word("comment")] for who in people]
    lines[0][3:6] = word("view"), word("density"), word("split")
    lines.append([*people[1], "", "", "", word("label"), *BOX.values(), word()])  # no class
    broken = ward / f"{word('broken')}.dcm"
    broken.write_bytes(names[0].read_bytes()[:2000])
    lines.append([broken.name, word(), word(), "", "", "", "benign", *BOX.values(), word()])
    lines.append([word("gone.png"), word(), word(), "", "", "", "benign", *BOX.values(), word()])
    lines.append([rows[0][2], *people[2][1:], "", "", "", "benign", word("corner"), 1, 2, 3, word()])
    table = "\n".join(";".join(map(str, line)) for line in [header, *lines])
    root.joinpath(f"{word('table')}.csv").write_text(table)
    write_book(root / f"{word('book')}.xlsx", [["image", "patient", word()], [rows[0][6], word("patient"), word()]])
    annotate(root, ward, names)
    write_picture(ward / f"{names[3].stem}_mask_benign.png", (pixels() > 200).astype(np.uint8) * 255)
    write_picture(ward / f"{word('lost')}_mask_benign.png", (pixels() > 200).astype(np.uint8) * 255)
    segmented(ward, of=uids[-1])
    for name in ("report.txt", "all.zip", "study.tar"):
        (ward / word(name)).write_bytes(b"PK\x03\x04" + word().encode())
    (ward / f"{word('broken')}.json").write_text(f'{{"{word()}": ')
    (ward / f"{word('entity')}.xml").write_text(f"<!DOCTYPE a [<!ENTITY b '{word()}'>]><annotations/>")
    return root


def annotate(root, ward, names):
    """Write LabelMe, VIA, COCO and CVAT files, each with an outline of one image and of one that is not there."""
    shape = {"label": "benign", "points": POINTS, "shape_type": "polygon", "description": word(), "flags": {word(): 1}}
    wrong = {**shape, "shape_type": word("shape"), "group_id": word()}
    extra = {"imageData": word(), "flags": {word(): True}, "otherData": {word(): word()}}
    path = names[0].relative_to(root).as_posix()
    write_json(ward / f"{word('labelme')}.json", {"shapes": [shape, wrong], "imagePath": names[0].name, **extra})
    drawn = {"name": "polygon", "all_points_x": [4, 12, 12], "all_points_y": [20, 20, 28]}
    regions = [{"shape_attributes": drawn, "region_attributes": {"label": "benign", word(): word()}}]
    regions.append({"shape_attributes": {"name": word()}, "region_attributes": {"label": word()}})
    via = {word(): {"filename": names[2].name, "regions": regions, "file_attributes": {word(): word()}}}
    write_json(ward / f"{word('via')}.json", via)
    listed = [{"id": 98765432, "file_name": path, "height": 48, "width": 40, "coco_url": word()}]
    listed.append({"id": word(), "file_name": word("gone.png"), "license": word()})
    each = {"image_id": 98765432, "category_id": 1, "segmentation": [[5, 21, 11, 21, 11, 27]], "attributes": {}}
    each["attributes"] = {"shape": word(), word(): "polygon", "pathology": word(), "patient": word()}
    found = [{"id": 98765432, **each}, {"id": word(), **each, "segmentation": word()}, {**each, "category_id": word()}]
    coco = {
        "images": listed,
        "annotations": found,
        "categories": [{"id": 1, "name": "benign", "supercategory": word()}],
    }
    write_json(ward / f"{word('coco')}.json", {**coco, "info": {"contributor": word()}, "licenses": [{"name": word()}]})
    name = names[5].relative_to(root).as_posix()
    box = f'<box label="benign" xtl="4" ytl="20" xbr="{word()}" ybr="28" source="{word()}"/>'
    image = f'<image id="{word()}" name="{name}" width="40" height="48">{box}<tag label="{word()}"/></image>'
    meta = f"<meta><task><owner><username>{word()}</username></owner></task></meta><track id='{word()}'/>"
    ward.joinpath(f"{word('cvat')}.xml").write_text(f"<annotations>{meta}{image}</annotations>")


def segmented(ward, *, of):
    """Write a DICOM SEG of one image, with marks wherever a SEG has text; its lesion's label is no class."""
    from pydicom import dcmread

    path = ward / f"{word('seg')}.dcm"
    phantom_folder._seg(ward, [phantom_folder._Marked(path.name, (48, 40), ((word("label"), pixels() > 200),))])
    written = path.with_suffix(".seg.dcm")
    content = dcmread(written)
    content.PatientID, content.PatientName, content.SeriesDescription = word(), word(), word()
    content.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[
        0
    ].ReferencedSOPInstanceUID = of
    content.save_as(written)


@pytest.fixture
def converted(hospital, tmp_path, run):
    out = tmp_path / "out"
    code, said = run(
        *("convert", "folder", hospital, out, "--classes", "benign", "--patient", "(file.*)", "--workers", 1),
        *("--max-skipped", 99, "--empty", "lesion-free", "--key", tmp_path / "house" / "key"),
    )
    assert code == 0, said
    return out


@pytest.fixture(autouse=True)
def house(tmp_path):
    """A place for the key; what leads back from the pseudonyms is there and nowhere else."""
    (tmp_path / "house").mkdir()
    return tmp_path / "house"


def test_no_mark_comes_out_of_a_look_at_the_raw_files(hospital, tmp_path, run):
    how = (
        "--reader",
        "folder",
        "--pixels",
        "--workers",
        1,
        "--option",
        "classes=benign",
        "--option",
        "patient=(file.*)",
    )
    code, said = run("inspect", hospital, *how, "--out", tmp_path / "figures")

    assert code == 0, said
    assert "its view is no word that is known" in said
    assert leaks(tmp_path / "figures") == {}
    book = openpyxl.Workbook()
    book.create_sheet(word())
    book.save(hospital / f"{word()}.xlsx")
    code, said = run("inspect", hospital, *how)
    assert (code, said.endswith("`convert --no-pseudonymise --dry-run` shows the name.\n")) == (2, True)


def test_no_mark_comes_out_of_a_conversion(converted, house):
    rows = panoptic.load_cases(converted)
    with (converted / "skipped.csv").open() as file:
        skipped = file.read()

    assert leaks(converted) == {}
    assert len(rows) >= 7
    assert {row["manufacturer"] for row in rows} == {"", "other"}
    assert sum(int(row["n_findings"]) for row in rows) >= 5
    for reason in (
        *("its view is no word that is known", "its split is", "neither an image nor an annotation file"),
        *("no image file has that name", "no class under --labels data", "a corner of the box is missing"),
        *("not readable JSON or XML", "its image or its class is not in the file", "a track of a video"),
        *("the shape is no polygon", "a mask: no image file", ",image,the "),
    ):
        assert reason in skipped, reason
    links = (house / "key.csv").read_bytes()
    assert all(row["image_id"].encode() in links for row in rows)
    assert marks_in(links)


@pytest.mark.usefixtures("fake_network")
def test_no_mark_comes_out_of_what_follows(converted, hospital, tmp_path, run, small_preset):
    from mammoprep_model import trainer

    assert run("check", converted)[0] in (0, 1)
    assert run("inspect", converted, "--out", tmp_path / "figures")[0] == 0
    code, said = run("folds", converted, "-k", 2)
    assert code == 0, said
    trained = trainer.train(converted, out=tmp_path / "run", preset=small_preset, session=trainer.Session(device="cpu"))
    readable = [path for path in hospital.rglob("*") if "broken" not in path.name and ".seg" not in path.name]
    source = tmp_path / "loose"
    for path in readable:
        if path.suffix in (".dcm", ".png", ".jpg") or (path.is_file() and not path.suffix):
            (source / word("study") / path.name).parent.mkdir(parents=True)
            (source / word("study")).parent.joinpath(path.name).write_bytes(path.read_bytes())
    key = tmp_path / "house" / "key"
    code, said = run("predict", trained, source, tmp_path / "loose-out", "--device=cpu", "--key", key, "--json")
    assert code == 0, said
    code, said = run("predict", trained, converted, tmp_path / "predictions", "--device=cpu")
    assert code == 0, said
    scored = ("--resamples", 10, "--out", tmp_path / "scores", "--figures", "--iou-sweep")
    code, said = run("evaluate", converted, tmp_path / "predictions", *scored)
    assert code == 0, said

    made = ("figures", "run", "loose-out", "predictions", "scores")
    assert leaks(*(tmp_path / name for name in made)) == {}
    bad = next(path for path in hospital.rglob("*broken*.dcm"))
    (source / bad.name).write_bytes(bad.read_bytes())
    code, said = run("predict", trained, source, tmp_path / "more", "--device=cpu", "--key", key)
    assert (code, "could not be read" in said, "leads to the name" in said) == (2, True, True)


def headless(root):
    (root / f"{word()}.csv").write_text(f"{word()},{word()},12\n{word()},{word()},13\n")
    return 2


def of_two_sheets(root):
    book = openpyxl.Workbook()
    book.active.title = word()
    book.create_sheet(word())
    book.save(root / f"{word()}.xlsx")
    return 2


def with_an_open_quote(root):
    (root / f"{word()}.csv").write_text(f'image,patient\n"{word()},{"x" * 200_000}\n')
    return 2


def binary(root):
    (root / f"{word()}.csv").write_bytes(f"{word()}\0\1".encode())
    return 2


def strange_coco(root):
    content = {"images": [{"id": word(), "height": word()}], "annotations": [word()], "categories": [{"id": word()}]}
    write_json(root / word() / f"{word()}.json", content)
    return 2


def strange_syntax(root):
    path = root / f"{word()}.dcm"
    write_dicom(path, everything=False)
    path.write_bytes(path.read_bytes().replace(ExplicitVRLittleEndian.encode(), f"{ROOT}.51".encode()))
    return 2


def lying_headers(root):
    for values in (
        {"Rows": 40_000, "Columns": 40_000},
        {"PhotometricInterpretation": word()},
        {"PixelData": b""},
        {"WindowCenter": "1", "WindowWidth": "-1", "WindowCenterWidthExplanation": word()},
        {"BitsAllocated": 16},
    ):
        write_dicom(root / f"{word()}.dcm", everything=False, **values)
    return 2


def cut_pictures(root):
    for ending in (".png", ".jpg", ".tif", ".pgm"):
        path = root / f"{word()}{ending}"
        write_picture(path)
        path.write_bytes(path.read_bytes()[:-900])
    return 2


@pytest.mark.parametrize(
    "plant",
    [
        headless,
        of_two_sheets,
        with_an_open_quote,
        binary,
        strange_coco,
        strange_syntax,
        lying_headers,
        cut_pictures,
    ],
)
def test_no_mark_is_in_what_is_said_of_broken_files(plant, tmp_path, run):
    root = tmp_path / "raw"
    root.mkdir()
    wanted = plant(root)
    how = ("--patient", ".+", "--empty", "lesion-free", "--workers", 1)
    names = [f"{path.stem}" for path in root.glob("*.*") if path.suffix not in (".csv", ".xlsx")]
    if names:
        (root / "list.csv").write_text("image\n" + "\n".join(names) + "\n")

    code, said = run("convert", "folder", root, tmp_path / "out", "--key", tmp_path / "house" / "key", *how)
    assert code == wanted, said
    assert said.count("\n") == 1
    run("convert", "folder", root, tmp_path / "out", "--dry-run", *how)
    if not names:
        return
    write_picture(root / "good.png")
    with (root / "list.csv").open("a") as file:
        file.write("good\n")
    code, said = run("convert", "folder", root, tmp_path / "out", "--key", tmp_path / "house" / "key", *how)
    assert code in (0, 1), said
    assert leaks(tmp_path / "out") == {}


def test_a_column_that_is_not_there_names_no_cell(tmp_path, run):
    (tmp_path / "raw").mkdir()
    headless(tmp_path / "raw")
    code, said = run("convert", "folder", tmp_path / "raw", tmp_path / "out", "--column", "patient=Name")
    assert (code, "no table has that column" in said) == (2, True)


@pytest.mark.parametrize("window", ["lut:7", "no such name"])
def test_a_window_that_is_not_there_names_no_other(window, tmp_path, run):
    values = {"WindowCenter": "100", "WindowWidth": "50", "WindowCenterWidthExplanation": word()}
    write_dicom(tmp_path / "raw" / "a.dcm", everything=False, **values)
    how = ("--patient", ".+", "--empty", "lesion-free", "--workers", 1, "--window", window)
    (tmp_path / "raw" / "list.csv").write_text("image\na\n")

    code, said = run("convert", "folder", tmp_path / "raw", tmp_path / "out", *how)
    assert (code, f"there is no window '{window}'" in said) == (2, True)


WRITERS = {
    "vindr": lambda root: write_vindr(root, patients=1, long_side=160),
    "cbis-ddsm": lambda root: cbis_ddsm.write(root, patients=2, long_side=160),
    "inbreast": lambda root: inbreast.write(root, patients=2, long_side=160),
    "csaw-cc": lambda root: csaw_cc.write(root, patients=2, long_side=160),
    "mini-mias": lambda root: mini_mias.write(root, patients=2),
    "cmmd": lambda root: cmmd.write(root, patients=2, long_side=160),
}
OWN = {"cmmd": ("--missing-rows", "normal"), "csaw-cc": ("--normals",)}


@pytest.mark.parametrize("name", WRITERS)
def test_any_reader_hides_its_names_if_it_is_asked(name, tmp_path, capsys):
    raw, out = tmp_path / "raw", tmp_path / "out"
    WRITERS[name](raw)
    plain = {"missing_rows": "normal"} if name == "cmmd" else {"normals": True} if name == "csaw-cc" else {}
    records = [item for item in READERS[name].read(raw, **plain) if isinstance(item, Record)]
    known = {each for record in records for each in (record.image_id, record.patient_id, record.source)}
    known |= {path.name for path in raw.rglob("*") if len(path.stem) > 6}
    with pytest.raises(SystemExit) as ended:
        main(
            [
                *("convert", name, str(raw), str(out), "--pseudonymise", "--workers", "1", "--long-side", "80"),
                *("--max-skipped", "99", *OWN.get(name, ())),
            ]
        )
    assert ended.value.code == 0

    said = capsys.readouterr()
    text = b"".join(path.name.encode() + path.read_bytes() for path in out.rglob("*") if path.is_file())
    text += f"{said.out}{said.err}".encode().replace(str(tmp_path).encode(), b"")
    assert records
    assert [each for each in known if each.encode() in text and each not in ("L", "R")] == []
    assert len(panoptic.load_cases(out)) == len(records)
    assert json.loads((out / "manifest.json").read_text())["options"]["key"]


def test_coco_hides_its_names_if_it_is_asked(converted, tmp_path, run):
    listed = json.loads((converted / "panoptic.json").read_text())
    for entry in listed["annotations"]:
        for segment in entry["segments_info"]:
            segment["attributes"] = {word(): word(), "shape": word()}
            segment["pseudo_mask"] = {"method": word(), word(): 1, "threshold": word(), "fallback": [word()]}
            segment["mask_file"] = {"source": word(), "scale_x": word(), "scale_y": 1, "residual": 0}
    write_json(converted / "panoptic.json", listed)
    text = (converted / "cases.csv").read_text().replace(",other,", f",{word()},").replace(",B,", f",{word()},")
    (converted / "cases.csv").write_text(text.replace(",CC,", f",{word()},"))
    key = tmp_path / "house" / "key"
    code, said = run("convert", "coco", converted, tmp_path / "again", "--pseudonymise", "--key", key, "--workers", 1)

    assert code == 0, said
    assert leaks(tmp_path / "again") == {}
    assert len(panoptic.load_cases(tmp_path / "again")) == len(panoptic.load_cases(converted))


@pytest.fixture
def linked(tmp_path):
    """A raw folder with links out of it: an image, a mask, a folder of images, and a table."""
    root, outside = tmp_path / "raw", tmp_path / "outside"
    (root / "inside").mkdir(parents=True)
    write_picture(outside / "far.png")
    write_picture(outside / "far_mask.png", (pixels() > 200).astype(np.uint8) * 255)
    write_picture(root / "near.png")
    for name in ("far.png", "far_mask.png"):
        (root / name).symlink_to(outside / name)
    (root / "ward").symlink_to(outside)
    (root / "again.png").symlink_to(root / "near.png")
    (root / "list.csv").write_text("image,patient\nnear,p1\nagain,p2\nfar,p3\nward/far.png,p4\n../outside/far.png,p5\n")
    return root


def test_a_folder_s_links_are_followed_inside_alone(linked, tmp_path, run):
    how = ("--no-pseudonymise", "--empty", "lesion-free", "--workers", 1, "--max-skipped", 9)
    assert run("convert", "folder", linked, tmp_path / "out", *how)[0] == 0

    assert [row["source"] for row in panoptic.load_cases(tmp_path / "out")] == ["again.png", "near.png"]
    skipped = (tmp_path / "out" / "skipped.csv").read_text()
    assert skipped.count("a link that leaves the raw folder") == 2
    assert skipped.count("the path leaves the raw folder") == 1


@pytest.mark.parametrize("name", ["vindr", "csaw-cc", "inbreast"])
def test_a_reader_s_links_are_followed_inside_alone(name, tmp_path, run):
    raw, outside = tmp_path / "raw", tmp_path / "outside"
    WRITERS[name](raw)
    records = [item for item in READERS[name].read(raw, **({"normals": True} if name == "csaw-cc" else {}))]
    source = next(raw / item.source for item in records if isinstance(item, Record))
    outside.mkdir()
    source.rename(outside / "image")
    source.symlink_to(outside / "image")
    how = ("--workers", 1, "--long-side", 80, "--max-skipped", 9, *OWN.get(name, ()))
    assert run("convert", name, raw, tmp_path / "out", *how)[0] == 0
    line = f"{source.relative_to(raw).as_posix()},image,a link that leaves the raw folder"
    assert line in (tmp_path / "out" / "skipped.csv").read_text()

    table = READERS[name].tables(raw)[0]
    table.rename(outside / "table")
    table.symlink_to(outside / "table")
    for command in (("convert", name, raw, tmp_path / "more"), ("inspect", raw)):
        code, said = run(*command)
        assert (code, "is a link that leaves the raw folder" in said) == (2, True), said


def test_archives_are_listed_and_not_unpacked(tmp_path, run):
    import zipfile

    write_picture(tmp_path / "raw" / "a.png")
    (tmp_path / "raw" / "list.csv").write_text("image,patient\na,p1\n")
    with zipfile.ZipFile(tmp_path / "raw" / "more.zip", "w") as archive:
        archive.write(tmp_path / "raw" / "a.png", "b.png")
    how = ("--no-pseudonymise", "--empty", "lesion-free", "--workers", 1)
    assert run("convert", "folder", tmp_path / "raw", tmp_path / "out", *how)[0] == 0

    assert len(panoptic.load_cases(tmp_path / "out")) == 1
    line = "more.zip,table,neither an image nor an annotation file that is read"
    assert line in (tmp_path / "out" / "skipped.csv").read_text()


def test_the_search_finds_a_mark_in_every_form():
    import base64
    import io

    from PIL import Image, PngImagePlugin

    mark = f"ab{MARK}cd".encode()
    utf_16 = f"x{MARK}".encode("utf-16-le")
    for data in (mark, mark.upper(), utf_16, mark.hex().encode(), b"1.2.98765432", DATE.encode()):
        assert marks_in(b"..." + data), data
    for shift in range(3):
        assert marks_in(base64.b64encode(b"x" * shift + mark.upper()))
    fields, file = PngImagePlugin.PngInfo(), io.BytesIO()
    fields.add_text("key", mark.decode() * 9, zip=True)
    Image.fromarray(np.zeros((4, 4), dtype=np.uint8)).save(file, "PNG", pnginfo=fields)
    assert MARK.encode() not in file.getvalue()
    assert marks_in(file.getvalue())
    assert not marks_in(cv2.imencode(".png", pixels())[1].tobytes())
