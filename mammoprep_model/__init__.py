"""Panoptic segmenters for the data sets that `mammoprep` writes (extra `[model]`)."""
