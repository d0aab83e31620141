"""Every rule, by a DATASET that is broken for it and by nothing else."""

import json

import cv2
import numpy as np
import pytest

from mammoprep import panoptic, phantom
from mammoprep.check import RULES, check
from mammoprep.convert import Options, convert
from mammoprep.errors import MammoprepError
from mammoprep.readers import READERS


def test_a_converted_data_set_keeps_every_rule(clean):
    report = check(clean)
    assert report.problems == ()
    assert (report.images, report.patients, report.lesion_free, report.without_finding) == (6, 3, 2, 1)


def test_the_rules_are_those_of_the_format_that_convert_writes(clean):
    header = (clean / "cases.csv").read_text(encoding="utf-8").partition("\n")[0].split(",")
    assert tuple(header[: len(panoptic.CASE_COLUMNS)]) == panoptic.CASE_COLUMNS
    assert json.loads((clean / "manifest.json").read_text(encoding="utf-8"))["format"] == panoptic.FORMAT


def test_a_mirrored_and_cropped_data_set_keeps_every_rule(tmp_path):
    phantom.write(tmp_path / "raw", patients=2, long_side=128)
    options = Options(labels="birads", crop_breast=True, flip_right=True)
    convert(READERS["vindr"], tmp_path / "raw", out=tmp_path / "dataset", options=options)
    rows = panoptic.load_cases(tmp_path / "dataset")
    assert {float(row["scale_x"]) < 0 for row in rows} == {False, True}
    assert check(tmp_path / "dataset").problems == ()


def of_panoptic(change):
    return lambda root, tools: tools["json"](root / "panoptic.json", change)


def of_instances(change):
    return lambda root, tools: tools["json"](root / "instances.json", change)


def of_manifest(change):
    return lambda root, tools: tools["json"](root / "manifest.json", change)


def of_folds(change):
    return lambda root, tools: tools["json"](root / "folds.json", change)


def of_case(number, **cells):
    return lambda root, tools: tools["csv"](root / "cases.csv", lambda rows: rows[number].update(cells))


def of_map(change):
    """Change the map of image `one`, in which 1 and 2 are findings and 3, 4 breast and background."""

    def write(root, tools):
        path = root / "panoptic" / "one.png"
        ids = panoptic.read_ids(path)
        panoptic.write_ids(path, change(ids))

    return write


def of_picture(name, change):
    def write(root, tools):
        path = root / "images" / f"{name}.png"
        panoptic.write_png(path, change(panoptic.read_png(path)))

    return write


def segments(content, number=0):
    return content["annotations"][number]["segments_info"]


def setting(place, value):
    """Set `place`, keys and positions, of a JSON file."""

    def change(content):
        for step in place[:-1]:
            content = content[step]
        content[place[-1]] = value

    return change


def copied(of, to):
    def write(root, tools):
        (root / "images" / f"{to}.png").write_bytes((root / "images" / f"{of}.png").read_bytes())

    return write


def brightened(of, to):
    def write(root, tools):
        grey = panoptic.read_png(root / "images" / f"{of}.png")
        panoptic.write_png(root / "images" / f"{to}.png", (255 * (grey / 255.0) ** 0.8).astype(np.uint8))

    return write


def written(name, data):
    return lambda root, tools: (root / name).write_bytes(data)


def removed(name):
    return lambda root, tools: (root / name).unlink()


def leaking(content):
    """Put an image of fold 0's other patients on the other side."""
    fold = content["folds"][0]
    fold["val"].append(fold["train"].pop())
    content.update(folds=[fold], k=1)


def reordered(root, tools):
    def swap(rows):
        rows[0]["source"], rows[5]["source"] = rows[5]["source"], rows[0]["source"]

    tools["csv"](root / "cases.csv", swap)


SEGMENT = ("annotations", 0, "segments_info", 0)
INSTANCE = ("annotations", 0)

BROKEN = {
    "unfinished": [lambda root, tools: panoptic.partial_of(root).mkdir()],
    "files": [removed("skipped.csv"), written("instances.json", b"{"), written("folds.json", b"[]")],
    "stray-file": [written("images/more.png", b""), written("panoptic/Thumbs.db", b"")],
    "entry": [
        of_panoptic(lambda content: segments(content)[2].pop("area")),
        of_panoptic(setting((*SEGMENT, "bbox"), [1, 2, 3])),
        of_panoptic(setting((*SEGMENT, "pseudo_mask"), {"method": "otsu", "threshold": 1.0})),
        of_panoptic(setting(("categories", 0, "color"), [0, 0, 300])),
        of_panoptic(setting(("images", 0, "file_name"), "one\0.png")),
        of_instances(setting((*INSTANCE, "area"), 400.0)),
        of_instances(setting((*INSTANCE, "segmentation"), [[1, 2, 3]])),
    ],
    "category": [
        of_panoptic(setting(("categories", 3, "id"), 9)),
        of_panoptic(setting(("categories", 3, "name"), "breast")),
        of_panoptic(setting(("categories", 0, "isthing"), 0)),
    ],
    "image-id": [of_panoptic(lambda content: content["images"].append(content["images"][0]))],
    "image-order": [reordered],
    "file-name": [of_panoptic(setting(("annotations", 0, "file_name"), "two.png"))],
    "annotation": [
        of_panoptic(lambda content: content["annotations"].append(content["annotations"][0])),
        of_panoptic(lambda content: content["annotations"].append({**content["annotations"][0], "image_id": 77})),
        of_panoptic(lambda content: content["annotations"].pop()),
    ],
    "segment-id": [of_panoptic(lambda content: segments(content).append(segments(content)[0]))],
    "segment-category": [of_panoptic(setting(("annotations", 1, "segments_info", 0, "category_id"), 9))],
    "panoptic-png": [
        removed("panoptic/two.png"),
        written("panoptic/two.png", b"no PNG"),
        lambda root, tools: panoptic.write_classes(root / "panoptic" / "two.png", np.ones((60, 40), np.uint8)),
        of_map(lambda ids: ids[:-1]),
    ],
    "void": [of_map(lambda ids: np.where(ids == 3, 0, ids).astype(np.int32))],
    "unlisted-segment": [of_map(lambda ids: np.where(ids == 3, 70_000, ids).astype(np.int32))],
    "undrawn-segment": [
        of_panoptic(lambda content: segments(content, 1).append({**segments(content, 1)[0], "id": 70_000}))
    ],
    "area": [of_panoptic(setting((*SEGMENT, "area"), 1))],
    "bbox": [of_panoptic(setting((*SEGMENT, "bbox"), [0, 0, 20, 20]))],
    "tiny-lesion": [],  # test_a_lesion_of_a_few_pixels
    "image-png": [
        removed("images/two.png"),
        written("images/two.png", b"no PNG"),
        of_picture("two", lambda grey: grey.astype(np.uint16) * 257),
        of_picture("two", lambda grey: cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)),
        of_picture("two", lambda grey: grey[:, 1:]),
    ],
    "blank-image": [of_picture("two", np.zeros_like)],
    "identical-images": [copied("one", "two"), copied("one", "six")],
    "near-duplicates": [brightened("one", "six")],
    "instances-lists": [of_instances(lambda content: content["images"].pop())],
    "instance-id": [of_instances(setting(("annotations", 1, "id"), 1))],
    "instance-of": [
        of_instances(setting(("annotations", 3, "image_id"), 77)),
        of_instances(setting(("annotations", 3, "category_id"), 4)),
    ],
    "rle": [
        of_instances(setting((*INSTANCE, "segmentation", "counts"), "01")),
        of_instances(setting((*INSTANCE, "segmentation", "counts"), "P\n")),
        of_instances(setting((*INSTANCE, "segmentation"), panoptic.encode_rle(np.zeros((60, 40), bool)))),
        of_instances(setting((*INSTANCE, "segmentation", "size"), [40, 60])),
    ],
    "instance-area": [of_instances(setting((*INSTANCE, "area"), 1))],
    "instance-bbox": [of_instances(setting((*INSTANCE, "bbox"), [0, 0, 20, 20]))],
    "instance-segment": [
        of_instances(lambda content: content["annotations"].pop()),
        of_instances(lambda content: content["annotations"].append({**content["annotations"][3], "id": 9})),
    ],
    "overlap": [],  # test_the_larger_finding_on_top
    "covered": [
        of_panoptic(setting((*SEGMENT, "covered"), 0.5)),
        of_panoptic(lambda content: segments(content)[0].pop("covered")),
    ],
    "cases-columns": [
        lambda root, tools: tools["csv"](root / "cases.csv", lambda rows: [row.pop("view") for row in rows])
    ],
    "cases-rows": [
        lambda root, tools: (root / "cases.csv").write_text((root / "cases.csv").read_text().splitlines()[0] + "\n"),
        lambda root, tools: tools["csv"](root / "cases.csv", lambda rows: rows.pop()),
        lambda root, tools: tools["csv"](root / "cases.csv", lambda rows: rows.append(rows[0])),
        of_case(0, image_id="other"),
    ],
    "cases-values": [
        of_case(0, laterality="left"),
        of_case(0, scale_x="0"),
        of_case(0, native_height="-3"),
        of_case(0, pixel_spacing_mm="nan"),
        of_case(0, lesion_free="no"),
    ],
    "patient": [of_case(0, patient_id="")],
    "coordinates": [
        of_case(0, native_width="39"),
        of_case(0, crop_y0="7"),
        of_case(0, scale_y="0.5"),
        of_case(0, scale_x="-1.0"),  # mirrored, yet nothing lies left of crop_x0
        of_case(0, scale_x="-1.0", crop_x0="41"),
    ],
    "source": [of_case(0, source="/a/1.png"), of_case(0, source="../a/1.png"), of_case(1, source="a/1.png")],
    "n-findings": [of_case(0, n_findings="1")],
    "lesion-free": [of_case(0, lesion_free="1")],
    "skipped": [
        lambda root, tools: tools["csv"](root / "skipped.csv", lambda rows: rows[0].update(stage="later")),
        lambda root, tools: tools["csv"](root / "skipped.csv", lambda rows: rows[0].update(reason="")),
        written("skipped.csv", b"source,reason\na,b\n"),
    ],
    "hashes": [
        written("SHA256SUMS", b"0" * 64 + b"  skipped.csv\n"),
        written("SHA256SUMS", b"0" * 64 + b"  ../dataset/skipped.csv\n"),
        of_manifest(setting(("outputs",), {"SHA256SUMS": "0" * 64})),
    ],
    "manifest": [
        of_manifest(lambda content: content.pop("inputs")),
        of_manifest(setting(("format",), 2)),
        of_manifest(setting(("options",), [])),
        of_manifest(setting(("labels",), None)),
        of_manifest(setting(("counts", "images"), 7)),
        of_manifest(setting(("counts", "findings", "benign"), 7)),
        of_manifest(setting(("inputs", "table.csv"), "short")),
    ],
    "folds": [
        of_folds(setting(("k",), 5)),
        of_folds(setting(("group",), "image_id")),
        of_folds(lambda content: content["folds"][0]["train"].append(77)),
        of_folds(lambda content: content["folds"][0]["train"].pop()),
        of_folds(lambda content: content["folds"][0]["val"].append("1")),
        of_folds(lambda content: content["folds"][0]["val"].append([1])),
        of_folds(lambda content: content["folds"].pop()),
        of_folds(lambda content: content["folds"][0].update(val=[])),
        of_folds(lambda content: content["folds"][0]["val"].append(content["folds"][0]["val"][0])),
    ],
    "folds-patients": [of_folds(leaking)],
}
FOLLOWS = {
    "entry": {"unlisted-segment", "instance-segment", "instances-lists", "n-findings", "manifest", "category"}
    | {"segment-category", "instance-of", "annotation", "stray-file", "cases-rows", "folds"},
    "category": {"segment-category", "instances-lists", "instance-of", "manifest", "n-findings", "lesion-free"},
    "image-id": {"instances-lists"},
    "annotation": {"unlisted-segment", "instance-segment", "n-findings", "manifest"},
    "segment-category": {"n-findings", "instance-segment", "manifest"},
    "unlisted-segment": {"undrawn-segment"},
    "void": {"undrawn-segment"},
    "rle": {"instance-segment"},
    "instance-of": {"instance-segment"},
    "instance-segment": {"overlap"},
    "cases-rows": {"manifest"},
}
CASES = [(rule, number) for rule, ways in BROKEN.items() for number in range(len(ways))]


def test_each_rule_is_broken_here():
    assert list(BROKEN) == list(RULES)


@pytest.mark.parametrize(("rule", "number"), CASES, ids=[f"{rule}-{number}" for rule, number in CASES])
def test_a_data_set_that_is_broken_on_purpose(broken, change_json, change_csv, rule, number):
    BROKEN[rule][number](broken, {"json": change_json, "csv": change_csv})
    found = check(broken).by_rule()
    assert rule in found
    assert found.keys() - {rule} <= FOLLOWS.get(rule, set())


def test_a_lesion_of_a_few_pixels(broken, change_json, change_csv):
    """Three pixels in image `six`, which had none, everything else in order."""
    ids = panoptic.read_ids(broken / "panoptic" / "six.png")
    ids[5, 5:8] = 9
    panoptic.write_ids(broken / "panoptic" / "six.png", ids)

    def list_segment(content):
        own = content["annotations"][5]["segments_info"]
        own.insert(0, {"id": 9, "category_id": 1, "area": 3, "bbox": [5, 5, 3, 1], "iscrowd": 0})
        for segment in own[1:]:
            segment["area"] = int((ids == segment["id"]).sum())
        content["images"][5]["id"] = content["annotations"][5]["image_id"]

    code = panoptic.encode_rle(ids == 9)
    entry = {"id": 9, "image_id": 6, "category_id": 1, "segmentation": code, "bbox": [5, 5, 3, 1], "area": 3}
    change_json(broken / "panoptic.json", list_segment)
    change_json(broken / "instances.json", lambda content: content["annotations"].append({**entry, "iscrowd": 0}))
    change_json(broken / "manifest.json", lambda content: content["counts"]["findings"].update(benign=3))
    change_csv(broken / "cases.csv", lambda rows: rows[5].update(n_findings="1", lesion_free="0"))
    (problem,) = check(broken).problems
    assert problem.rule == "tiny-lesion"
    assert "3 stored pixels" in problem.what


def test_the_larger_finding_on_top(broken, change_json):
    """Finding 1 has 20 x 20 pixels, 2 has 15 x 15; they share 10 x 10."""
    path = broken / "panoptic" / "one.png"
    ids = panoptic.read_ids(path)
    ids[20:30, 12:22] = 1
    panoptic.write_ids(path, ids)

    def list_areas(content):
        first, second = segments(content)[:2]
        first.update(area=400, bbox=[2, 10, 20, 20], covered=0)
        second.update(area=125, bbox=[12, 20, 15, 15], covered=round(100 / 225, 6))

    change_json(broken / "panoptic.json", list_areas)
    (problem,) = check(broken).problems
    assert problem.rule == "overlap"
    assert "segment 1, which lies on it, is larger" in problem.what


def test_a_problem_says_where_and_what(broken, change_json):
    change_json(broken / "panoptic.json", setting((*SEGMENT, "area"), 7))
    (problem,) = check(broken).problems
    assert problem.where == "panoptic.json image one segment 1"
    assert problem.what == "the area is 7, in the map 300"


def test_no_patient_is_named(broken, change_json, change_csv):
    change_csv(
        broken / "cases.csv", lambda rows: [row.update(patient_id=f"MRN-4711-{row['patient_id']}") for row in rows]
    )
    change_json(broken / "folds.json", leaking)
    report = check(broken)
    assert "folds-patients" in report.by_rule()
    assert "4711" not in json.dumps(report.to_json())


def places(content, path=()):
    """Yield the keys and positions that lead to each value of a JSON file."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


STRANGE = (
    None,
    -1,
    0,
    1.5,
    True,
    10**30,
    "",
    "two",
    [],
    {},
    [None],
    [[]],
    {"size": [60, 40], "counts": "\\"},
    "\u0000",
)


@pytest.mark.parametrize("name", ["panoptic.json", "instances.json", "manifest.json", "folds.json"])
def test_whatever_stands_in_a_file_is_a_problem_and_never_a_crash(broken, name):
    """Every 7th place of a file gets one of some strange values in turn."""
    before = (broken / name).read_text()
    for position, place in enumerate(places(json.loads(before))):
        if position % 7:
            continue
        content = json.loads(before)
        setting(place, STRANGE[position // 7 % len(STRANGE)])(content)
        (broken / name).write_text(json.dumps(content))
        try:
            check(broken, fix=True)
        except MammoprepError as error:
            assert "panoptic.json" in str(error)  # noqa: PT017
        (broken / name).write_text(before)


def test_tables_of_random_bytes_are_problems(broken):
    random = np.random.default_rng(0)
    for name in ("cases.csv", "skipped.csv", "manifest.json", "folds.json", "instances.json"):
        before = (broken / name).read_bytes()
        for size in (0, 1, 50, 500):
            (broken / name).write_bytes(random.bytes(size))
            assert check(broken).problems
            (broken / name).write_bytes(before)


@pytest.mark.parametrize(("column", "cell"), [("native_height", "9" * 5000), ("crop_x0", "1" * 400), ("crop_y0", "٣")])
def test_a_number_of_too_many_digits_is_a_problem_and_never_a_crash(broken, change_csv, column, cell):
    change_csv(broken / "cases.csv", lambda rows: rows[0].update({column: cell}))
    assert [problem.rule for problem in check(broken).problems] == ["cases-values"]


def test_a_name_longer_than_any_file_s_is_a_problem_and_never_a_crash(broken, change_json):
    change_json(broken / "panoptic.json", lambda content: content["images"][0].update(file_name="x" * 5000 + ".png"))
    assert {"image-png", "panoptic-png", "cases-rows"} <= {problem.rule for problem in check(broken).problems}
