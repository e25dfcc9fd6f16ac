"""Epistemic collapse: members that agree so much that the epistemic uncertainty is a small part of the total.

Christensen et al., Rethinking Uncertainty Quantification and Entanglement in Image Segmentation, section 4: where EU is
far below AU, the total says no more than the aleatoric part.
"""

__all__ = ["COLLAPSED_BELOW"]

COLLAPSED_BELOW = 0.05  # mean EU / mean AU, of an image or of a set of images
