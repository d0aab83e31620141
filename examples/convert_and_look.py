"""Draw three phantom patients in VinDr-Mammo's layout, convert them, and paint what was found over the images.

Usage: python examples/convert_and_look.py [OUT]      (OUT is new; default: look)
"""

import sys
from pathlib import Path

from mammoprep import gallery, phantom
from mammoprep.convert import Options, convert
from mammoprep.pseudo_mask import Recipe
from mammoprep.readers import READERS


def main(out: Path) -> None:
    """Write OUT/raw, OUT/dataset and OUT/overlays."""
    phantom.write(out / "raw", patients=3)
    # The paper blurs by 7 pixels of an image 3,518 pixels high; a phantom has 640.
    options = Options(labels="birads", long_side=512, recipe=Recipe(sigma=1.3, min_area=5))
    summary = convert(READERS["vindr"], out / "raw", out=out / "dataset", options=options)
    print(f"{summary.images} images of {summary.patients} patients; findings: {dict(summary.findings)}")
    for path in gallery.write_overlays(out / "dataset", out / "overlays", limit=4):
        print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "look"))
