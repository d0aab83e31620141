"""`mammoprep doctor`: what this machine has, and how fast and exact its decoders are."""

from collections.abc import Iterator
from typing import Any

from mammoprep import __version__
from mammoprep.cli import console

_PACKAGES = (
    *("numpy", "pandas", "scipy", "imagecodecs", "opencv-python-headless", "pydicom", "pillow", "scikit-image"),
    *("scikit-learn", "pycocotools", "joblib", "torch", "diffusers", "transformers", "safetensors", "highdicom"),
    "distributed",
)


def doctor(json: console.Json = False) -> int:
    """Show versions, cores, memory, disk, GPUs, weights at hand, and each decoder with its speed; a few seconds.

    Decoders are tried on a built-in image. The disk is that of the folder where you are. Weights are those in the
    Hugging Face hub's cache; train and predict take those of a folder too.

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
    import shutil
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
        "memory_mb": psutil.virtual_memory().total // 10**6,
        "free_memory_mb": psutil.virtual_memory().available // 10**6,
        "free_disk_mb": shutil.disk_usage(".").free // 10**6,
        "packages": versions,
        **_for_training(),
        "decoders": [asdict(decoder) for decoder in speeds.measure()],
    }


def _for_training() -> dict[str, Any]:
    """Give the GPUs and the weights at hand; None for both without the extra [model]."""
    from dataclasses import asdict

    from mammoprep.cli.extra import lacking

    if lacking():
        return {"gpus": None, "weights": None}
    from mammoprep_model import machine

    return {"gpus": [asdict(gpu) for gpu in machine.gpus()], "weights": machine.cached_weights()}


def _show(found: dict[str, Any]) -> None:
    from rich.table import Table

    screen = console.stdout()
    versions = (f"{name} {version or 'absent'}" for name, version in found["packages"].items())
    lines = (
        f"mammoprep {found['mammoprep']}, Python {found['python']}, {found['platform']}",
        f"{found['cores']} cores, {found['free_memory_mb'] / 1000:.1f} of {found['memory_mb'] / 1000:.1f} GB of memory"
        f" and {found['free_disk_mb'] / 1000:.1f} GB of disk free",
        ", ".join(versions),
        *_training_lines(found),
    )
    screen.print("\n".join(lines), soft_wrap=True, markup=False)
    table = Table(box=None, padding=(0, 1, 0, 0))
    for column in ("transfer syntax", "decoder", "version", "ms a megapixel", "exact", ""):
        table.add_column(column, justify="right" if column.startswith("ms") else "left")
    for each in found["decoders"]:
        speed = "fails" if each["milliseconds"] is None else f"{each['milliseconds']:.1f}"
        exact, used = "yes" if each["exact"] else "no", "used" if each["used"] else ""
        table.add_row(each["syntax"], each["name"], each["version"], speed, exact, used)
    screen.print("", table)


def _training_lines(found: dict[str, Any]) -> Iterator[str]:
    if found["gpus"] is None:
        yield "Training and prediction: not installed; convert, folds and evaluate do without. See `mammoprep models`."
        return
    names = ", ".join(f"{gpu['name']} ({gpu['memory_mb'] / 1000:.0f} GB)" for gpu in found["gpus"])
    yield f"Training and prediction: on {names}" if names else "Training and prediction: on the CPU, torch sees no GPU"
    there = [part for part, folder in found["weights"].items() if folder]
    rest = [part for part, folder in found["weights"].items() if not folder]
    texts = [f"{title}: {', '.join(parts)}" for title, parts in (("at hand", there), ("not yet", rest)) if parts]
    yield f"Pretrained parts {'; '.join(texts)}"
