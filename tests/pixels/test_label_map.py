"""Label maps: the values that files hold, and the lesions that they are."""

import cv2
import numpy as np
import pytest
from PIL import Image

from mammoprep.pixels import PixelError, label_map, read_labels
from mammoprep.records import Finding, LabelMap, Skipped

VALUES = np.array([[0, 1, 2, 0], [0, 3, 0, 1]], dtype=np.uint8)
COLOURS = {1: (255, 0, 0), 2: (0, 128, 0), 3: (1, 2, 3)}
PACKED = [[0, 0xFF0000, 0x008000, 0], [0, 0x010203, 0, 0xFF0000]]


def palette(colours):
    """Give VALUES as indices of a palette."""
    image = Image.fromarray(VALUES, "P")
    image.putpalette([level for colour in colours for level in colour])
    return image


def coloured(*, alpha=None):
    """Give VALUES in colours, with (H, W) alpha where it is asked for."""
    table = np.array([COLOURS.get(value, (0, 0, 0)) for value in range(4)], dtype=np.uint8)
    channels = table[VALUES] if alpha is None else np.dstack([table[VALUES], alpha])
    return Image.fromarray(channels)


@pytest.fixture
def save(tmp_path):
    def save_picture(image, name="map.png"):
        (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(tmp_path / name)
        return tmp_path / name

    return save_picture


@pytest.mark.parametrize("name", ["map.png", "map.tif"])
@pytest.mark.parametrize("values", [VALUES, VALUES.astype(np.uint16) * 300], ids=["8 bits", "16 bits"])
def test_grey_levels_are_values(save, values, name):
    assert read_labels(save(values, name)).tolist() == values.tolist()


@pytest.mark.parametrize("name", ["map.png", "map.tif"])
def test_the_indices_of_a_coloured_palette_are_values(save, name):
    path = save(palette([(0, 0, 0), *COLOURS.values()]), name)
    assert read_labels(path).tolist() == VALUES.tolist()
    assert read_labels(path, in_colour=True).tolist() == PACKED


def test_of_a_palette_of_greys_the_greys_are_values_because_programs_that_shrink_files_renumber_them(save):
    path = save(palette([(0, 0, 0), (7, 7, 7), (2, 2, 2), (5, 5, 5), (9, 0, 0)]))  # the last is used nowhere
    assert read_labels(path).tolist() == [[0, 7, 2, 0], [0, 5, 0, 7]]


def test_a_map_of_one_bit_has_the_value_1(save):
    assert read_labels(save(Image.fromarray(VALUES > 0))).tolist() == (VALUES > 0).astype(int).tolist()


def test_colours_are_values_where_they_are_asked_for(save):
    path = save(coloured())
    assert read_labels(path, in_colour=True).tolist() == PACKED
    with pytest.raises(PixelError, match="in colour; say the classes of its colours, as ff0000=malignant"):
        read_labels(path)


def test_what_is_transparent_is_background(save):
    alpha = np.full(VALUES.shape, 128, dtype=np.uint8)
    alpha[0, 1] = 0
    assert read_labels(save(coloured(alpha=alpha)), in_colour=True).tolist() == [[0, 0, *PACKED[0][2:]], PACKED[1]]
    assert read_labels(save(np.dstack([VALUES, alpha]))).tolist() == [[0, 0, 2, 0], [0, 3, 0, 1]]


def test_grey_in_three_channels_is_grey(save):
    assert read_labels(save(np.dstack([VALUES] * 3))).tolist() == VALUES.tolist()
    assert read_labels(save(VALUES), in_colour=True)[0].tolist() == [0, 0x010101, 0x020202, 0]


@pytest.mark.parametrize(
    ("name", "dtype", "in_colour", "text"),
    [
        ("map.jpg", np.uint8, False, "JPEG changes values"),
        ("map.jpg", np.uint8, True, "JPEG changes values"),
        ("map.png", np.uint16, True, "has no colours; say the classes of its numbers"),
        ("map.tif", np.float32, False, "is of kind F; grey of 8 or 16 bits is expected"),
    ],
)
def test_files_whose_values_are_no_classes_are_refused(save, name, dtype, in_colour, text):
    with pytest.raises(PixelError, match=text):
        read_labels(save(VALUES.astype(dtype), name), in_colour=in_colour)


@pytest.fixture
def read(tmp_path):
    """Write a map and give its lesions: source, class, corner, area; and what is listed."""

    def read_map(values, classes, *, size=None):
        cv2.imwrite(str(tmp_path / "map.png"), np.asarray(values, dtype=np.uint8))
        finding = Finding(LabelMap("map.png", classes), "", "row 1")
        items = list(label_map.read(finding, finding.shape, root=tmp_path, size=size))
        parts = [item for item in items if not isinstance(item, Skipped)]
        listed = [(item.source, item.stage, item.reason) for item in items if isinstance(item, Skipped)]
        return [(p.finding.source, p.finding.label, (p.x, p.y), p.crop.astype(int).tolist()) for p in parts], listed

    return read_map


def test_each_connected_part_of_a_value_is_a_lesion(read):
    """1 lies in three pixels that touch at their corners, and in one apart; 2 touches 1 and is not joined to it."""
    values = [[0, 1, 0, 0, 1], [1, 2, 2, 0, 0], [0, 1, 0, 0, 0]]
    assert read(values, {1: "mass", 2: "mass"}) == (
        [
            ("row 1 value 1", "mass", (0, 0), [[0, 1], [1, 0], [0, 1]]),
            ("row 1 value 1", "mass", (4, 0), [[1]]),
            ("row 1 value 2", "mass", (1, 1), [[1, 1]]),
        ],
        [],
    )


def test_values_without_a_class_are_listed_once_and_background_is_nothing(read):
    parts, listed = read([[1, 0, 1, 9], [255, 4, 0, 9], [0, 0, 0, 9]], {4: None, 255: ""})
    assert [part[:2] for part in parts] == [("row 1 value 4", None)]
    assert listed == [
        ("row 1 value 1", "finding", "the label map's value 1 has no class"),
        ("row 1 value 9", "finding", "the label map's value 9 has no class"),
    ]


def test_an_empty_map_gives_nothing(read):
    assert read(np.zeros((2, 3)), {1: "mass"}) == ([], [])


def test_a_map_of_another_size_is_brought_to_the_image_and_no_speck_is_lost(read):
    values = np.zeros((40, 20))
    values[0:4, 2:6], values[33, 15] = 1, 2
    parts, listed = read(values, {1: "mass", 2: "speck"}, size=(20, 10))
    assert parts == [("row 1 value 1", "mass", (1, 0), [[1, 1], [1, 1]]), ("row 1 value 2", "speck", (7, 16), [[1]])]
    assert listed == []


def test_a_file_that_is_no_map_of_the_image_gives_its_reason(read, tmp_path):
    assert read(np.ones((4, 6)), {1: "mass"}, size=(6, 4))[1][0][2].startswith("label map: its 4x6 pixels do not have")
    grey = np.arange(100).reshape(10, 10)
    reason = "label map: 98 of its values have no class; an image, or with blurred edges"
    assert read(grey, {1: "mass"}) == ([], [("row 1", "finding", reason)])
    finding = Finding(LabelMap("other.png", {1: "mass"}), "", "row 2")
    assert list(label_map.read(finding, finding.shape, root=tmp_path)) == [
        Skipped("row 2", "finding", "label map: the file is not there")
    ]
