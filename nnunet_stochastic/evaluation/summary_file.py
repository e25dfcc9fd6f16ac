"""What summary.json holds, by the catalogue of tasks: which numbers a task has, and where they are.

    results      annotations -> class -> mean, dataset -> metric -> number
    tasks        a number, or one per measure or class, of each split and shift; beside them those of each variant, and
                 what else the task names
    delta        value and interval at the same places
    intervals    of results, set_results, spread and tasks, [low, high] at the place of a number

A number that does not exist is ``null``. What is not named here may be there and is let be.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, create_model

from nnunet_stochastic.conventions import PRESETS
from nnunet_stochastic.evaluation.maps import MEASURES
from nnunet_stochastic.evaluation.tasks import RANKED, TASKS, Task
from nnunet_stochastic.io.result_schemas import DescribedModel
from nnunet_stochastic.io.schemas import Count, File, Name, Number, rule

__all__ = ["SummaryFile"]

Value = Number | None
Interval = Annotated[list[Value], Field(min_length=2, max_length=2)]
#: Of a key that may lack, but is not null where it is there.
_ABSENT: Any = None


def _convention(value: str) -> str:
    if value not in PRESETS:
        raise rule(f"must be one of {', '.join(PRESETS)}, got {repr(value)[:60]}")
    return value


class _SetFolders(File):
    prediction: Name
    reference: str | None = None
    raters: str | None = None


class _Folders(_SetFolders):
    shifts: dict[str, _SetFolders] = _ABSENT
    validation: str | None = None
    groups: str | None = None


class _ClassResults(File):
    mean: dict[str, Value] = _ABSENT
    dataset: dict[str, Value] = _ABSENT


class _ClassIntervals(File):
    mean: dict[str, Interval] = _ABSENT
    dataset: dict[str, Interval] = _ABSENT


class _NumbersOfSet(File):
    cases: Count
    patients: Count | None


class _Bootstrap(File):
    unit: Name
    sets: dict[str, _NumbersOfSet]
    level: Number = _ABSENT
    num_replicates: Count = 0


class _Delta(File):
    value: Value = None
    interval: Interval | None = None


def _model(name: str, base: Any, fields: dict[str, Any]) -> Any:
    """An object of this name that may have these keys, besides those of another."""
    optional: dict[str, Any] = {key: (kind, _ABSENT) for key, kind in fields.items()}
    # It has no source to look for docstrings in, which took most of the time of importing this.
    return create_model(name, __base__=base, __cls_kwargs__={"use_attribute_docstrings": False}, **optional)


def _ending(value: Any) -> str:
    """What tells the models of intervals from those of numbers."""
    return "_intervals" if value is Interval else ""


def _numbers_of(task: Task, value: Any) -> Any:
    """What a task has of a set of cases."""
    if task.by_measure:
        name = f"{task.name}{_ending(value)}_of_measures"
        return _model(name, File, dict.fromkeys(MEASURES, dict[str, value] if task.entry else value))
    if task.by_class:
        return dict[str, value] if task.metric else dict[str, dict[str, value]]
    return value


def _entry_of(task: Task) -> Any:
    """What summary.json has of a task."""
    return _numbers_of_splits(task, Value) if task.schema is None else task.schema


def _numbers_of_splits(task: Task, value: Any) -> Any:
    """Numbers of a task by split and variant, or their intervals, and what the entry has besides."""
    numbers = _numbers_of(task, value)
    shifts = {"shifts": dict[str, numbers | None]}  # type: ignore[valid-type]
    name = task.name + _ending(value)
    splits = _model(f"{name}_of_splits", File, dict.fromkeys(task.splits, numbers | None) | shifts)
    places = splits if task.splits else _model(f"{name}_of_shifts", numbers, shifts)
    aggregated = places if value is Interval else numbers  # intervals have those of each shift, too
    return _model(
        name,
        places,
        dict.fromkeys(task.variants, splits)
        | dict(task.further_entries)
        | {"annotations": str, "aggregation": str, "failure_dice": Number}  # how, where a task has a choice
        | ({task.setting: str} if task.setting else {})
        | ({task.with_border: places, "num_without_border": dict[str, Count]} if task.with_border else {})
        | {"aggregations": dict[str, aggregated], "num_samples": Count | None},  # type: ignore[valid-type]
    )


def _delta_of(task: Task) -> Any:
    """What summary.json has of the Δ of a task."""
    if not task.splits:
        return _Delta
    splits = _model(f"{task.name}_delta_of_splits", File, dict.fromkeys(task.splits, _Delta | None))
    return _model(f"{task.name}_delta", splits, dict.fromkeys(task.variants, splits))


class _Intervals(File):
    results: dict[Literal["reference", "raters"], dict[str, _ClassIntervals]] = _ABSENT
    set_results: dict[str, dict[Literal["reference", "raters"], dict[str, _ClassIntervals]]] = _ABSENT
    spread: dict[str, dict[str, Interval]] = _ABSENT


class _Summary(File):
    convention: Annotated[str, AfterValidator(_convention)] = ""
    conventions: dict[str, str] = _ABSENT
    folders: _Folders = _ABSENT
    model: DescribedModel = _ABSENT
    num_bins: Count = 0
    nsd_tolerance_mm: Number = _ABSENT
    num_cases: Count = 0
    num_raters: Count = 0
    results: dict[Literal["reference", "raters"], dict[str, _ClassResults]] = _ABSENT
    set_results: dict[str, dict[Literal["reference", "raters"], dict[str, _ClassResults]]] = _ABSENT
    bootstrap: _Bootstrap = _ABSENT
    left_out: dict[str, str] = _ABSENT
    degenerate_samples: dict[str, dict[str, str]] = _ABSENT
    spread: dict[str, dict[str, Value]] = _ABSENT


#: summary.json; which of its keys must be there depends on who reads it.
SummaryFile: type[File] = _model(
    "Summary",
    _Summary,
    {
        "tasks": _model("Tasks", File, {task.name: _entry_of(task) for task in TASKS}),
        "delta": _model("Delta", File, {task.name: _delta_of(task) | None for task in RANKED}),
        "intervals": _model(
            "Intervals",
            _Intervals,
            {
                "tasks": _model(
                    "TasksIntervals",
                    File,
                    {task.name: _numbers_of_splits(task, Interval) for task in TASKS if task.schema is None},
                )
            },
        ),
    },
)
