"""`fix` mends what follows from data that are there, and nothing else."""

import pytest

from mammoprep import panoptic
from mammoprep.check import FIXES, check
from mammoprep.errors import MammoprepError, MissingFileError

FILES = ("panoptic.json", "instances.json", "cases.csv")


@pytest.fixture
def mendable(broken, change_json, change_csv):
    """One problem for each rule that can be mended."""

    def break_segments(content):
        segments = content["annotations"][0]["segments_info"]
        segments[0].update(area=7, covered=0.9)
        segments[1].update(bbox=[0, 0, 1, 1])

    def break_instances(content):
        content["images"].reverse()
        content["annotations"][0].update(area=7)
        content["annotations"][1].update(bbox=[0, 0, 1, 1])

    change_json(broken / "panoptic.json", break_segments)
    change_json(broken / "instances.json", break_instances)
    change_csv(broken / "cases.csv", lambda rows: rows[2].update(n_findings="5"))
    return broken


def test_everything_mendable_is_mended_to_what_convert_wrote(clean, mendable):
    report = check(mendable, fix=True)
    assert report.problems == ()
    assert report.fixed == dict.fromkeys(report.fixed, 1)
    assert report.fixed.keys() == FIXES.keys()
    for name in FILES:
        assert (mendable / name).read_bytes() == (clean / name).read_bytes()


def test_nothing_is_written_without_fix(mendable):
    before = {name: (mendable / name).read_bytes() for name in FILES}
    report = check(mendable)
    assert {problem.rule for problem in report.problems} == FIXES.keys()
    assert all(problem.edit for problem in report.problems)
    assert before == {name: (mendable / name).read_bytes() for name in FILES}


def test_what_cannot_be_mended_stays_and_is_told(mendable):
    ids = panoptic.read_ids(mendable / "panoptic" / "two.png")
    ids[0, 0] = 0
    panoptic.write_ids(mendable / "panoptic" / "two.png", ids)
    report = check(mendable, fix=True)
    assert {problem.rule for problem in report.problems} == {"void"}
    assert report.fixed["area"] == 2  # a pixel less in image two as well


def test_an_ignored_rule_is_counted_and_not_mended(mendable):
    before = (mendable / "cases.csv").read_bytes()
    report = check(mendable, fix=True, ignore=("n-findings",))
    assert report.problems == ()
    assert report.ignored == {"n-findings": 1}
    assert (mendable / "cases.csv").read_bytes() == before


def test_columns_of_other_tools_survive_a_fix(mendable, change_csv):
    change_csv(mendable / "cases.csv", lambda rows: [row.update(flipped="0") for row in rows] and None)
    text = (mendable / "cases.csv").read_text()
    assert check(mendable, fix=True).problems == ()
    assert (mendable / "cases.csv").read_text() == text.replace(",5,0,b/1.png", ",1,0,b/1.png")


def test_what_is_no_data_set_is_one_line(tmp_path):
    with pytest.raises(MissingFileError, match=r"nowhere does not exist\. Name a DATASET"):
        check(tmp_path / "nowhere")
    with pytest.raises(MissingFileError, match=r"panoptic\.json does not exist"):
        check(tmp_path)
    (tmp_path / "panoptic.json").write_text("[]")
    with pytest.raises(MammoprepError, match=r"is not COCO panoptic"):
        check(tmp_path)


def test_an_unknown_rule_names_the_nearest(clean):
    with pytest.raises(MammoprepError, match="Did you mean 'tiny-lesion'"):
        check(clean, ignore=("tiny-lesions",))
