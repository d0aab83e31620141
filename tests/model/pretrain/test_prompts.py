"""What cases.csv says of an image, in words."""

import pytest

from mammoprep_model.pretrain.prompts import breast_areas, describe


def row(**cells: str) -> dict[str, str]:
    return {"manufacturer": "SIEMENS", "view": "MLO", "density": "C", **cells}


@pytest.mark.parametrize(
    ("cells", "prompt"),
    [
        ({}, "a siemens mammogram in MLO view with high density"),
        ({"density": "A", "view": "CC"}, "a siemens mammogram in CC view with very low density"),
        ({"manufacturer": "HOLOGIC, Inc."}, "a hologic mammogram in MLO view with high density"),
        ({"density": ""}, "a siemens mammogram in MLO view"),
        ({"density": "5", "view": "", "manufacturer": ""}, "a mammogram"),
    ],
)
def test_a_prompt_says_what_is_known(cells: dict[str, str], prompt: str) -> None:
    assert describe([row(**cells)], [None]) == [prompt]


def test_the_area_is_told_by_thirds_of_these_images() -> None:
    prompts = describe([row(density="D")] * 6, [10.0, 20.0, 30.0, 40.0, 50.0, 60.0])
    ends = [prompt.removeprefix("a siemens mammogram in MLO view with very high density and ") for prompt in prompts]
    assert ends == ["small area"] * 2 + ["medium area"] * 2 + ["big area"] * 2


def test_an_area_that_one_image_lacks_is_told_of_none() -> None:
    assert not any("area" in prompt for prompt in describe([row()] * 3, [10.0, None, 30.0]))


def test_an_area_alone_needs_no_and() -> None:
    assert describe([row(density="")] * 2, [1.0, 2.0])[1] == "a siemens mammogram in MLO view with big area"


def test_areas_are_square_millimetres_where_every_image_has_a_spacing() -> None:
    half = {"scale_x": "-0.5", "scale_y": "0.5", "pixel_spacing_mm": "0.1"}  # mirrored, and 1 stored pixel of 4
    whole = {"scale_x": "1.0", "scale_y": "1.0", "pixel_spacing_mm": "0.2"}
    assert breast_areas([half, whole], [100, 100]) == pytest.approx([100 * 4 * 0.01, 100 * 0.04])
    assert breast_areas([half, {**whole, "pixel_spacing_mm": ""}], [100, 100]) == [400.0, 100.0]
    assert breast_areas([half, whole], [100, None])[1] is None
