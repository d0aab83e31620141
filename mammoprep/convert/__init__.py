"""Many raw images to one DATASET: parallel, resumable, all or nothing."""

from mammoprep.convert.options import RECIPES, Options, Work
from mammoprep.convert.pseudonymise import pseudonymised
from mammoprep.convert.run import convert, is_complete, preview
from mammoprep.convert.summary import Summary

__all__ = ["RECIPES", "Options", "Summary", "Work", "convert", "is_complete", "preview", "pseudonymised"]
