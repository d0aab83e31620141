"""The format on disk: ids as RGB, run-length codes, tables; folders whole or not at all."""

import errno
import json
import math
import os
import struct
import zlib

import cv2
import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_mask

from mammoprep import panoptic
from mammoprep.errors import MammoprepError, MissingFileError
from mammoprep.panoptic import Category, Image, Segment, folder


def contents(path):
    return sorted(each.relative_to(path).as_posix() for each in path.rglob("*"))


# Ids as RGB


def test_an_id_is_red_plus_256_green_plus_65536_blue(tmp_path):
    ids = np.array([[0, 1, 255], [256, 65536, 1 + 256 * 2 + 65536 * 3]], dtype=np.int32)

    panoptic.write_ids(tmp_path / "a.png", ids)

    red_green_blue = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)[..., ::-1]
    assert red_green_blue.tolist() == [[[0, 0, 0], [1, 0, 0], [255, 0, 0]], [[0, 1, 0], [0, 0, 1], [1, 2, 3]]]


@settings(max_examples=40, deadline=None)
@given(
    ids=arrays.arrays(
        np.int32, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(0, panoptic.MAX_ID)
    )
)
def test_ids_come_back(tmp_path_factory, ids):
    path = tmp_path_factory.mktemp("ids") / "a.png"
    panoptic.write_ids(path, ids[:, ::-1])  # no contiguous array

    back = panoptic.read_ids(path)

    assert back.dtype == np.int32
    assert (back == ids[:, ::-1]).all()


@pytest.mark.parametrize("wrong", [-1, panoptic.MAX_ID + 1])
def test_an_id_that_has_no_colour_is_refused(tmp_path, wrong):
    with pytest.raises(MammoprepError, match="0 … 16777215"):
        panoptic.write_ids(tmp_path / "a.png", np.array([[wrong]], dtype=np.int32))


@pytest.mark.parametrize(
    "pixels", [np.zeros((2, 2), np.uint8), np.zeros((2, 2, 3), np.uint16), np.zeros((2, 2, 4), np.uint8)]
)
def test_another_kind_of_png_is_no_map_of_ids(tmp_path, pixels):
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    with pytest.raises(MammoprepError, match="no RGB PNG with 8 bits"):
        panoptic.read_ids(tmp_path / "a.png")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_pixels_come_back(tmp_path, dtype):
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (7, 5)).astype(dtype)

    panoptic.write_png(tmp_path / "a.png", pixels)

    back = panoptic.read_png(tmp_path / "a.png")
    assert back.dtype == dtype
    assert (back == pixels).all()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (1, 9, 3), (40, 31, 3)])
def test_a_png_is_read_by_opencv_and_pillow(tmp_path, shape, kind):
    pixels = np.random.default_rng(0).integers(0, np.iinfo(kind).max + 1, shape, dtype=kind)
    panoptic.write_png(tmp_path / "a.png", pixels)

    assert np.array_equal(cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED), pixels)
    assert np.array_equal(panoptic.read_png(tmp_path / "a.png"), pixels)
    with PIL.Image.open(tmp_path / "a.png") as image:
        image.verify()


@pytest.mark.parametrize("kept", [0, 40, -5])
def test_a_torn_png_is_no_image(tmp_path, kept):
    panoptic.write_ids(tmp_path / "a.png", np.arange(900, dtype=np.int32).reshape(30, 30))
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:kept])
    with pytest.raises(MammoprepError, match="not a readable PNG"):
        panoptic.read_ids(tmp_path / "a.png")


def test_a_missing_png_is_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"b\.png does not exist"):
        panoptic.read_png(tmp_path / "b.png")


# Run-length codes


def test_a_code_worked_by_hand():
    mask = np.array([[0, 1, 0], [0, 1, 1]], dtype=bool)  # down the columns 0 0 1 1 0 1: runs of 2, 2, 1 and 1

    code = panoptic.encode_rle(mask)

    # A count is written in 5 bits plus 48; from the fourth on, as the difference from the one before the last: 1 - 2.
    assert code == {"size": [2, 3], "counts": "221O"}
    assert (panoptic.decode_rle(code) == mask).all()


@settings(max_examples=300, deadline=None)
@given(mask=arrays.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_codes_are_byte_for_byte_those_of_pycocotools(mask):
    expected = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))

    code = panoptic.encode_rle(mask)

    assert code == {"size": list(mask.shape), "counts": expected["counts"].decode()}
    assert (panoptic.decode_rle(code) == mask).all()


@settings(max_examples=100, deadline=None)
@given(
    crop=arrays.arrays(bool, st.tuples(st.integers(1, 5), st.integers(1, 5))),
    before=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    after=st.tuples(st.integers(0, 4), st.integers(0, 4)),
)
def test_a_crop_has_the_code_of_its_full_mask(crop, before, after):
    mask = np.pad(crop, tuple(zip(before, after, strict=True)))
    y, x = before
    assert panoptic.encode_crop(crop, x=x, y=y, size=mask.shape) == panoptic.encode_rle(mask)


def test_a_box_is_tight_and_an_empty_mask_has_none():
    mask = np.zeros((9, 8), dtype=bool)
    assert panoptic.mask_box(mask) == (0, 0, 0, 0)
    mask[3, 2] = mask[6, 4] = True
    assert panoptic.mask_box(mask) == (2, 3, 3, 4)


# Tables


def test_categories_count_from_one_things_first_each_with_a_colour():
    categories = panoptic.make_categories([f"class {i}" for i in range(12)])

    assert [category.id for category in categories] == list(range(1, 15))
    assert [category.isthing for category in categories] == [True] * 12 + [False] * 2
    assert len({category.color for category in categories}) == 12  # the eleventh thing starts again


def example(root):
    segments = (
        Segment(1, 1, 6, (0, 0, 3, 2), extra={"covered": 0.5, "attributes": {"name": "Mass"}}),
        Segment(2, 2, 9, (0, 0, 4, 4), iscrowd=True, score=0.25),
    )
    images = (Image(3, "b", 4, 4), Image(1, "a.x", 4, 4, segments))
    panoptic.write_panoptic(root, categories=panoptic.make_categories(["mass"], ["background"]), images=images)


def test_what_is_written_is_loaded_in_the_order_of_the_ids(tmp_path):
    example(tmp_path)

    loaded = panoptic.load(tmp_path)

    assert [(image.id, image.name) for image in loaded.images] == [(1, "a.x"), (3, "b")]
    assert loaded.images[0].segments[0].extra == {"covered": 0.5, "attributes": {"name": "Mass"}}
    assert loaded.images[0].segments[1] == Segment(2, 2, 9, (0, 0, 4, 4), iscrowd=True, score=0.25)
    assert loaded.things == (Category(1, "mass", True, (230, 159, 0)),)


def test_the_json_has_coco_s_keys(tmp_path):
    example(tmp_path)

    content = json.loads((tmp_path / "panoptic.json").read_text())

    assert content.keys() == {"images", "annotations", "categories"}
    assert content["images"][1] == {"id": 1, "file_name": "a.x.png", "height": 4, "width": 4}
    annotation = content["annotations"][1]
    assert (annotation["file_name"], annotation["image_id"]) == ("a.x.png", 1)
    assert annotation["segments_info"][1] == {
        "id": 2,
        "category_id": 2,
        "area": 9,
        "bbox": [0, 0, 4, 4],
        "iscrowd": 1,
        "score": 0.25,
    }
    assert content["categories"][0]["isthing"] == 1


def test_segments_of_other_tools_need_neither_colour_nor_crowd(tmp_path):
    content = {
        "images": [{"id": 1, "file_name": "deep/a.png", "height": 2, "width": 2}],
        "annotations": [
            {"image_id": 1, "segments_info": [{"id": 5, "category_id": 1, "area": 4, "bbox": [0, 0, 2, 2]}]}
        ],
        "categories": [{"id": 1, "name": "mass", "isthing": 1}],
    }
    panoptic.write_json(tmp_path / "panoptic.json", content)

    loaded = panoptic.load(tmp_path)

    assert loaded.images[0].name == "a"
    assert loaded.images[0].segments == (Segment(5, 1, 4, (0, 0, 2, 2)),)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"images": [], "annotations": [{"image_id": 1}], "categories": []}',
        '{"images": 1, "annotations": 2}',
    ],
)
def test_what_is_no_coco_panoptic_is_named(tmp_path, text):
    (tmp_path / "panoptic.json").write_text(text)
    with pytest.raises(MammoprepError, match=r"panoptic\.json is not"):
        panoptic.load(tmp_path)


def test_loading_leaves_the_garbage_collector_as_it_was(tmp_path):
    import gc

    example(tmp_path)
    panoptic.load(tmp_path)
    assert gc.isenabled()


@pytest.mark.parametrize("load", [panoptic.load, panoptic.load_instances, panoptic.load_cases])
def test_a_folder_that_is_no_dataset_says_what_writes_one(tmp_path, load):
    with pytest.raises(MissingFileError, match="does not exist"):
        load(tmp_path)


def test_a_fold_that_is_not_there_is_named_with_those_that_are(tmp_path):
    panoptic.write_json(tmp_path / "folds.json", {"folds": [{"train": [1], "val": [2]}, {"train": [2], "val": [1]}]})

    assert panoptic.load_fold(tmp_path, 1) == ((2,), (1,))
    with pytest.raises(MammoprepError, match=r"has no fold 2\. Folds: 0 … 1\."):
        panoptic.load_fold(tmp_path, 2)


def test_json_is_written_whole_or_not_at_all(tmp_path):
    panoptic.write_json(tmp_path / "a.json", {"é": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        panoptic.write_json(tmp_path / "a.json", {"area": float("inf")})

    assert (tmp_path / "a.json").read_bytes() == '{"é": 1}\n'.encode()
    assert contents(tmp_path) == ["a.json"]


# Folders whole or not at all


def test_a_folder_appears_when_it_is_finished(tmp_path):
    with panoptic.staged(tmp_path / "deep" / "out") as partial:
        (partial / "a").write_text("1")
        assert not (tmp_path / "deep" / "out").exists()

    assert contents(tmp_path) == ["deep", "deep/out", "deep/out/a"]


def fail_after_a_file(out, error, **options):
    with panoptic.staged(out, **options) as partial:
        (partial / "a").write_text("1")
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, MammoprepError])
def test_a_block_that_fails_leaves_nothing_and_touches_nothing(tmp_path, error):
    ours(tmp_path / "out")

    with pytest.raises(error):
        fail_after_a_file(tmp_path / "out", error, overwrite=True)

    assert contents(tmp_path) == ["out", "out/manifest.json"]


def test_a_stale_partial_folder_is_not_mixed_in(tmp_path):
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "old").touch()

    with panoptic.staged(tmp_path / "out"):
        pass

    assert contents(tmp_path) == ["out"]


def ours(path, name="manifest.json"):
    path.mkdir()
    (path / name).write_text("old")


def test_what_was_there_is_replaced_only_when_asked(tmp_path):
    ours(tmp_path / "out")
    with pytest.raises(MammoprepError, match="not empty"), panoptic.staged(tmp_path / "out"):
        pass

    with panoptic.staged(tmp_path / "out", overwrite=True) as partial:
        (partial / "new").touch()

    assert contents(tmp_path) == ["out", "out/new"]


def test_a_folder_of_someone_else_is_never_replaced(tmp_path):
    ours(tmp_path / "out", name="thesis.tex")
    with (
        pytest.raises(MammoprepError, match="not written by mammoprep"),
        panoptic.staged(tmp_path / "out", overwrite=True),
    ):
        pass
    assert contents(tmp_path) == ["out", "out/thesis.tex"]


def test_a_neighbour_called_old_survives(tmp_path):
    ours(tmp_path / "out")
    ours(tmp_path / "out.old", name="backup")

    with panoptic.staged(tmp_path / "out", overwrite=True):
        pass

    assert contents(tmp_path) == ["out", "out.old", "out.old/backup"]


def test_when_the_last_rename_fails_the_old_folder_comes_back(tmp_path, monkeypatch):
    ours(tmp_path / "out")
    rename = os.replace

    def fail(source, target):
        if str(source).endswith(".partial"):
            raise OSError(errno.EIO, "Input/output error", str(source))
        rename(source, target)

    monkeypatch.setattr(folder.os, "replace", fail)
    with pytest.raises(MammoprepError, match="Input/output error"), panoptic.staged(tmp_path / "out", overwrite=True):
        pass

    assert contents(tmp_path) == ["out", "out/manifest.json"]


def test_a_file_and_a_mount_point_cannot_become_a_folder(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(MammoprepError, match="is a file"):
        panoptic.check_vacant(tmp_path / "file", overwrite=True)
    monkeypatch.setattr(folder.os.path, "ismount", lambda path: True)
    with pytest.raises(MammoprepError, match="is a mount point"):
        panoptic.check_vacant(tmp_path, overwrite=False)


@pytest.mark.parametrize("below", ["file/out", "file/deep/out"])
def test_a_place_that_cannot_be_written_is_one_line(tmp_path, below):
    (tmp_path / "file").touch()
    with (
        pytest.raises(MammoprepError, match=r"out could not be written: .*\. Free space"),
        panoptic.staged(tmp_path / below),
    ):
        pass


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    with pytest.raises(MammoprepError, match="No space left on device"), panoptic.staged(tmp_path / "out"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert contents(tmp_path) == []


def test_an_error_about_another_file_is_not_blamed_on_the_folder(tmp_path):
    with pytest.raises(FileNotFoundError), panoptic.staged(tmp_path / "out"):
        (tmp_path.parent / "nowhere" / "input").read_text()
    assert contents(tmp_path) == []


def test_a_relative_folder_is_built_beside_itself(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    assert panoptic.partial_of(folder.Path("../out")) == tmp_path / "out.partial"


def test_a_file_is_replaced(tmp_path):
    panoptic.write_bytes(tmp_path / "a", b"1")
    panoptic.write_bytes(tmp_path / "a", b"2")
    assert (tmp_path / "a").read_bytes() == b"2"
    assert contents(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_what_fails_keeps_the_file_before(tmp_path, monkeypatch, error):
    def fail(path, content):
        with path.open("wb") as file:
            file.write(content[:1])
        raise error

    panoptic.write_bytes(tmp_path / "a", b"old")
    monkeypatch.setattr(folder.Path, "write_bytes", fail)
    with pytest.raises((MammoprepError, KeyboardInterrupt), match=r"No space left|^$"):
        panoptic.write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert contents(tmp_path) == ["a"]


def test_a_file_hash_is_its_sha_256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert panoptic.file_hash(tmp_path / "a").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_folds_json_without_folds_is_one_line(tmp_path):
    panoptic.write_json(tmp_path / "folds.json", {"folds": [{"train": [1]}]})
    with pytest.raises(MammoprepError, match="does not list folds of image ids. Type `mammoprep folds"):
        panoptic.load_fold(tmp_path, 0)


def test_a_damaged_png_is_one_line_and_prints_nothing(tmp_path, capfd):
    panoptic.write_png(tmp_path / "a.png", np.arange(4096, dtype=np.uint8).reshape(64, 64))
    whole = (tmp_path / "a.png").read_bytes()
    for damaged in (b"", b"hello", whole[: len(whole) // 2], whole[:60] + bytes(8) + whole[68:]):
        (tmp_path / "a.png").write_bytes(damaged)
        with pytest.raises(MammoprepError, match="is not a readable PNG"):
            panoptic.read_png(tmp_path / "a.png")
    assert capfd.readouterr() == ("", "")


# Runs


def map_of(runs):
    """Draw a map from its runs."""
    lengths = np.diff(runs.starts, append=math.prod(runs.shape))
    return np.repeat(runs.labels[runs.index], lengths).reshape(runs.shape)


@pytest.mark.parametrize(
    ("pixels", "values", "starts"),
    [
        ([[5, 5, 7], [7, 7, 5]], [5, 7, 5], [0, 2, 5]),
        ([[3]], [3], [0]),
        ([[1], [1], [2]], [1, 2], [0, 2]),
        (np.zeros((0, 4)), [], []),
    ],
)
def test_runs_worked_by_hand(pixels, values, starts):
    runs = panoptic.runs_of(np.array(pixels, dtype=np.uint8))
    assert (runs.labels[runs.index].tolist(), runs.starts.tolist()) == (values, starts)
    assert np.array_equal(map_of(runs), pixels)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_runs_of_a_written_map_are_the_map(tmp_path_factory, seed):
    """Ids that differ in one channel alone, or in all; two sizes in turn, so that memory is used again."""
    generator = np.random.default_rng(seed)
    for _ in range(2):
        kinds = generator.choice([0, 1, 2, 256, 257, 65536, 2**24 - 1], size=3)
        ids = kinds[generator.integers(0, 3, generator.integers(1, 20, 2))].astype(np.int32)
        path = tmp_path_factory.mktemp("runs") / "a.png"
        panoptic.write_ids(path, ids)
        runs = panoptic.read_id_runs(path)
        assert runs.shape == ids.shape
        assert (map_of(runs) == ids).all()
        classes = (ids % 251).astype(np.uint8)
        panoptic.write_classes(path, classes)
        runs = panoptic.read_class_runs(path)
        assert (map_of(runs) == classes).all()
        assert (panoptic.read_png(path) == classes).all()


@pytest.mark.parametrize("filters", range(5))
def test_png_with_row_filters_has_the_same_runs(tmp_path, filters):
    """As other tools write them: OpenCV with each of the five filters, and Pillow."""
    ids = np.random.default_rng(filters).integers(0, 2**24, (9, 7), dtype=np.int32)
    ids[3:6] = 77
    names = ("NONE", "SUB", "UP", "AVG", "PAETH")
    how = (cv2.IMWRITE_PNG_FILTER, getattr(cv2, f"IMWRITE_PNG_FILTER_{names[filters]}"))
    red_green_blue = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), red_green_blue[..., ::-1], how)
    PIL.Image.fromarray(red_green_blue).save(tmp_path / "b.png", optimize=bool(filters % 2))
    for name in ("a.png", "b.png"):
        runs = panoptic.read_id_runs(tmp_path / name)
        assert (map_of(runs) == ids).all()


def test_decoded_pixels_are_not_lost_to_the_next_call(tmp_path):
    """Maps that are given away have memory of their own."""
    for name, value in (("a", 1), ("b", 2)):
        panoptic.write_ids(tmp_path / f"{name}.png", np.full((4, 4), value, np.int32))
    first = panoptic.read_ids(tmp_path / "a.png")
    runs = panoptic.read_id_runs(tmp_path / "a.png")
    panoptic.read_ids(tmp_path / "b.png"), panoptic.read_id_runs(tmp_path / "b.png")
    assert first.tolist() == [[1] * 4] * 4
    assert runs.labels.tolist() == [1]
    assert runs.starts.size == 1


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_damaged_map_is_refused_or_unchanged(tmp_path_factory, seed):
    """A byte flipped anywhere: the checksums tell, or it lay where nothing is read."""
    generator = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("damaged") / "a.png"
    ids = np.arange(400, dtype=np.int32).reshape(20, 20) * 300
    panoptic.write_ids(path, ids)
    data = bytearray(path.read_bytes())
    data[generator.integers(0, len(data))] ^= int(generator.integers(1, 256))
    path.write_bytes(data)
    try:
        runs = panoptic.read_id_runs(path)
    except MammoprepError as error:
        assert "is not a readable PNG" in str(error) or "is no RGB PNG" in str(error)  # noqa: PT017
    else:
        assert (map_of(runs) == ids).all()


@pytest.mark.parametrize("dtype", [np.uint16, "colour"])
def test_map_of_classes_that_is_not_grey_of_8_bits_is_refused(tmp_path, dtype):
    pixels = np.zeros((3, 4, 3), np.uint8) if dtype == "colour" else np.zeros((3, 4), dtype)
    panoptic.write_png(tmp_path / "a.png", pixels)
    with pytest.raises(MammoprepError, match=r"a\.png is no grey PNG of 8 bits"):
        panoptic.read_class_runs(tmp_path / "a.png")


def test_segment_without_area_and_box_is_read(tmp_path):
    """As detectron2 and Mask2Former write their predictions."""
    segment = panoptic.Segment.from_json({"id": 3, "category_id": 1, "isthing": True})
    assert (segment.area, segment.bbox) == (panoptic.LEFT_OUT, (0, 0, 0, 0))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_run_lengths_are_those_that_pycocotools_decodes(seed):
    generator = np.random.default_rng(seed)
    mask = generator.random(generator.integers(1, 90, 2)) < generator.choice([0, 0.01, 0.5, 1])
    lengths = panoptic.run_lengths(panoptic.encode_rle(mask))
    assert (np.repeat(np.arange(len(lengths)) % 2 == 1, lengths) == mask.ravel(order="F")).all()


def test_run_lengths_of_a_code_worked_by_hand():
    """ "6" ends a run of 6; a third run is told as the difference from the first: "3" after 2 and 1 is 3 pixels."""
    assert panoptic.run_lengths({"size": [2, 3], "counts": "6"}) == [6]
    assert panoptic.run_lengths({"size": [2, 3], "counts": "213"}) == [2, 1, 3]


@pytest.mark.parametrize("counts", ["", "7", "2", "\n", "é", "R", "o" * 40, "2O5"])
def test_code_that_is_none_is_refused(counts):
    with pytest.raises(ValueError, match="its (runs|counts)"):
        panoptic.run_lengths({"size": [2, 3], "counts": counts})


# What others damaged


def png_of(*chunks):
    return panoptic.png._SIGNATURE + b"".join(panoptic.png._chunk(kind, content) for kind, content in chunks)


GREY_2X2 = zlib.compress(bytes([0, 1, 2, 0, 3, 4]))


@pytest.mark.parametrize(
    "header",
    [
        struct.pack(">IIBBBBB", 65535, 65535, 8, 0, 0, 0, 0),
        struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 16, 6, 0, 0, 0),
        struct.pack(">IIBBBBB", 0, 2, 8, 0, 0, 0, 0),
        struct.pack(">IIBBBBB", 2, 2, 7, 0, 0, 0, 0),
        struct.pack(">IIBBBBB", 2, 2, 8, 5, 0, 0, 0),
        struct.pack(">IIBBBBB", 2, 2, 8, 0, 1, 0, 0),
        struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 9),
        b"short",
    ],
)
def test_a_png_whose_header_lies_is_refused_before_memory_is_taken(tmp_path, capfd, header):
    path = tmp_path / "a.png"
    path.write_bytes(png_of((b"IHDR", header), (b"IDAT", GREY_2X2), (b"IEND", b"")))
    for read in (panoptic.read_png, panoptic.read_ids, panoptic.read_id_runs, panoptic.read_class_runs):
        with pytest.raises(MammoprepError, match="not a readable PNG"):
            read(path)
    assert capfd.readouterr() == ("", "")


def test_chunks_that_are_no_pixels_are_passed_over(tmp_path, capfd):
    header, bomb = struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 0), zlib.compress(bytes(10**6))
    others = [(b"iCCP", b"a\0\0" + bomb), (b"zTXt", b"a\0\0" + bomb), (b"acTL", b"\xff" * 8)]
    (tmp_path / "a.png").write_bytes(png_of((b"IHDR", header), *others, (b"IDAT", GREY_2X2), (b"IEND", b"")))
    assert panoptic.read_png(tmp_path / "a.png").tolist() == [[1, 2], [3, 4]]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "\ud800"])
def test_a_name_that_no_file_can_have_is_one_line(tmp_path, name):
    with pytest.raises(MammoprepError):
        panoptic.read_png(tmp_path / f"{name}.png")


@pytest.mark.parametrize("text", ["[" * 100_000, "[1e999]", '"\\ud800"', "9" * 5000, "\xff"])
def test_json_that_cannot_be_written_again_is_one_line(tmp_path, text):
    (tmp_path / "a.json").write_text(text, encoding="latin-1")
    with pytest.raises(MammoprepError, match="not readable JSON"):
        panoptic.read_json(tmp_path / "a.json", hint="Make it anew.")


def test_a_name_on_disk_that_is_not_utf_8_is_written_as_an_escape(tmp_path):
    panoptic.write_json(tmp_path / "a.json", {"b\udcff.dcm": "\u00fc"})
    assert (tmp_path / "a.json").read_bytes() == b'{"b\\udcff.dcm": "\xc3\xbc"}\n'
    assert json.loads((tmp_path / "a.json").read_text()) == {"b\udcff.dcm": "\u00fc"}


@pytest.mark.parametrize("data", [b"image_id\n\xff\xfe\n", b'image_id\n"' + b"x" * 200_000])
def test_a_damaged_cases_csv_is_one_line(tmp_path, data):
    (tmp_path / "cases.csv").write_bytes(data)
    with pytest.raises(MammoprepError, match="cases.csv cannot be read as CSV"):
        panoptic.load_cases(tmp_path)


def test_cells_that_are_missing_are_empty_and_those_too_many_are_left_out(tmp_path):
    (tmp_path / "cases.csv").write_text("image_id,patient_id\na\nb,p,7\n")
    assert panoptic.load_cases(tmp_path) == [{"image_id": "a", "patient_id": ""}, {"image_id": "b", "patient_id": "p"}]


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("images", 0, "id"), "x"),
        (("images", 0, "height"), 10**30),
        (("categories", 0, "id"), None),
        (("categories", 0, "name"), 5),
        (("annotations", 0, "segments_info", 0, "category_id"), [1]),
        (("annotations", 0, "segments_info", 0, "bbox"), [0, 0, 10**400, 1]),
        (("annotations", 0, "image_id"), "1"),
    ],
)
def test_loading_refuses_what_is_of_another_type(tmp_path, where, value):
    segment = Segment(1, 1, 4, (0, 0, 2, 2))
    panoptic.write_panoptic(
        tmp_path, categories=panoptic.make_categories(["a"]), images=[Image(1, "a", 2, 2, (segment,))]
    )
    content = json.loads((tmp_path / "panoptic.json").read_text())
    place = content
    for step in where[:-1]:
        place = place[step]
    place[where[-1]] = value
    (tmp_path / "panoptic.json").write_text(json.dumps(content))
    with pytest.raises(MammoprepError, match="of another type"):
        panoptic.load(tmp_path)
