"""From stored values to grey for display: Modality LUT, VOI LUT, photometric interpretation, padding."""

import math
import re
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep.errors import MammoprepError
from mammoprep.pixels.stored import PixelError, Stored

Values = NDArray[np.float64]
"""One number for each content that a pixel cell can have (256,) or (65536,)."""

WHITE = 65535

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)"
_CENTER_WIDTH = re.compile(rf"({_NUMBER})/({_NUMBER})")
_INDEX = re.compile(r"(?:lut:)?[1-9]\d*")


@dataclass(frozen=True, slots=True)
class Window:
    """A window in modality units; `function` is LINEAR, LINEAR_EXACT or SIGMOID, `name` its explanation."""

    center: float
    width: float
    function: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Lut:
    """A look-up table as it is stored: number of entries, input of the first one, bits of an output."""

    entries: int
    first: int
    bits: int
    data: bytes
    little_endian: bool = True


@dataclass(frozen=True, slots=True)
class Tones:
    """What a file says of its grey values.

    A stored value is the `bits` bits of a cell from bit `shift` on. `padding` is a range of stored values, both ends
    inside. `function` is the VOI LUT function, `default` the window of a file without any; `inverted` is MONOCHROME1.
    """

    bits: int
    shift: int = 0
    signed: bool = False
    padding: tuple[int, int] | None = None
    slope: float = 1.0
    intercept: float = 0.0
    modality: Lut | None = None
    luts: tuple[Lut, ...] = ()
    windows: tuple[Window, ...] = ()
    function: str = "LINEAR"
    default: Window | None = None
    inverted: bool = False


def check_window(text: str) -> None:
    """Refuse a window choice that no file can have."""
    choice = text.strip().casefold()
    if pair := _CENTER_WIDTH.fullmatch(choice):
        well_formed = float(pair[2]) > 0
    elif choice.startswith("lut:") or not any(character.isalpha() for character in choice):
        well_formed = _INDEX.fullmatch(choice) is not None
    else:
        well_formed = True
    if not well_formed:
        raise MammoprepError(
            f"There is no window {text!r}. Say auto, full, a number from 1, lut:NUMBER, CENTER/WIDTH or a name."
        )


def render(stored: Stored, *, tones: Tones, window: str) -> NDArray[np.uint16]:
    """Map stored values (H, W) to grey 0 … 65535, by one table with an entry for each content of a pixel cell.

    Where `stored` has 16 bits and can be written, the grey values take its place.
    """
    contents = _stored_values(8 * stored.itemsize, tones)
    low, high = tones.padding or (1, 0)
    padding = (contents >= low) & (contents <= high)
    values = _modality_values(contents, tones)
    voi = _select(window, tones)
    if voi is None:
        used = np.zeros(contents.shape, dtype=np.bool_)
        used[stored] = True
        voi = _full_range(values[used & ~padding])
    shares = _look_up(voi, values) / (2**voi.bits - 1) if isinstance(voi, Lut) else _apply(voi, values)
    table = np.rint(np.minimum(shares, 1) * WHITE).astype(np.uint16)
    if tones.inverted:
        table = WHITE - table
    table[padding] = 0
    place = stored if stored.dtype == np.uint16 and stored.flags.writeable else None  # new memory costs time
    return cv2.LUT(stored, table, dst=place).astype(np.uint16, copy=False)


def _stored_values(bits_allocated: int, tones: Tones) -> NDArray[np.int64]:
    """Give the stored value of each content of a cell; what lies beside its bits is overlays (PS3.5 8.1.1)."""
    contents = np.arange(2**bits_allocated, dtype=np.int64) >> tones.shift & (1 << tones.bits) - 1
    return contents - (contents >> tones.bits - 1 << tones.bits) if tones.signed else contents


def _modality_values(contents: NDArray[np.int64], tones: Tones) -> Values:
    if tones.modality:
        return _look_up(tones.modality, contents.astype(np.float64))
    with np.errstate(over="ignore", invalid="ignore"):  # infinity times 0
        values = contents.astype(np.float64) * tones.slope + tones.intercept
    if tones.slope == 0 or not np.isfinite(values).all():
        raise PixelError("the rescale slope is 0, or it or the intercept is no number")
    return values


def _select(choice: str, tones: Tones) -> Window | Lut | None:
    """Give the transform that a choice names; None is the full range."""
    text = choice.strip().casefold()
    if text == "full":
        return None
    if text == "auto":
        return tones.luts[0] if tones.luts else tones.windows[0] if tones.windows else tones.default
    if pair := _CENTER_WIDTH.fullmatch(text):
        return Window(float(pair[1]), float(pair[2]), tones.function)
    numbered = {str(i): window for i, window in enumerate(tones.windows, start=1)}
    luts = {f"lut:{i}": lut for i, lut in enumerate(tones.luts, start=1)}
    named = {window.name.casefold(): window for window in reversed(tones.windows) if window.name}
    options: dict[str, Window | Lut] = {**named, **numbered, **luts}
    if text not in options:
        raise PixelError(f"there is no window {choice!r}; there are {', '.join(['auto', 'full', *numbered, *luts])}")
    return options[text]


def _full_range(values: Values) -> Window:
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    width = (high - low) or 1.0
    return Window(low + width / 2, width, "LINEAR_EXACT")


@np.errstate(over="ignore")  # a share beyond all numbers is white as well
def _apply(window: Window, values: Values) -> Values:
    """Map modality values to [0, 1] by a window (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    center, width = window.center, window.width
    narrowest = 1 if window.function == "LINEAR" else 0
    if not math.isfinite(center) or not math.isfinite(width):
        raise PixelError("the window's centre or width is no number")
    if width < narrowest or width == 0:
        raise PixelError(f"the window's width is {width:g}")
    match window.function:
        case "LINEAR" if width == 1:
            return np.where(values > center - 0.5, 1.0, 0.0)
        case "LINEAR":
            return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)
        case "LINEAR_EXACT":
            return np.clip((values - center) / width + 0.5, 0, 1)
        case "SIGMOID":
            return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    raise PixelError("the VOI LUT function is none of LINEAR, LINEAR_EXACT and SIGMOID")


def _look_up(lut: Lut, values: Values) -> Values:
    """Map values through a table; those beyond its ends take its first or last entry (PS3.3 C.11.1.1, C.11.2.1.1)."""
    wide = len(lut.data) >= 2 * lut.entries
    if not 1 <= lut.bits <= 16 or not (wide or lut.bits <= 8 and len(lut.data) >= lut.entries):
        raise PixelError(f"a look-up table has {len(lut.data)} bytes for {lut.entries} entries of {lut.bits} bits")
    kind = "u1" if not wide else "<u2" if lut.little_endian else ">u2"
    outputs = np.frombuffer(lut.data, dtype=kind, count=lut.entries).astype(np.float64)
    # A negative first input reads as unsigned where its type is not stored: it is then above all inputs.
    first = lut.first - 2**16 if lut.first > max(values.max(), 2**15 - 1) else lut.first
    return outputs[np.clip(np.rint(values - first), 0, lut.entries - 1).astype(np.intp)]
