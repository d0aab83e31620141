"""A page in headless Chromium, driven by Debian's chromedriver through the W3C WebDriver protocol: JSON over HTTP."""

import base64
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

KEYS = {"Left": "\ue012", "Up": "\ue013", "Right": "\ue014", "Down": "\ue015", "Enter": "\ue007", "Escape": "\ue00c"}
PATIENCE_S = 20


def lacking() -> str:
    """Say which program is not installed; empty where all are."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"{' and '.join(missing)} not installed (Debian: apt install chromium chromium-driver)" if missing else ""


class Page:
    """A session of the browser."""

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
