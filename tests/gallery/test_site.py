"""What is written: the index, the details, addresses of files with any name, crops; whole or not at all."""

import json
import shutil
from urllib.parse import unquote

import numpy as np
import pytest

from mammoprep import gallery, panoptic
from mammoprep.errors import MammoprepError, MissingFileError
from mammoprep.evaluation.verdicts import verdicts


def write(dataset, out, *predictions, raw=None, **options):
    material = gallery.load(dataset, predictions, raw=raw)
    return gallery.write(material, out, options=gallery.Options(judge=verdicts, **options))


def index_of(out):
    text = (out / "data/index.js").read_text(encoding="ascii")
    return json.loads(text.removeprefix("window.GALLERY = ").removesuffix(";\n"))


def details_of(out, number=0):
    text = (out / f"data/cases-{number}.js").read_text(encoding="ascii")
    return json.loads(text.removeprefix(f"GALLERY.take({number}, ").removesuffix(");\n"))


def test_index_says_what_is_known_of_each_lesion(dataset, predictions, tmp_path):
    write(dataset, tmp_path / "out", predictions)
    first, marked, long, empty, odd = index_of(tmp_path / "out")["images"]
    truth, found, *detections = first["lesions"]
    # 0.5 mm native pixels stored at half size: 1 mm² a stored pixel
    assert truth == {
        **{"id": 1, "side": "truth", "class": 1, "box": [10, 20, 10, 10], "area": 100, "mm2": 100.0},
        **{"size": "79 to 314 mm2", "birads": "4", "method": "box (fallback)", "source": "rows.csv row 2"},
        **{"verdict": "hit", "partner": 7, "iou": 1.0},
    }
    assert (found["side"], found["score"], found["verdict"]) == ("predicted", 0.9, "hit")
    assert [each["score"] for each in detections] == [0.8, 0.3]
    assert [each["verdict"] for each in marked["lesions"]] == ["missed"]
    assert [each["verdict"] for each in long["lesions"]] == ["wrong class", "wrong class"]
    assert [each["verdict"] for each in empty["lesions"]] == ["false"]
    assert empty["lesion_free"] is True
    assert odd["lesions"][0]["size"] == "under 32 x 32 px"  # no spacing is given
    assert [doubt["kind"] for doubt in odd["doubts"]] == ["overlap"]
    assert odd["lesions"][0]["area"] == 300


def test_summary_counts_what_is_shown(dataset, predictions, tmp_path):
    summary = write(dataset, tmp_path / "out", predictions)
    assert (summary.images, summary.lesions, summary.predicted) == (5, 5, 5)
    assert summary.verdicts == {"false": 1, "hit": 3, "missed": 1, "wrong class": 1}
    assert summary.doubts == {"disagreement": 3, "fallback": 1, "overlap": 1}
    assert summary.doubtful == 5
    assert json.loads((tmp_path / "out/gallery.json").read_text())["images"] == 5


def test_outlines_are_those_of_the_maps(dataset, predictions, tmp_path):
    write(dataset, tmp_path / "out", predictions)
    first, *_, odd = details_of(tmp_path / "out")
    assert first["outlines"] == ["M10 20h10v10h-10z"] * 4
    assert first["regions"]["breast"].startswith("M0 0h32v64h-32z")
    assert odd["outlines"][0] == "M14 30h10v20h-20v-10h10z"  # what the other lesion leaves of it
    assert first["facts"]["1"]["attributes"]["finding_birads"] == "BI-RADS 4"


def test_addresses_lead_to_the_images_whatever_their_names(dataset, predictions, tmp_path):
    out = tmp_path / "some where" / "out"
    write(dataset, out, predictions)
    for row in index_of(out)["images"]:
        assert not set('<>"#? ') & set(row["image"])
        assert (out / unquote(row["image"])).resolve() == dataset / "images" / f"{row['name']}.png"
        assert (out / unquote(row["heat"])).is_file()


def test_data_are_ascii_and_pages_hold_none_of_them(dataset, predictions, tmp_path):
    write(dataset, tmp_path / "out", predictions)
    for page in (tmp_path / "out").glob("*.*"):
        assert "onerror" not in page.read_text(encoding="utf-8")
        assert "http://" not in page.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in page.read_text(encoding="utf-8")
    (tmp_path / "out/data/index.js").read_text(encoding="ascii")


def test_copy_needs_nothing_but_the_folder(dataset, predictions, tmp_path):
    write(dataset, tmp_path / "out", predictions, copy=True)
    shutil.rmtree(dataset)
    shutil.rmtree(predictions)
    for row in index_of(tmp_path / "out")["images"]:
        assert (tmp_path / "out" / row["image"]).is_file()
        assert (tmp_path / "out" / row["heat"]).is_file()


def test_pages_without_predictions_judge_nothing(dataset, tmp_path):
    summary = write(dataset, tmp_path / "out")
    assert summary.verdicts == {}
    assert index_of(tmp_path / "out")["given"] == {"panoptic": False, "detections": False, "heat": False}


def test_semantic_maps_alone_are_drawn_and_not_judged(dataset, predictions, tmp_path):
    for name in ("panoptic.json", "instances.json"):
        (predictions / name).unlink()
    (predictions / "semantic").mkdir()
    classes = np.full((64, 48), 4, np.uint8)
    classes[2:5, 3:9] = 2
    panoptic.write_classes(predictions / "semantic" / "first.png", classes)
    summary = write(dataset, tmp_path / "out", predictions)
    lesion = index_of(tmp_path / "out")["images"][0]["lesions"][1]
    assert (lesion["side"], lesion["class"], lesion["box"]) == ("predicted", 2, [3, 2, 6, 3])
    assert summary.verdicts == {}


def test_details_are_in_files_of_some_cases_each(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(gallery.site, "CHUNK", 2)
    write(dataset, tmp_path / "out")
    assert [len(details_of(tmp_path / "out", number)) for number in range(3)] == [2, 2, 1]
    assert index_of(tmp_path / "out")["chunk"] == 2


def test_same_input_gives_the_same_bytes(dataset, predictions, tmp_path):
    for name in ("one", "two"):
        write(dataset, tmp_path / name, predictions)
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file()}
        for name in ("one", "two")
    )
    assert first == second


def test_folder_that_is_not_empty_is_refused_and_an_earlier_gallery_replaced(dataset, tmp_path):
    out = tmp_path / "out"
    write(dataset, out)
    with pytest.raises(MammoprepError, match="--overwrite"):
        write(dataset, out)
    (out / "gallery.json").write_text("earlier")
    write(dataset, out, overwrite=True)
    assert (out / "gallery.json").read_text() != "earlier"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("")
    with pytest.raises(MammoprepError, match="not written by mammoprep"):
        write(dataset, tmp_path / "mine", overwrite=True)


def test_folder_that_holds_the_data_set_is_refused(dataset):
    with pytest.raises(MammoprepError, match="holds"):
        write(dataset, dataset.parent, overwrite=True)
    with pytest.raises(MammoprepError, match="holds"):
        write(dataset, dataset, overwrite=True)


def test_missing_image_leaves_nothing(dataset, tmp_path):
    (dataset / "images" / "empty.png").unlink()
    with pytest.raises(MissingFileError, match="empty.png"):
        write(dataset, tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


def test_map_of_another_size_is_refused(dataset, predictions, tmp_path):
    panoptic.write_ids(predictions / "panoptic/first.png", np.full((128, 96), 7, np.int32))
    with pytest.raises(MammoprepError, match="image first are 128 x 96, the data set says 64 x 48"):
        write(dataset, tmp_path / "out", predictions)


def test_segment_without_a_pixel_is_refused(dataset, tmp_path):
    panoptic.write_ids(dataset / "panoptic/first.png", np.full((64, 48), 100, np.int32))
    with pytest.raises(MammoprepError, match="segment 1 of image first has no pixel"):
        write(dataset, tmp_path / "out")


def write_raw(root, *, mirrored=False):
    """Raw images of twice the stored size in which each pixel is its place."""
    root.mkdir()
    y, x = np.mgrid[:128, :96].astype(np.uint16)
    pixels = (y + x) * 256
    for number in range(1, 6):
        panoptic.write_png(root / f"{number}.png", pixels)
    return pixels


def test_lesions_are_cut_from_the_raw_images(dataset, tmp_path):
    pixels = write_raw(tmp_path / "raw")
    summary = write(dataset, tmp_path / "out", raw=tmp_path / "raw")
    assert summary.crops == 5
    crop = details_of(tmp_path / "out")[0]["crops"]["1"]
    # A margin of 12 stored pixels, more than 0.4 of 10: stored x 0 … 32, y 8 … 42, twice that in native pixels.
    assert crop == {"file": "crops/1-1.png", "box": [0, 8, 32, 34], "size": [64, 68], "share": 1.0}
    stored = panoptic.read_png(tmp_path / "out" / crop["file"])
    assert np.array_equal(stored, pixels[16:84, :64] >> 8)


def test_crop_of_a_mirrored_image_is_mirrored(dataset, tmp_path):
    pixels = write_raw(tmp_path / "raw")
    cases = (dataset / "cases.csv").read_text()
    (dataset / "cases.csv").write_text(cases.replace("128,96,0,0,0.5,0.5", "128,96,96,0,-0.5,0.5"))
    write(dataset, tmp_path / "out", raw=tmp_path / "raw")
    stored = panoptic.read_png(tmp_path / "out/crops/1-1.png")
    assert np.array_equal(stored, pixels[16:84, 32:][:, ::-1] >> 8)


def test_raw_images_are_found_by_their_pseudonyms(dataset, tmp_path):
    write_raw(tmp_path / "raw")
    cases = (dataset / "cases.csv").read_text()
    for number in range(1, 6):
        cases = cases.replace(f",{number}.png", f",pseudonym{number}")
    (dataset / "cases.csv").write_text(cases)
    with pytest.raises(MammoprepError, match="the file is not there"):
        write(dataset, tmp_path / "out", raw=tmp_path / "raw")
    lines = [f"pseudonym{number},{number}.png" for number in range(1, 6)]
    (tmp_path / "data set.key.csv").write_text("\n".join(["pseudonym,file", *lines]) + "\n")
    assert write(dataset, tmp_path / "out", raw=tmp_path / "raw").crops == 5


def test_large_crop_is_reduced_and_says_so(dataset, tmp_path, monkeypatch):
    write_raw(tmp_path / "raw")
    monkeypatch.setattr(gallery.crops, "LARGEST", 34)
    write(dataset, tmp_path / "out", raw=tmp_path / "raw")
    crop = details_of(tmp_path / "out")[0]["crops"]["1"]
    assert (crop["size"], crop["share"]) == ([64, 68], 0.5)
    assert panoptic.read_png(tmp_path / "out" / crop["file"]).shape == (34, 32)


def test_raw_image_that_is_not_there_is_told_with_its_case(dataset, tmp_path):
    write_raw(tmp_path / "raw")
    (tmp_path / "raw/1.png").unlink()
    panoptic.write_png(tmp_path / "raw/2.png", np.zeros((4, 4), np.uint8))
    summary = write(dataset, tmp_path / "out", raw=tmp_path / "raw")
    assert summary.raw == {"the file is not there": 1, "the raw image has another size than cases.csv says": 1}
    assert details_of(tmp_path / "out")[0]["raw"] == "the file is not there"


def test_raw_folder_of_something_else_is_refused(dataset, tmp_path):
    (tmp_path / "raw").mkdir()
    with pytest.raises(MammoprepError, match="no lesion can be cut out; 4 images: the file is not there"):
        write(dataset, tmp_path / "out", raw=tmp_path / "raw")
    with pytest.raises(MissingFileError, match="raw folder"):
        write(dataset, tmp_path / "out", raw=tmp_path / "nowhere")
    assert not (tmp_path / "out").exists()


def test_scores_and_figures_are_taken_over(dataset, predictions, tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    panoptic.write_json(results / "scores.json", {"sweep": {"PQ": [0.5]}})
    panoptic.write_png(results / "a <b>.png", np.zeros((4, 4), np.uint8))
    summary = write(dataset, tmp_path / "out", predictions, scores=results)
    assert summary.scores
    assert index_of(tmp_path / "out")["scores"] == {"sweep": {"PQ": [0.5]}}
    assert index_of(tmp_path / "out")["figures"] == ["a <b>"]
    assert (tmp_path / "out/figures/0.png").is_file()


@pytest.mark.parametrize("text", ["[]", "{}", "no JSON"])
def test_scores_that_are_none_are_refused(dataset, tmp_path, text):
    (tmp_path / "scores.json").write_text(text)
    with pytest.raises(MammoprepError, match=r"scores\.json"):
        write(dataset, tmp_path / "out", scores=tmp_path)


def test_data_set_of_other_tools_has_no_review(dataset, tmp_path):
    for name in ("manifest.json", "cases.csv"):
        (dataset / name).unlink()
    write(dataset, tmp_path / "out")
    assert index_of(tmp_path / "out")["review"] == {"dataset": None, "marks": []}


@pytest.mark.parametrize(
    "code", [None, [[1, 1, 2, 2, 3, 3]], {}, {"size": [64, 48], "counts": "zzz"}, {"size": [9, 9], "counts": "a"}]
)
def test_mask_that_cannot_be_decoded_is_refused(dataset, predictions, tmp_path, code):
    entry = {"image_id": 1, "category_id": 1, "segmentation": code, "score": 0.9}
    panoptic.write_json(predictions / "instances.json", [entry])
    with pytest.raises(MammoprepError, match="a detection of image first has no readable mask"):
        write(dataset, tmp_path / "out", predictions)


def test_keys_of_other_tools_are_passed_over(dataset, tmp_path):
    content = json.loads((dataset / "panoptic.json").read_text())
    strange = {"pseudo_mask": "yes", "covered": "much", "source": 3, "attributes": ["a"]}
    content["annotations"][0]["segments_info"][0].update(strange)
    panoptic.write_json(dataset / "panoptic.json", content)
    write(dataset, tmp_path / "out")
    lesion = index_of(tmp_path / "out")["images"][0]["lesions"][0]
    assert not {"method", "covered", "source", "birads"} & lesion.keys()


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ("128,96,0,0,0,0.5", "cases.csv does not say where its pixels lie in the raw image"),
        ("tall,96,0,0,0.5,0.5", "cases.csv does not say where its pixels lie in the raw image"),
        ("128,96,900,0,0.5,0.5", "cases.csv places a lesion outside the raw image"),
    ],
)
def test_row_that_leads_nowhere_is_told(dataset, tmp_path, cells, why):
    write_raw(tmp_path / "raw")
    cases = (dataset / "cases.csv").read_text()
    (dataset / "cases.csv").write_text(cases.replace("128,96,0,0,0.5,0.5", cells, 1))
    assert write(dataset, tmp_path / "out", raw=tmp_path / "raw").raw == {why: 1}
