"""Promptable networks: a Segment Anything Model that outlines what points lie on."""
