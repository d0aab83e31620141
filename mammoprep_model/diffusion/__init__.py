"""The diffusion family: masks drawn from noise, conditioned on the image (SegDiff, EnsemDiff, MedSegDiff)."""
