"""Raw mammography collections to clean COCO-panoptic data sets, honest folds and scores that hold."""

__version__ = "0.1.0"
