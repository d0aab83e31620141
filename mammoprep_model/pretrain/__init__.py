"""Pretraining of a latent-diffusion backbone on mammograms without lesions: from a DATASET to a diffusers folder."""
