"""The semantic family: networks that tell each pixel's category. Part by part, and wired in `network`."""
