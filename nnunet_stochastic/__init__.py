"""Aleatoric, epistemic and total uncertainty for nnU-Net v2.

Importing this package imports neither torch nor nnU-Net: Python does it each time it starts (see ``discovery``).
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
