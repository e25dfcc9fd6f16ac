"""STUDY.yaml -> the study: every mistake with its line, the path of the key, what came, and what is to be written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import Template

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from nnunet_stochastic.discovery import VARIABLE
from nnunet_stochastic.epistemic import EPISTEMIC_METHODS, NO_METHOD, NUM_MEMBERS
from nnunet_stochastic.io.names import shown
from nnunet_stochastic.study.description import Aleatoric, Dataset, Study
from nnunet_stochastic.study.schema import AleatoricEntry, DatasetEntry, Shared, StudyFile
from nnunet_stochastic.study.yaml_file import YamlFile

__all__ = ["read_study"]

#: What each planner calls its plans.
PLANS: dict[str | None, str] = {
    None: "nnUNetPlans",
    "ExperimentPlanner": "nnUNetPlans",
    "nnUNetPlannerResEncM": "nnUNetResEncUNetMPlans",
    "nnUNetPlannerResEncL": "nnUNetResEncUNetLPlans",
    "nnUNetPlannerResEncXL": "nnUNetResEncUNetXLPlans",
}
#: Trainers of deterministic networks: beginnings of names, and nnU-Net's own.
_DETERMINISTIC = ("nnUNetTrainerDeterministic", "nnUNetTrainerSoftmax")
_NNUNET_TRAINER = "nnUNetTrainer"
_RESERVED_SETS = ("ID", "OOD", "shifts", "validation")
_MISSING = {
    "output": "a folder for the results",
    "configuration": "one of nnU-Net's, such as 2d",
    "dataset": "nnU-Net's number or name, such as 511",
}
_TEXTS = {
    "extra_forbidden": "is no key of a study; remove or correct it",
    "dict_type": "must be a mapping (key: value), got {value}",
    "model_type": "must be a mapping (key: value), got {value}",
    "list_type": "must be a list of names, such as [one, two], got {value}",
    "string_type": "must be text, got {value}; put it into quotes",
}

_Path = tuple[str | int, ...]
_Mistake = tuple[_Path, str]
"""Place in the file, and what is wrong there, to be read behind it."""


def read_study(file: Path) -> Study:
    """Read a study.

    Parameters
    ----------
    file
        YAML file of a study.

    Raises
    ------
    ValueError
        Something is not as the schema says: all such places, each with its line, the path of the key, what came, and
        what is to be written.
    """
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}; name the YAML file of a study")
    file = file.resolve()
    source = YamlFile.read(file)
    try:
        top = StudyFile.model_validate(source.content)
    except ValidationError as error:
        raise _as_error(file, source, [_worded(item) for item in error.errors()]) from error
    datasets = [_with_shared(entry, top) for entry in top.datasets]
    if mistakes := list(_mistakes(file, top, datasets)):
        raise _as_error(file, source, mistakes)
    return Study(
        file=file,
        name=file.stem if top.name is None else top.name,
        output=(file.parent / _expanded(top.output)).resolve(),
        device=top.device,
        trainers=None if top.trainers is None else (file.parent / _expanded(top.trainers)).resolve(),
        convention=top.evaluate.convention,
        evaluate_processes=top.evaluate.np,
        viewer_cases=top.report.viewer_cases,
        variables=top.variables,
        resources={kind: resource.model_dump(exclude_unset=True) for kind, resource in top.resources.items()},
        datasets=tuple(_dataset(entry) for entry in datasets),
    )


def _with_shared(entry: DatasetEntry, top: StudyFile) -> DatasetEntry:
    """A dataset's entry, with what the study says of all in place of what the entry does not say."""
    unsaid = set(Shared.model_fields) - entry.model_fields_set
    return entry.model_copy(update={name: getattr(top, name) for name in unsaid})


def _dataset(entry: DatasetEntry) -> Dataset:
    assert entry.seeds is not None  # else _mistakes has found it missing
    plans = PLANS[entry.planner] if entry.plans is None else entry.plans
    return Dataset(
        dataset=entry.dataset,
        convert=entry.convert,
        configuration=entry.configuration,
        plans=plans,
        planner=entry.planner,
        overwrite_plans_name=PLANS.get(entry.planner, plans) != plans,
        raters=entry.raters,
        corruptions=tuple(entry.corruptions),
        ood=tuple(entry.ood),
        ace=entry.ace,
        aleatoric=tuple(_aleatoric(name, model or AleatoricEntry()) for name, model in entry.aleatoric.items()),
        epistemic=tuple(entry.epistemic),
        excluded=frozenset(pair for name, pair in _models(entry).items() if name in entry.exclude),
        seeds=entry.seeds,
        trainer=entry.trainer,
        start_from=entry.start_from,
        predict=entry.predict.options(),
        minutes=entry.minutes,
    )


def _aleatoric(name: str, model: AleatoricEntry) -> Aleatoric:
    return Aleatoric(name, name if model.trainer is None else model.trainer, model.predict.options())


def _models(entry: DatasetEntry) -> dict[str, tuple[str, str]]:
    """All combinations of a dataset, by the name that ``exclude`` has for them."""
    return {f"{name}/{method}": (name, method) for name in entry.aleatoric for method in entry.epistemic}


def _expanded(folder: str) -> str:
    """A folder with ~ and $NAME as a shell reads them; ``KeyError`` or ``ValueError`` where they are not known."""
    expanded = os.path.expanduser(Template(folder).substitute(os.environ))
    if expanded.startswith("~"):
        raise ValueError(folder)
    return expanded


def _mistakes(file: Path, top: StudyFile, datasets: Sequence[DatasetEntry]) -> Iterator[_Mistake]:
    """What is wrong though each value by itself is right.

    Parameters
    ----------
    file
        Path of the file.
    top
        Its content.
    datasets
        Its datasets' entries, with what it says of all.
    """
    for key, folder in (("output", top.output), ("trainers", top.trainers)):
        try:
            expanded = _expanded(folder or ".")
        except (KeyError, ValueError):
            yield (key,), f"has {shown(folder)}, whose ~ or $NAME is not known; set it, or write $$ for a dollar"
        else:
            if key == "trainers" and folder is not None and os.pathsep in str((file.parent / expanded).resolve()):
                yield (
                    (key,),
                    f"has {os.pathsep!r} in its path, which parts the folders of {VARIABLE}; rename the folder",
                )
    for index, (written, entry) in enumerate(zip(top.datasets, datasets, strict=True)):
        yield from _mistakes_of_dataset(written, entry, ("datasets", index))
    numbers = [entry.dataset[: len("Dataset511")] for entry in datasets]
    for twice in dict.fromkeys(number for number in numbers if numbers.count(number) > 1):
        yield ("datasets",), f"has {twice} twice; join the two entries"


def _mistakes_of_dataset(written: DatasetEntry, entry: DatasetEntry, path: _Path) -> Iterator[_Mistake]:
    def place(name: str) -> _Path:
        return (*path, name) if name in written.model_fields_set else (name,)

    models = _models(entry)
    if not models:
        yield (*path, "aleatoric"), "and epistemic must name at least one each, here or for all datasets"
        return
    for name in entry.exclude:
        if name not in models:
            yield place("exclude"), f"has {shown(name)}, which is no ALEATORIC/EPISTEMIC of this study"
    if models.keys() <= set(entry.exclude):
        yield place("exclude"), "leaves nothing to study"
    kept = [EPISTEMIC_METHODS[method] for name, (_, method) in models.items() if name not in entry.exclude]
    most_demanding = max(kept, key=lambda method: method.least_folds, default=NO_METHOD)
    if entry.seeds is None:
        yield (*path, "seeds"), "is missing: write how often each model is trained, such as 5"
    elif entry.seeds < most_demanding.least_folds:
        least, name = most_demanding.least_folds, most_demanding.name
        article = "an" if name[0] in "aeiou" else "a"
        yield place("seeds"), f"must be at least {least} for {article} {name}, as its members; got {entry.seeds}"
    if entry.plans is None and entry.planner not in PLANS:
        yield (*path, "plans"), f"is missing: write what {entry.planner} calls its plans"
    for name, pair in models.items():
        if name not in entry.exclude and (mistake := _too_many_samples(entry, *pair)) is not None:
            yield (*place("predict"), "save_samples"), mistake
    for name in entry.ood:
        if name in _RESERVED_SETS or name in entry.corruptions:
            yield (*path, "ood"), f": the name {name} has another meaning here; choose another one"


def _too_many_samples(entry: DatasetEntry, name: str, method: str) -> str | None:
    """What is wrong where a deterministic network is asked for more segmentations than it has members."""
    model = entry.aleatoric[name] or AleatoricEntry()
    trainer = entry.trainer.format(aleatoric=name if model.trainer is None else model.trainer, epistemic="")
    options = entry.predict.options() | model.predict.options()
    wanted, found = options.get("save_samples", 0), EPISTEMIC_METHODS[method]
    # Several views of a member are samples of their own where they are not blended.
    of_members = options.get("tiles_and_views", "blend") == "blend" or options.get("disable_tta", False)
    if not trainer.startswith(_DETERMINISTIC) and trainer != _NNUNET_TRAINER:
        return None
    if options.get("aleatoric") == "tta" or not of_members:
        return None
    if found.trainer_suffix and NUM_MEMBERS not in found.options:
        return None  # as many as its trainer made
    folds = (entry.seeds or 1) if found.least_folds > 1 else 1
    of_fold = options.get(NUM_MEMBERS.name, NUM_MEMBERS.default) if NUM_MEMBERS in found.options else 1
    members = folds * int(of_fold or 1)
    if wanted <= members:
        return None
    return (
        f"is {wanted}, but {name}/{method} is deterministic and has one sample per member, {members}; ask for fewer, "
        f"for {name} alone by aleatoric.{name}.predict, or write aleatoric: tta there"
    )


def _worded(error: ErrorDetails) -> _Mistake:
    """What pydantic says of a value, in the words of a study; rules of the schema have theirs."""
    kind, path, value = error["type"], error["loc"], error["input"]
    if path == ("datasets",):
        found = None if kind == "missing" else value
        return path, f"must be a list with an entry `- dataset: NUMBER` per dataset, got {shown(found)}"
    if path[-1:] == ("[key]",):
        path, kind = path[:-1], kind if isinstance(value, str) else "invalid_key"
    if kind == "invalid_key":
        return (*path[:-1], str(value)[:60]), f": a key must be text, got {shown(value)}; put it into quotes"
    if kind == "missing":
        return path, f"is missing: write {_MISSING[str(path[-1])]}"
    return path, _TEXTS.get(kind, "{message}").format(value=shown(value), message=error["msg"])


def _as_error(file: Path, source: YamlFile, mistakes: Sequence[_Mistake]) -> ValueError:
    # One thing that the study says of all datasets may be wrong for several of them.
    lines = sorted({(source.line(path), _sentence(path, text)) for path, text in mistakes})
    if len(lines) == 1:
        return ValueError(f"{file}, line {lines[0][0]}: {lines[0][1]}")
    return ValueError("\n  ".join([f"{file} has {len(lines)} mistakes:", *(f"line {n}: {text}" for n, text in lines)]))


def _sentence(path: _Path, text: str) -> str:
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
    return f"{key or 'the file'}{'' if text.startswith(':') else ' '}{text}"
