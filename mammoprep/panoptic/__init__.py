"""COCO-panoptic on disk: id <-> RGB, write, load; the only room that knows the format."""

from mammoprep.panoptic.coco import (
    STUFF,
    Category,
    Image,
    Panoptic,
    Segment,
    load,
    load_cases,
    load_fold,
    load_instances,
    make_categories,
    no_collection,
    write_panoptic,
)
from mammoprep.panoptic.folder import check_vacant, partial_of, publish, read_json, staged, write_json
from mammoprep.panoptic.png import MAX_ID, Ids, read_ids, read_png, write_ids, write_png
from mammoprep.panoptic.rle import Mask, Rle, decode_rle, encode_crop, encode_rle, mask_box

__all__ = [
    "MAX_ID",
    "STUFF",
    "Category",
    "Ids",
    "Image",
    "Mask",
    "Panoptic",
    "Rle",
    "Segment",
    "check_vacant",
    "decode_rle",
    "encode_crop",
    "encode_rle",
    "load",
    "load_cases",
    "load_fold",
    "load_instances",
    "make_categories",
    "mask_box",
    "no_collection",
    "partial_of",
    "publish",
    "read_ids",
    "read_json",
    "read_png",
    "staged",
    "write_ids",
    "write_json",
    "write_panoptic",
    "write_png",
]
