import pytest

from mammoprep.errors import MammoprepError
from mammoprep.evaluation.classes import across, by_name
from mammoprep.panoptic import Panoptic, make_categories

OURS = make_categories(["benign", "malignant"], ["breast", "background"])


def test_sides_that_differ_in_lesion_classes_have_one():
    agreed = across(OURS, make_categories(["cancer"], ["pectoral muscle", "background"]))
    assert [(c.id, c.name, c.isthing) for c in agreed.categories] == [
        (1, "lesion", True),
        (2, "breast", False),
        (3, "background", False),
        (4, "pectoral muscle", False),
    ]
    assert agreed.truth == {1: 1, 2: 1, 3: 2, 4: 3}
    assert agreed.predicted == {1: 1, 2: 4, 3: 3}
    assert agreed.one_sided == ("breast", "pectoral muscle")


def test_sides_with_the_same_names_keep_them_in_any_order():
    agreed = across(OURS, make_categories(["malignant", "benign"], ["background", "breast"]))
    assert [c.name for c in agreed.categories] == ["benign", "malignant", "breast", "background"]
    assert (agreed.truth, agreed.predicted) == ({1: 1, 2: 2, 3: 3, 4: 4}, {1: 2, 2: 1, 3: 4, 4: 3})
    assert agreed.one_sided == ()


def test_a_part_of_the_names_is_no_agreement():
    assert across(OURS, make_categories(["benign"])).categories[0].name == "lesion"


def test_by_name_both_must_list_all(tmp_path):
    theirs = make_categories(["malignant", "benign"], ["background", "breast"])
    assert by_name(Panoptic(tmp_path, OURS, ()), Panoptic(tmp_path, theirs, ())).predicted == {1: 2, 2: 1, 3: 4, 4: 3}
    with pytest.raises(MammoprepError, match="lacks the category 'malignant'"):
        by_name(Panoptic(tmp_path, OURS, ()), Panoptic(tmp_path, make_categories(["benign"]), ()))
