"""Measure the conversion of one image against its floor, the gain of a second worker, and a worker's memory.

The floor is what no converter can leave out: to decode the file by the fastest exact decoder, and to write the stored
image as PNG. Both are timed in turn and in processor time, so that another load on the machine falls on both and on
neither. Type: OMP_NUM_THREADS=1 python examples/benchmarks/convert.py
"""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless

from mammoprep import panoptic, pixels
from mammoprep.convert import Options, layers, workers
from mammoprep.convert.case import Job, make
from mammoprep.pixels import dicom, pixel_data
from mammoprep.records import Box, Finding, Record

HEIGHT, WIDTH = 3518, 2800
BOX = Box(900.5, 1500.25, 1250.75, 1900.5)
ROUNDS = 15
IMAGES = 40
"""Images of the runs with one and two workers."""
ENCODERS: dict[UID, Callable[[NDArray[np.uint16]], bytes]] = {
    JPEGLosslessSV1: lambda grey: imagecodecs.jpeg_encode(grey, lossless=True, bitspersample=12),
    JPEGLSLossless: imagecodecs.jpegls_encode,
    JPEG2000Lossless: lambda grey: imagecodecs.jpeg2k_encode(grey, codecformat="j2k", level=0, bitspersample=12),
}
SYNTAXES = {
    "uncompressed": ExplicitVRLittleEndian,
    "JPEG lossless": JPEGLosslessSV1,
    "JPEG-LS": JPEGLSLossless,
    "JPEG 2000": JPEG2000Lossless,
}


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
        dataset.PixelData = encapsulate([ENCODERS[syntax](grey)])
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


def floor(folder: Path, source: str, stored: NDArray[np.uint8]) -> None:
    """Decode, and write a PNG of the stored image."""
    pixel_data.decode(dicom.parse((folder / source).read_bytes()).frame)
    panoptic.write_png(folder / "floor.png", stored)


def seconds(work: Callable[[], object]) -> float:
    """Give the processor time of one call."""
    start = process_time()
    work()
    return process_time() - start


def compare(folder: Path, title: str, syntax: UID) -> str:
    """Give a line on one transfer syntax."""
    source = f"{title.replace(' ', '-')}.dcm"
    write_mammogram(folder / source, syntax)
    job, record = job_in(folder), record_of(source)
    grid = layers.fit(HEIGHT, WIDTH, long_side=1024)
    stored = layers.resize_image(pixels.read(folder / source).pixels, grid, bits=8)
    times = [
        (seconds(lambda: make(record, number=1, job=job)), seconds(lambda: floor(folder, source, stored)))
        for _ in range(ROUNDS + 1)
    ][1:]
    whole, least = (median(column) for column in zip(*times, strict=True))
    ratio = median(one / other for one, other in times)
    return (
        f"{title:14} {1e3 * whole:5.0f} ms = {ratio:.2f} x the floor ({1e3 * least:.0f} ms)"
        f"   peak {peak_bytes(folder, source, 3) / 2**20:.0f} MiB"
    )


def peak_bytes(folder: Path, source: str, images: int) -> int:
    """Convert some images in a fresh process and give its peak memory."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_convert_and_measure, folder, source, images).result()


def _convert_and_measure(folder: Path, source: str, images: int) -> int:
    for _ in range(images):
        make(record_of(source), number=1, job=job_in(folder))
    status = Path("/proc/self/status").read_text(encoding="ascii")  # getrusage would count the parent's peak as well
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def images_per_second(folder: Path, source: str, count: int) -> float:
    """Convert IMAGES with so many workers, which are started before."""
    tasks = [(number, replace(record_of(source), image_id=f"image-{number}")) for number in range(1, IMAGES + 1)]
    for first in (tasks[: 4 * count], tasks):
        start = perf_counter()
        for _ in workers.make_all(first, job=job_in(folder), workers=count):
            pass
    return IMAGES / (perf_counter() - start)


def main() -> None:
    """Print a line a transfer syntax, then what a second worker gives and what more images cost."""
    cv2.setNumThreads(1)
    print(f"{HEIGHT} x {WIDTH}, one box, stored at 1024; medians of {ROUNDS}, processor time")
    with TemporaryDirectory() as name:
        folder = Path(name)
        for title, syntax in SYNTAXES.items():
            print(compare(folder, title, syntax))
        source = "JPEG-lossless.dcm"
        one, two = (images_per_second(folder, source, count) for count in (1, 2))
        print(f"JPEG lossless, {IMAGES} images: {one:.1f} images/s with 1 worker, {two:.1f} with 2")
        print(f"efficiency {two / one / 2:.2f} (on cores that nobody else uses)")
        few, many = (peak_bytes(folder, source, images) / 2**20 for images in (3, IMAGES))
        print(f"a worker's peak after 3 images {few:.0f} MiB, after {IMAGES} {many:.0f} MiB")


if __name__ == "__main__":
    main()
