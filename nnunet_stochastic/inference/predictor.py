"""A model and options: images to segmentations, uncertainty maps and samples."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from torch import Tensor
from tqdm import tqdm

from nnunet_stochastic.inference.averaging import ProbabilityAverage
from nnunet_stochastic.inference.blending import LawBlend, has_voxel_law
from nnunet_stochastic.inference.collector import MemberCollector
from nnunet_stochastic.inference.convolutions import benchmarking_convolutions
from nnunet_stochastic.inference.image_objects import ImagePrediction, image_object, image_prediction, stage_object
from nnunet_stochastic.inference.members import check_members_differ, choose_method, members_of
from nnunet_stochastic.inference.model import Model, load_model
from nnunet_stochastic.inference.options import PredictionOptions
from nnunet_stochastic.inference.preprocessing import preprocess_image
from nnunet_stochastic.inference.restore import GridPrediction, Prediction, restore
from nnunet_stochastic.inference.samples import SampleDraw, draws_of_members
from nnunet_stochastic.inference.seeds import NoiseKey
from nnunet_stochastic.inference.settings import describe_settings
from nnunet_stochastic.inference.sliding_window import (
    View,
    augmented_views,
    mirrored_views,
    spread_samples,
    sum_of_weights,
    tile_weights,
    tiles,
)
from nnunet_stochastic.inference.stitching import Stitching
from nnunet_stochastic.inference.sweep import OnSample, Sweep
from nnunet_stochastic.maps import MapName, epistemic_map, variance_map
from nnunet_stochastic.moments import Moments, MomentSums
from nnunet_stochastic.prediction_choices import SettledEstimator

__all__ = ["StochasticPredictor"]

_SLICES_AT_ONCE = 8


class StochasticPredictor:
    """Predicts images with all members of a model.

    Parameters
    ----------
    model
        A loaded model folder.
    options
        Choices that the user has made.
    device
        Device on which the network runs.
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
        options.check_model(has_samples=model.has_samples, gaussian=model.gaussian, space=model.space)
        self.has_samples = model.has_samples or options.aleatoric == "tta"
        """Whether a member has aleatoric samples."""
        self.blends_laws = (
            options.tiles_and_views == "blend"
            and options.aleatoric == "model"
            and has_voxel_law(model.space, has_samples=model.has_samples, gaussian=model.gaussian)
        )
        """Whether tiles and views are blended as laws of the voxels, or their probabilities averaged."""
        self.estimator: SettledEstimator = options.choose_estimator(gaussian=model.gaussian, space=model.space)
        """How moments are taken where there are samples."""
        self.method = choose_method(model, options.epistemic)
        """The epistemic method."""
        self.members = members_of(
            model,
            self.method,
            seed=options.seed,
            options=options.of_epistemic_method(self.method),
            requested=options.epistemic,
        )
        self.maps: tuple[MapName, ...] = options.maps_of(num_members=len(self.members), has_samples=self.has_samples)
        """The maps that are made."""
        self._draws_of_members(NoiseKey(options.seed))  # so that too many samples are an error now
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
        """A predictor of a folder TRAINER__PLANS__CONFIGURATION; see ``load_model`` and ``PredictionOptions``.

        Examples
        --------
        >>> from nnunet_stochastic import StochasticPredictor
        >>> folder = "nnUNet_results/Dataset501_X/nnUNetTrainerMoB__nnUNetPlans__3d_fullres"
        >>> predictor = StochasticPredictor.from_model_folder(folder, folds=(0,))
        >>> [member.name for member in predictor.members]
        ['fold_0']
        """
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
        name: str = "",
        previous_stage: np.ndarray | None = None,
        probabilities: bool = False,
        progress: bool = False,
    ) -> Prediction:
        """Predict one image.

        Parameters
        ----------
        image
            Image (channels, *S), axes as nnU-Net's readers give them: three in space, the first of length 1 for 2D
            images.
        properties
            Properties of the image, at least ``spacing``, one number per spatial axis, as nnU-Net's readers give it.
        name
            Name of the case: its noise is a function of the seed and this name.
        previous_stage
            Segmentation of the previous stage, (1, *S), for a cascade.
        probabilities
            Whether to return the predictive mean too.
        progress
            Whether to show a bar over the tiles.
        """
        data, properties = self.preprocess(image, properties, previous_stage=previous_stage)
        samples: dict[int, np.ndarray] = {}

        def keep(index: int, sample: Tensor) -> None:
            samples[index] = self.restore_sample(sample, properties)

        grid = self.predict_grid(data, case=name, on_sample=keep, progress=progress)
        prediction = self.restore(grid, properties, probabilities=probabilities)
        return replace(prediction, samples=tuple(samples[index] for index in sorted(samples)))

    def predict_image(
        self,
        image: Any,
        *,
        spacing: Sequence[float] | None = None,
        name: str = "",
        previous_stage: Any = None,
        probabilities: bool = False,
        progress: bool = False,
    ) -> ImagePrediction:
        """Predict an image in memory as its file would be; any number of images, one after another.

        Parameters
        ----------
        image, spacing
            Image of SimpleITK or nibabel, or a list with one per channel; or an array (channels, z, y, x) and its
            spacing (z, y, x). See ``image_object``.
        previous_stage
            Segmentation of the previous stage, for a cascade: likewise, an array (1, z, y, x).
        name, probabilities, progress
            As for ``predict_array``.

        Returns
        -------
        ImagePrediction
            Images of the library of the given one, in its geometry; of an array, arrays (z, y, x).

        Examples
        --------
        >>> import nibabel
        >>> from nnunet_stochastic import StochasticPredictor
        >>> folder = "nnUNet_results/Dataset501_X/nnUNetTrainerMoB__nnUNetPlans__3d_fullres"
        >>> predictor = StochasticPredictor.from_model_folder(folder, folds=(0,))
        >>> image = nibabel.load("imagesTs/case_001_0000.nii.gz")
        >>> prediction = predictor.predict_image(image, name="case_001")
        >>> bool((prediction.maps["total"].affine == image.affine).all())
        True
        >>> nibabel.save(prediction.maps["total"], "total.nii.gz")
        """
        reader = self.model.plans_manager.image_reader_writer_class
        given = image_object(image, reader, spacing=spacing)
        if previous_stage is not None:
            previous_stage = stage_object(previous_stage, given, reader, spacing=spacing).array
        prediction = self.predict_array(
            given.array,
            given.properties,
            name=name,
            previous_stage=previous_stage,
            probabilities=probabilities,
            progress=progress,
        )
        return image_prediction(prediction, given)

    def preprocess(
        self, image: np.ndarray, properties: dict[str, Any], *, previous_stage: np.ndarray | None = None
    ) -> tuple[Tensor, dict[str, Any]]:
        """nnU-Net's preprocessing; see ``preprocess_image``."""
        return preprocess_image(self.model, image, properties, previous_stage=previous_stage)

    def predict_grid(
        self,
        data: Tensor,
        *,
        case: str = "",
        on_sample: OnSample | None = None,
        on_member: OnSample | None = None,
        progress: bool = False,
    ) -> GridPrediction:
        """Predict a preprocessed image (channels, *S) on the network's grid.

        Whole samples are handed over if there are any, and the segmentation of each member if there are several.
        """
        moments = self.predict_preprocessed(
            data, case=case, on_sample=on_sample, on_member=on_member, progress=progress
        )
        # Of a mean in half precision a few slices at a time: all of them would take twice its memory anew.
        slices = range(0, moments.shape[0], _SLICES_AT_ONCE if moments.in_half_precision else moments.shape[0])
        slabs = [moments.cropped((slice(start, start + slices.step), slice(None), slice(None))) for start in slices]
        return GridPrediction(
            moments.space,
            _on_cpu(slab.mean_log_ratios for slab in slabs),
            _on_cpu(epistemic_map(slab) for slab in slabs) if self._decomposes else None,
            _on_cpu(variance_map(slab) for slab in slabs) if "variance" in self.maps else None,
            lost_entropy=None if moments.lost_entropy is None else moments.lost_entropy.cpu(),
            averages_probabilities=self.options.tiles_and_views == "average",
            epistemic_factor=self.options.epistemic_factor,
        )

    def predict_preprocessed(
        self,
        data: Tensor,
        *,
        case: str = "",
        on_sample: OnSample | None = None,
        on_member: OnSample | None = None,
        progress: bool = False,
    ) -> Moments:
        """Moments of the probabilities of a preprocessed image (channels, *S), on the network's grid."""
        if self._uses_device:
            try:
                return self._predict_moments(data, self.device, case, on_sample, on_member, progress)
            except torch.cuda.OutOfMemoryError:
                tqdm.write("sums do not fit into the memory of the device: they stay on the CPU, which is slower")
            torch.cuda.empty_cache()
        return self._predict_moments(data, torch.device("cpu"), case, on_sample, on_member, progress)

    def restore(
        self,
        grid: GridPrediction,
        properties: dict[str, Any],
        *,
        probabilities: bool = False,
        channels: Collection[int] = (),
        sums: bool = False,
    ) -> Prediction:
        """Bring a prediction into the geometry of its image; see ``restore.restore``."""
        return self._restore(
            grid, properties, maps=self.maps, probabilities=probabilities, channels=channels, sums=sums
        )

    def restore_sample(self, log_ratios: Tensor, properties: dict[str, Any]) -> np.ndarray:
        """Labels of a sample in the geometry of its image, from its log-ratios (D, *S) on the network's grid."""
        average = self.options.tiles_and_views == "average"
        space = self.model.space
        grid = GridPrediction(space, log_ratios, epistemic=None, variance=None, averages_probabilities=average)
        return self._restore(grid, properties, maps=()).segmentation

    def _restore(self, grid: GridPrediction, properties: dict[str, Any], **wanted: Any) -> Prediction:
        """On the device of the network where that is CUDA's, and on the CPU where its memory is full."""
        managers = self.model.plans_manager, self.model.configuration_manager, self.model.label_manager
        if self._uses_device:
            try:
                return restore(grid, properties, *managers, **wanted, device=self.device)
            except torch.cuda.OutOfMemoryError:
                tqdm.write("slices to restore do not fit into the memory of the device: the CPU does it, more slowly")
        return restore(grid, properties, *managers, **wanted)

    def settings(self) -> dict[str, Any]:
        """What decides the results, and versions and notes, for uncertainty.json."""
        return describe_settings(
            self.model,
            self.options,
            method=self.method,
            members=self.members,
            samples_of_views=self._samples_of_views(NoiseKey(self.options.seed)),
            has_samples=self.has_samples,
            blends_laws=self.blends_laws,
            estimator=self.estimator,
            maps=self.maps,
            device=self.device,
        )

    @property
    def _uses_device(self) -> bool:
        """Whether more than the network is computed on its device."""
        return self.device.type == "cuda" and self.options.accumulate_on_device

    @property
    def _decomposes(self) -> bool:
        """Whether the total has to be split into its parts."""
        return bool({"aleatoric", "epistemic"} & set(self.maps)) or self.options.epistemic_factor != 1

    @property
    def _mirror_axes(self) -> tuple[int, ...]:
        return self.model.mirror_axes if self.options.mirroring else ()

    def _samples_of_views(self, noise: NoiseKey) -> dict[View, int]:
        """The views of a tile, and how many samples of each are averaged where that is done."""
        options = self.options
        if options.aleatoric == "tta":
            channels = self.model.num_image_channels
            views = augmented_views(self._mirror_axes, options.num_samples, num_channels=channels, noise=noise)
            return dict.fromkeys(views, 1)
        views = mirrored_views(self._mirror_axes)
        if self.blends_laws or self.estimator == "exact" or not self.has_samples:
            return dict.fromkeys(views, 1)
        counts = zip(views, spread_samples(options.num_samples, len(views)), strict=True)
        return {view: count for view, count in counts if count}

    def _draws_of_members(self, noise: NoiseKey) -> list[list[SampleDraw]]:
        """Whole samples of each member. All views take part, also those that few map samples leave out."""
        model, options = self.model, self.options
        tta, one_law = options.aleatoric == "tta", model.gaussian or not model.has_samples
        return draws_of_members(
            options.num_saved_samples,
            len(self.members),
            list(self._samples_of_views(noise)) if tta else mirrored_views(self._mirror_axes),
            has_samples=model.has_samples,
            blend_views=options.tiles_and_views == "blend" and not tta and one_law,
        )

    @torch.inference_mode()
    def _predict_moments(
        self,
        data: Tensor,
        sums_device: torch.device,
        case: str,
        on_sample: OnSample | None,
        on_member: OnSample | None,
        progress: bool,
    ) -> Moments:
        model, options = self.model, self.options
        noise = NoiseKey(options.seed, case)
        patch_size = model.configuration_manager.patch_size
        image, unpad = pad_nd_image(data, patch_size, "constant", {"value": 0}, True, None)
        inside = (slice(None), *unpad[1:])
        shape = tuple(image.shape[1:])
        image_tiles = tiles(shape, patch_size, options.step_size)
        weights = tile_weights(patch_size).to(sums_device)
        # While the network runs, its device holds the sums; image and weights of the whole image stay on the host.
        stitching = Stitching(weights, sum_of_weights(image_tiles, weights, shape).cpu())
        samples_of_views = self._samples_of_views(noise)
        one_network = self.blends_laws and len(self.members) == 1 and not self.has_samples
        sums: MomentSums | None = None
        last: Tensor | None = None
        finished = itertools.count()
        sweep = Sweep(
            model,
            self.device,
            image,
            image_tiles,
            stitching,
            list(samples_of_views),
            noise,
            None if on_sample is None else lambda index, sample: on_sample(index, sample[inside].cpu()),
        )

        def finish_member(collector: MemberCollector) -> None:
            nonlocal last, sums
            last = collector.prediction
            _check_finite(last)
            if on_member is not None and len(self.members) > 1:
                # Of its own memory: the next member goes on in the collector's.
                on_member(next(finished), collector.log_ratios[inside].to("cpu", copy=True))
            if one_network:
                return
            if sums is None:  # made now: the memory of the network's last pass is free
                adopts = len(self.members) == 1 and collector.hands_over_moments
                sums = self._moment_sums(shape, sums_device, adopts=adopts)
            collector.add_moments_to(sums)

        with benchmarking_convolutions(self.device):
            fingerprints = sweep.run(
                self.members,
                self._draws_of_members(noise),
                partial(self._collector, stitching, samples_of_views, noise),
                finish_member,
                progress=progress,
            )
        _check_finite(*fingerprints)
        moments = Moments(model.space, log_ratios=last) if sums is None else sums.moments()
        if bool((data != data.flatten()[0]).any()):  # a blank image may look the same to all members
            check_members_differ(self.members, fingerprints)
        return moments.cropped(inside[1:])

    def _collector(self, stitching: Stitching, samples_of_views: dict[View, int], noise: NoiseKey) -> MemberCollector:
        space, options = self.model.space, self.options
        if self.blends_laws:
            return LawBlend(
                space,
                stitching,
                num_views=len(samples_of_views),
                has_samples=self.has_samples,
                estimator=self.estimator,
                num_samples=options.num_samples,
                noise=noise,
            )
        return ProbabilityAverage(
            space,
            stitching,
            samples_of_views=samples_of_views,
            num_members=len(self.members),
            num_views=len(mirrored_views(self._mirror_axes)),
            estimator=self.estimator,
            corrected=self._corrects_entropy,
            expected_entropy=self._decomposes and len(self.members) == 1,
            second_moment=self.has_samples and "variance" in self.maps,
            noise=noise,
        )

    def _moment_sums(self, shape: tuple[int, ...], device: torch.device, *, adopts: bool) -> MomentSums:
        return MomentSums(
            self.model.space,
            shape,
            num_members=len(self.members),
            has_samples=self.has_samples,
            expected_entropy=self._decomposes,
            second_moment="variance" in self.maps,
            lost_entropy=self._corrects_entropy,
            adopts=adopts,
            device=device,
        )

    @property
    def _corrects_entropy(self) -> bool:
        """Whether means are of a few independent samples of a model, and what their entropy lacks is to be added."""
        return not self.blends_laws and self.model.has_samples and self.estimator == "mc"


def _on_cpu(slabs: Iterator[Tensor]) -> Tensor:
    """A field (…, Z, Y, X) of its slabs, which are made one after the other."""
    on_cpu = [slab.cpu() for slab in slabs]
    return on_cpu[0] if len(on_cpu) == 1 else torch.cat(on_cpu, dim=-3)


def _check_finite(*fields: Tensor) -> None:
    """Of each member: an average of probabilities does not show that a logit was infinite."""
    if not all(bool(torch.isfinite(field.sum(dtype=torch.float32))) for field in fields):
        raise ValueError(
            "the network's output has NaN or infinite values: are its weights finite, and the image's intensities?"
        )
