"""Pictures to look at: overlays over an image, and pages for the browser of a whole data set and its predictions."""

from mammoprep.gallery.material import Material, load
from mammoprep.gallery.pictures import PANEL_HEIGHT, SMALL_HEIGHT, overlay, panels, write_overlays
from mammoprep.gallery.site import Options, Summary, write

__all__ = [
    "PANEL_HEIGHT",
    "SMALL_HEIGHT",
    "Material",
    "Options",
    "Summary",
    "load",
    "overlay",
    "panels",
    "write",
    "write_overlays",
]
