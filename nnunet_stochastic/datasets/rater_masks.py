"""Preprocess one rater's mask exactly as nnU-Net preprocesses a label: transpose, crop, resample, `modify_seg_fn`.

The result is P(y_r; image), where P is the segmentation's part of the configuration's own preprocessor. Of the image,
nnU-Net's P sees where any channel is nonzero: it crops to that region and marks what is outside of it with -1. So the
preprocessor runs with that region in the image's place, which is neither normalized nor resampled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.preprocessing.resampling.no_resampling import no_resampling_hack
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_stochastic.io.images import read_image, read_volume

__all__ = ["RaterImage"]


class _RegionConfiguration(ConfigurationManager):
    """A configuration that takes one channel in the image's place and leaves it as it is."""

    normalization_schemes = ("NoNormalization",)
    use_mask_for_norm = (False,)
    resampling_fn_data = staticmethod(no_resampling_hack)


class RaterImage:
    """One image, read when it is first needed, and the masks of its raters.

    Parameters
    ----------
    files
        Files of its channels.
    plans, dataset_json
        Plans and description of the dataset in nnU-Net.
    verbose
        Whether the preprocessor prints.
    """

    def __init__(
        self, files: tuple[Path, ...], plans: PlansManager, dataset_json: dict[str, Any], *, verbose: bool = False
    ) -> None:
        self.files = files
        self.plans = plans
        self.dataset_json = dataset_json
        self.verbose = verbose
        self._region: tuple[np.ndarray, dict[str, Any]] | None = None

    def preprocess(self, mask: Path, configuration: ConfigurationManager) -> tuple[np.ndarray, dict[str, Any]]:
        """What nnU-Net's `run_case` gives for this image and mask.

        Returns
        -------
        tuple
            Segmentation (1, z, y, x), int8 or int16, on the grid of the preprocessed image, -1 outside of the nonzero
            region; properties with the rater's own ``class_locations``.
        """
        reader = self.plans.image_reader_writer_class()
        if self._region is None:
            image, grid = read_image(self.files, reader)
            self._region = (image != 0).any(axis=0, keepdims=True), grid
        region, grid = self._region
        preprocessor = configuration.preprocessor_class(verbose=self.verbose)
        if not _sees_the_region_alone(preprocessor):
            _, segmentation, properties = preprocessor.run_case(
                [str(file) for file in self.files], str(mask), self.plans, configuration, self.dataset_json
            )
            return segmentation, properties
        _, segmentation, properties = preprocessor.run_case_npy(
            region,
            read_volume(mask, reader)[0],
            dict(grid),
            self.plans,
            _RegionConfiguration(configuration.configuration),
            self.dataset_json,
        )
        return segmentation, properties


def _sees_the_region_alone(preprocessor: DefaultPreprocessor) -> bool:
    """Whether all that handles the image is nnU-Net's own; a preprocessor that replaces it may use more of it."""
    return all(
        getattr(type(preprocessor), step) is getattr(DefaultPreprocessor, step)
        for step in ("run_case", "run_case_npy", "_normalize")
    )
