"""A model and options: images to segmentations, uncertainty maps and samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from torch import Tensor
from tqdm import tqdm

from nnunet_stochastic.inference.members import check_members_differ, choose_method, members_of
from nnunet_stochastic.inference.model import Model, load_model
from nnunet_stochastic.inference.options import PredictionOptions
from nnunet_stochastic.inference.preprocessing import preprocess_image
from nnunet_stochastic.inference.restore import GridPrediction, Prediction, restore
from nnunet_stochastic.inference.samples import draws_of_members, stitch_samples
from nnunet_stochastic.inference.settings import describe_settings
from nnunet_stochastic.inference.sliding_window import (
    View,
    augmented_views,
    mirrored_views,
    stitch_tile,
    tile_weights,
    tiles,
)
from nnunet_stochastic.maps import MapName, epistemic_map, variance_map
from nnunet_stochastic.moments import Moments, MomentSums

__all__ = ["OnSample", "StochasticPredictor"]

#: Takes the index of a sample and its probabilities (P, *S) on the network's grid, on the CPU. After a lack of device
#: memory samples come a second time, equal up to the rounding of the device.
OnSample = Callable[[int, Tensor], object]


class StochasticPredictor:
    """Predicts images with all members of a model.

    Parameters
    ----------
    model
        A loaded model folder.
    options
        How to predict.
    device
        Where the network runs.
    """

    def __init__(
        self,
        model: Model,
        *,
        options: PredictionOptions | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.model = model
        self.options = options = options or PredictionOptions()
        self.device = torch.device(device)
        options.check_model(random=model.random, gaussian=model.gaussian, space=model.space)
        self.random = model.random or options.aleatoric == "tta"
        """Whether a member has aleatoric samples."""
        self.method = choose_method(model, options.epistemic)
        """The epistemic method."""
        self.members = members_of(
            model, self.method, num_members=options.num_members, seed=options.seed, swag_scale=options.swag_scale
        )
        self.maps: tuple[MapName, ...] = options.maps_of(num_members=len(self.members), random=self.random)
        """The maps that are made."""
        self.views = self._choose_views()
        """Views of each member."""
        self._draws = draws_of_members(
            options.num_saved_samples, len(self.members), self._sample_views(), random=model.random
        )
        model.network.to(self.device)

    @classmethod
    def from_model_folder(
        cls,
        folder: str | Path,
        *,
        folds: Sequence[int | str] = (0, 1, 2, 3, 4),
        checkpoint_name: str = "checkpoint_final.pth",
        trainer_name: str | None = None,
        configuration_name: str | None = None,
        trust_checkpoint: bool = False,
        options: PredictionOptions | None = None,
        device: torch.device | str = "cpu",
    ) -> StochasticPredictor:
        """A predictor of a folder TRAINER__PLANS__CONFIGURATION; see ``load_model`` and ``PredictionOptions``."""
        model = load_model(
            folder,
            folds=folds,
            checkpoint_name=checkpoint_name,
            trainer_name=trainer_name,
            configuration_name=configuration_name,
            trust_checkpoint=trust_checkpoint,
        )
        return cls(model, options=options, device=device)

    def predict_array(
        self,
        image: np.ndarray,
        properties: dict[str, Any],
        *,
        previous_stage: np.ndarray | None = None,
        probabilities: bool = False,
        progress: bool = False,
    ) -> Prediction:
        """Predict one image.

        Parameters
        ----------
        image
            (channels, *S), axes as nnU-Net's readers give them: three in space, the first of length 1 for 2D images.
        properties
            At least ``spacing``, one number per spatial axis, as nnU-Net's readers give it.
        previous_stage
            For a cascade: the segmentation of the previous stage, (1, *S).
        probabilities
            Whether to return the predictive mean too.
        progress
            Show a bar over the tiles.
        """
        data, properties = self.preprocess(image, properties, previous_stage=previous_stage)
        samples: dict[int, np.ndarray] = {}

        def keep(index: int, sample: Tensor) -> None:
            samples[index] = self.restore_sample(sample, properties)

        grid = self.predict_grid(data, on_sample=keep, progress=progress)
        prediction = self.restore(grid, properties, probabilities=probabilities)
        return replace(prediction, samples=tuple(samples[index] for index in sorted(samples)))

    def preprocess(
        self, image: np.ndarray, properties: dict[str, Any], *, previous_stage: np.ndarray | None = None
    ) -> tuple[Tensor, dict[str, Any]]:
        """nnU-Net's preprocessing; see ``preprocess_image``."""
        return preprocess_image(self.model, image, properties, previous_stage=previous_stage)

    def predict_grid(
        self, data: Tensor, *, on_sample: OnSample | None = None, progress: bool = False
    ) -> GridPrediction:
        """Predict a preprocessed image (channels, *S) on the network's grid, and hand over whole samples if any."""
        moments = self.predict_preprocessed(data, on_sample=on_sample, progress=progress)
        epistemic = epistemic_map(moments).cpu() if self._decomposes else None
        variance = variance_map(moments).cpu() if "variance" in self.maps else None
        return GridPrediction(
            moments.space, moments.mean.cpu(), epistemic, variance, epistemic_factor=self.options.epistemic_factor
        )

    def predict_preprocessed(
        self, data: Tensor, *, on_sample: OnSample | None = None, progress: bool = False
    ) -> Moments:
        """Moments of the probabilities of a preprocessed image (channels, *S), on the network's grid."""
        on_device = self.device.type == "cuda" and self.options.accumulate_on_device
        if on_device:
            try:
                return self._predict_moments(data, self.device, on_sample, progress)
            except torch.cuda.OutOfMemoryError:
                tqdm.write(
                    "image and sums do not fit into the memory of the device: they stay on the CPU, which is slower"
                )
            torch.cuda.empty_cache()
        return self._predict_moments(data, torch.device("cpu"), on_sample, progress)

    def restore(self, grid: GridPrediction, properties: dict[str, Any], *, probabilities: bool = False) -> Prediction:
        """Bring a prediction into the geometry of its image."""
        return restore(
            grid,
            properties,
            self.model.plans_manager,
            self.model.label_manager,
            maps=self.maps,
            probabilities=probabilities,
        )

    def restore_sample(self, probabilities: Tensor, properties: dict[str, Any]) -> np.ndarray:
        """Labels of a sample in the geometry of its image, from its probabilities (P, *S) on the network's grid."""
        grid = GridPrediction(self.model.space, probabilities, epistemic=None, variance=None)
        return restore(grid, properties, self.model.plans_manager, self.model.label_manager, maps=()).segmentation

    def settings(self) -> dict[str, Any]:
        """What decides the results, and versions and notes, for uncertainty.json."""
        return describe_settings(
            self.model,
            self.options,
            method=self.method,
            members=self.members,
            views=self.views,
            random=self.random,
            maps=self.maps,
            device=self.device,
        )

    @property
    def _decomposes(self) -> bool:
        """Whether the total has to be split into its parts."""
        return bool({"aleatoric", "epistemic"} & set(self.maps)) or self.options.epistemic_factor != 1

    @property
    def _mirror_axes(self) -> tuple[int, ...]:
        return self.model.mirror_axes if self.options.mirroring else ()

    def _choose_views(self) -> list[View]:
        options, axes = self.options, self._mirror_axes
        if options.aleatoric == "tta":
            channels = self.model.num_image_channels
            return augmented_views(axes, options.num_samples, num_channels=channels, seed=options.seed)
        return mirrored_views(axes, options.num_samples, once=not self.random or options.estimator == "exact")

    def _sample_views(self) -> list[View]:
        """Views among which whole samples are dealt: all of them, also those that few map samples leave out."""
        if self.options.aleatoric == "tta":
            return self.views
        return mirrored_views(self._mirror_axes, 1, once=True)

    @torch.inference_mode()
    def _predict_moments(
        self, data: Tensor, sums_device: torch.device, on_sample: OnSample | None, progress: bool
    ) -> Moments:
        model, options, members = self.model, self.options, self.members
        patch_size = model.configuration_manager.patch_size
        image, unpad = pad_nd_image(data, patch_size, "constant", {"value": 0}, True, None)
        inside = unpad[1:]
        image = image.to(sums_device)
        sums = MomentSums(
            model.space,
            tuple(image.shape[1:]),
            num_members=len(members),
            random=self.random,
            expected_entropy=self._decomposes,
            second_moment="variance" in self.maps,
            device=sums_device,
        )
        image_tiles = tiles(image.shape[1:], patch_size, options.step_size)
        weights = tile_weights(patch_size).to(sums_device)
        outputs = []
        bar = tqdm(total=len(image_tiles) * len(members), desc="tiles", leave=False, disable=not progress)
        with bar, self._benchmark_convolutions():
            for member, draws in zip(members, self._draws, strict=True):
                member.activate(model)
                fingerprints = []
                for tile in image_tiles:
                    fingerprint = stitch_tile(
                        model.network,
                        image,
                        tile,
                        sums,
                        weights=weights,
                        views=self.views,
                        seed=options.seed,
                        member=member.name,
                        device=self.device,
                        exact=options.estimator == "exact",
                    )
                    fingerprints.append(fingerprint)
                    bar.update()
                sums.finish_member()
                outputs.append(torch.stack(fingerprints).cpu())
                if on_sample is None:
                    continue
                for index, sample in stitch_samples(
                    model.network,
                    image,
                    image_tiles,
                    draws,
                    model.space,
                    weights=weights,
                    seed=options.seed,
                    device=self.device,
                ):
                    on_sample(index, sample[(slice(None), *inside)].cpu())
        moments = sums.moments()
        if not bool(torch.isfinite(moments.mean.sum())):
            raise ValueError(
                "the network's output has NaN or infinite values: are its weights finite, and the image's intensities?"
            )
        if bool((data != data.flatten()[0]).any()):  # a blank image may look the same to all members
            check_members_differ(members, outputs)
        return replace(
            moments,
            mean=moments.mean[(slice(None), *inside)],
            expected_entropy=None if moments.expected_entropy is None else moments.expected_entropy[inside],
            second_moment=None if moments.second_moment is None else moments.second_moment[inside],
        )

    def _benchmark_convolutions(self) -> Any:
        """All tiles have one shape, so on CUDA the search for the fastest convolution pays; as in nnU-Net."""
        if self.device.type != "cuda":
            return nullcontext()
        return torch.backends.cudnn.flags(benchmark=True, allow_tf32=torch.backends.cudnn.allow_tf32)
