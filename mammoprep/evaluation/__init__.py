"""Score panoptic predictions: matching, tally, scores, figures."""
