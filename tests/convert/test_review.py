"""Reviews applied: what is rejected is left out and listed, nothing else changes, other data sets are refused."""

import csv
import json

import pytest

from mammoprep import panoptic
from mammoprep.convert import Options, Work, convert, preview
from mammoprep.errors import MammoprepError


def review_of(dataset, path, *marks):
    manifest = json.loads((dataset / "manifest.json").read_text())
    entries = [dict(zip(("image", "finding", "mark", "comment"), mark, strict=False)) for mark in marks]
    panoptic.write_json(path, {"format": 1, "dataset": panoptic.identity_of(manifest), "marks": entries})
    return panoptic.load_review(path)


@pytest.fixture
def reviewed(reader, raw, tmp_path):
    """Convert again with marks on the first conversion."""
    convert(reader, raw, out=tmp_path / "before", options=Options("size", stuff=("background",)))

    def again(*marks, name="after", work=Work(workers=1), **options):  # noqa: B008
        review = review_of(tmp_path / "before", tmp_path / "review.json", *marks)
        options = Options("size", stuff=("background",), review=review, **options)
        convert(reader, raw, out=tmp_path / name, options=options, work=work)
        return panoptic.load(tmp_path / name)

    return again


def skipped_of(dataset):
    with (dataset / "skipped.csv").open(newline="") as file:
        return [tuple(row.values()) for row in csv.DictReader(file) if row["stage"] == "selection"]


def sources(data):
    things = {category.id for category in data.things}
    return {image.name: [s.extra["source"] for s in image.segments if s.category_id in things] for image in data.images}


def test_segments_say_where_they_stand(reviewed):
    assert sources(reviewed()) == {"one": ["row 2", "row 3"], "two": [], "three": [], "four": ["row 5"]}


def test_rejected_finding_is_left_out_and_listed(reviewed, tmp_path):
    data = reviewed(("one", "row 3", "reject", "no lesion"))
    assert sources(data)["one"] == ["row 2"]
    assert data.images[0].segments[0].area == 400  # what lay under the rejected one has come to light
    assert skipped_of(tmp_path / "after") == [("row 3", "selection", "rejected in review")]
    assert len(panoptic.load_instances(tmp_path / "after")["annotations"]) == 2


def test_rejected_image_leaves_its_number_free(reviewed, tmp_path):
    data = reviewed(("two", None, "reject"), ("two", "row 9", "reject"))
    assert [(image.id, image.name) for image in data.images] == [(1, "one"), (3, "three"), (4, "four")]
    assert skipped_of(tmp_path / "after") == [("a/2.png", "selection", "rejected in review")]


def test_accepting_and_commenting_change_no_other_file(reviewed, tmp_path):
    reviewed(("one", "row 2", "accept", "clear"), ("one", None, None, "motion"))
    for name in ("panoptic.json", "instances.json", "cases.csv", "skipped.csv", "panoptic/one.png", "images/one.png"):
        assert (tmp_path / "after" / name).read_bytes() == (tmp_path / "before" / name).read_bytes()
    assert (tmp_path / "after/review.json").read_bytes() == (tmp_path / "review.json").read_bytes()
    options = json.loads((tmp_path / "after/manifest.json").read_text())["options"]
    assert options["review"] == panoptic.file_hash(tmp_path / "review.json")


def test_review_holds_for_another_size(reviewed):
    assert sources(reviewed(("four", "row 5", "reject"), long_side=30))["four"] == []


def test_rejected_finding_without_a_class_is_listed_once(reviewed, tmp_path):
    reviewed(("three", "row 4", "reject"))
    assert skipped_of(tmp_path / "after") == [("row 4", "selection", "rejected in review")]
    assert "no class" not in (tmp_path / "after/skipped.csv").read_text()


def test_mark_of_what_is_not_converted_is_listed(reviewed, tmp_path):
    reviewed(("four", "row 5", "reject"), ("one", "row 77", "reject"), limit=3)
    why = "rejected in review, but not in this conversion"
    assert skipped_of(tmp_path / "after") == [
        ("review: four row 5", "selection", why),
        ("review: one row 77", "selection", why),
    ]


def test_preview_counts_what_the_review_leaves(reviewed, reader, raw, tmp_path):
    reviewed()
    review = review_of(tmp_path / "before", tmp_path / "r.json", ("one", "row 2", "reject"), ("two", None, "reject"))
    summary = preview(reader, raw, options=Options("size", review=review))
    assert summary.images == 3
    assert summary.skipped["selection"] == {"rejected in review": 2}


def test_review_of_other_annotations_is_refused(reviewed, reader, raw, tmp_path):
    reviewed()
    review = review_of(tmp_path / "before", tmp_path / "r.json", ("one", None, "reject"))
    (raw / "table.json").write_text(json.dumps({"rows": 6}))
    options, refused = Options("size", review=review), pytest.raises(MammoprepError, match="of another data set")
    with refused:
        preview(reader, raw, options=options)
    with refused:
        convert(reader, raw, out=tmp_path / "out", options=options)
    assert not (tmp_path / "out").exists()


def test_finished_conversion_with_another_review_is_not_resumed(reviewed):
    reviewed(("one", "row 2", "reject"))
    with pytest.raises(MammoprepError, match="options review = "):
        reviewed(("one", "row 3", "reject"), work=Work(workers=1, existing="resume"))


@pytest.mark.parametrize(
    "content",
    [
        "no JSON",
        "[" * 100_000,
        '{"format": 1, "dataset": "0", "marks": [{"image": "\\ud800", "mark": "reject"}]}',
        "[]",
        "{}",
        '{"format": 2, "dataset": "0", "marks": []}',
        '{"format": 1, "dataset": null, "marks": []}',
        '{"format": 1, "dataset": "0", "marks": [{"mark": "reject"}]}',
        '{"format": 1, "dataset": "0", "marks": [{"image": "a", "mark": "maybe"}]}',
        '{"format": 1, "dataset": "0", "marks": [{"image": "a", "mark": ["reject"]}]}',
        '{"format": 1, "dataset": "0", "marks": [{"image": "a", "mark": "reject"}, {"image": "a", "mark": "accept"}]}',
    ],
)
def test_file_that_is_no_review_is_refused(tmp_path, content):
    (tmp_path / "review.json").write_text(content)
    with pytest.raises(MammoprepError, match="review.json"):
        panoptic.load_review(tmp_path / "review.json")
    with pytest.raises(MammoprepError, match="does not exist"):
        panoptic.load_review(tmp_path / "other.json")
