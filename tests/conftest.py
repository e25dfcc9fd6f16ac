"""Settings of the whole suite."""

import os

# No test opens a window, on any machine.
os.environ.setdefault("MPLBACKEND", "Agg")
