"""A small DATASET with PREDICTIONS, written by hand, and a page in headless Chromium to look at its gallery.

The browser is driven by Debian's chromedriver through the W3C WebDriver protocol, which is JSON over HTTP.
"""

import base64
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest

from mammoprep import panoptic

HEIGHT, WIDTH = 64, 48
CATEGORIES = panoptic.make_categories(["mass", "calcification"])
MARKUP = "<img src=x onerror=alert(1)>"
ODD = "é %41 #?&"
LONG = "x" * 200
COLUMNS = ("image_id", "patient_id", "laterality", "view", "manufacturer", "lesion_free", "pixel_spacing_mm")
MAP = {"native_height": 128, "native_width": 96, "crop_x0": 0, "crop_y0": 0, "scale_x": 0.5, "scale_y": 0.5}


@dataclass
class Lesion:
    """A rectangle x, y, w, h of a class; `extra` are further keys of segments_info."""

    id: int
    category: int
    box: tuple[int, int, int, int]
    score: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


BOX = Lesion(1, 1, (10, 20, 10, 10))


def ids_of(lesions: Sequence[Lesion]) -> panoptic.Ids:
    """The map of lesions, the later over the earlier, in a breast (100) of the left half and a background (101)."""
    ids = np.full((HEIGHT, WIDTH), 101, dtype=np.int32)
    ids[:, : WIDTH // 2 + 8] = 100
    for lesion in lesions:
        x, y, w, h = lesion.box
        ids[y : y + h, x : x + w] = lesion.id
    return ids


def write_side(root: Path, images: Mapping[str, Sequence[Lesion]], *, ids: Mapping[str, int] | None = None) -> Path:
    """Write panoptic.json and panoptic/; `ids` are those of the images, else from 1 on."""
    (root / "panoptic").mkdir(parents=True, exist_ok=True)
    listed = []
    for place, (name, lesions) in enumerate(images.items(), start=1):
        pixels = ids_of(lesions)
        panoptic.write_ids(root / "panoptic" / f"{name}.png", pixels)
        labels = [(each.id, each.category, each.score, each.extra) for each in lesions]
        segments = tuple(
            panoptic.Segment(
                number, label, int((pixels == number).sum()), panoptic.mask_box(pixels == number), False, score, extra
            )
            for number, label, score, extra in [*labels, (100, 3, None, {}), (101, 4, None, {})]
        )
        listed.append(panoptic.Image(ids[name] if ids else place, name, HEIGHT, WIDTH, segments))
    panoptic.write_panoptic(root, categories=CATEGORIES, images=listed)
    return root


TRUTH = {
    "first": [
        Lesion(
            *(1, 1, (10, 20, 10, 10), None),
            {
                "pseudo_mask": {"method": "box", "threshold": None, "fallback": True},
                "source": "rows.csv row 2",
                "attributes": {"finding_birads": "BI-RADS 4", "note": MARKUP},
            },
        )
    ],
    MARKUP: [Lesion(1, 2, (5, 5, 8, 8), None, {"source": "rows.csv row 3"})],
    LONG: [Lesion(1, 1, (20, 30, 8, 8), None, {"source": "rows.csv row 4"})],
    "empty": [],
    ODD: [
        Lesion(1, 1, (4, 30, 20, 20), None, {"covered": 0.25, "source": "rows.csv row 5"}),
        Lesion(2, 2, (4, 30, 10, 10), None, {"source": "rows.csv row 6"}),
    ],
}
PREDICTED = {
    "first": [Lesion(7, 1, (10, 20, 10, 10), 0.9)],
    MARKUP: [],
    LONG: [Lesion(3, 2, (20, 30, 8, 8), 0.4)],
    "empty": [Lesion(2, 1, (8, 8, 6, 6), 0.7)],
    ODD: [Lesion(1, 1, (4, 40, 20, 10), 0.6), Lesion(2, 2, (4, 30, 10, 10), 0.55)],
}
FACTS = {
    "first": "p1,L,CC,SIEMENS,0,0.5",
    MARKUP: "p1,L,MLO,SIEMENS,0,0.5",
    LONG: "p2,R,CC,Planmed,0,0.5",
    "empty": "p2,R,MLO,Planmed,1,0.5",
    ODD: f"{MARKUP},R,CC,Planmed,0,",
}


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Five images of 64 x 48 pixels, three with names that no page may take for markup or an address."""
    root = write_side(tmp_path / "data set", TRUTH)
    (root / "images").mkdir()
    for number, name in enumerate(TRUTH, start=1):
        panoptic.write_png(root / "images" / f"{name}.png", np.full((HEIGHT, WIDTH), 40 * number, np.uint8))
    rest = ",".join(str(value) for value in MAP.values())
    lines = [",".join([*COLUMNS, *MAP, "source"])]
    lines += [f"{name},{FACTS[name]},{rest},{number}.png" for number, name in enumerate(TRUTH, start=1)]
    (root / "cases.csv").write_text("\n".join(lines) + "\n")
    panoptic.write_json(root / "manifest.json", {"dataset": "tiny", "inputs": {"rows.csv": "0" * 64}, "options": {}})
    return root


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    """A hit, a miss, a wrong class, a false lesion and two hits, with detections and heat maps."""
    root = write_side(tmp_path / "predictions", PREDICTED)
    (root / "heatmaps").mkdir()
    for name in PREDICTED:
        panoptic.write_png(root / "heatmaps" / f"{name}.png", np.full((HEIGHT, WIDTH), 128, np.uint8))
    code = panoptic.encode_rle(ids_of([BOX]) == 1)
    results = [{"image_id": 1, "category_id": 1, "segmentation": code, "score": score} for score in (0.3, 0.05, 0.8)]
    panoptic.write_json(root / "instances.json", results)
    return root


KEYS = {"Left": "\ue012", "Up": "\ue013", "Right": "\ue014", "Down": "\ue015", "Enter": "\ue007", "Escape": "\ue00c"}
PATIENCE_S = 20


def lacking() -> str:
    """Say which program is not installed; empty where all are."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"{' and '.join(missing)} not installed (Debian: apt install chromium chromium-driver)" if missing else ""


class Page:
    """A page in a session of the browser."""

    def __init__(self, session: str) -> None:
        self._session = session

    def _call(self, method: str, path: str, **content: Any) -> Any:
        body = json.dumps(content).encode() if method == "POST" else None
        request = Request(f"{self._session}{path}", body, {"Content-Type": "application/json"}, method=method)
        with urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def open(self, path: Path, fragment: str = "") -> None:
        self._call("POST", "/url", url="about:blank")
        self._call("POST", "/url", url=path.resolve().as_uri() + fragment)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run the body of a function and give what it returns; a promise is waited for."""
        return self._call("POST", "/execute/sync", script=script, args=list(arguments))

    def wait(self, expression: str) -> Any:
        """Wait until a JavaScript expression is true, and give it."""
        end = time.monotonic() + PATIENCE_S
        while not (value := self.run(f"return {expression}")):
            if time.monotonic() > end:
                raise AssertionError(f"{expression} did not become true")
            time.sleep(0.02)
        return value

    def text(self, selector: str) -> str:
        return self.run("return document.querySelector(arguments[0]).innerText", selector)

    def count(self, selector: str) -> int:
        return self.run("return document.querySelectorAll(arguments[0]).length", selector)

    def press(self, *keys: str) -> None:
        """Press and release keys one after another."""
        actions = [{"type": kind, "value": KEYS.get(key, key)} for key in keys for kind in ("keyDown", "keyUp")]
        self._act({"type": "key", "id": "keys", "actions": actions})

    def drag(self, selector: str, *, by: tuple[int, int]) -> None:
        """Press the mouse in the middle of an element, move and release it."""
        x, y = self._middle(selector)
        move = {"type": "pointerMove", "duration": 0, "origin": "viewport"}
        start, end = ({**move, "x": x + across, "y": y + down} for across, down in ((0, 0), by))
        actions = [start, {"type": "pointerDown", "button": 0}, end, {"type": "pointerUp", "button": 0}]
        self._act({"type": "pointer", "id": "mouse", "actions": actions})

    def wheel(self, selector: str, *, by: int) -> None:
        """Turn the wheel over the middle of an element."""
        x, y = self._middle(selector)
        turn = {"type": "scroll", "x": x, "y": y, "deltaX": 0, "deltaY": by, "duration": 0, "origin": "viewport"}
        self._act({"type": "wheel", "id": "wheel", "actions": [turn]})

    def click(self, selector: str) -> None:
        self.run("document.querySelector(arguments[0]).click()", selector)

    def fill(self, selector: str, value: str) -> None:
        """Give a form's field a value, as a user who leaves it then."""
        self.run(
            "const field = document.querySelector(arguments[0]); field.value = arguments[1];"
            "for (const name of ['input', 'change']) field.dispatchEvent(new Event(name, {bubbles: true}))",
            *(selector, value),
        )

    def errors(self) -> list[str]:
        """Give what the console says of errors and warnings since the last time."""
        return [f"{e['level']}: {e['message']}" for e in self._call("POST", "/se/log", type="browser")]

    def size(self, width: int, height: int, *, dark: bool = False) -> None:
        """Set the width and height of the page in CSS pixels, and what the system's colours are said to be."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.devtools("Emulation.setDeviceMetricsOverride", **metrics)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.devtools("Emulation.setEmulatedMedia", features=features)

    def devtools(self, command: str, **parameters: Any) -> Any:
        return self._call("POST", "/goog/cdp/execute", cmd=command, params=parameters)

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._call("GET", "/screenshot")))

    def _act(self, source: dict[str, Any]) -> None:
        self._call("POST", "/actions", actions=[source])

    def _middle(self, selector: str) -> tuple[int, int]:
        script = "const b = document.querySelector(arguments[0]).getBoundingClientRect();"
        x, y = self.run(script + "return [b.x + b.width / 2, b.y + b.height / 2]", selector)
        return round(x), round(y)


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """Start Chromium with an empty profile in `folder`, which is also where it saves files, and stop it in the end."""
    quiet = ("no-first-run", "disable-background-networking", "disable-component-update", "disable-sync")
    flags = ("headless", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", *quiet)
    options = {
        "args": [f"--{flag}" for flag in flags] + [f"--user-data-dir={folder / 'profile'}", "--window-size=1280,800"],
        "prefs": {"download.default_directory": str(folder)},
        "binary": shutil.which("chromium"),
    }
    wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
    with subprocess.Popen(
        ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as driver:
        try:
            assert driver.stdout is not None
            port = next(found[1] for line in driver.stdout if (found := re.search(r"successfully on port (\d+)", line)))
            address = f"http://127.0.0.1:{port}/session"
            body = json.dumps({"capabilities": {"alwaysMatch": wanted}}).encode()
            with urlopen(Request(address, body, {"Content-Type": "application/json"}), timeout=60) as answer:
                session = f"{address}/{json.load(answer)['value']['sessionId']}"
            yield Page(session)
            urlopen(Request(session, method="DELETE"), timeout=60).close()
        finally:
            driver.terminate()


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A browser for all tests of this process."""
    if reason := lacking():
        pytest.skip(reason)
    with browser(tmp_path_factory.mktemp("browser")) as page:
        yield page
