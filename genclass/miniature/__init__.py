"""The paper in miniature: real handwritten digits and small networks, both made here."""

DRAWING_VERSION = 1  # raised by hand when a pixel changes: the workflow then draws again
