"""Settings of the whole suite."""

import os

# No test opens a window, on any machine.
os.environ.setdefault("MPLBACKEND", "Agg")
# Threads that spin while they wait take the cores from each other where several processes share them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
