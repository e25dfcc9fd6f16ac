"""The jobs of one dataset, from its conversion to the evaluation of each model.

A training run serves all epistemic methods that can share it, so (dataset, trainer, seed) names one; an ensemble needs
the runs of all seeds and has one result.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_stochastic.epistemic import EPISTEMIC_METHODS, EPISTEMIC_OPTIONS
from nnunet_stochastic.patients import PATIENTS_FILE
from nnunet_stochastic.study import presence
from nnunet_stochastic.study.checks import Folders, convert_command
from nnunet_stochastic.study.description import PREDICT_OPTIONS, Aleatoric, Dataset, Study
from nnunet_stochastic.study.job import Command, Job
from nnunet_stochastic.study.splits import has_splits

__all__ = ["DatasetJobs", "seed_label", "seeds_of"]

INIT_VARIABLE = "nnUNet_stochastic_init"
SEED_VARIABLE = "nnUNet_stochastic_seed"
ALL_SEEDS = "all_seeds"


def seeds_of(dataset: Dataset, method: str) -> list[tuple[int, ...]]:
    """The seeds of each result of a method."""
    seeds = tuple(range(dataset.seeds))
    return [seeds] if EPISTEMIC_METHODS[method].least_folds > 1 else [(seed,) for seed in seeds]


def seed_label(seeds: tuple[int, ...]) -> str:
    return ALL_SEEDS if len(seeds) > 1 else f"seed_{seeds[0]}"


class DatasetJobs:
    """The jobs of one dataset."""

    def __init__(self, study: Study, dataset: Dataset, folders: Folders, environment: Mapping[str, str]) -> None:
        self.study, self.dataset, self.environment = study, dataset, environment
        self.name = folders.name_of(dataset.dataset) or dataset.dataset
        self.raw = folders.raw / self.name
        self.preprocessed = folders.preprocessed / self.name
        self.results = folders.results / self.name
        self.model = ("-d", self.name, "-p", dataset.plans, "-c", dataset.configuration, "-device", study.device)
        self.sets = {
            "ID": (self.raw / "imagesTs", "Ts"),
            "validation": (study.output / "sets" / self.name / "validation", "Tr"),
            **{shift: (study.output / "sets" / self.name / shift, "Ts") for shift in dataset.corruptions},
            **{shift: (self.raw / f"imagesOOD_{shift}", f"OOD_{shift}") for shift in dataset.ood},
        }
        """Images of each set, and the ending of its references' folders."""

    def all(self) -> Iterator[Job]:
        if self.dataset.convert is not None:
            yield self._convert()
        yield self._plan()
        yield from (self._make_set(name) for name in ("validation", *self.dataset.corruptions))
        trainers = dict.fromkeys(self.dataset.trainer_of(*model) for model in self.dataset.models)
        if (start := self.dataset.start_from) is not None:
            trainers = {start: None, **trainers}
        for trainer in trainers:
            yield from (self._train(trainer, seed) for seed in range(self.dataset.seeds))
        for model, method in self.dataset.models:
            for seeds in seeds_of(self.dataset, method):
                yield from (self._predict(model, method, seeds, name) for name in self.sets)
                yield self._calibrate(model, method, seeds)
                yield self._evaluate(model, method, seeds)

    def _job(self, kind: str, name: str, commands: Sequence[Command], **more: Any) -> Job:
        return Job(kind, name, tuple(commands), dataset=self.name, **more)

    def _convert(self) -> Job:
        argv = convert_command(self.dataset, self.environment)
        made = (self.raw / "dataset.json",)
        # The converters write it last.
        command = Command(argv, is_done=lambda interrupted: presence.are_complete(made))
        return self._job("convert", self.dataset.dataset, [command], products=made)

    def _plan(self) -> Job:
        dataset = self.dataset
        processes = str(self.study.resource("plan", "threads"))
        plan = ["nnUNetv2_plan_and_preprocess", "-d", str(int(self.name[7:10])), "-c", dataset.configuration]
        plan += ["--verify_dataset_integrity", "--no_pp", "-npfp", processes]
        plan += [] if dataset.planner is None else ["-pl", dataset.planner]
        plan += ["-overwrite_plans_name", dataset.plans] if dataset.overwrite_plans_name else []
        preprocess = ["nnUNetv2_preprocess", "-d", str(int(self.name[7:10])), "-plans_name", dataset.plans]
        preprocess += ["-c", dataset.configuration, "-np", processes]
        where = (self.raw, self.preprocessed, dataset.plans, dataset.configuration)
        commands = [
            # Plans that are there may have been changed by hand.
            Command(tuple(plan), is_done=lambda interrupted: presence.has_plans(self.preprocessed, dataset.plans)),
            Command(
                tuple(preprocess), is_done=lambda interrupted: not interrupted and presence.is_preprocessed(*where)
            ),
        ]
        if dataset.raters:
            raters = (
                "-d",
                self.name,
                "-p",
                dataset.plans,
                "-c",
                dataset.configuration,
                "-np",
                processes,
                "--disable_progress_bar",
            )
            commands.append(Command(("nnunet_stochastic_preprocess_raters", *raters)))
        if dataset.seeds > 1:
            argv = (*_python("splits"), self.name, str(dataset.seeds))
            splits = self.preprocessed / "splits_final.json"
            commands.append(Command(argv, is_done=lambda interrupted: has_splits(splits, dataset.seeds)))
        needs = () if dataset.convert is None else (("convert", dataset.dataset),)
        products = (self.preprocessed / f"{dataset.plans}.json", self.preprocessed / "dataset.json")
        return self._job("plan", self.name, commands, needs=needs, products=products)

    def _make_set(self, name: str) -> Job:
        folder = self.sets[name][0]
        if name == "validation":
            argv = (*_python("validation_images"), self.name, str(folder))
            products: tuple[Path, ...] = (folder,)
        else:
            images = ("-i", str(self.raw / "imagesTs"), "-o", str(folder.parent), "--shifts", name)
            processes = ("-np", str(self.study.resource("sets", "threads")))
            argv = ("nnunet_stochastic_corrupt", *images, *processes, "--continue_corruption", "--disable_progress_bar")
            products = (folder / "manifest.json",)
        needs = (("plan", self.name),)
        label = f"{self.name}/{name}"
        return self._job("sets", label, [Command(argv)], needs=needs, products=products, folder=folder)

    def _train(self, trainer: str, seed: int) -> Job:
        dataset, start = self.dataset, self.dataset.start_from
        argv = ["nnUNetv2_train", self.name, dataset.configuration, str(seed), "-tr", trainer, "-p", dataset.plans]
        argv += ["-device", self.study.device, "--c"]
        if (gpus := self.study.resource("train", "gpu")) > 1:
            argv += ["-num_gpus", str(gpus)]
        made = (self._checkpoint(trainer, seed),)
        needs, environment = [("plan", self.name)], {SEED_VARIABLE: "0"}
        if start is not None and start != trainer:
            needs.append(("train", self._training(start, seed)))
            environment[INIT_VARIABLE] = str(self._checkpoint(start, seed))
        commands = [Command(tuple(argv), is_done=lambda interrupted: presence.are_complete(made))]
        return self._job(
            "train",
            self._training(trainer, seed),
            [*commands, *self._fits(trainer, seed)],
            needs=tuple(needs),
            products=made,
            environment=environment,
            trainer=trainer,
        )

    def _fits(self, trainer: str, seed: int) -> list[Command]:
        """What makes the posteriors of a training that it does not leave itself."""
        methods = (EPISTEMIC_METHODS[way] for model, way in self.dataset.models if self._trains(trainer, model, way))
        programs = dict.fromkeys(method.fit_command for method in methods if method.fit_command)
        options = ("-tr", trainer, "-f", str(seed), "--overwrite", "--disable_progress_bar")
        return [Command((program, *self.model, *options)) for program in programs]

    def _trains(self, trainer: str, model: Aleatoric, method: str) -> bool:
        return self.dataset.trainer_of(model, method) == trainer

    def _predict(self, model: Aleatoric, method: str, seeds: tuple[int, ...], images: str) -> Job:
        trainer = self.dataset.trainer_of(model, method)
        label = f"{self._label(model, method, seeds)}/{images}"
        folder = self.study.output / "predictions" / label
        argv = ["nnunet_stochastic_predict", "-i", str(self.sets[images][0]), "-o", str(folder), *self.model]
        argv += ["-tr", trainer, "-f", *map(str, seeds), "--epistemic", method]
        argv += _options({**self.dataset.predict, **model.predict}, method, validation=images == "validation")
        argv += ["--continue_prediction", "--disable_progress_bar"]
        if images != "validation":  # the temperature is the one thing that would need them
            argv.append("--save_probabilities")
        needs = [("train", self._training(trainer, seed)) for seed in seeds]
        if images == "validation" or images in self.dataset.corruptions:
            needs.append(("sets", f"{self.name}/{images}"))
        return self._job(
            "predict",
            label,
            [Command(tuple(argv))],
            needs=tuple(needs),
            products=(folder / "uncertainty.json",),
            folder=folder,
            trainer=trainer,
        )

    def _calibrate(self, model: Aleatoric, method: str, seeds: tuple[int, ...]) -> Job:
        label = self._label(model, method, seeds)
        folder = self.study.output / "predictions" / label / "validation"
        argv = ["nnunet_stochastic_determine_calibration", "-val", str(folder), "-gt", str(self.raw / "labelsTr")]
        argv += ["-gt_raters", str(self.raw / "ratersTr")] if self.dataset.raters else []
        argv += self._groups()
        argv += ["-np", str(self.study.resource("calibrate", "threads")), "--disable_progress_bar"]
        needs = (("predict", f"{label}/validation"),)
        made = (folder / "calibration.json",)
        return self._job("calibrate", label, [Command(tuple(argv))], needs=needs, products=made)

    def _groups(self) -> list[str]:
        """The option that names the patients of the data set, where it tells."""
        patients = self.raw / PATIENTS_FILE
        return ["--groups", str(patients)] if patients.is_file() else []

    def _evaluate(self, model: Aleatoric, method: str, seeds: tuple[int, ...]) -> Job:
        label = self._label(model, method, seeds)
        folder = self.study.output / "evaluations" / label
        predictions = self.study.output / "predictions" / label
        shifts = {name: ending for name, (_, ending) in self.sets.items() if name not in ("ID", "validation")}
        argv = ["nnunet_stochastic_evaluate", "-pred", str(predictions / "ID"), "-gt", str(self.raw / "labelsTs")]
        argv += ["-gt_raters", str(self.raw / "ratersTs")] if self.dataset.raters else []
        if shifts:
            argv += ["-ood", *(f"{name}={predictions / name}" for name in shifts)]
            argv += ["-ood_gt", *(f"{name}={self.raw / f'labels{ending}'}" for name, ending in shifts.items())]
            if self.dataset.raters:
                raters = (f"{name}={self.raw / f'raters{ending}'}" for name, ending in shifts.items())
                argv += ["-ood_gt_raters", *raters]
        argv += ["-val", str(predictions / "validation"), "--convention", self.study.convention, "-o", str(folder)]
        argv += self._groups()
        argv += ["-np", str(self.study.resource("evaluate", "threads"))]
        argv += ["--continue_evaluation", "--no_pictures", "--disable_progress_bar"]
        needs = (("calibrate", label), *(("predict", f"{label}/{name}") for name in self.sets))
        products = tuple(folder / file for file in ("summary.json", "cases.csv", "images.csv", "scores.csv"))
        return self._job(
            "evaluate",
            label,
            [Command(tuple(argv))],
            needs=needs,
            products=products,
            folder=folder,
            trainer=self.dataset.trainer_of(model, method),
        )

    def _label(self, model: Aleatoric, method: str, seeds: tuple[int, ...]) -> str:
        return f"{self.name}/{model.name}/{method}/{seed_label(seeds)}"

    def _training(self, trainer: str, seed: int) -> str:
        return f"{self.name}/{trainer}/seed_{seed}"

    def _checkpoint(self, trainer: str, seed: int) -> Path:
        folder = f"{trainer}__{self.dataset.plans}__{self.dataset.configuration}"
        return self.results / folder / f"fold_{seed}" / "checkpoint_final.pth"


def _options(predict: Mapping[str, object], method: str, *, validation: bool) -> list[str]:
    """Options of nnunet_stochastic_predict; those that a method has no use for are left out."""
    unused = {option.name for option in EPISTEMIC_OPTIONS if option not in EPISTEMIC_METHODS[method].options}
    argv = []
    for name, value in predict.items():
        if name in unused or (name == "save_samples" and validation):
            continue
        if isinstance(value, bool):
            argv += [PREDICT_OPTIONS[name]] if value else []
        else:
            argv += [PREDICT_OPTIONS[name], f"{value:g}" if isinstance(value, float) else str(value)]
    return argv


def _python(module: str) -> tuple[str, ...]:
    return sys.executable, "-m", f"nnunet_stochastic.study.{module}"
