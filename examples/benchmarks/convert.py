"""Measure the conversion of one image: images per second and core, against its floor, and a worker's memory.

The floor is what no converter can leave out: to decode the file and to write the stored image. Both are timed in turn,
so that another load on the machine falls on both. Type: OMP_NUM_THREADS=1 python examples/benchmarks/convert.py
"""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGLosslessSV1

from mammoprep import panoptic, pixels
from mammoprep.convert import Options, layers
from mammoprep.convert.case import Job, make
from mammoprep.records import Box, Finding, Record

HEIGHT, WIDTH = 3518, 2800
BOX = Box(900.5, 1500.25, 1250.75, 1900.5)
ROUNDS = 15


def write_mammogram(path: Path, syntax: UID) -> None:
    """Write a 12-bit DICOM: half breast with texture and a mass, half background."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    breast = (x / 1700) ** 2 + ((y - 1759) / 1500) ** 2 < 1
    texture = cv2.GaussianBlur(random.normal(0, 1, (HEIGHT, WIDTH)).astype(np.float32), (0, 0), 9) * 3000
    mass = 900 * np.exp(-((x - 1075) ** 2 + (y - 1700) ** 2) / (2 * 90**2))
    grey = np.where(breast, 1600 + texture + mass + random.normal(0, 8, (HEIGHT, WIDTH)), 0).clip(0, 4095)
    _write_dicom(path, grey.astype(np.uint16), syntax)


def _write_dicom(path: Path, grey: NDArray[np.uint16], syntax: UID) -> None:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.Rows, dataset.Columns = grey.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.WindowCenter, dataset.WindowWidth = "1636", "1500"
    dataset.PixelData = grey.tobytes()
    if syntax.is_compressed:
        dataset.PixelData = encapsulate([imagecodecs.jpeg_encode(grey, lossless=True, bitspersample=12)])
        dataset["PixelData"].VR = "OB"
    dataset.save_as(path, enforce_file_format=False)


def job_in(folder: Path) -> Job:
    """Give a conversion with all defaults."""
    for name in ("images", "panoptic"):
        (folder / name).mkdir(exist_ok=True)
    return Job(folder, folder, Options(labels="birads"), panoptic.make_categories(["BI-RADS 4"]))


def record_of(source: str) -> Record:
    """Give a record with one box."""
    return Record(source, "image", "patient", findings=(Finding(BOX, "BI-RADS 4", "row 2"),))


def floor(folder: Path, source: str) -> None:
    """Decode, and write a PNG of the stored size."""
    grey = pixels.read(folder / source).pixels
    small = cv2.resize(grey, (815, 1024), interpolation=cv2.INTER_NEAREST)
    panoptic.write_png(folder / "floor.png", (small >> 8).astype(np.uint8))


def seconds(work: Callable[[], object]) -> float:
    """Time one call."""
    start = perf_counter()
    work()
    return perf_counter() - start


def peak_bytes(folder: Path, source: str) -> int:
    """Convert in a fresh process and give its peak memory."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_convert_and_measure, folder, source).result()


def _convert_and_measure(folder: Path, source: str) -> int:
    for _ in range(3):
        make(record_of(source), number=1, job=job_in(folder))
    status = Path("/proc/self/status").read_text(encoding="ascii")  # getrusage would count the parent's peak as well
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def main() -> None:
    """Print one line a transfer syntax."""
    cv2.setNumThreads(1)
    grid = layers.fit(HEIGHT, WIDTH, long_side=1024)
    print(f"{HEIGHT} x {WIDTH}, one box, stored {grid.height} x {grid.width}; medians of {ROUNDS}")
    with TemporaryDirectory() as name:
        folder = Path(name)
        job = job_in(folder)
        for title, syntax in (("uncompressed", ExplicitVRLittleEndian), ("JPEG lossless", JPEGLosslessSV1)):
            source = f"{title.replace(' ', '-')}.dcm"
            write_mammogram(folder / source, syntax)
            times = [
                (seconds(lambda: make(record_of(source), number=1, job=job)), seconds(lambda: floor(folder, source)))  # noqa: B023
                for _ in range(ROUNDS + 1)
            ][1:]
            whole, least = (median(column) for column in zip(*times, strict=True))
            ratio = median(one / other for one, other in times)
            print(
                f"{title:14} {1 / whole:5.1f} images/s/core   {1e3 * whole:5.0f} ms = {ratio:.2f} x the floor"
                f" ({1e3 * least:.0f} ms)   peak {peak_bytes(folder, source) / 2**20:.0f} MiB"
            )


if __name__ == "__main__":
    main()
