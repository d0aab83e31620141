"""`mammoprep doctor`: what this machine has, and how fast and exact its decoders are."""

from typing import Any

from mammoprep import __version__
from mammoprep.cli import console

_PACKAGES = (
    *("numpy", "imagecodecs", "opencv-python-headless", "pydicom", "pillow", "scikit-image", "scikit-learn", "torch"),
    *("diffusers", "transformers"),
)


def doctor(json: console.Json = False) -> int:
    """Show versions, cores, free memory, and each decoder with its speed on a built-in image; a few seconds.

    Exit code 1 where a decoder that is used gets a pixel wrong.
    """
    found = _examine()
    if json:
        console.print_json(found)
    else:
        _show(found)
    wrong = [each["syntax"] for each in found["decoders"] if each["used"] and not each["exact"]]
    if wrong:
        console.note(
            f"{', '.join(wrong)}: the decoder gets pixels wrong. Install imagecodecs as constraints.txt has it."
        )
    return 1 if wrong else 0


def _examine() -> dict[str, Any]:
    import platform
    from dataclasses import asdict
    from importlib.metadata import PackageNotFoundError, version

    import joblib
    import psutil

    from mammoprep.pixels import speeds

    versions: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "mammoprep": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": joblib.cpu_count(),
        "free_memory_mb": psutil.virtual_memory().available // 10**6,
        "packages": versions,
        "decoders": [asdict(decoder) for decoder in speeds.measure()],
    }


def _show(found: dict[str, Any]) -> None:
    from rich.table import Table

    screen = console.stdout()
    screen.print(
        f"mammoprep {found['mammoprep']}, Python {found['python']}, {found['platform']}\n"
        f"{found['cores']} cores, {found['free_memory_mb'] / 1000:.1f} GB of memory free\n"
        + ", ".join(f"{name} {version or 'absent'}" for name, version in found["packages"].items()),
        soft_wrap=True,
    )
    table = Table(box=None, padding=(0, 1, 0, 0))
    for column in ("transfer syntax", "decoder", "version", "ms a megapixel", "exact", ""):
        table.add_column(column, justify="right" if column.startswith("ms") else "left")
    for each in found["decoders"]:
        speed = "fails" if each["milliseconds"] is None else f"{each['milliseconds']:.1f}"
        exact, used = "yes" if each["exact"] else "no", "used" if each["used"] else ""
        table.add_row(each["syntax"], each["name"], each["version"], speed, exact, used)
    screen.print("", table)
