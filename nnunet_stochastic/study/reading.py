"""STUDY.yaml -> the study, by its schema: every error has the path of the key, what came, and what is to be written."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nnunet_stochastic.prediction_choices import ESTIMATORS, TILES_AND_VIEWS
from nnunet_stochastic.study.description import (
    CORRUPTIONS,
    EPISTEMIC,
    KINDS,
    PREDICT_OPTIONS,
    Aleatoric,
    Dataset,
    Study,
)
from nnunet_stochastic.study.schema import Mapped, check_name, load_yaml, text_items

__all__ = ["ACE", "CONVENTIONS", "read_study"]

CONVENTIONS = ("entanglement", "values", "curvas", "curvas_pdacvi", "mixture_of_bases")
ACE = ("per_image", "dataset")
DEVICES = ("cuda", "cpu", "mps")
#: What each planner calls its plans.
PLANS = {
    None: "nnUNetPlans",
    "ExperimentPlanner": "nnUNetPlans",
    **{f"nnUNetPlannerResEnc{size}": f"nnUNetResEncUNet{size}Plans" for size in ("M", "L", "XL")},
}
_RESERVED_SETS = ("ID", "OOD", "shifts", "validation")
_DEFAULT_TRAINER = "nnUNetTrainer{aleatoric}{epistemic}"
# What a dataset may say in the study's place.
_SHARED = ("aleatoric", "epistemic", "exclude", "seeds", "trainer", "start_from", "predict", "minutes")


def read_study(file: Path) -> Study:
    """Read a study.

    Parameters
    ----------
    file
        YAML.

    Raises
    ------
    ValueError
        Something is not as the schema says: the path of the key, what came, and what is to be written.
    """
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}; name the YAML file of a study")
    file = file.resolve()
    try:
        return _study(Mapped(load_yaml(file)), file)
    except ValueError as error:
        message = str(error)
        raise ValueError(message if message.startswith(str(file)) else f"{file}: {message}") from error


def _study(top: Mapped, file: Path) -> Study:
    evaluate, report = top.mapped("evaluate"), top.mapped("report")
    trainers = top.text("trainers")
    entries = top.take("datasets")
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"datasets must be a list with an entry `- dataset: NUMBER` per dataset, got {entries!r}")
    study = Study(
        file=file,
        name=top.text("name", file.stem),
        output=(file.parent / _required(top.text("output"), "output", "a folder for the results")).resolve(),
        device=top.text("device", "cuda", choices=DEVICES),
        trainers=None if trainers is None else (file.parent / trainers).resolve(),
        convention=evaluate.text("convention", CONVENTIONS[0], choices=CONVENTIONS),
        evaluate_processes=evaluate.whole("np", least=1),
        viewer_cases=report.whole("viewer_cases", 20),
        variables=_by_kind(top.mapped("variables"), _variable, with_all=True),
        resources=_by_kind(top.mapped("resources"), _resource),
        datasets=(),
    )
    common = {name: top.take(name) for name in _SHARED if name in top}
    for part in (evaluate, report, top):
        part.finish()
    datasets = []
    for index, entry in enumerate(entries):
        own = Mapped(entry, f"datasets[{index}]")
        datasets.append(_dataset(own, Mapped(common)))
    numbers = [dataset.dataset[: len("Dataset511")] for dataset in datasets]
    if twice := [number for number in numbers if numbers.count(number) > 1]:
        raise ValueError(f"datasets has {twice[0]} twice; join the two entries")
    return Study(**{**vars(study), "datasets": tuple(datasets)})


def _dataset(own: Mapped, common: Mapped) -> Dataset:
    def source(name: str) -> Mapped:
        return own if name in own else common

    epistemic = source("epistemic").names("epistemic", None, choices=EPISTEMIC)
    aleatoric = _aleatoric(source("aleatoric"))
    if not aleatoric or not epistemic:
        raise ValueError(f"{own.key('aleatoric')} and epistemic must name at least one each, here or for all datasets")
    models = {f"{model.name}/{method}": (model.name, method) for model in aleatoric for method in epistemic}
    place = source("exclude")
    exclude = text_items(place.take("exclude", []), place.key("exclude"))
    if unknown := [pair for pair in exclude if pair not in models]:
        raise ValueError(f"{place.key('exclude')} has {unknown[0]!r}, which is no ALEATORIC/EPISTEMIC of this study")
    if len(exclude) == len(models):
        raise ValueError(f"{place.key('exclude')} leaves nothing to study")
    place = source("trainer")
    trainer = place.text("trainer", _DEFAULT_TRAINER)
    fields = {field for _, field, _, _ in string.Formatter().parse(trainer) if field is not None}
    if fields != {"aleatoric", "epistemic"}:
        raise ValueError(
            f"{place.key('trainer')} must have {{aleatoric}} and {{epistemic}} in it and no other braces, such as "
            f"{_DEFAULT_TRAINER!r}; got {trainer!r}"
        )
    place = source("seeds")
    seeds = place.whole("seeds", least=1)
    if seeds is None:
        raise ValueError(f"{own.key('seeds')} is missing: write how often each model is trained, such as 5")
    kept = {method for pair, (_, method) in models.items() if pair not in exclude}
    if "ensemble" in kept and seeds < 2:
        raise ValueError(f"{place.key('seeds')} must be at least 2 for an ensemble, as its members; got {seeds}")
    minutes = source("minutes").mapped("minutes")
    planner = own.text("planner")
    plans = own.text("plans", PLANS.get(planner))
    if plans is None:
        raise ValueError(f"{own.key('plans')} is missing: write what {planner} calls its plans")
    dataset = Dataset(
        dataset=_dataset_name(own.take("dataset"), own.key("dataset")),
        convert=own.text("convert"),
        configuration=_required(own.text("configuration"), own.key("configuration"), "one of nnU-Net's, such as 2d"),
        plans=plans,
        planner=planner,
        overwrite_plans_name=PLANS.get(planner, plans) != plans,
        raters=own.flag("raters", True),
        corruptions=own.names("corruptions", choices=CORRUPTIONS),
        ood=own.names("ood"),
        ace=own.text("ace", choices=ACE),
        aleatoric=aleatoric,
        epistemic=epistemic,
        excluded=frozenset(models[pair] for pair in exclude),
        seeds=seeds,
        trainer=trainer,
        start_from=source("start_from").text("start_from"),
        predict=_predict(source("predict").mapped("predict")),
        minutes={kind: minutes.number(kind) for kind in _kinds(minutes)},
    )
    own.finish()
    for name in dataset.ood:
        if name in _RESERVED_SETS or name in dataset.corruptions:
            raise ValueError(f"{own.key('ood')}: the name {name} has another meaning here; choose another one")
    return dataset


def _dataset_name(value: Any, path: str) -> str:
    if type(value) is int and 0 < value < 1000:
        return f"Dataset{value:03d}"
    if isinstance(value, str) and value.startswith("Dataset") and value[7:10].isdigit() and value[10:11] == "_":
        check_name(value, path)
        return value
    raise ValueError(f"{path} must be nnU-Net's number (1 to 999) or name (Dataset511_LIDC), got {value!r}")


def _aleatoric(place: Mapped) -> tuple[Aleatoric, ...]:
    if "aleatoric" not in place:
        return ()
    value, path = place.take("aleatoric"), place.key("aleatoric")
    if isinstance(value, list):
        value = dict.fromkeys(text_items(value, path))
    models = []
    by_name = Mapped(value, path)
    for name in by_name.keys():
        check_name(name, f"{path}.{name}")
        own = Mapped(by_name.take(name) or {}, f"{path}.{name}")
        trainer = own.take("trainer", name)
        if not isinstance(trainer, str):
            raise ValueError(f"{path}.{name}.trainer must be the {{aleatoric}} of a trainer's name, got {trainer!r}")
        models.append(Aleatoric(name, trainer, _predict(own.mapped("predict"))))
        own.finish()
    return tuple(models)


def _predict(options: Mapped) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in options.keys():
        if name in ("num_samples", "num_members"):
            found[name] = options.whole(name, least=1)
        elif name in ("save_samples", "npp", "nps", "seed"):
            found[name] = options.whole(name)
        elif name in ("step_size", "swag_scale"):
            found[name] = options.number(name)
        elif name in ("disable_tta", "not_on_device", "trust_checkpoint"):
            found[name] = options.flag(name, False)
        elif name in PREDICT_OPTIONS:
            choices = {"aleatoric": ("model", "tta"), "estimator": ESTIMATORS, "tiles_and_views": TILES_AND_VIEWS}
            found[name] = options.text(name, choices=choices.get(name, ()))
    options.finish()
    return found


def _kinds(place: Mapped, *, with_all: bool = False) -> list[str]:
    kinds = (*KINDS, "all") if with_all else KINDS
    for name in place.keys():
        if name not in kinds:
            raise ValueError(f"{place.key(name)} is no kind of job; there are {', '.join(kinds)}")
    return place.keys()


def _by_kind(place: Mapped, read: Callable[[Mapped, str], Any], *, with_all: bool = False) -> dict[str, dict[str, Any]]:
    return {kind: place.mapped(kind).each(read) for kind in _kinds(place, with_all=with_all)}


def _variable(place: Mapped, name: str) -> str:
    value = place.take(name)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"{place.key(name)} must be text or a number, got {value!r}; put it into quotes")
    return str(value)


def _resource(place: Mapped, name: str) -> int | str:
    if name in ("threads", "gpu"):
        return place.whole(name, least=int(name == "threads"))
    value = place.take(name)
    if type(value) is not int and not isinstance(value, str):
        raise ValueError(f"{place.key(name)} must be a whole number or text, got {value!r}")
    return value


def _required(value: str | None, path: str, what: str) -> str:
    if value is None:
        raise ValueError(f"{path} is missing: write {what}")
    return value
