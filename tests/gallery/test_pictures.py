"""Overlays: colours where the lesions are, nothing where they are not, lesion-bearing images first."""

import cv2
import numpy as np
import pytest

from mammoprep import gallery, panoptic
from mammoprep.errors import MammoprepError

CATEGORIES = panoptic.make_categories(["mass", "calcification"])
ORANGE = (0, 159, 230)  # the first class's colour, as BGR


def segment(id_: int, category: int, ids: panoptic.Ids, score: float | None = None) -> panoptic.Segment:
    mask = ids == id_
    return panoptic.Segment(id_, category, int(mask.sum()), panoptic.mask_box(mask), score=score)


def lesion_map(height: int = 200, width: int = 160) -> panoptic.Ids:
    ids = np.full((height, width), 9, np.int32)
    ids[100:140, 60:100] = 1
    return ids


def write_folder(root, *, lesions: dict[str, bool]):
    for folder in ("images", "panoptic"):
        (root / folder).mkdir(parents=True)
    images = []
    for number, (name, has_lesion) in enumerate(lesions.items(), start=1):
        ids = lesion_map() if has_lesion else np.full((200, 160), 9, np.int32)
        panoptic.write_png(root / "images" / f"{name}.png", np.full((200, 160), 100, np.uint8))
        panoptic.write_ids(root / "panoptic" / f"{name}.png", ids)
        segments = [segment(9, 4, ids)] + ([segment(1, 1, ids)] if has_lesion else [])
        images.append(panoptic.Image(number, name, 200, 160, tuple(segments)))
    panoptic.write_panoptic(root, categories=CATEGORIES, images=images)
    return root


def test_lesion_is_tinted_outlined_and_the_rest_left_alone():
    ids = lesion_map()
    grey = np.full(ids.shape, 100, np.uint8)
    drawn = gallery.overlay(grey, ids, segments=[segment(1, 1, ids), segment(9, 4, ids)], categories=CATEGORIES)
    assert drawn.shape == (200, 160, 3)
    # 0.75 of the grey and 0.25 of the colour
    assert tuple(drawn[120, 80]) == (75, 115, 132)
    assert tuple(drawn[100, 80]) == ORANGE
    assert np.all(drawn[150:] == 100)


def test_class_name_stands_at_the_lesion():
    ids = lesion_map()
    grey = np.full(ids.shape, 100, np.uint8)
    above = gallery.overlay(grey, ids, segments=[segment(1, 1, ids)], categories=CATEGORIES)[80:98, 60:]
    assert np.any(above != 100)


def test_score_changes_the_label():
    ids = lesion_map()
    grey = np.zeros(ids.shape, np.uint8)
    pictures = [
        gallery.overlay(grey, ids, segments=[segment(1, 1, ids, score=score)], categories=CATEGORIES)
        for score in (None, 0.25, 0.75)
    ]
    assert not np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[1], pictures[2])


def test_sixteen_bits_are_shown_as_eight():
    ids = np.zeros((4, 4), np.int32)
    drawn = gallery.overlay(np.full((4, 4), 257 * 200, np.uint16), ids, segments=(), categories=CATEGORIES)
    assert np.all(drawn == 200)


def test_zoom_enlarges_picture_and_lesion():
    ids = lesion_map()
    grey = np.full(ids.shape, 100, np.uint8)
    drawn = gallery.overlay(grey, ids, segments=[segment(1, 1, ids)], categories=CATEGORIES, zoom=2)
    assert drawn.shape == (400, 320, 3)
    assert tuple(drawn[240, 160]) == (75, 115, 132)


def test_map_of_another_size_is_refused():
    with pytest.raises(MammoprepError, match="do not fit"):
        gallery.overlay(np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.int32), segments=(), categories=())


def test_images_with_lesions_come_first(tmp_path):
    root = write_folder(tmp_path / "data", lesions={"a": False, "b": True, "c": False, "d": True})
    paths = gallery.write_overlays(root, tmp_path / "out", limit=3)
    assert [path.name for path in paths] == ["b.png", "d.png", "a.png"]
    assert all(path.is_file() for path in paths)


def test_panels_stand_side_by_side_and_truth_is_coloured(tmp_path):
    root = write_folder(tmp_path / "data", lesions={"b": True})
    (path,) = gallery.write_overlays(root, tmp_path / "out")
    page = cv2.imread(str(path))
    width = 160 * gallery.PANEL_HEIGHT // 200
    left, right = page[:-30, :width], page[:-30, width + 6 :]
    assert left.shape == right.shape
    assert np.all(left[40:] == 100)
    assert np.any(np.ptp(right[40:].astype(int), axis=2) > 50)


def test_prediction_adds_a_panel_and_leaves_out_what_was_not_predicted(tmp_path):
    root = write_folder(tmp_path / "data", lesions={"a": True, "b": True})
    predictions = write_folder(tmp_path / "predictions", lesions={"b": True})
    (path,) = gallery.write_overlays(root, tmp_path / "out", predictions=predictions)
    assert path.name == "b.png"
    assert cv2.imread(str(path)).shape[1] == 3 * 160 * gallery.PANEL_HEIGHT // 200 + 2 * 6


def test_many_classes_wrap_in_the_legend(tmp_path):
    root = write_folder(tmp_path / "data", lesions={"b": True})
    names = [f"a finding with the long name {number}" for number in range(10)]
    images = panoptic.load(root).images
    panoptic.write_panoptic(
        root,
        categories=panoptic.make_categories(names),
        images=[
            panoptic.Image(i.id, i.name, i.height, i.width, tuple(s for s in i.segments if s.id == 1)) for i in images
        ],
    )
    (path,) = gallery.write_overlays(root, tmp_path / "out")
    assert cv2.imread(str(path)).shape[0] > gallery.PANEL_HEIGHT + 3 * 30


def test_same_data_gives_the_same_bytes(tmp_path):
    root = write_folder(tmp_path / "data", lesions={"b": True})
    first, second = (gallery.write_overlays(root, tmp_path / name)[0].read_bytes() for name in ("one", "two"))
    assert first == second


def test_predictions_for_other_images_are_refused(tmp_path):
    root = write_folder(tmp_path / "data", lesions={"a": True})
    predictions = write_folder(tmp_path / "predictions", lesions={"z": True})
    with pytest.raises(MammoprepError, match="predictions has no image"):
        gallery.write_overlays(root, tmp_path / "out", predictions=predictions)
    assert not (tmp_path / "out").exists()


def write_predictions(root, scores):
    """Predictions of the first image: the lesion, detections with these scores, and heat where the lesion is."""
    write_folder(root, lesions={"a": True})
    (root / "heatmaps").mkdir()
    panoptic.write_png(root / "heatmaps" / "a.png", np.where(lesion_map() == 1, 255, 0).astype(np.uint8))
    code = panoptic.encode_rle(lesion_map() == 1)
    entries = [{"image_id": 1, "category_id": 1, "segmentation": code, "score": score} for score in scores]
    panoptic.write_json(root / "instances.json", entries)
    return root


def test_panels_show_what_is_there(tmp_path):
    dataset = write_folder(tmp_path / "dataset", lesions={"a": True, "b": False})
    shown = gallery.panels(dataset, write_predictions(tmp_path / "predictions", [0.9]), "a")
    assert list(shown) == ["image", "ground truth", "panoptic", "instances", "heat map"]
    assert {panel.shape for panel in shown.values()} == {(gallery.SMALL_HEIGHT, 320, 3)}
    assert np.all(shown["image"] == 100)
    for title in ("ground truth", "panoptic", "instances"):
        assert (shown[title] == ORANGE).all(axis=2).any()
    centre, corner = shown["heat map"][240, 160], shown["heat map"][10, 10]
    assert tuple(corner) == (100, 100, 100)
    assert tuple(centre) != (100, 100, 100)


def test_panels_without_a_piece_are_none(tmp_path):
    dataset = write_folder(tmp_path / "dataset", lesions={"a": True})
    (tmp_path / "nothing").mkdir()
    shown = gallery.panels(dataset, tmp_path / "nothing", "a")
    assert [title for title, panel in shown.items() if panel is None] == ["panoptic", "instances", "heat map"]


def test_detections_of_next_to_no_score_are_not_drawn(tmp_path):
    dataset = write_folder(tmp_path / "dataset", lesions={"a": True})
    shown = gallery.panels(dataset, write_predictions(tmp_path / "predictions", [0.09]), "a")
    assert np.array_equal(shown["instances"], shown["image"])


def test_panels_of_an_image_that_is_not_there_are_refused(tmp_path):
    dataset = write_folder(tmp_path / "dataset", lesions={"a": True})
    with pytest.raises(MammoprepError, match="has no image z"):
        gallery.panels(dataset, dataset, "z")
