"""Masks in image files: which pixels belong, which of several files is the mask, how it comes to the image's size."""

from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from PIL import Image

from mammoprep import outlines, panoptic, pixels
from mammoprep.convert import Options, case
from mammoprep.convert.case import Job
from mammoprep.pixels import PixelError, mask_file
from mammoprep.readers import cdd_cesm
from mammoprep.records import Finding, MaskFile, Record

REAL = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "cdd-cesm-mini"
SIZE = (60, 40)


@pytest.fixture
def write(tmp_path):
    """Write an array as a picture whose kind the name tells."""

    def write_picture(name, values, **settings):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(values)).save(path, **settings)
        return name

    return write_picture


@pytest.fixture
def read(tmp_path):
    def read_mask(*sources, values=(), size=SIZE):
        return mask_file.read(MaskFile(sources[0], values, sources[1:]), root=tmp_path, size=size)

    return read_mask


def block(value=255, size=SIZE, dtype=np.uint8):
    """A block of 10 x 8 pixels at (20, 12), in shares of the size 60 x 40."""
    values = np.zeros(size, dtype=dtype)
    down, across = size[0] / 60, size[1] / 40
    values[round(20 * down) : round(30 * down), round(12 * across) : round(20 * across)] = value
    return values


def film(size=(16, 16), dtype=np.uint8):
    """Grey values from black to white, as a crop of a film has them."""
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, size=size, dtype=dtype, endpoint=True)


@pytest.mark.parametrize(("value", "dtype"), [(1, np.uint8), (255, np.uint8), (65535, np.uint16), (7, np.uint16)])
def test_what_is_above_half_of_the_largest_value_belongs(write, read, value, dtype):
    mask, facts = read(write("m.png", block(value, dtype=dtype)))

    assert np.array_equal(mask, block() > 0)
    assert facts == {"source": "m.png", "scale_x": 1.0, "scale_y": 1.0, "residual": 0.0}


def test_half_of_the_largest_does_not_belong(write, read):
    values = block(200)
    values[0, 0], values[0, 1] = 100, 101

    mask, _ = read(write("m.png", values))

    assert (mask[0, 0], mask[0, 1]) == (False, True)


def test_blurred_edges_of_a_jpeg_are_cut_in_the_middle(write, read):
    name = write("m.jpg", block(), quality=60)

    mask, _ = read(name)

    assert np.count_nonzero(mask ^ (block() > 0)) <= 2


def test_values_choose_among_the_labels_of_a_map(write, read):
    labels = block(3)
    labels[40:50, :] = 5
    labels[0:2, :] = 9
    name = write("labels.png", labels)

    assert read(name, values=(3,))[0].sum() == 80
    assert read(name, values=(3, 9))[0].sum() == 80 + 80
    with pytest.raises(PixelError, match="^the mask is empty$"):
        read(name, values=(4,))


def test_several_small_values_are_a_label_map_and_no_mask(write, read):
    values = block(1)
    assert read(write("one.png", values))[0].sum() == 80
    values[0, 0], values[0, 1] = 2, 32
    with pytest.raises(PixelError, match="a label map of the values 1, 2, 32; `convert folder --values` gives"):
        read(write("map.png", values))
    values[0, 1] = 33
    assert read(write("grey.png", values))[0].sum() == 1


def test_a_file_of_zeros_is_an_empty_mask(write, read):
    with pytest.raises(PixelError, match="^the mask is empty$"):
        read(write("m.png", block(0)))


def test_a_dicom_mask_is_read_by_its_stored_values(tmp_path, read):
    content = pydicom.Dataset()
    content.Rows, content.Columns = SIZE
    content.SamplesPerPixel, content.PhotometricInterpretation = 1, "MONOCHROME2"
    content.BitsAllocated, content.BitsStored, content.HighBit, content.PixelRepresentation = 16, 4, 5, 0
    content.WindowCenter, content.WindowWidth = 100, 10  # no window can hide a mask
    content.PixelData = (block(3, dtype=np.uint16) << 2 | 1 << 9).tobytes()  # beside the bits lies an overlay
    content.file_meta = pydicom.dataset.FileMetaDataset()
    content.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    content.file_meta.MediaStorageSOPClassUID = content.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    pydicom.dcmwrite(tmp_path / "m.dcm", content, enforce_file_format=True)

    assert np.array_equal(read("m.dcm")[0], block() > 0)
    assert np.array_equal(read("m.dcm", values=(3,))[0], block() > 0)


def test_a_mask_of_another_pitch_is_brought_to_the_image(write, read):
    mask, facts = read(write("m.png", block(size=(120, 80))))

    assert np.array_equal(mask, block() > 0)
    assert facts == {"source": "m.png", "scale_x": 0.5, "scale_y": 0.5, "residual": 0.0}


def test_the_residual_tells_how_far_the_factors_differ(write, read):
    mask, facts = read(write("m.png", block(size=(200, 100))), size=(400, 201))

    assert (facts["scale_x"], facts["scale_y"]) == (2.01, 2.0)
    assert facts["residual"] == round(0.01 / 2.01, 6)
    assert mask.shape == (400, 201)


@pytest.mark.parametrize(
    ("found", "size", "residual"),
    [
        ((4688, 3088), (4624, 3056), 0.003324),  # Calc-Test_P_00353_LEFT_CC: trimmed
        ((4386, 1789), (5041, 2056), 0.000081),  # Mass-Test_P_00145_LEFT_CC: 50 against 43.5 micrometres
    ],
)
def test_pairs_of_cbis_ddsm_that_differ_in_size_fit(found, size, residual):
    assert mask_file.fit(found, size)["residual"] == residual


def test_a_mask_of_another_shape_is_refused(write, read):
    with pytest.raises(PixelError, match=r"its 40x60 pixels do not have the shape of the image's 60x40 \(residual"):
        read(write("m.png", block(size=(40, 60))))


def test_a_speck_does_not_vanish_where_the_image_is_smaller(write, read):
    speck = np.zeros((600, 400), dtype=np.uint8)
    speck[303, 152] = 255

    mask, _ = read(write("m.png", speck))

    assert np.argwhere(mask).tolist() == [[30, 15]]


@pytest.mark.skipif(not REAL.is_dir(), reason="the real test files are not beside the project")
def test_real_crops_and_masks_kept_as_jpeg_are_far_apart():
    crops, masks = [], []
    for record in cdd_cesm.read(REAL):
        if not isinstance(record, Record) or not (REAL / record.source).is_file():
            continue
        grey = pixels.read_values(REAL / record.source)
        for finding in record.findings:
            drawn = outlines.draw(finding.shape, height=grey.shape[0], width=grey.shape[1])
            x, y, width, height = panoptic.mask_box(drawn)
            margin = max(width, height) // 4
            if width:
                crop = grey[max(y - margin, 0) : y + height + margin, max(x - margin, 0) : x + width + margin]
                crops.append(mask_file._greyness(crop))
                coded = cv2.imencode(".jpg", drawn * np.uint8(255), (cv2.IMWRITE_JPEG_QUALITY, 50))[1]
                masks.append(mask_file._greyness(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE)))

    assert len(crops) == 528
    assert max(masks) < 0.003
    assert min(crops) > 0.129


def test_a_lone_image_is_no_mask(write, read):
    with pytest.raises(PixelError, match="^mask file: an image, not a mask$"):
        read(write("crop.png", film(SIZE)))


@pytest.mark.parametrize("order", [("crop.png", "mask.png"), ("mask.png", "crop.png")])
@pytest.mark.parametrize("crop", [(16, 16), SIZE], ids=["small", "as large as the image"])
def test_the_mask_is_told_by_its_values_whatever_the_order(write, read, order, crop):
    write("mask.png", block(), bits=8)
    write("crop.png", film(crop, np.uint16))

    mask, facts = read(*order)

    assert facts["source"] == "mask.png"
    assert mask.sum() == 80


def test_of_two_masks_the_one_of_the_images_shape_is_taken(write, read):
    write("part.png", block(size=(20, 40)))

    assert read("part.png", write("mask.jpg", block()))[1]["source"] == "mask.jpg"


def test_files_none_of_which_is_a_mask_give_each_reason(write, read):
    write("a.png", film(SIZE))
    write("b.png", block(size=(20, 40)))

    with pytest.raises(
        PixelError, match="^none of 3 files is the mask: an image, not a mask; its 20x40.*; the file is"
    ):
        read("a.png", "b.png", "c.png")


@pytest.mark.parametrize(
    "source", ["../m.png", "a/../../m.png", "/etc/passwd", "..\\m.png", "C:\\m.png", "\\\\host\\m.png", "m\0.png"]
)
def test_a_path_may_not_leave_the_raw_folder(read, tmp_path, source):
    with pytest.raises(PixelError, match="^mask file: the path leaves the raw folder$"):
        read(source)
    with pytest.raises(PixelError, match="^mask file: the path leaves the raw folder$"):
        mask_file.check_there(MaskFile(source), root=tmp_path)


def test_a_file_that_is_missing_or_broken_gives_its_reason(read, tmp_path):
    (tmp_path / "m.png").write_bytes(b"\x89PNG and no more")

    with pytest.raises(PixelError, match="^mask file: the PNG data is damaged or cut off$"):
        read("m.png")
    with pytest.raises(PixelError, match="^mask file: the file is not there$"):
        read("n.png")


def test_one_file_that_is_there_is_enough_to_look_at(tmp_path, write):
    assert mask_file.check_there(MaskFile("n.png", others=(write("m.png", block()),)), root=tmp_path) is None


def test_a_finding_is_drawn_from_its_file_and_tells_of_it(tmp_path, write):
    write("image.png", film(SIZE))
    write("masks/1.png", block(size=(120, 80)))
    findings = tuple(Finding(MaskFile(f"masks/{i}.png"), "small", f"row {i}") for i in (1, 2))
    for folder in ("images", "panoptic"):
        (tmp_path / "out" / folder).mkdir(parents=True)
    options = Options(labels="size")
    job = Job(tmp_path, tmp_path / "out", options, panoptic.make_categories(("small",), options.stuff))

    made = case.make(Record("image.png", "image", "patient", findings=findings), number=1, job=job)

    lesion = made.image.segments[0]
    assert (lesion.area, lesion.bbox) == (80, (12, 20, 8, 10))
    assert lesion.extra["mask_file"] == {"source": "masks/1.png", "scale_x": 0.5, "scale_y": 0.5, "residual": 0.0}
    assert [(item.source, item.stage, item.reason) for item in made.skipped] == [
        ("row 2", "finding", "mask file: the file is not there")
    ]
