"""What a study's file may say: its keys, their types and choices, and the same as a JSON schema for editors.

A model here is a mapping of the file as it is written; ``reading`` makes a ``Study`` of it. The docstrings of the keys
are what an editor shows.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ModelWrapValidatorHandler,
    PrivateAttr,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from nnunet_stochastic.conventions import ACE, DEFAULT_CONVENTION, PRESETS
from nnunet_stochastic.epistemic import EPISTEMIC_METHODS, EPISTEMIC_OPTIONS
from nnunet_stochastic.io.names import shown
from nnunet_stochastic.prediction_choices import ESTIMATORS, TILES_AND_VIEWS
from nnunet_stochastic.study.description import CORRUPTIONS, KINDS

__all__ = [
    "AleatoricEntry",
    "DatasetEntry",
    "Shared",
    "StudyFile",
    "json_schema",
]

_DEFAULT_TRAINER = "nnUNetTrainer{aleatoric}{epistemic}"
_DEVICES = ("cuda", "cpu", "mps")
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_DATASET = r"Dataset[0-9]{3}_[A-Za-z0-9_.-]*"


@dataclass(frozen=True)
class _Rule:
    """The message for a value that breaks any part of its type.

    Attributes
    ----------
    message
        Message, in which ``{value}`` is what came.
    choices
        All values there are; empty where the type alone says it.
    """

    message: str
    choices: Sequence[str] = ()

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        inner = core_schema.literal_schema(list(self.choices)) if self.choices else handler(source)
        return core_schema.no_info_wrap_validator_function(self._checked, inner)

    def _checked(self, value: Any, validate: core_schema.ValidatorFunctionWrapHandler) -> Any:
        try:
            return validate(value)
        except ValueError as error:
            raise _mistake(self.message.format(value=shown(value))) from error


def _mistake(message: str) -> PydanticCustomError:
    return PydanticCustomError("rule", "{message}", {"message": message})


def _one_of(choices: Sequence[str]) -> _Rule:
    return _Rule(f"must be one of {', '.join(choices)}, got {{value}}", choices)


def _kind_of_job(*more: str) -> _Rule:
    kinds = (*more, *KINDS)
    return _Rule(f"is no kind of job; there are {', '.join(kinds)}", kinds)


def _different(items: list[str]) -> list[str]:
    if twice := sorted({item for item in items if items.count(item) > 1}):
        raise _mistake(f"has {twice[0]} twice; leave one")
    return items


def _by_name(value: Any) -> Any:
    """``[one, two]`` as ``{one: null, two: null}``."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return dict.fromkeys(_different(value))
    if not isinstance(value, dict):
        raise _mistake(f"must be a mapping (NAME: OPTIONS) or a list of names, such as [one, two], got {shown(value)}")
    return value


def _dataset_name(value: Any) -> str:
    if type(value) is int and 0 < value < 1000:
        return f"Dataset{value:03d}"
    if isinstance(value, str) and re.fullmatch(_DATASET, value):
        return value
    raise ValueError(value)


def _trainer_pattern(value: str) -> str:
    fields = [parts[1:] for parts in string.Formatter().parse(value) if parts[1] is not None]
    # Names alone: a width or a conversion would change what stands for them.
    if {name for name, *_ in fields} != {"aleatoric", "epistemic"} or any(form or how for _, form, how in fields):
        raise ValueError(value)
    return value


def _without_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError(value)
    return value


def _at_most_1(value: float) -> float:
    if value > 1:
        raise _mistake(f"must be at most 1, got {value:g}")
    return value


def _variable_name(value: str) -> str:
    if not value or "=" in value or "\0" in value:
        raise _mistake(f": {shown(value)} is no name of an environment variable")
    return value


def _text_of_number(value: Any) -> Any:
    return str(value) if type(value) in (int, float) else value


Text = Annotated[
    str, Field(pattern=r"\S"), AfterValidator(_without_nul), _Rule("must be text, got {value}; put it into quotes")
]
Name = Annotated[str, Field(pattern=f"^{_NAME}$"), _Rule("must be of letters, digits, '-', '_' and '.', got {value}")]
Whole = Annotated[int, Field(ge=0), _Rule("must be a whole number of at least 0, got {value}")]
Count = Annotated[int, Field(ge=1), _Rule("must be a whole number of at least 1, got {value}")]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), _Rule("must be a number above 0, got {value}")]
Share = Annotated[Positive, AfterValidator(_at_most_1)]
Flag = Annotated[bool, _Rule("must be true or false, got {value}")]
Corruption = Annotated[str, _one_of(CORRUPTIONS)]
Method = Annotated[str, _one_of(tuple(EPISTEMIC_METHODS))]
Kind = Annotated[str, _kind_of_job()]
KindOrAll = Annotated[str, _kind_of_job("all")]
Variable = Annotated[
    str,
    BeforeValidator(_text_of_number, json_schema_input_type=str | float),
    AfterValidator(_without_nul),
    _Rule("must be text or a number, got {value}; put it into quotes"),
]


def _without_null(schema: dict[str, Any]) -> None:
    """``null`` is how the models say that a key is not there, and no value of it."""
    for key in schema.get("properties", {}).values():
        if "default" in key and key["default"] is None:
            del key["default"]
            key.update(next(choice for choice in key.pop("anyOf") if choice != {"type": "null"}))


class _Mapping(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, json_schema_extra=_without_null
    )

    @field_validator("*", mode="before")
    @classmethod
    def _is_there(cls, value: Any) -> Any:
        if value is None:
            raise _mistake("is empty; write its value, or remove the key")
        return value


class _OptionsOfAll(_Mapping):
    """Options of nnunet_stochastic_predict."""

    num_samples: Count | None = None
    """Number of aleatoric samples per member, at least 1."""
    save_samples: Whole | None = None
    """Number of whole segmentations that are saved per case."""
    seed: Whole | None = None
    """Seed of the samples and members."""
    aleatoric: Annotated[str, _one_of(("model", "tta"))] | None = None
    """Where aleatoric samples come from: the model, or test-time augmentation."""
    estimator: Annotated[str, _one_of(ESTIMATORS)] | None = None
    """How the moments of the samples are taken."""
    tiles_and_views: Annotated[str, _one_of(TILES_AND_VIEWS)] | None = None
    """How tiles and mirrored views become one prediction."""
    disable_tta: Flag | None = None
    """Whether mirroring is left out."""
    not_on_device: Flag | None = None
    """Whether sums over tiles are kept in main memory."""
    trust_checkpoint: Flag | None = None
    """Whether a checkpoint that has more than plain data may be loaded."""
    step_size: Share | None = None
    """Step between tiles, as a share of their size."""
    npp: Whole | None = None
    """Number of threads that preprocess."""
    nps: Whole | None = None
    """Number of threads that export."""
    chk: Text | None = None
    """File name of the checkpoint."""
    _written: tuple[str, ...] = PrivateAttr(())

    @model_validator(mode="wrap")
    @classmethod
    def _keep_order(cls, content: Any, validate: ModelWrapValidatorHandler[_OptionsOfAll]) -> _OptionsOfAll:
        predict = validate(content)
        predict._written = tuple(content)
        return predict

    def options(self) -> dict[str, Any]:
        """Options that are there, in the order of the file; a job whose words come in another order is done again."""
        return {name: getattr(self, name) for name in self._written}


#: Numbers that epistemic methods take: type, and what an editor says of them.
_OPTIONS_OF_METHODS: dict[str, Any] = {
    option.name: (
        (Count if option.kind is int else Positive) | None,
        Field(None, description=f"{option.help[0].upper()}{option.help[1:]}."),
    )
    for option in EPISTEMIC_OPTIONS
}

if TYPE_CHECKING:
    Predict = _OptionsOfAll
else:
    Predict = create_model(
        "Predict", __base__=_OptionsOfAll, __doc__=_OptionsOfAll.__doc__, __module__=__name__, **_OPTIONS_OF_METHODS
    )


class AleatoricEntry(_Mapping):
    """An aleatoric model, where it is called otherwise than in its trainer's name or has options of its own."""

    trainer: Annotated[str, _Rule("must be the {{aleatoric}} of a trainer's name, got {value}")] | None = None
    """What stands for {aleatoric} in the trainer's name; without it the model's name."""
    predict: Predict = Field(default_factory=Predict)
    """Options of this model's predictions, on top of the others'."""


class Resource(_Mapping):
    """What a job of a kind needs; what else stands here is told to Snakemake, such as mem_mb and runtime."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[int | str, _Rule("must be a whole number or text, got {value}")]]

    threads: Count | None = None
    """Number of threads, at least 1."""
    gpu: Whole | None = None
    """Number of GPUs."""


class Shared(_Mapping):
    """What a study says of all datasets, and a dataset may say in its place."""

    aleatoric: Annotated[
        dict[Name, AleatoricEntry | None],
        BeforeValidator(_by_name, json_schema_input_type=list[Name] | dict[Name, AleatoricEntry | None]),
    ] = {}
    """Aleatoric models: their names in the trainers' names, or NAME: {trainer: OTHER_NAME, predict: {...}}."""
    epistemic: Annotated[list[Method], AfterValidator(_different)] = []
    """Epistemic methods."""
    exclude: Annotated[list[str], AfterValidator(_different)] = []
    """Combinations that are left out, ALEATORIC/EPISTEMIC."""
    seeds: Count | None = None
    """How often each model is trained: seed s is fold s, all on the same cases."""
    trainer: Annotated[
        str,
        AfterValidator(_trainer_pattern),
        _Rule(
            "must have {{aleatoric}} and {{epistemic}} in it and no other braces, such as "
            "'nnUNetTrainer{{aleatoric}}{{epistemic}}'; got {value}"
        ),
    ] = _DEFAULT_TRAINER
    """Pattern of the trainers' names; {epistemic} is empty or the ending that the method takes."""
    start_from: Text | None = None
    """Trainer that is trained first, whose checkpoints the others start from."""
    predict: Predict = Field(default_factory=Predict)
    """Options of the predictions."""
    minutes: dict[Kind, Positive] = {}
    """Guesses of the minutes that a job of a kind takes, for --dry_run, until jobs have been measured."""


class DatasetEntry(Shared):
    """A dataset and what is studied on it."""

    dataset: Annotated[
        str,
        BeforeValidator(
            _dataset_name,
            json_schema_input_type=Annotated[int, Field(ge=1, le=999)] | Annotated[str, Field(pattern=f"^{_DATASET}$")],
        ),
        _Rule("must be nnU-Net's number (1 to 999) or name (Dataset511_LIDC), got {value}"),
    ]
    """Number or name of the dataset in nnU-Net."""
    convert: Text | None = None
    """Command that makes the dataset, if it is not there yet; $NAME is an environment variable."""
    configuration: Text
    """Configuration of nnU-Net, such as 2d or 3d_fullres."""
    planner: Text | None = None
    """Planner of nnU-Net, such as nnUNetPlannerResEncL."""
    plans: Text | None = None
    """Name of the plans; without it what the planner calls them."""
    raters: Flag = True
    """Whether dataset.json has num_raters."""
    corruptions: Annotated[list[Corruption], AfterValidator(_different)] = []
    """Shifted copies of imagesTs that are made."""
    ood: Annotated[list[Name], AfterValidator(_different)] = []
    """Shifted sets that are there: NAME is imagesOOD_NAME."""
    ace: Annotated[str, _one_of(ACE)] | None = None
    """Calibration error that ranks: the mean over images, or that of all images together."""


class Evaluate(_Mapping):
    """Options of the evaluations."""

    convention: Annotated[str, _one_of(tuple(PRESETS))] = DEFAULT_CONVENTION
    """Definitions of the metrics."""
    np: Count | None = None
    """Number of processes of an evaluation, at least 1."""


class Report(_Mapping):
    """Options of the page."""

    viewer_cases: Whole = 20
    """Number of cases in the viewer."""


class StudyFile(Shared):
    """A study for nnunet_stochastic_study: datasets x aleatoric models x epistemic methods x seeds."""

    name: Text | None = None
    """Title of the page; without it the file's name."""
    output: Text
    """Folder for predictions, evaluations, tables and page, relative to this file."""
    device: Annotated[str, _one_of(_DEVICES)] = "cuda"
    """Where networks run."""
    trainers: Text | None = None
    """Folder with more trainers, relative to this file."""
    evaluate: Evaluate = Field(default_factory=Evaluate)
    """How predictions are evaluated."""
    report: Report = Field(default_factory=Report)
    """How the page is made."""
    variables: dict[KindOrAll, dict[Annotated[str, AfterValidator(_variable_name)], Variable]] = {}
    """Environment variables by kind of job, or of all."""
    resources: dict[Kind, Resource] = {}
    """Threads, GPUs and what Snakemake is told, by kind of job."""
    datasets: Annotated[list[DatasetEntry], Field(min_length=1)]
    """The datasets."""


def json_schema() -> dict[str, Any]:
    """The schema as editors take it (https://json-schema.org)."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **StudyFile.model_json_schema()}
