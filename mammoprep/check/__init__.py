"""A DATASET held against every rule of its format: what is broken, where, and what can be mended."""

from mammoprep.check.rules import FIXES, RULES, Problem, Report, count_fixable
from mammoprep.check.run import check

__all__ = ["FIXES", "RULES", "Problem", "Report", "check", "count_fixable"]
