"""Commands that need the extra [model] say so in one line where it is not installed."""

from importlib.util import find_spec

from mammoprep.errors import MammoprepError

_MODULES = ("torch", "diffusers", "transformers", "safetensors")


def lacking() -> list[str]:
    """Name the packages of the extra that are not installed; nothing is imported."""
    return [name for name in _MODULES if find_spec(name) is None]


def require_model() -> None:
    """Refuse to go on without torch, diffusers, transformers and safetensors."""
    if missing := lacking():
        raise MammoprepError(f'This command needs {", ".join(missing)}. Type: pip install "mammoprep[model]"')
