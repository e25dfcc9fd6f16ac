"""A model and options: images to segmentations and uncertainty maps."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.utilities.label_handling.label_handling import convert_labelmap_to_one_hot
from torch import Tensor
from tqdm import tqdm

from nnunet_stochastic import __version__
from nnunet_stochastic.inference.model import Model, load_model, load_weights
from nnunet_stochastic.inference.options import PredictionOptions
from nnunet_stochastic.inference.restore import GridPrediction, Prediction, restore
from nnunet_stochastic.inference.sliding_window import stitch_tile, tile_weights, tiles, views
from nnunet_stochastic.maps import MapName, epistemic_map, variance_map
from nnunet_stochastic.moments import Moments, MomentSums

__all__ = ["StochasticPredictor"]


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
        self.options = options or PredictionOptions()
        self.device = torch.device(device)
        self.maps: tuple[MapName, ...] = self.options.maps_of(num_members=len(model.members), random=model.random)
        """The maps that are made."""
        self._preprocessor = model.configuration_manager.preprocessor_class(verbose=False)
        self._views = views(
            model.mirror_axes if self.options.mirroring else (), self.options.num_samples, random=model.random
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
        return self.restore(self.predict_grid(data, progress=progress), properties, probabilities=probabilities)

    def preprocess(
        self, image: np.ndarray, properties: dict[str, Any], *, previous_stage: np.ndarray | None = None
    ) -> tuple[Tensor, dict[str, Any]]:
        """nnU-Net's preprocessing. Arguments as for ``predict_array``.

        Returns
        -------
        tuple
            The image on the network's grid, (channels, *S), and the properties needed to come back.
        """
        model = self.model
        self._check_image(image, previous_stage)
        data, segmentation, properties = self._preprocessor.run_case_npy(
            image,
            previous_stage,
            dict(properties),
            model.plans_manager,
            model.configuration_manager,
            model.dataset_json,
        )
        if previous_stage is not None:
            one_hot = convert_labelmap_to_one_hot(segmentation[0], model.label_manager.foreground_labels, data.dtype)
            data = np.vstack((data, one_hot))
        return torch.from_numpy(np.ascontiguousarray(data, dtype=np.float32)), properties

    def predict_grid(self, data: Tensor, *, progress: bool = False) -> GridPrediction:
        """Predict a preprocessed image (channels, *S) on the network's grid."""
        moments = self.predict_preprocessed(data, progress=progress)
        epistemic = epistemic_map(moments).cpu() if {"aleatoric", "epistemic"} & set(self.maps) else None
        variance = variance_map(moments).cpu() if "variance" in self.maps else None
        return GridPrediction(moments.space, moments.mean.cpu(), epistemic, variance)

    def predict_preprocessed(self, data: Tensor, *, progress: bool = False) -> Moments:
        """Moments of the probabilities of a preprocessed image (channels, *S), on the network's grid."""
        on_device = self.device.type == "cuda" and self.options.accumulate_on_device
        if on_device:
            try:
                return self._predict_moments(data, self.device, progress)
            except torch.cuda.OutOfMemoryError:
                tqdm.write(
                    "image and sums do not fit into the memory of the device: they stay on the CPU, which is slower"
                )
            torch.cuda.empty_cache()
        return self._predict_moments(data, torch.device("cpu"), progress)

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

    def settings(self) -> dict[str, Any]:
        """What decides the results, and versions and notes, for uncertainty.json."""
        model, random, num_members = self.model, self.model.random, len(self.model.members)
        notes = []
        if num_members == 1 and not random:
            source = "none"
            notes.append("one deterministic network: only the total uncertainty exists")
        elif num_members == 1:
            source = "aleatoric_samples"
            notes.append("one fold: its aleatoric samples stand in for the members of an ensemble")
        else:
            source = "ensemble"
        if not random:
            notes.append("deterministic networks: num_samples has no effect, variance is over the members")
        return {
            "model_folder": str(model.folder.resolve()),
            "trainer": model.trainer_name,
            "configuration": model.configuration_name,
            "checkpoints": {
                member.name: {"file": member.path.name, "sha256": member.sha256} for member in model.members
            },
            "members": num_members,
            "num_samples": self.options.num_samples if random else 1,
            "seed": self.options.seed,
            "maps": list(self.maps),
            "epistemic_source": source,
            "step_size": self.options.step_size,
            "samples_per_view": {
                " ".join(["mirrored", *map(str, view.flipped_axes)]): view.num_samples for view in self._views
            },
            "accumulate_on_device": self.options.accumulate_on_device,
            "device": self.device.type,
            "units": {"total": "nat", "aleatoric": "nat", "epistemic": "nat", "variance": "squared probability"},
            "notes": notes,
            "versions": {
                "nnunet_stochastic": __version__,
                "nnunetv2": version("nnunetv2"),
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        }

    @torch.inference_mode()
    def _predict_moments(self, data: Tensor, sums_device: torch.device, progress: bool) -> Moments:
        model = self.model
        patch_size = model.configuration_manager.patch_size
        image, unpad = pad_nd_image(data, patch_size, "constant", {"value": 0}, True, None)
        image = image.to(sums_device)
        sums = MomentSums(
            model.space,
            tuple(image.shape[1:]),
            num_members=len(model.members),
            random=model.random,
            expected_entropy=bool({"aleatoric", "epistemic"} & set(self.maps)),
            second_moment="variance" in self.maps,
            device=sums_device,
        )
        image_tiles = tiles(image.shape[1:], patch_size, self.options.step_size)
        weights = tile_weights(patch_size).to(sums_device)
        bar = tqdm(total=len(image_tiles) * len(model.members), desc="tiles", leave=False, disable=not progress)
        with bar, self._benchmark_convolutions():
            for member in model.members:
                if len(model.members) > 1:
                    load_weights(model, member)
                for tile in image_tiles:
                    stitch_tile(
                        model.network,
                        image,
                        tile,
                        sums,
                        weights=weights,
                        tile_views=self._views,
                        seed=self.options.seed,
                        member=member.name,
                        device=self.device,
                    )
                    bar.update()
                sums.finish_member()
        moments = sums.moments()
        if not bool(torch.isfinite(moments.mean.sum())):
            raise ValueError(
                "the network's output has NaN or infinite values: are its weights finite, and the image's intensities?"
            )
        inside = unpad[1:]
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

    def _check_image(self, image: np.ndarray, previous_stage: np.ndarray | None) -> None:
        if image.ndim != 4 or image.shape[0] != self.model.num_image_channels:
            raise ValueError(
                f"the image must be (channels, z, y, x), {self.model.num_image_channels} channels, got {image.shape}"
            )
        for index, channel in enumerate(image):
            if not np.isfinite(channel).all():
                count = int(channel.size - np.isfinite(channel).sum())
                raise ValueError(
                    f"channel {index:04d} has {count} voxels that are NaN or infinite: replace them in the image"
                )
        stage = self.model.configuration_manager.previous_stage_name
        if (previous_stage is None) != (stage is None):
            raise ValueError(
                "this configuration takes no segmentation of a previous stage"
                if stage is None
                else f"this is a cascade: it needs the segmentation that {stage} predicts for the image"
            )
        if previous_stage is not None and previous_stage.shape != (1, *image.shape[1:]):
            raise ValueError(
                f"the previous stage's segmentation has shape {previous_stage.shape}, the image {image.shape}"
            )
