"""The contract of every distribution over logits, and the distribution of a deterministic network.

A network maps an image to the parameters of p(η), a distribution over the logits of all voxels (Eq. 2 of *Structured
Covariance Modeling Using Learned Mixture-of-Bases for Uncertainty in 3D Segmentation*, MoB). What the rest of the
package asks of p(η) is samples of it and one prediction that is no sample; where p(η) is Gaussian, also the covariance
of the logits at one voxel.

A sample is a fixed map of standard normal numbers, of which every voxel draws some for itself and a whole image shares
others. Drawing them is kept apart from applying the map, so that parts of an image can be given parts of one noise.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "GaussianLogits",
    "LogitDistribution",
    "PointMass",
    "SomeLogits",
    "check_field",
    "full_precision",
]


def check_field(name: str, field: Tensor, like: Tensor, channels: int | None = None) -> None:
    """Raise ``ValueError`` unless ``field`` is (B, channels, *S) with the B and *S of ``like``, (B, C, *S)."""
    expected = (like.shape[0], like.shape[1] if channels is None else channels, *like.shape[2:])
    if tuple(field.shape) != expected:
        raise ValueError(f"{name} must have shape {expected} to match mean_logits, got {tuple(field.shape)}")


def full_precision(tensor: Tensor) -> Tensor:
    """``tensor`` in float32 if it is in half precision, as under autocast, else unchanged."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


class LogitDistribution(ABC):
    """A distribution p(η) over the logits of a batch of images.

    Parameters
    ----------
    shape
        Shape (B, C, *S) of the logits.
    dtype, device
        Type and device of the noise.
    """

    #: Whether p(η) is more than a point mass.
    has_samples: bool = True

    #: Whether each sample takes whole runs of a network, so that it should not be drawn twice.
    repeats_network: bool = False

    def __init__(self, shape: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> None:
        if len(shape) < 3:
            raise ValueError(f"logits must be (B, C, *S) with at least one spatial axis, got {len(shape)} axes")
        self.shape = torch.Size(shape)
        self.dtype = dtype
        self.device = device

    @property
    @abstractmethod
    def mean_logits(self) -> Tensor:
        """The deterministic prediction, shape (B, C, *S); a subclass may compute it when it is first asked for."""

    @property
    @abstractmethod
    def noise_channels(self) -> int:
        """N, the numbers that each voxel draws for itself in a sample."""

    @property
    def shared_noise_channels(self) -> int:
        """M, the numbers of a sample that all voxels of an image share."""
        return 0

    @abstractmethod
    def transform(self, noise: Tensor, shared_noise: Tensor) -> Tensor:
        """Samples made of given standard normal numbers, differentiable in the parameters.

        What is computed of a Gaussian by ``given_shared_noise``, ``at`` and ``noise_factors`` is of the same map: a
        subclass with a map of its own has its own of these, too.

        Parameters
        ----------
        noise
            Numbers of each voxel, shape (K, B, N, *S).
        shared_noise
            Numbers of each image, shape (K, B, M).

        Returns
        -------
        Tensor
            η, shape (K, B, C, *S).
        """

    def rsample(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw logits, differentiable in the parameters.

        Parameters
        ----------
        num_samples
            Number K of samples, at least 1.
        generator
            Source of all noise. ``None`` is torch's default generator.

        Returns
        -------
        Tensor
            η, shape (K, B, C, *S).
        """
        return self.transform(
            self.draw_noise(num_samples, generator=generator),
            self.draw_shared_noise(num_samples, generator=generator),
        )

    def draw_noise(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Standard normal numbers of each voxel, (K, B, N, *S)."""
        batch, _, *spatial = self.shape
        return self._normal(num_samples, batch, self.noise_channels, *spatial, generator=generator)

    def draw_shared_noise(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Standard normal numbers of each image, (K, B, M)."""
        return self._normal(num_samples, self.shape[0], self.shared_noise_channels, generator=generator)

    def _normal(self, *shape: int, generator: torch.Generator | None) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=self.dtype, device=self.device)


class GaussianLogits(LogitDistribution):
    """A Gaussian p(η), or its limit without variance.

    Parameters
    ----------
    mean_logits
        Mean μ, shape (B, C, *S). Like all parameters it may be in half precision; samples are float32 or wider.
    """

    def __init__(self, mean_logits: Tensor) -> None:
        dtype = torch.promote_types(mean_logits.dtype, torch.float32)  # of noise and samples
        super().__init__(mean_logits.shape, dtype=dtype, device=mean_logits.device)
        self._mean_logits = mean_logits
        self.of_covariance: dict[Hashable, Tensor] = {}
        """What others have computed of the covariance alone, by a key of theirs: the same for every mean."""

    @property
    def mean_logits(self) -> Tensor:
        """μ."""
        return self._mean_logits

    def with_mean(self, mean_logits: Tensor) -> GaussianLogits:
        """The same covariance around another mean, (B, C, *S)."""
        other = copy.copy(self)
        other._mean_logits = mean_logits
        return other

    def given_shared_noise(self, shared_noise: Tensor) -> Sequence[GaussianLogits] | None:
        """The law p(η | z2) of each of K samples, which is left to the noise of their voxels.

        Parameters
        ----------
        shared_noise
            Shared noise z2 of the samples, shape (K, B, M).

        Returns
        -------
        sequence of GaussianLogits
            K laws without shared noise; ``None`` where this class has none.
        """
        return None if self.shared_noise_channels else [self] * len(shared_noise)

    @property
    def has_diagonal_noise(self) -> bool:
        """Whether noise of a voxel's own moves one logit each: η = μ + σ ∘ z1 + P z2, with N = C and z2 shared."""
        return False

    def noise_factors(self) -> tuple[Tensor, Tensor]:
        """Factors of the noise, where it is diagonal.

        Returns
        -------
        tuple of Tensor
            σ, shape (B, C, *S), and P, shape (B, C, M, *S), float32 or wider.
        """
        raise ValueError(f"the noise of {type(self).__name__} moves several logits of a voxel at once: draw samples")

    @abstractmethod
    def voxel_covariance(self) -> Tensor:
        """Covariance of the C logits at each voxel, shape (B, C, C, *S), float32 or wider."""

    def voxel_variance(self) -> Tensor:
        """Variance of each logit, the diagonal of the voxels' covariance, shape (B, C, *S), float32 or wider."""
        return self.voxel_covariance().diagonal(dim1=1, dim2=2).movedim(-1, 1)

    def difference_variance(self, classes: Tensor) -> Tensor:
        """Variance of the logits' differences to that of one class, η_c - η_k, float32 or wider.

        Parameters
        ----------
        classes
            The class k of each voxel, (B, *S), int64.

        Returns
        -------
        Tensor
            Shape (B, C, *S); 0 of class k itself. Where logits move together, the rounding of large terms may leave
            another below 0.
        """
        covariance, k = self.voxel_covariance(), classes[:, None]
        variance = covariance.diagonal(dim1=1, dim2=2).movedim(-1, 1)
        with_k = torch.take_along_dim(covariance, k[:, None], dim=2)[:, :, 0]
        return (variance + torch.take_along_dim(variance, k, dim=1) - 2 * with_k).scatter_(1, k, 0)

    def at(self, voxels: Tensor, classes: Tensor) -> SomeLogits | None:
        """The law of some logits of one image, B = 1, as a map of the noise of the whole.

        Parameters
        ----------
        voxels
            Indices of n voxels in the flattened S, int64.
        classes
            The class of each, (n), int64.

        Returns
        -------
        SomeLogits
            ``None`` where this class has no such map.
        """
        return None

    def difference_covariance(self) -> list[list[Tensor]]:
        """Covariance of the logits' differences to the first, η_c - η_0, at each voxel.

        Returns
        -------
        list of list of Tensor
            Lower triangle: entry [i][j], j <= i < C - 1, is Cov(η_(i+1) - η_0, η_(j+1) - η_0), (B, *S), float32 or
            wider. Where logits move together, the rounding of large terms may leave a variance below 0.
        """
        covariance = self.voxel_covariance()
        return [
            [
                covariance[:, i, j] - covariance[:, i, 0] - covariance[:, 0, j] + covariance[:, 0, 0]
                for j in range(1, i + 1)
            ]
            for i in range(1, covariance.shape[1])
        ]


@dataclass(frozen=True)
class SomeLogits:
    """Some logits of a Gaussian p(η), each at a voxel of its own: η = μ + σ z1 + Σ_r F_r z2_r.

    z1 is the noise of its voxel in the channel that has the number of its class.

    Parameters
    ----------
    mean
        μ, shape (n), float32 or wider.
    std
        σ, shape (n); ``None`` where it is 0.
    factor
        F, shape (R, n).
    first_channel
        z2 is the noise of the voxel in the R channels from this one on; ``None`` where it is the image's shared noise.
    """

    mean: Tensor
    std: Tensor | None
    factor: Tensor
    first_channel: int | None = None


class PointMass(GaussianLogits):
    """All mass at μ: what a deterministic network predicts."""

    has_samples = False

    @property
    def noise_channels(self) -> int:
        return 0

    def transform(self, noise: Tensor, shared_noise: Tensor) -> Tensor:
        return full_precision(self.mean_logits).expand(noise.shape[0], *self.mean_logits.shape)

    def voxel_covariance(self) -> Tensor:
        batch, classes, *spatial = self.mean_logits.shape
        return self.mean_logits.new_zeros(batch, classes, classes, *spatial)

    def voxel_variance(self) -> Tensor:
        return torch.zeros_like(full_precision(self.mean_logits))
