"""The choices a prediction leaves to its user."""

from __future__ import annotations

from dataclasses import dataclass

from nnunet_stochastic.maps import MAP_NAMES, MapName

__all__ = ["PredictionOptions"]


@dataclass(frozen=True, kw_only=True)
class PredictionOptions:
    """How to predict. Images predicted with equal options by the same model are equal.

    Parameters
    ----------
    num_samples
        K, aleatoric samples per member, spread evenly over the mirrored views. Views left without a sample
        (K smaller than their number) are not run. Deterministic networks have none and run every view once.
    seed
        Seed of all samples.
    maps
        Which maps to make; ``None`` makes all that the model has.
    step_size
        Distance between tiles as a fraction of the patch, in (0, 1].
    mirroring
        Also predict mirrored views, along the axes the model was trained with.
    accumulate_on_device
        Keep image and sums on the device (CUDA only); where they do not fit they go to the CPU.
    """

    num_samples: int = 30
    seed: int = 0
    maps: tuple[MapName, ...] | None = None
    step_size: float = 0.5
    mirroring: bool = True
    accumulate_on_device: bool = True

    def __post_init__(self) -> None:
        if self.num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, got {self.num_samples}")
        if not 0 < self.step_size <= 1:
            raise ValueError(f"step_size must be in (0, 1], got {self.step_size}")
        if self.maps is not None:
            unknown = [name for name in self.maps if name not in MAP_NAMES]
            if unknown:
                raise ValueError(f"unknown maps {', '.join(unknown)}: choose from {', '.join(MAP_NAMES)}")

    def maps_of(self, *, num_members: int, random: bool) -> tuple[MapName, ...]:
        """The maps to make for a model with this many members, in the order of ``MAP_NAMES``.

        One deterministic network has the total only; asking for another map of it is an error.
        """
        available = MAP_NAMES if num_members > 1 or random else ("total",)
        if self.maps is None:
            return available
        missing = [name for name in self.maps if name not in available]
        if missing:
            raise ValueError(
                f"one fold of a deterministic network has no {' or '.join(missing)} map, only total. Predict with "
                "several folds (-f 0 1 2 3 4), which act as an ensemble, or train a stochastic trainer such as "
                "nnUNetTrainerMoB"
            )
        return tuple(name for name in MAP_NAMES if name in self.maps)
