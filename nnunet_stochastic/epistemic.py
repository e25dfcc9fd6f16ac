"""The catalogue of epistemic methods: where the members come from over which the epistemic uncertainty is an average.

    none         one set of weights
    ensemble     the trained folds
    dropout      sets of dropout masks
    swag         draws from SWAG's Gaussian over the weights
    swag_diag    draws from its diagonal, SWAG-D
    checkpoints  weights of one training at the minima of a cyclic learning rate
    laplace      draws from a Gaussian over the last layer's weights

Section 3.2 of Christensen et al., Rethinking Uncertainty Quantification and Entanglement in Image Segmentation (ENT).
Command lines, study files, names of files and models, tables and figures read what they say of a method here; how its
members are made is the ``WeightPosterior`` that its entry names.

A result of ``ensemble`` is called what its folds are: ``deep_ensemble`` if all were trained on the same cases,
``cross_validation`` if not, ``ensemble`` where the splits are not known. The two differ in calibration and in how they
find failures (Kirscher et al. 2026, Lost in the Folds, https://arxiv.org/abs/2605.18329).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = [
    "DEFAULT_NUM_MEMBERS",
    "EPISTEMIC_METHODS",
    "EPISTEMIC_OPTIONS",
    "EPISTEMIC_TITLES",
    "NO_METHOD",
    "NUM_MEMBERS",
    "RESULTS_OF_FOLDS",
    "UNKNOWN_FOLDS",
    "EpistemicMethod",
    "EpistemicOption",
    "are_of_one_name",
    "methods_with",
    "name_of_result",
]


@dataclass(frozen=True)
class EpistemicOption:
    """A number that methods take: a field of ``PredictionOptions``, a flag of the command, a key of a study.

    Parameters
    ----------
    name
        Name of the field, and of the flag behind its dashes.
    kind
        Type: ``int`` for a whole number of at least 1, ``float`` for a number above 0.
    letter
        Name of the number in help texts.
    default
        Value where none is given; ``None`` is the method's own.
    help
        Meaning, with unit or range.
    default_text
        Defaults of the methods, in words, where they differ.
    """

    name: str
    kind: type[int] | type[float]
    letter: str
    default: int | float | None
    help: str
    default_text: str = ""

    @property
    def least(self) -> float:
        """Smallest value."""
        return 1 if self.kind is int else 1e-12

    @property
    def most(self) -> float:
        """Largest value: more takes weeks, or leaves no number finite."""
        return 10_000 if self.kind is int else 1e12

    def check(self, value: float | None) -> None:
        """Raise ``ValueError`` for a number out of range."""
        if value is None and self.default is None:
            return
        if self.kind is int and not (value is not None and value >= 1):
            raise ValueError(f"{self.name} must be at least 1, got {value}")
        if self.kind is float and not (value is not None and value > 0):
            raise ValueError(f"{self.name} must be positive, got {value}")
        if value is not None and not self.least <= value <= self.most:
            raise ValueError(f"{self.name} must be {self.least} to {self.most}, got {value}")


DEFAULT_NUM_MEMBERS = 10
NUM_MEMBERS = EpistemicOption(
    "num_members",
    int,
    "E",
    DEFAULT_NUM_MEMBERS,
    "number of members per fold, at least 1",
)
SWAG_SCALE = EpistemicOption(
    "swag_scale",
    float,
    "S",
    None,
    "scale of SWAG's covariance, above 0",
    default_text="0.5 for swag, 1 for swag_diag",
)


@dataclass(frozen=True)
class EpistemicMethod:
    """An epistemic method.

    Parameters
    ----------
    name
        Name in commands, records and the names of results.
    title
        Name in tables and figures.
    members
        Description of the members, for help texts.
    posterior
        Its ``WeightPosterior``, ``module:class``.
    table_row
        Place among the rows of a table; in ENT's Table 2 methods stand by what they cost.
    trainer_suffix
        Ending of its trainers' names, behind that of the aleatoric model; empty for a method without trainers of its
        own.
    trains_the_same
        Whether its trainers end in the weights that the trainer without suffix ends in, so that a study trains only
        once for both.
    least_folds, most_folds
        Least and greatest number of trained folds that it takes; ``None``: any number.
    options
        Numbers that it takes.
    fit_command
        Command that makes its posterior of a fold that is trained; empty where training leaves all that it needs.
    chosen_by_auto
        Whether ``--epistemic auto`` takes it where a model has it; not if every model has it, whatever it was made for.
    """

    name: str
    title: str
    members: str
    posterior: str
    table_row: int
    trainer_suffix: str = ""
    trains_the_same: bool = False
    least_folds: int = 1
    most_folds: int | None = None
    options: tuple[EpistemicOption, ...] = ()
    fit_command: str = ""
    chosen_by_auto: bool = True

    @property
    def draws_members(self) -> bool:
        """Whether each fold has several members, which are drawn."""
        return NUM_MEMBERS in self.options

    def example_trainer(self, *, has_samples: bool) -> str:
        """A trainer to name to whoever has a model that predicts a distribution over logits, or a plain nnU-Net."""
        return f"nnUNetTrainer{'MoB' if has_samples else 'Deterministic'}{self.trainer_suffix}"


#: By name. Of those that it may choose, ``--epistemic auto`` takes the first that the model has, else ``none``.
EPISTEMIC_METHODS: Mapping[str, EpistemicMethod] = MappingProxyType(
    {
        method.name: method
        for method in (
            EpistemicMethod(
                "none",
                "No EU",
                "one set of weights",
                "nnunet_stochastic.posteriors.ensemble:TrainedWeights",
                table_row=0,
                most_folds=1,
                chosen_by_auto=False,
            ),
            EpistemicMethod(
                "ensemble",
                "Ensemble",
                "the folds",
                "nnunet_stochastic.posteriors.ensemble:TrainedWeights",
                table_row=4,
                least_folds=2,
            ),
            EpistemicMethod(
                "dropout",
                "Dropout",
                "sets of dropout masks",
                "nnunet_stochastic.posteriors.dropout:DropoutMasks",
                table_row=1,
                trainer_suffix="Dropout",
                options=(NUM_MEMBERS,),
            ),
            EpistemicMethod(
                "swag",
                "SWAG",
                "draws of SWAG's weights",
                "nnunet_stochastic.posteriors.swag:Swag",
                table_row=3,
                trainer_suffix="SWAG",
                trains_the_same=True,
                options=(NUM_MEMBERS, SWAG_SCALE),
            ),
            EpistemicMethod(
                "swag_diag",
                "SWAG-D",
                "draws of SWAG-D's weights",
                "nnunet_stochastic.posteriors.swag_diag:SwagDiagonal",
                table_row=2,
                trainer_suffix="SWAG",
                trains_the_same=True,
                options=(NUM_MEMBERS, SWAG_SCALE),
            ),
            EpistemicMethod(
                "checkpoints",
                "Cyclic checkpoints",
                "the weights at the minima of a cyclic learning rate",
                "nnunet_stochastic.posteriors.checkpoints:CyclicCheckpoints",
                table_row=7,
                trainer_suffix="Cyclic",
            ),
            EpistemicMethod(
                "laplace",
                "Laplace",
                "draws of the last layer's weights",
                "nnunet_stochastic.posteriors.laplace:LastLayerLaplace",
                table_row=6,
                options=(NUM_MEMBERS,),
                fit_command="nnunet_stochastic_fit_laplace",
            ),
        )
    }
)
#: Under what is known of the training data of folds, name and title of a result of the folds.
_RESULTS_OF_FOLDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "same": ("deep_ensemble", "Deep ensemble (same data)"),
        "different": ("cross_validation", "Cross-validation folds (different data)"),
        "unknown": ("ensemble", "Folds (splits unknown)"),
    }
)
RESULTS_OF_FOLDS = frozenset(name for name, _ in _RESULTS_OF_FOLDS.values())
UNKNOWN_FOLDS = _RESULTS_OF_FOLDS["unknown"][0]
#: Titles of the results of all methods by the results' names, in the order of a table.
EPISTEMIC_TITLES: Mapping[str, str] = MappingProxyType(
    dict(
        result
        for method in sorted(EPISTEMIC_METHODS.values(), key=lambda method: method.table_row)
        for result in (_RESULTS_OF_FOLDS.values() if method.least_folds > 1 else ((method.name, method.title),))
    )
)
#: The method of one set of weights.
NO_METHOD = EPISTEMIC_METHODS["none"]
#: All numbers that methods take, each once.
EPISTEMIC_OPTIONS: tuple[EpistemicOption, ...] = tuple(
    dict.fromkeys(option for method in EPISTEMIC_METHODS.values() for option in method.options)
)


def name_of_result(method: str, training_data_of_folds: str | None) -> str:
    """Name of a result in tables.

    Parameters
    ----------
    method
        Name of its method, known here or not.
    training_data_of_folds
        What its folds were trained on: ``same``, ``different``, ``unknown``, or ``None`` where nothing is said.
    """
    if method in EPISTEMIC_METHODS and EPISTEMIC_METHODS[method].least_folds > 1:
        return _RESULTS_OF_FOLDS[training_data_of_folds or "unknown"][0]
    return method


def are_of_one_name(result: str, other: str) -> bool:
    """Whether two names may be of one kind of result: what is not known of folds may be either."""
    return result == other or (UNKNOWN_FOLDS in (result, other) and {result, other} <= RESULTS_OF_FOLDS)


def methods_with(option: EpistemicOption) -> tuple[EpistemicMethod, ...]:
    """The methods that take an option."""
    return tuple(method for method in EPISTEMIC_METHODS.values() if option in method.options)
