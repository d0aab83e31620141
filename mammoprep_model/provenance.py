"""What a run was made from: hashes of the data, versions of the packages, commit of the code."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from mammoprep import panoptic

_PACKAGES = ("mammoprep", "torch", "diffusers", "transformers", "safetensors", "numpy")


def data_hash(dataset: Path) -> str:
    """Give the SHA-256 of manifest.json, which covers all that was read; panoptic.json's where another tool wrote."""
    manifest = dataset / "manifest.json"
    return panoptic.file_hash(manifest if manifest.is_file() else dataset / "panoptic.json")


def versions() -> dict[str, str]:
    """Give the versions of Python and of the packages that decide what is computed, and the GPU's name."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a source folder that is not installed
            continue
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def git_commit() -> str | None:
    """Give the commit of the checkout that this code runs from; None where it is installed or git is not there."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
