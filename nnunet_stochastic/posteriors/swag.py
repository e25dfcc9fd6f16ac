"""SWAG: a Gaussian over weights, fitted to T snapshots θ_1 … θ_T of the last epochs of one training.

    SWAG     θ = mean + √scale (σ ∘ z1 + D z2 / √(T - 1))    scale = 1/2
    SWAG-D   θ = mean + √scale  σ ∘ z1                       scale = 1

with σ² = E[θ²] - E[θ]², D_i = θ_i - mean, z1 ~ N(0, I) and one z2 ~ N(0, I_T) for all layers, so that weights of
different layers covary (Maddox et al., A Simple Baseline for Bayesian Uncertainty in Deep Learning, 2019, Eq. 1,
https://arxiv.org/abs/1902.02476; T = 30 as in section 3.2 of Christensen et al., Rethinking Uncertainty Quantification
and Entanglement in Image Segmentation). With scale 1/2, Cov θ is the mean of diag σ² and D Dᵀ / (T - 1). Maddox et al.
take D_i from the mean of the first i snapshots, as they keep no others; here all lie on disk, D_i is taken from the
final mean, and D Dᵀ / (T - 1) is the sample covariance itself.

Mean and variance are in ``fold_X/swag.pth``, the deviations are computed from the snapshots when a draw needs them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from nnunet_stochastic.checkpoints import read_checkpoint
from nnunet_stochastic.io.staging import staged_file
from nnunet_stochastic.posteriors.snapshots import saved_epochs, snapshot_path

__all__ = ["SWAG_FILE", "SwagPosterior", "fit_swag"]

#: In the folder of a fold, once its training has finished.
SWAG_FILE = "swag.pth"
#: Least variance of a weight.
_LEAST_VARIANCE = 1e-30


def fit_swag(fold_folder: Path, epochs: Sequence[int]) -> Path:
    """Write ``swag.pth`` from the snapshots of the given epochs.

    The moments are accumulated in float64 by Welford's update, without the cancellation of E[θ²] - E[θ]², one parameter
    at a time: memory holds the moments and two tensors, however many snapshots there are.

    Raises
    ------
    ValueError
        If there are fewer than two epochs, or the snapshots are damaged or not of one network.
    FileNotFoundError
        If a snapshot is missing.
    """
    if len(epochs) < 2:
        raise ValueError(f"SWAG needs at least 2 snapshots, got {len(epochs)}")
    snapshots = [_read_snapshot(snapshot_path(fold_folder, epoch)) for epoch in epochs]
    for epoch, snapshot in zip(epochs, snapshots, strict=True):
        _require_fit(snapshot, snapshots[0], f"{snapshot_path(fold_folder, epoch)} and that of epoch {epochs[0]}")
    means, variances = {}, {}
    for name in snapshots[0]:
        mean = torch.zeros(snapshots[0][name].shape, dtype=torch.float64)
        squares = torch.zeros_like(mean)
        for number, snapshot in enumerate(snapshots, start=1):
            difference = snapshot[name] - mean
            mean += difference / number
            squares += difference * (snapshot[name] - mean)
        means[name] = mean.float()
        variances[name] = (squares / len(snapshots)).float()
    path = fold_folder / SWAG_FILE
    with staged_file(path) as staged:
        torch.save({"mean": means, "variance": variances, "epochs": list(epochs)}, staged)
    return path


@dataclass(frozen=True)
class SwagPosterior:
    """The fitted Gaussian of one fold. Its tensors are mapped files: they cost no memory until a draw reads them."""

    folder: Path
    #: By parameter name, float32; ``variance`` is σ² and not yet clamped.
    mean: dict[str, Tensor]
    variance: dict[str, Tensor]
    #: θ_1 … θ_T, each by parameter name, float32.
    snapshots: tuple[dict[str, Tensor], ...]

    @classmethod
    def load(cls, folder: str | Path) -> SwagPosterior:
        """Open ``swag.pth`` and its snapshots.

        Parameters
        ----------
        folder
            ``fold_X`` of a …SWAG trainer's results.

        Raises
        ------
        FileNotFoundError
            If the fold was not trained with SWAG, its training has not finished, or a snapshot is missing.
        ValueError
            If a file is damaged, or the files are not of one training.
        """
        folder = Path(folder)
        path = folder / SWAG_FILE
        if not path.is_file():
            taken = len(saved_epochs(folder))
            raise FileNotFoundError(
                f"{folder} has {taken} snapshots and no {SWAG_FILE}: training has not finished, continue it with --c"
                if taken
                else f"{folder} has no {SWAG_FILE}: it was not trained with SWAG, train with a …SWAG trainer"
            )
        moments = read_checkpoint(path)
        lacking = [key for key in ("mean", "variance", "epochs") if key not in moments]
        if lacking:
            raise ValueError(f"{path} holds no moments of SWAG: it has no {', '.join(lacking)}")
        _require_fit(moments["variance"], moments["mean"], f"mean and variance in {path}")
        snapshots = []
        for epoch in moments["epochs"]:
            snapshot = _read_snapshot(snapshot_path(folder, epoch))
            _require_fit(snapshot, moments["mean"], f"{snapshot_path(folder, epoch)} and {path}")
            snapshots.append(snapshot)
        return cls(folder, moments["mean"], moments["variance"], tuple(snapshots))

    @torch.no_grad()
    def draw_into(
        self, network: nn.Module, generator: torch.Generator, *, diagonal: bool = False, scale: float | None = None
    ) -> None:
        """Copy one draw of all parameters into a network, in place.

        Parameters
        ----------
        network
            The network that was trained, on any device, without wrappers around it.
        generator
            On the CPU: the same seed gives the same draw, whatever device the network is on.
        diagonal
            SWAG-D in place of SWAG.
        scale
            Of the covariance; ``None`` is 1/2 for SWAG and 1 for SWAG-D, 0 gives the mean itself.

        Raises
        ------
        ValueError
            If the network has other parameters than the one that was trained, or an argument is out of its range. The
            network is unchanged.
        """
        scale = (1.0 if diagonal else 0.5) if scale is None else scale
        if not 0 <= scale < math.inf:
            raise ValueError(f"scale must be a finite number of at least 0, got {scale}")
        if generator.device.type != "cpu":
            raise ValueError(f"weights are drawn on the CPU, got a generator on {generator.device}")
        parameters = dict(network.named_parameters())
        _require_fit(parameters, self.mean, f"{type(network).__name__} and {self.folder / SWAG_FILE}")

        z2 = None if diagonal else torch.randn(len(self.snapshots), generator=generator)
        for name, mean in self.mean.items():
            z1 = torch.randn(mean.shape, generator=generator)
            noise = self.variance[name].clamp_min(_LEAST_VARIANCE).sqrt().mul_(z1)
            if z2 is not None:
                weights = (z2 / math.sqrt(len(self.snapshots) - 1)).tolist()
                for snapshot, weight in zip(self.snapshots, weights, strict=True):
                    noise.add_(snapshot[name] - mean, alpha=weight)
            parameters[name].copy_(mean + math.sqrt(scale) * noise)


def _read_snapshot(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"the snapshot {path} is missing: SWAG needs all that its training took")
    return read_checkpoint(path)


def _require_fit(tensors: dict[str, Tensor], expected: dict[str, Tensor], what: str) -> None:
    """Raise unless both have the same names and shapes."""
    shapes, expected_shapes = ({name: tuple(t.shape) for name, t in each.items()} for each in (tensors, expected))
    if shapes != expected_shapes:
        name = next(n for n in {**shapes, **expected_shapes} if shapes.get(n) != expected_shapes.get(n))
        raise ValueError(
            f"{what} are not of one network: {name} is {shapes.get(name, 'absent')} in the one and "
            f"{expected_shapes.get(name, 'absent')} in the other"
        )
