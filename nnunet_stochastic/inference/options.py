"""The choices a prediction leaves to its user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from nnunet_stochastic.epistemic import DEFAULT_NUM_MEMBERS, EPISTEMIC_METHODS, EPISTEMIC_OPTIONS, EpistemicMethod
from nnunet_stochastic.inference.members import AUTO
from nnunet_stochastic.io.names import shown
from nnunet_stochastic.maps import MAP_NAMES, MapName
from nnunet_stochastic.outcomes import OutcomeSpace
from nnunet_stochastic.prediction_choices import (
    ESTIMATORS,
    MAX_SAMPLES,
    MAX_SAVED_SAMPLES,
    MIN_STEP_SIZE,
    TILES_AND_VIEWS,
    Estimator,
    SettledEstimator,
    TilesAndViews,
)

__all__ = ["AleatoricMethod", "PredictionOptions"]

AleatoricMethod = Literal["model", "tta"]


@dataclass(frozen=True, kw_only=True)
class PredictionOptions:
    """How to predict. Images predicted with equal options by the same model are equal.

    Parameters
    ----------
    num_samples
        Number K of aleatoric samples per member: at each voxel of the blended tiles and views or, where probabilities
        are averaged (see ``inference.averaging``), spread evenly over the mirrored views, of which those without a
        sample are not run. Deterministic networks have none.
    aleatoric
        ``"model"``: what the network predicts. ``"tta"``, for deterministic networks: K passes of mirrored images with
        shifted intensities are the samples (test-time augmentation; Ayhan and Berens 2018).
    epistemic
        Where the members come from, a name of ``nnunet_stochastic.epistemic``; ``"auto"`` takes the folds if there are
        several, else what the model was trained for, or fitted with afterwards.
    num_members
        Number of members of each fold, where they are drawn, at least 1.
    swag_scale
        Scale of SWAG's covariance, above 0; ``None`` is ½ for ``"swag"`` and 1 for ``"swag_diag"``.
    estimator
        How the moments of a member's samples are taken. ``"exact"``: by quadrature, the limit K = ∞, for Gaussian
        models with two classes or regions. ``"mc"``: from K samples that are stratified or antithetic and the same for
        all members, so that members which agree have no epistemic uncertainty. ``"plug_in"``: from K independent
        samples of each member, as Christensen et al. do (ENT, see ``nnunet_stochastic.epistemic``; the passes of
        test-time augmentation stay the same for all); their noise counts as epistemic, and the aleatoric map is too
        low.
        ``"auto"``: exact where it exists, else mc.
    tiles_and_views
        How the tiles and mirrored views of a member become one prediction. ``"blend"``: as nnU-Net blends logits, where
        the prediction of a voxel is a Gaussian law (see ``inference.blending``); a deterministic network has nnU-Net's
        segmentation. ``"average"``: the mean of their probabilities, so that views which disagree make it less certain;
        probabilities are resampled to the image, too, and a whole sample is of one view.
    num_saved_samples
        Number N of whole segmentations to draw per image.
    epistemic_factor
        Factor of the epistemic map; the total is then the sum of the maps (ENT, section 5: epistemic collapse).
    seed
        Seed of everything random.
    maps
        Names of the maps to make; ``None`` makes all that the model has.
    step_size
        Distance between tiles as a fraction of the patch, in [0.01, 1].
    mirroring
        Whether to predict mirrored views, too, along the axes the model was trained with.
    accumulate_on_device
        Whether to keep sums on the device (CUDA only); where they do not fit they go to the CPU.

    Examples
    --------
    >>> from nnunet_stochastic import PredictionOptions
    >>> options = PredictionOptions(num_samples=30, num_saved_samples=10, seed=1)
    >>> options.num_saved_samples
    10
    >>> PredictionOptions(step_size=2)
    Traceback (most recent call last):
        ...
    ValueError: step_size must be in [0.01, 1], got 2
    """

    num_samples: int = 30
    aleatoric: AleatoricMethod = "model"
    epistemic: str = AUTO
    num_members: int = DEFAULT_NUM_MEMBERS
    swag_scale: float | None = None
    estimator: Estimator = "auto"
    tiles_and_views: TilesAndViews = "blend"
    num_saved_samples: int = 0
    epistemic_factor: float = 1.0
    seed: int = 0
    maps: tuple[MapName, ...] | None = None
    step_size: float = 0.5
    mirroring: bool = True
    accumulate_on_device: bool = True

    def __post_init__(self) -> None:
        for name, least, most in (("num_samples", 1, MAX_SAMPLES), ("num_saved_samples", 0, MAX_SAVED_SAMPLES)):
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise ValueError(f"{name} must be at least {least} and at most {most}, got {shown(value)}")
        for name, choices in (
            ("aleatoric", get_args(AleatoricMethod)),
            ("estimator", ESTIMATORS),
            ("tiles_and_views", TILES_AND_VIEWS),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {shown(getattr(self, name))}")
        if not MIN_STEP_SIZE <= self.step_size <= 1:
            raise ValueError(f"step_size must be in [{MIN_STEP_SIZE}, 1], got {self.step_size}")
        for option in EPISTEMIC_OPTIONS:
            option.check(getattr(self, option.name))
        if not 0 < self.epistemic_factor <= 1e12:
            raise ValueError(f"epistemic_factor must be positive and at most 1e12, got {self.epistemic_factor}")
        if self.maps is not None:
            unknown = [name for name in self.maps if name not in MAP_NAMES]
            if unknown:
                raise ValueError(f"unknown maps {', '.join(unknown)}: choose from {', '.join(MAP_NAMES)}")

    def of_epistemic_method(self, method: EpistemicMethod) -> dict[str, float | None]:
        """Values of a method's options by name."""
        return {option.name: getattr(self, option.name) for option in method.options}

    def check_model(self, *, has_samples: bool, gaussian: bool, space: OutcomeSpace) -> None:
        """Raise ``ValueError`` if a model cannot be predicted in this way.

        Parameters
        ----------
        has_samples
            Whether its network predicts a distribution.
        gaussian
            Whether that is Gaussian.
        space
            What its logits mean.
        """
        if self.aleatoric == "tta" and has_samples:
            raise ValueError(
                "test-time augmentation (tta) stands in for the aleatoric samples of deterministic networks, and this "
                "model draws samples of its own: predict it with the aleatoric method 'model'"
            )
        if self.estimator == "exact" and not has_samples:
            raise ValueError(
                "the exact estimator integrates over a Gaussian model's samples, and this network has none"
            )
        if self.estimator == "exact" and not gaussian:
            raise ValueError(
                "the exact estimator integrates over Gaussian logits, and the logits of this model are not Gaussian: "
                "use the estimator 'mc'"
            )
        if self.estimator == "exact" and not space.scalar:
            raise ValueError(
                f"the exact estimator is for two classes and for regions, this model has {space.num_logits} classes: "
                "use the estimator 'mc'"
            )

    def choose_estimator(self, *, gaussian: bool, space: OutcomeSpace) -> SettledEstimator:
        """What ``"auto"`` stands for: exact moments where the model has them."""
        if self.estimator != "auto":
            return self.estimator
        return "exact" if gaussian and space.scalar else "mc"

    def maps_of(self, *, num_members: int, has_samples: bool) -> tuple[MapName, ...]:
        """The maps to make for a model with this many members, in the order of ``MAP_NAMES``.

        One deterministic network has the total only; asking for another map of it is an error.
        """
        available = MAP_NAMES if num_members > 1 or has_samples else ("total",)
        if len(available) == 1 and self.epistemic_factor != 1:
            raise ValueError("one deterministic network has no epistemic uncertainty that could be rescaled")
        if self.maps is None:
            return available
        missing = [name for name in self.maps if name not in available]
        if missing:
            fit_commands = [method.fit_command for method in EPISTEMIC_METHODS.values() if method.fit_command]
            raise ValueError(
                f"one fold of a deterministic network has no {' or '.join(missing)} map, only total; predict with "
                "several folds (-f 0 1 2 3 4), which act as an ensemble, with members of a fit "
                f"({', '.join(fit_commands)}), with test-time augmentation (--aleatoric tta), or train a stochastic "
                "trainer such as nnUNetTrainerMoB"
            )
        return tuple(name for name in MAP_NAMES if name in self.maps)
