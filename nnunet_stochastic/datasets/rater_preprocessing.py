"""Preprocess all raters of a dataset: once, in threads, each case complete or absent.

Each image is read once for its A raters and all its configurations. A case is redone when its files, the plans or the
labels have changed since, and skipped when it is complete, so a command that was interrupted goes on where it was.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import load_pickle, write_pickle
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_stochastic.datasets.folders import dataset_folders
from nnunet_stochastic.datasets.rater_cases import (
    RaterCase,
    check_channels,
    check_masks,
    count_channels,
    find_rater_cases,
)
from nnunet_stochastic.datasets.rater_masks import RaterImage
from nnunet_stochastic.evaluation import EvaluatedLabels, map_in_threads
from nnunet_stochastic.io.schemas import PlansJson, read_dataset_json
from nnunet_stochastic.io.staging import remove_leftovers, staged_files
from nnunet_stochastic.io.text import read_json
from nnunet_stochastic.plans import find_label_manager, find_reader_writer, read_configuration
from nnunet_stochastic.training.raters import RaterFolder, count_raters

__all__ = ["RaterPreprocessing"]

_CROP = ("shape_before_cropping", "bbox_used_for_cropping")


@dataclass
class RaterPreprocessing:
    """What has to be done for one dataset, found by ``find``: check it, then run it.

    Attributes
    ----------
    dataset_name
        Name of the dataset in nnU-Net.
    plans, dataset_json
        Plans and description of the dataset in nnUNet_preprocessed.
    configurations
        Configurations to preprocess the raters for, by name, with the folder of each.
    work
        Incomplete cases, with the configurations in which they are.
    num_complete
        Number of cases that need nothing.
    problems
        Reasons why nothing can be run, one line per finding.
    failures
        Cases whose files cannot be read, and why; the others are not affected.
    """

    dataset_name: str
    plans: PlansManager
    dataset_json: dict[str, Any]
    configurations: dict[str, tuple[ConfigurationManager, RaterFolder]]
    work: list[tuple[RaterCase, list[str]]] = field(default_factory=list)
    num_complete: int = 0
    problems: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    @classmethod
    def find(
        cls, dataset: str, *, plans_name: str = "nnUNetPlans", configurations: list[str] | None = None
    ) -> RaterPreprocessing:
        """Compare what is there with what there should be.

        Parameters
        ----------
        dataset
            Name or number of the dataset.
        plans_name
            Name of the plans in nnUNet_preprocessed.
        configurations
            Names of configurations; default: those of the plans whose images are preprocessed.
        """
        raw, preprocessed = dataset_folders(dataset)
        dataset_json, plans = _read_descriptions(raw, preprocessed, plans_name)
        chosen = _choose_configurations(preprocessed, plans, dataset_json, configurations)
        found = cls(raw.name, plans, dataset_json, chosen)
        cases, missing = find_rater_cases(raw, dataset_json, count_raters(dataset_json))
        for case in cases:
            problems = missing.get(case.name, [])
            for configuration, raters in found.configurations.values():
                if not (properties := _properties_file(configuration, raters, case)).is_file():
                    problems.append(
                        f"{case.name}: not preprocessed, {properties} is missing; run nnUNetv2_preprocess first"
                    )
            found.problems += problems
            if not problems:
                sources = case.sources()
                incomplete = [
                    key
                    for key, (_, raters) in found.configurations.items()
                    if not raters.is_complete(case.name, sources)
                ]
                if incomplete:
                    found.work.append((case, incomplete))
                else:
                    found.num_complete += 1
        return found

    @property
    def output_folders(self) -> list[Path]:
        """Folders that ``run`` writes: of the configurations in which cases are incomplete."""
        names = {name for _, incomplete in self.work for name in incomplete}
        return [self.configurations[name][1].path for name in sorted(names)]

    def check(self, *, num_threads: int = 1, show_progress: bool = False) -> None:
        """Read the masks of all incomplete cases; adds to ``problems`` and ``failures``."""
        labels = EvaluatedLabels.from_dataset_json(self.dataset_json)
        reader = self.plans.image_reader_writer_class()

        def check(item: tuple[RaterCase, list[str]]) -> list[str] | Exception:
            case, names = item
            try:
                properties = _read_properties(_properties_file(*self.configurations[names[0]], case))
                shape = tuple(properties["shape_before_cropping"][axis] for axis in self.plans.transpose_backward)
                return [
                    *check_channels(case, count_channels(self.dataset_json), reader),
                    *check_masks(case, labels, reader, shape, properties),
                ]
            except Exception as error:  # readers raise what their libraries raise
                return error

        results = map_in_threads(
            check,
            self.work,
            num_threads=num_threads,
            description=f"{self.dataset_name}: checking",
            show_progress=show_progress,
        )
        for (case, _), result in zip(self.work, results, strict=True):
            if isinstance(result, Exception):
                self.failures[case.name] = _reason(result)
            else:
                self.problems += result

    def run(self, *, num_threads: int = 1, show_progress: bool = False, verbose: bool = False) -> int:
        """Preprocess the incomplete cases; returns how many, and adds those that failed to ``failures``."""
        if self.problems:
            raise ValueError(f"{self.dataset_name} has problems: {'; '.join(self.problems)}")
        for case, names in self.work:  # what is there of them is outdated, and trainers must not take it
            for name in names:
                self.configurations[name][1].record(case.name).unlink(missing_ok=True)
        for _, raters in self.configurations.values():
            remove_leftovers(raters.path, {case.name for case, _ in self.work})
        readable = [(case, names) for case, names in self.work if case.name not in self.failures]

        def preprocess(item: tuple[RaterCase, list[str]]) -> Exception | None:
            try:
                self._preprocess_case(*item, verbose=verbose)
            except Exception as error:  # whatever went wrong with this case must not end the others
                return error
            return None

        errors = map_in_threads(
            preprocess,
            readable,
            num_threads=num_threads,
            description=f"{self.dataset_name}: preprocessing raters",
            show_progress=show_progress,
        )
        failed = {case.name: _reason(e) for (case, _), e in zip(readable, errors, strict=True) if e is not None}
        self.failures |= failed
        return len(readable) - len(failed)

    def _preprocess_case(self, case: RaterCase, names: list[str], *, verbose: bool) -> None:
        sources = case.sources()  # before they are read: a file that changes meanwhile is seen as changed next time
        image = RaterImage(case.images, self.plans, self.dataset_json, verbose=verbose)
        for name in names:
            configuration, raters = self.configurations[name]
            raters.path.mkdir(exist_ok=True)
            files = [Path(file.name) for file in raters.files(case.name)]
            with staged_files(raters.path, files, name=case.name) as staging:
                for rater, path in enumerate(case.masks):
                    segmentation, properties = image.preprocess(path, configuration)
                    _check_same_crop(properties, _properties_file(configuration, raters, case), path)
                    segmentation = segmentation.astype(np.int16, copy=False)  # as nnU-Net stores it
                    blocks, chunks = comp_blosc2_params(
                        segmentation.shape, tuple(configuration.patch_size), segmentation.itemsize
                    )
                    truncated = str(staging / raters.mask(case.name, rater).stem)
                    nnUNetDatasetBlosc2.save_seg(segmentation, truncated, chunks_seg=chunks, blocks_seg=blocks)
                    write_pickle(properties["class_locations"], f"{truncated}.pkl")
                content = {"sizes": raters.sizes(case.name, staging), "sha256": raters.sha256(case.name, staging)}
                record = json.dumps({"settings": raters.settings, "sources": sources, **content})
                (staging / files[-1]).write_text(record, encoding="utf-8")


def _read_descriptions(raw: Path, preprocessed: Path, plans_name: str) -> tuple[dict[str, Any], PlansManager]:
    """dataset.json and plans that trainers read, which must know as many raters as the raw data."""
    plans_file = preprocessed / f"{plans_name}.json"
    files = (raw / "dataset.json", preprocessed / "dataset.json", plans_file)
    if absent := [str(file) for file in files if not file.is_file()]:
        raise FileNotFoundError(f"{', '.join(absent)}: no such file; plan and preprocess with nnU-Net first")
    raw_json, dataset_json = (read_dataset_json(file) for file in files[:2])
    num_raw, num_raters = count_raters(raw_json), count_raters(dataset_json)
    if not num_raw:
        raise ValueError(f'{files[0]} has no "num_raters": A, so there are no raters to preprocess; add it')
    if num_raw != num_raters:
        raise ValueError(
            f"{files[0]} has num_raters {num_raw}, {files[1]}, which trainers read, has {num_raters or 'none'}; copy "
            "the first over the second"
        )
    plans = PlansManager(read_json(plans_file, PlansJson, remedy="plan again with nnU-Net"))
    find_reader_writer(f"{plans_file}: image_reader_writer", plans.plans["image_reader_writer"])
    find_label_manager(f"{plans_file}: label_manager", plans.plans.get("label_manager", "LabelManager"))
    return dataset_json, plans


def _choose_configurations(
    preprocessed: Path, plans: PlansManager, dataset_json: dict[str, Any], names: list[str] | None
) -> dict[str, tuple[ConfigurationManager, RaterFolder]]:
    if names is not None and (unknown := [name for name in names if name not in plans.available_configurations]):
        raise ValueError(
            f"{plans.plans_name} has no configuration {', '.join(unknown)}, only "
            f"{', '.join(plans.available_configurations)}; choose with -c"
        )
    chosen: dict[str, tuple[ConfigurationManager, RaterFolder]] = {}
    absent = []
    for name in names or plans.available_configurations:
        configuration = read_configuration(preprocessed / f"{plans.plans_name}.json", plans, name)
        raters = RaterFolder.of_configuration(preprocessed, plans, configuration, dataset_json)
        if not (preprocessed / configuration.data_identifier).is_dir():
            absent.append(name)
        elif raters.path not in [other.path for _, other in chosen.values()]:  # a cascade's stages may share data
            chosen[name] = (configuration, raters)
    if not chosen or (names is not None and absent):
        raise ValueError(
            f"{plans.dataset_name}: {', '.join(absent)} of {plans.plans_name} is not preprocessed in {preprocessed}; "
            "run nnUNetv2_preprocess first"
        )
    return chosen


def _properties_file(configuration: ConfigurationManager, raters: RaterFolder, case: RaterCase) -> Path:
    """What nnU-Net stored with the preprocessed image."""
    return raters.path.with_name(configuration.data_identifier) / f"{case.name}.pkl"


def _read_properties(path: Path) -> dict[str, Any]:
    """What nnU-Net stored with a preprocessed image; ``ValueError`` if the file is damaged."""
    try:
        properties = load_pickle(str(path))
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged pickle raises anything
        raise ValueError(f"{path} cannot be read: {error}; run nnUNetv2_preprocess again") from error
    if not isinstance(properties, dict) or (missing := [key for key in _CROP if key not in properties]):
        lacking = ", ".join(missing) if isinstance(properties, dict) else "its properties"
        raise ValueError(f"{path} lacks {lacking}; run nnUNetv2_preprocess again")
    return properties


def _check_same_crop(properties: dict[str, Any], image_properties: Path, path: Path) -> None:
    """Raise unless the mask was cropped as the preprocessed image was."""
    stored = _read_properties(image_properties)
    for key in _CROP:
        if not np.array_equal(properties[key], stored[key]):
            raise ValueError(
                f"{path}: {key} is {properties[key]}, {stored[key]} when nnU-Net preprocessed the image, which has "
                "changed since; run nnUNetv2_preprocess again"
            )


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
