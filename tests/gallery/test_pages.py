"""The pages in headless Chromium: filters, layers, zoom, keys, marks; no error on the console, no name is markup."""

import json
import time
from pathlib import Path

import pytest

from mammoprep import gallery, panoptic
from mammoprep.evaluation.verdicts import verdicts

SCORES = {
    **{"images": 5, "patients": 2, "matching": "one-to-one", "thresholds": [0.05, 0.1, 0.25, 0.5]},
    "sweep": {name: [0.4, 0.3, 0.2, 0.1] for name in ("PQ", "RQ", "SQ", "AP")},
    "best": {"threshold": 0.05},
    "per_class": {"mass": {"PQ": [0.5, 0.45, 0.4, 0.35], "TP": [3, 2, 1, 0]}},
    "detection": {"PQ": [0.9, 0.8, 0.7, 0.6]},
    "dice": {"pooled": 0.5, "per_class": {"mass": 0.6}},
    **{"iou": None, "std": None, "strata": {}, "froc": {"lesion": {"sensitivity": [[0.25, 0.75]]}}},
    "intervals": {"sweep": {"PQ": [[0.1, 0.6]] * 4}},
    **{"notes": ["AP counts IoU >= t."], "not_given": {"iou": "no <b>maps</b>"}},
}


@pytest.fixture
def site(dataset, predictions, tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    panoptic.write_json(results / "scores.json", SCORES)
    out = tmp_path / "pages"
    options = gallery.Options(judge=verdicts, scores=results)
    gallery.write(gallery.load(dataset, [predictions]), out, options=options)
    return out / "index.html"


@pytest.fixture
def page(chromium, site):
    """The cases at laptop width, nothing kept from a test before; in the end the console has nothing to say."""
    chromium.size(1280, 800)
    chromium.open(site)
    chromium.run("localStorage.clear()")
    chromium.errors()
    chromium.open(site)
    chromium.wait("document.querySelectorAll('.card').length === 5")
    yield chromium
    assert chromium.errors() == []


def open_case(page, number):
    page.run("location.hash = '#/case-' + arguments[0]", number)
    page.wait(f"shown.view === 'case' && data.images[shown.case].id === {number} && byId('told').children.length")


def shown_cases(page):
    return page.run("return [...document.querySelectorAll('.card')].map(card => Number(card.hash.split('-')[1]))")


def view_box(page):
    return [float(value) for value in page.run("return byId('viewer').getAttribute('viewBox')").split()]


def test_footnote_stands_on_all_pages_and_its_mark_beside_the_predictions(page, dataset, predictions, tmp_path):
    assert page.run("return byId('footnote').hidden")
    options = gallery.Options(footnote="† They were told.")
    gallery.write(gallery.load(dataset, [predictions]), tmp_path / "told", options=options)
    page.open(tmp_path / "told" / "index.html", "#/case-1")
    page.wait("shown.view === 'case' && byId('told').children.length")
    assert page.text("#footnote") == "† They were told."
    assert "Prediction †" in page.text("#layers")
    assert "Detections †" in page.text("#layers")


FILTERS = [
    ({"class": "calcification"}, [2, 3, 5]),
    ({"verdict": "missed"}, [2]),
    ({"verdict": "hit", "class": "calcification"}, [5]),
    ({"verdict": "wrong class", "class": "mass"}, [3]),
    ({"class": "mass", "method": "box (fallback)"}, [1]),
    ({"class": "calcification", "method": "box (fallback)"}, []),  # one lesion has to meet both
    ({"birads": "4"}, [1]),
    ({"size": "under 79 mm2"}, [2, 3, 4]),
    ({"view": "CC", "manufacturer": "Planmed"}, [3, 5]),
    ({"findings": "lesion-free"}, [4]),
    ({"doubt": "overlap"}, [5]),
    ({"low": "0.65"}, [1, 4]),
    ({"low": "0.5", "high": "0.6", "class": "mass"}, [5]),
    ({"low": "0.85", "birads": "4"}, [1]),  # a true lesion has the score of what found it
    ({"search": "P2"}, [3, 4]),
    ({"search": "onerror"}, [2, 5]),  # as the name of an image, and as a patient
]


def test_filters_choose_cases(page):
    for choices, cases in FILTERS:
        for name, value in choices.items():
            page.fill(f"[name={name}]", value)
        assert shown_cases(page) == cases, choices
        assert page.text("#count") == f"{len(cases)} of 5 cases"
        page.click("#clear")


def test_cards_count_what_became_of_the_lesions(page):
    chips = "return [...document.querySelectorAll('.card')].map(card => card.querySelector('.chips').innerText)"
    assert page.run(chips) == ["hit", "missed", "wrong class", "false", "2 hit"]


def test_no_case_says_so_and_filters_are_cleared(page):
    page.fill("[name=search]", "nobody")
    assert "No case meets all of this" in page.text("#cards")
    page.click("#cards button")
    assert len(shown_cases(page)) == 5


@pytest.mark.parametrize(
    ("order", "cases"), [("doubt", [2, 3, 4, 1, 5]), ("large", [5, 1, 2, 3, 4]), ("sure", [1, 4, 5, 3, 2])]
)
def test_order_of_the_cases(page, order, cases):
    page.fill("[name=order]", order)
    assert shown_cases(page) == cases


def test_names_are_text_and_their_images_are_found(page):
    assert page.run("return [...document.querySelectorAll('.name')].map(e => e.textContent)") == page.run(
        "return data.images.map(row => row.name)"
    )
    for number in range(1, 6):
        open_case(page, number)
        assert page.text("#told h2").strip() == page.run("return data.images[shown.case].name")
        assert page.count("#told img, #cards img[src=x]") == 0
        page.wait("[...document.querySelectorAll('#viewer image')].length === 2")
    assert page.run("return fetch ? document.querySelector('#message').hidden : false")


def test_case_shows_each_side_and_its_facts(page):
    open_case(page, 1)
    assert [page.count(f"#viewer .{side} path") for side in ("truth", "predicted", "detection")] == [1, 1, 2]
    assert page.run("return document.querySelector('#viewer .truth path').getAttribute('d')") == "M10 20h10v10h-10z"
    told = page.text("#told")
    assert "ground truth 1: mass" in told
    assert "score 0.90, IoU 1.00 with ground truth 1" in told
    assert page.run("return document.querySelector('#viewer .predicted text').textContent") == "7 mass 0.90"
    assert "pseudo-mask by a fallback: box" in told
    assert "SIEMENS" in told
    assert "stored resolution" in told


def test_slider_fades_a_layer_and_its_box_hides_it(page):
    open_case(page, 1)
    page.fill("[name=truth-opacity]", "0.25")
    assert page.run("return document.querySelector('#viewer .truth').style.opacity") == "0.25"
    assert page.run("return getComputedStyle(document.querySelector('#viewer .heat')).display") == "none"
    page.click("[name=heat]")
    assert page.run("return getComputedStyle(document.querySelector('#viewer .heat')).display") != "none"
    page.press("1")
    assert page.run("return getComputedStyle(document.querySelector('#viewer .truth')).display") == "none"
    open_case(page, 2)  # and so it stays with the next case
    assert page.run("return getComputedStyle(document.querySelector('#viewer .truth')).display") == "none"


def test_outline_or_fill(page):
    open_case(page, 1)
    opacity = "return getComputedStyle(document.querySelector('#viewer .truth path')).fillOpacity"
    assert page.run(opacity) == "0"
    page.press("o")
    assert float(page.run(opacity)) > 0
    page.press("l")
    assert page.run("return getComputedStyle(document.querySelector('#viewer text')).display") == "none"


def test_wheel_zooms_where_it_points_and_the_mouse_pans(page):
    open_case(page, 1)
    assert view_box(page) == [0, 0, 48, 64]
    page.wheel("#viewer", by=-400)
    page.wait("eye.w < 48")
    x, y, width, height = view_box(page)
    assert x + width / 2 == pytest.approx(24, abs=0.5)
    assert y + height / 2 == pytest.approx(32, abs=0.5)
    assert width / height == pytest.approx(48 / 64)
    page.drag("#viewer", by=(60, 0))
    page.wait(f"eye.x < {x}")
    assert view_box(page)[1:] == [y, width, height]
    page.press("0")
    assert view_box(page) == [0, 0, 48, 64]


def test_zoom_has_an_end_on_either_side(page):
    open_case(page, 1)
    page.press(*"+" * 30)
    assert page.run("return scale()") == pytest.approx(64, rel=0.01)
    page.press(*"-" * 40)
    assert view_box(page) == [0, 0, 48, 64]


def test_lesion_is_shown_when_it_is_clicked(page):
    open_case(page, 1)
    page.click(".lesion")
    assert view_box(page) == [-2, 8, 34, 34]  # 24 pixels at least, half of them on each side: 12


def test_lesion_is_lit_while_it_is_pointed_at(page):
    open_case(page, 1)
    for name, count in (("enter", 1), ("leave", 0)):
        page.run("document.querySelector('.lesion').dispatchEvent(new PointerEvent('pointer' + arguments[0]))", name)
        assert page.count("#viewer .truth path.lit") == count
    assert page.count("#viewer path.lit") == 0


def test_names_stay_in_sight(page):
    open_case(page, 1)
    page.click("[name=detection]")
    for key in ("0", *"+++++"):
        page.press(key)
        tops = "[...document.querySelectorAll('#viewer .truth text')].map(text => text.getBoundingClientRect().top)"
        assert min(page.run(f"return {tops}")) >= page.run("return byId('viewer').getBoundingClientRect().top")


def test_keys_walk_through_the_chosen_cases(page):
    page.fill("[name=manufacturer]", "Planmed")
    page.run("document.activeElement.blur()")
    page.press("Right", "Right")
    assert page.run("return document.activeElement.hash") == "#/case-4"
    page.press("Enter")
    page.wait("shown.view === 'case' && byId('told').children.length")
    assert page.text("#place") == "2 of 3"
    page.press("Right")
    page.wait("data.images[shown.case].id === 5")
    page.press("Left")
    page.wait("data.images[shown.case].id === 4")
    page.press("Escape")
    page.wait("shown.view === 'grid'")
    assert page.run("return document.activeElement.hash") == "#/case-4"
    page.press("/", "x")
    assert page.run("return document.activeElement.name") == "search"


def test_pages_of_cases_turn(page):
    page.run("const rows = [...data.images]; for (let k = 0; k < 30; k++) data.images.push(...rows); choose()")
    assert page.text("#pages span") == "page 1 of 3"
    page.press("n")
    assert page.text("#pages span") == "page 2 of 3"
    assert page.count(".card") == 60
    page.press("n", "n")
    assert page.count(".card") == 35
    page.press("p")
    assert page.text("#pages span") == "page 2 of 3"


def test_light_and_dark(page):
    paper = "return getComputedStyle(document.body).backgroundColor"
    light = page.run(paper)
    page.size(1280, 800, dark=True)
    dark = page.run(paper)
    assert light != dark
    page.press("t")
    assert page.run(paper) == light
    page.press("?")
    assert page.run("return byId('help').open")
    page.press("Escape")


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_screen(page, width):
    page.size(width, 844)
    for fragment in ("#/", "#/case-3", "#/case-5", "#/scores"):
        page.run("location.hash = arguments[0]", fragment)
        page.wait("document.querySelector('main:not([hidden])').innerText.length > 20")
        time.sleep(0.1)
        assert page.run("return document.documentElement.scrollWidth") <= width


def test_print_leaves_the_controls_out(page):
    open_case(page, 1)
    page.devtools("Emulation.setEmulatedMedia", media="print")
    shown = "return getComputedStyle(document.querySelector(arguments[0])).display"
    assert page.run(shown, "header") == page.run(shown, "#layers") == "none"
    assert page.run(shown, "#viewer") != "none"
    assert page.run(shown, "#image-review") == "none"
    page.run("document.querySelector('#image-review .accept').click()")
    assert page.run(shown, "#image-review .accept") != page.run(shown, "#image-review .reject") == "none"
    page.devtools("Emulation.setEmulatedMedia", media="")


def test_scores_show_every_figure(page):
    page.click("#to-scores")
    page.wait("shown.view === 'scores'")
    text = page.text("#scores")
    assert "40.00 10.00 – 60.00" in text
    assert "30.00" in text
    assert "iou is not given: no <b>maps</b>" in text
    assert "45.00" in text
    page.fill("[name=threshold]", "0.25")
    assert "45.00" not in page.text("#scores")
    page.run("for (const each of document.querySelectorAll('details')) each.open = true")
    assert "0.2500, 0.7500" in page.text("#scores")


def test_details_that_are_not_there_are_told(page, site):
    (site.parent / "data/cases-0.js").unlink()
    page.run("location.hash = '#/case-1'")
    page.wait("!byId('message').hidden")
    assert "cases-0.js could not be loaded" in page.text("#message")
    assert all("cases-0.js" in error for error in page.errors())


def test_image_that_was_moved_is_told(page, dataset):
    (dataset / "images/first.png").unlink()
    page.run("location.hash = '#/case-1'")
    page.wait("!byId('message').hidden")
    assert "mammoprep gallery --copy" in page.text("#message")
    assert all("first.png" in error for error in page.errors())


def saved(page, folder: Path):
    """Save the review, and give what is in the file."""
    page.devtools("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    page.click("#review-save")
    path = folder / "review.json"
    end = time.monotonic() + 20
    while not path.is_file():
        assert time.monotonic() < end
        time.sleep(0.02)
    return json.loads(path.read_text())


def test_marks_are_kept_saved_and_loaded_again(page, site, tmp_path):
    folder = tmp_path / "saved"
    folder.mkdir()
    open_case(page, 1)
    page.press("a")
    page.fill("#image-review .comment", "good <b>")
    page.click(".lesions .reject")
    assert page.text("#review-count") == "Review: 2 marks"
    page.press("r", "r")  # rejected, and not any more
    content = saved(page, folder)
    assert content["dataset"] == page.run("return data.review.dataset")
    assert content["marks"] == [
        {"image": "first", "finding": None, "mark": None, "comment": "good <b>"},
        {"image": "first", "finding": "rows.csv row 2", "mark": "reject", "comment": ""},
    ]
    assert panoptic.load_review(folder / "review.json").marks[1].mark == "reject"

    page.open(site, "#/case-1")  # the browser kept them
    page.wait("document.querySelectorAll('.lesions [aria-pressed=true]').length === 1")
    page.run("location.hash = '#/'")
    page.fill("[name=mark]", "rejected")
    assert shown_cases(page) == [1]

    page.run("localStorage.clear()")
    page.open(site)
    page.wait("document.querySelectorAll('.card').length === 5")
    load(page, folder / "review.json")
    page.wait("!byId('message').hidden")
    assert page.text("#review-count") == "Review: 2 marks"


def load(page, path: Path):
    """Give the page a file, as a user who chooses it."""
    script = "const chosen = new DataTransfer(), field = byId('review-file');"
    script += "chosen.items.add(new File([arguments[0]], arguments[1])); field.files = chosen.files;"
    page.run(script + "field.dispatchEvent(new Event('change'))", path.read_text(), path.name)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"format": 1, "dataset": "other", "marks": []}, "another data set"),
        ({"format": 2, "marks": []}, "no review"),
        ([], "no review"),
    ],
)
def test_review_of_something_else_is_refused(page, tmp_path, content, why):
    path = tmp_path / "other.json"
    panoptic.write_json(path, content)
    load(page, path)
    page.wait("!byId('message').hidden")
    assert why in page.text("#message")
    assert page.text("#review-count") == "Review: 0 marks"


def test_queue_begins_with_the_doubtful_and_says_why(dataset, predictions, tmp_path, chromium):
    out = tmp_path / "queue"
    gallery.write(gallery.load(dataset, [predictions]), out, options=gallery.Options(queue=True))
    chromium.open(out / "index.html")
    chromium.wait("document.querySelectorAll('.card').length === 5")
    assert shown_cases(chromium) == [1, 5, 2, 3, 4]  # not judged
    assert "pseudo-mask by a fallback: box" in chromium.text(".card .why")
    assert chromium.errors() == []


def test_native_crops_lie_over_the_image(dataset, tmp_path, chromium):
    (tmp_path / "raw").mkdir()
    for number in range(1, 6):
        grey = panoptic.read_png(dataset / "images" / "first.png").repeat(2, 0).repeat(2, 1)
        panoptic.write_png(tmp_path / "raw" / f"{number}.png", grey)
    gallery.write(gallery.load(dataset, raw=tmp_path / "raw"), tmp_path / "out")
    chromium.open(tmp_path / "out/index.html", "#/case-1")
    chromium.wait("document.querySelectorAll('.crops figure').length === 1")
    assert "native resolution, 64 × 68 px" in chromium.text(".crops")
    assert chromium.count("#viewer .pixels image") == 2
    assert chromium.errors() == []


def test_data_set_of_other_tools_cannot_be_reviewed(dataset, tmp_path, chromium):
    (dataset / "manifest.json").unlink()
    gallery.write(gallery.load(dataset), tmp_path / "out")
    chromium.open(tmp_path / "out/index.html", "#/case-1")
    chromium.wait("byId('told').children.length")
    assert chromium.count(".marker, #review-bar button") == 0
    assert chromium.errors() == []
