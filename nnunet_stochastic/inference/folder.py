"""Predict a folder: preprocessing ahead, the network, export behind, each at its own pace.

Preprocessing and export run in threads: both spend their time in code that releases the interpreter's lock, and a
process would first import everything again. Both queues are bounded, so memory does not grow with the number of cases.
A case that fails is reported and the others go on.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import save_pickle
from torch import Tensor
from tqdm import tqdm

from nnunet_stochastic.inference.cases import Case, OutputFolder, cases_from_files, find_cases
from nnunet_stochastic.inference.images import check_stored_values, map_ending, voxel_volume_ml, write_map
from nnunet_stochastic.inference.predictor import StochasticPredictor
from nnunet_stochastic.inference.record import Record, write_json
from nnunet_stochastic.inference.restore import GridPrediction, Prediction

__all__ = ["predict_folder"]


def predict_folder(
    predictor: StochasticPredictor,
    images: str | Path | Sequence[Sequence[str | Path]],
    output_folder: str | Path,
    *,
    save_probabilities: bool = False,
    continue_prediction: bool = False,
    previous_stage_folder: str | Path | None = None,
    preprocessing_threads: int = 3,
    export_threads: int = 3,
    num_parts: int = 1,
    part_id: int = 0,
    progress: bool = False,
) -> dict[str, str]:
    """Predict all cases of a folder.

    Parameters
    ----------
    predictor
        Model and options.
    images
        A folder of images named as for nnU-Net, or lists of files, one list per case.
    output_folder
        Where to write; made if missing.
    save_probabilities
        Also write CASE.npz and CASE.pkl in nnU-Net's format.
    continue_prediction
        Skip the cases that are complete.
    previous_stage_folder
        For a cascade: segmentations of the previous stage.
    preprocessing_threads, export_threads
        Threads beside the one that runs the network; 0 does the work in that one.
    num_parts, part_id
        Predict every ``num_parts``-th case from the ``part_id``-th on.
    progress
        Show bars over cases and tiles.

    Returns
    -------
    dict
        Cases that failed and why; empty if all went well.
    """
    if not 0 <= part_id < num_parts:
        raise ValueError(f"part_id must be in 0 … num_parts - 1, got part {part_id} of {num_parts}")
    if min(preprocessing_threads, export_threads) < 0:
        raise ValueError(f"numbers of threads must not be negative, got {preprocessing_threads} and {export_threads}")
    model = predictor.model
    stage = model.configuration_manager.previous_stage_name
    if (previous_stage_folder is None) != (stage is None):
        raise ValueError(
            f"{model.configuration_name} is no cascade, it takes no predictions of a previous stage"
            if stage is None
            else f"{model.configuration_name} is a cascade: predict the images with {stage} first and name that folder "
            "with -prev_stage_predictions"
        )
    file_ending = model.dataset_json["file_ending"]
    if isinstance(images, (str, Path)):
        cases = find_cases(
            images,
            file_ending=file_ending,
            num_channels=model.num_image_channels,
            previous_stage_folder=previous_stage_folder,
        )
    else:
        cases = cases_from_files(images, file_ending=file_ending, previous_stage_folder=previous_stage_folder)
    reader_writer = model.plans_manager.image_reader_writer_class
    output = OutputFolder(
        Path(output_folder), file_ending, map_ending(reader_writer, file_ending), predictor.maps, save_probabilities
    )
    output.create()
    settings = {**predictor.settings(), "save_probabilities": save_probabilities}
    record = Record(output.folder, settings, resume=continue_prediction, num_parts=num_parts, part_id=part_id)
    _copy_model_files(predictor, images, output, num_parts, part_id)

    cases = cases[part_id::num_parts]
    if continue_prediction:
        cases = [case for case in cases if not output.is_complete(case.name)]
    failures = _Pipeline(predictor, output, record).run(cases, preprocessing_threads, export_threads, progress)
    record.finish()
    return failures


class _Pipeline:
    """The three stages of a case, and what failed in any of them."""

    def __init__(self, predictor: StochasticPredictor, output: OutputFolder, record: Record) -> None:
        self.predictor, self.output, self.record = predictor, output, record
        self.reader_writer = predictor.model.plans_manager.image_reader_writer_class
        self.failures: dict[str, str] = {}

    def run(
        self, cases: Sequence[Case], preprocessing_threads: int, export_threads: int, progress: bool
    ) -> dict[str, str]:
        """Predict the cases; returns what failed."""
        exports: deque[tuple[Case, Future]] = deque()
        with (
            _executor(preprocessing_threads) as preprocessing,
            _executor(export_threads) as exporting,
            tqdm(total=len(cases), desc="cases", disable=not progress) as bar,
        ):

            def finish_export() -> None:
                case, export = exports.popleft()
                with self._reporting(case):
                    export.result()
                bar.update()

            for case, preprocessed in _ahead(preprocessing, self.read, cases, max(1, preprocessing_threads)):
                bar.set_postfix_str(case.name)
                while len(exports) >= max(1, export_threads):
                    finish_export()
                grid = None
                with self._reporting(case):
                    data, properties = preprocessed.result()
                    grid = self.predictor.predict_grid(data, progress=progress)
                if grid is None:
                    bar.update()
                    continue
                exports.append((case, exporting.submit(self.export, case, grid, properties)))
                del preprocessed, data, grid, properties
            while exports:
                finish_export()
        return self.failures

    def read(self, case: Case) -> tuple[Tensor, dict[str, Any]]:
        """Read and preprocess a case."""
        for file in case.files:
            check_stored_values(file)
        reader = self.reader_writer()
        image, properties = reader.read_images([str(file) for file in case.files])
        previous = None if case.previous_stage is None else reader.read_seg(str(case.previous_stage))[0]
        return self.predictor.preprocess(image, properties, previous_stage=previous)

    def export(self, case: Case, grid: GridPrediction, properties: dict[str, Any]) -> None:
        """Write all files of a case: complete, or none that counts as complete."""
        prediction = self.predictor.restore(grid, properties, probabilities=self.output.probabilities)
        segmentation = self.output.segmentation(case.name)
        with tempfile.TemporaryDirectory(dir=self.output.folder, prefix=f".{case.name}.") as temporary:
            folder = Path(temporary)
            for name, array in prediction.maps.items():
                (folder / name).mkdir()
                write_map(array, folder / name / f"{case.name}{self.output.map_ending}", properties, self.reader_writer)
            if prediction.probabilities is not None:
                np.savez_compressed(folder / f"{case.name}.npz", probabilities=prediction.probabilities)
                save_pickle(properties, str(folder / f"{case.name}.pkl"))
            self.reader_writer().write_seg(prediction.segmentation, str(folder / segmentation.name), properties)

            segmentation.unlink(missing_ok=True)  # of an earlier prediction: it would mark a mixture as complete
            written = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
            for path in written:
                if path.name != segmentation.name or path.parent != Path():
                    os.replace(folder / path, self.output.folder / path)
            self.record.add(case.name, self._entry(case, prediction, properties))
            os.replace(folder / segmentation.name, segmentation)

    def _entry(self, case: Case, prediction: Prediction, properties: dict[str, Any]) -> dict[str, Any]:
        entry: dict[str, Any] = {"input_files": [str(file.resolve()) for file in case.files]}
        for name, array in prediction.maps.items():
            entry[f"mean_{name}"] = float(array.mean(dtype=np.float64))
        voxel_ml = voxel_volume_ml(properties, self.reader_writer)
        if voxel_ml is not None:
            counts = np.bincount(prediction.segmentation.ravel())
            entry["volume_ml"] = {
                name: float(sum(counts[label] for label in np.atleast_1d(labels) if label < len(counts)) * voxel_ml)
                for name, labels in self.predictor.model.dataset_json["labels"].items()
                if name not in ("background", "ignore")
            }
        return entry

    @contextmanager
    def _reporting(self, case: Case) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # readers raise what their libraries raise: any Exception is this case's failure
            self.failures[case.name] = str(error) or type(error).__name__
            tqdm.write(f"case {case.name} failed: {self.failures[case.name]}", file=sys.stderr)


class _InlineExecutor(Executor):
    """Runs each call where it is submitted."""

    def submit(self, function: Callable, /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:  # raised again where the result is asked for
            future.set_exception(error)
        return future


def _executor(num_threads: int) -> Executor:
    return ThreadPoolExecutor(num_threads) if num_threads else _InlineExecutor()


def _ahead(executor: Executor, function: Callable, cases: Sequence[Case], count: int) -> Iterator[tuple[Case, Future]]:
    """Results of ``function`` in the order of the cases, at most ``count`` of them computed ahead."""
    remaining, running = deque(cases), deque()
    while remaining or running:
        while remaining and len(running) < count:
            running.append((remaining[0], executor.submit(function, remaining.popleft())))
        yield running.popleft()


def _copy_model_files(
    predictor: StochasticPredictor, images: Any, output: OutputFolder, num_parts: int, part_id: int
) -> None:
    """The files that nnU-Net's predictor leaves beside its predictions; its other commands read them."""
    arguments = {
        "list_of_lists_or_source_folder": str(images)
        if isinstance(images, (str, Path))
        else [list(map(str, i)) for i in images],
        "output_folder_or_list_of_truncated_output_files": str(output.folder),
        "save_probabilities": output.probabilities,
        "num_parts": num_parts,
        "part_id": part_id,
    }
    write_json(output.folder / "predict_from_raw_data_args.json", arguments)
    write_json(output.folder / "dataset.json", predictor.model.dataset_json)
    write_json(output.folder / "plans.json", predictor.model.plans_manager.plans)
