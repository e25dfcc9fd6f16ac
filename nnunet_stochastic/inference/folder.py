"""Predict a folder: preprocessing ahead, the network, export behind, each at its own pace.

Preprocessing and export run in threads: both spend their time in code that releases the interpreter's lock, and a
process would first import everything again. Both queues are bounded, so memory does not grow with the number of cases.
A case that fails is reported and the others go on. Files are kept as they are only where the record shows that they are
whole and of the same images, model and settings; see ``record``.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import save_pickle
from torch import Tensor
from tqdm import tqdm

from nnunet_stochastic.degenerate_samples import degenerate_samples
from nnunet_stochastic.inference.cases import (
    InputCase,
    OutputFolder,
    cases_from_files,
    check_output_folder,
    find_input_cases,
)
from nnunet_stochastic.inference.collapse import epistemic_ratio
from nnunet_stochastic.inference.folder_lock import locked_output_folder
from nnunet_stochastic.inference.images import map_ending, write_labels, write_map
from nnunet_stochastic.inference.predictor import StochasticPredictor
from nnunet_stochastic.inference.record import Record, earlier_predictions
from nnunet_stochastic.inference.restore import GridPrediction, Prediction
from nnunet_stochastic.inference.threads import results_ahead, thread_executor
from nnunet_stochastic.inference.volumes import structure_volumes, summarize_volumes
from nnunet_stochastic.inference.weight_cache import remove_dead_caches
from nnunet_stochastic.io.folders import require_writable
from nnunet_stochastic.io.grid import SOURCE, check_same_grid, voxel_volume_ml
from nnunet_stochastic.io.images import read_image, read_label_map
from nnunet_stochastic.io.text import write_json
from nnunet_stochastic.progress import progress_bar

__all__ = ["FolderReport", "predict_folder"]


@dataclass(frozen=True)
class FolderReport:
    """What became of the cases of a folder.

    Parameters
    ----------
    failures
        Cases that failed, and why; empty if all went well.
    cases
        Entries of uncertainty.json, of this command's complete cases.
    """

    failures: dict[str, str]
    cases: dict[str, Any]


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
) -> FolderReport:
    """Predict all cases of a folder.

    Parameters
    ----------
    predictor
        Predictor with model and options.
    images
        A folder of images named as for nnU-Net, or lists of files, one list per case.
    output_folder
        Folder to write to; made if missing.
    save_probabilities
        Whether to write CASE.npz and CASE.pkl in nnU-Net's format, too.
    continue_prediction
        Whether to skip the cases that are complete in the folder and in its uncertainty.json, if their images and files
        are those that the record says; other settings than the record's are an error.
    previous_stage_folder
        Folder of the previous stage's segmentations, for a cascade.
    preprocessing_threads, export_threads
        Numbers of threads beside the one that runs the network; 0 does the work in that one.
    num_parts, part_id
        Number of commands that share the cases, and index of this one from 0: it predicts every ``num_parts``-th case
        from the ``part_id``-th on.
    progress
        Whether to show bars over cases and tiles.
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
    images_folder = images if isinstance(images, (str, Path)) else None
    check_output_folder(output_folder, images_folder, previous_stage_folder)
    file_ending = model.dataset_json["file_ending"]
    if isinstance(images, (str, Path)):
        cases = find_input_cases(
            images,
            file_ending=file_ending,
            num_channels=model.num_image_channels,
            previous_stage_folder=previous_stage_folder,
        )
    else:
        cases = cases_from_files(images, file_ending=file_ending, previous_stage_folder=previous_stage_folder)
    reader_writer = model.plans_manager.image_reader_writer_class
    output = OutputFolder(
        Path(output_folder),
        file_ending,
        map_ending(reader_writer, file_ending),
        predictor.maps,
        save_probabilities,
        predictor.options.num_saved_samples,
    )
    require_writable(output.folder)
    remove_dead_caches()
    with locked_output_folder(output.folder, num_parts=num_parts, part_id=part_id):
        cases = cases[part_id::num_parts]
        names = {case.name for case in cases}
        foreign = output.common_files()  # before the records are read: another part may write both meanwhile
        earlier = earlier_predictions(output.folder)
        output.check_free(cases, foreign, earlier)
        output.create()
        settings = {**predictor.settings(), "save_probabilities": save_probabilities}
        record = Record(
            output.folder,
            settings,
            resume=continue_prediction,
            num_parts=num_parts,
            part_id=part_id,
            other_cases=names | earlier.cases,
        )
        _copy_model_files(predictor, images, output, num_parts, part_id)

        output.discard_leftovers(names)
        pipeline = _Pipeline(predictor, output, record)
        if continue_prediction:
            if others := sorted(record.cases.keys() - names):
                _note(f"of other images, and kept: {', '.join(others)}")
            with thread_executor(preprocessing_threads) as executor:
                cases = [
                    case for case, done in zip(cases, executor.map(pipeline.is_done, cases), strict=True) if not done
                ]
        failures = pipeline.run(cases, preprocessing_threads, export_threads, progress)
        record.finish()
        return FolderReport(failures, record.cases)


def _note(text: str) -> None:
    tqdm.write(f"note: {text}", file=sys.stderr)


@dataclass(frozen=True)
class _WrittenSample:
    """What a record says of a whole sample.

    Parameters
    ----------
    volumes_ml
        Volumes of its structures; none for 2D images.
    foreground_share
        Share of the voxels of the image, in [0, 1].
    """

    volumes_ml: dict[str, float]
    foreground_share: float


class _Pipeline:
    """The three stages of a case, and what failed in any of them."""

    def __init__(self, predictor: StochasticPredictor, output: OutputFolder, record: Record) -> None:
        self.predictor, self.output, self.record = predictor, output, record
        self.reader_writer = predictor.model.plans_manager.image_reader_writer_class
        self.failures: dict[str, str] = {}
        self._input_sha256: dict[str, list[str]] = {}

    def is_done(self, case: InputCase) -> bool:
        """Whether the files of a case are those that would be written; what is not asked for any more is removed."""
        entry = self.record.cases.get(case.name)
        if entry is None:
            return False
        recorded = entry.get("files", {})
        if "input_sha256" not in entry:
            reason: str | None = "the record has no hashes of its images and files"
        elif entry["input_sha256"] != case.sha256():
            reason = "its images are not those of which the files there were predicted"
        elif any(name.startswith("samples/") for name in self.output.surplus(case.name, recorded)):
            reason = "fewer samples are asked for"
        else:
            reason = self.output.damage(case.name, recorded)
        if reason is not None:
            _note(f"case {case.name} is predicted again: {reason}")
            return False
        kept = entry | {"input_files": _absolute(case.files)}
        if surplus := self.output.surplus(case.name, recorded):
            kept["files"] = {name: digest for name, digest in recorded.items() if name not in surplus}
            for name in {Path(file).parent.name for file in surplus} - {""}:
                kept.pop(f"mean_{name}", None)
            kept["epistemic_to_aleatoric"] = epistemic_ratio(kept, factor=self.predictor.options.epistemic_factor)
        if kept != entry:
            self.record.add(case.name, kept)
        self.output.remove_stale(case.name)
        return True

    def run(
        self, cases: Sequence[InputCase], preprocessing_threads: int, export_threads: int, progress: bool
    ) -> dict[str, str]:
        """Predict the cases; returns what failed. An interruption leaves no case half-written."""
        try:
            self._run(cases, preprocessing_threads, export_threads, progress)
        except BaseException:
            for case in cases:
                self.output.discard(case.name)
            raise
        return self.failures

    def _run(self, cases: Sequence[InputCase], preprocessing_threads: int, export_threads: int, progress: bool) -> None:
        exports: deque[tuple[InputCase, Future]] = deque()
        with (
            thread_executor(preprocessing_threads) as preprocessing,
            thread_executor(export_threads) as exporting,
            progress_bar(total=len(cases), description="cases", show=progress) as bar,
        ):
            number_done = 0

            def count(case: InputCase) -> None:
                nonlocal number_done
                number_done += 1
                bar.update()
                if progress and bar.disable:  # no terminal: a line per case tells how far it is
                    print(f"{number_done}/{len(cases)} {case.name}", file=sys.stderr, flush=True)

            def finish_export() -> None:
                case, export = exports.popleft()
                with self._reporting(case):
                    export.result()
                count(case)

            for case, preprocessed in results_ahead(preprocessing, self.read, cases, max(1, preprocessing_threads)):
                bar.set_postfix_str(case.name)
                while len(exports) >= max(1, export_threads):
                    finish_export()
                export = self.predict(case, preprocessed, exporting, max(1, export_threads), progress)
                del preprocessed  # the next case needs its memory
                if export is None:
                    count(case)
                else:
                    exports.append((case, export))
            while exports:
                finish_export()

    def read(self, case: InputCase) -> tuple[Tensor, dict[str, Any]]:
        """Read and preprocess a case."""
        # Taken before the files are read: what changes meanwhile is noticed when the prediction is continued.
        self._input_sha256[case.name] = case.sha256()
        reader = self.reader_writer()
        image, properties = read_image(case.files, reader)
        previous = None
        if case.previous_stage is not None:
            highest = max(self.predictor.model.label_manager.all_labels)
            labels, grid = read_label_map(case.previous_stage, reader, highest=highest)
            check_same_grid(case.previous_stage, labels.shape, grid, case.files[0], image.shape[1:], properties)
            previous = labels[None].astype(np.float32)  # as nnU-Net's readers give it
        return self.predictor.preprocess(image, properties, previous_stage=previous)

    def predict(
        self, case: InputCase, preprocessed: Future, exporting: Executor, at_once: int, progress: bool
    ) -> Future | None:
        """Run the network on a case, and start its export; ``None`` if it failed."""
        with self._reporting(case):
            data, properties = preprocessed.result()
            with _SampleExport(self, case, properties, exporting, at_once) as exporter:
                grid = self.predictor.predict_grid(data, case=case.name, on_sample=exporter.submit, progress=progress)
                samples = exporter.finish()
            return exporting.submit(self.export, case, grid, properties, samples)
        return None

    def export_sample(
        self, case: InputCase, index: int, log_ratios: Tensor, properties: dict[str, Any]
    ) -> _WrittenSample:
        """Write a whole sample to the case's hidden folder."""
        labels = self.predictor.restore_sample(log_ratios, properties)
        path = self.output.begun(case.name) / self.output.sample(case.name, index)
        write_labels(labels, path, properties, self.reader_writer)
        return _WrittenSample(self._volumes(labels, properties), float((labels > 0).mean()))

    def export(
        self,
        case: InputCase,
        grid: GridPrediction,
        properties: dict[str, Any],
        samples: Sequence[_WrittenSample] = (),
    ) -> None:
        """Write all files of a case: complete, or none that counts as complete."""
        prediction = self.predictor.restore(grid, properties, probabilities=self.output.probabilities)
        folder, segmentation = self.output.begun(case.name), self.output.segmentation(case.name)
        for name, array in prediction.maps.items():
            write_map(array, folder / name / f"{case.name}{self.output.map_ending}", properties, self.reader_writer)
        if prediction.probabilities is not None:
            np.savez_compressed(folder / f"{case.name}.npz", probabilities=prediction.probabilities)
            nnunets = {key: value for key, value in properties.items() if key != SOURCE}
            save_pickle(nnunets, str(folder / f"{case.name}.pkl"))
        write_labels(prediction.segmentation, folder / segmentation.name, properties, self.reader_writer)
        entry = self._entry(case, prediction, properties, samples) | {
            "input_sha256": self._input_sha256[case.name],
            "files": self.output.staged_sha256(case.name),
        }
        self.output.publish(case.name, before_last=lambda: self.record.add(case.name, entry))

    def _entry(
        self,
        case: InputCase,
        prediction: Prediction,
        properties: dict[str, Any],
        samples: Sequence[_WrittenSample],
    ) -> dict[str, Any]:
        entry: dict[str, Any] = {"input_files": _absolute(case.files)}
        for name, array in prediction.maps.items():
            entry[f"mean_{name}"] = float(array.mean(dtype=np.float64))
        entry["epistemic_to_aleatoric"] = epistemic_ratio(entry, factor=self.predictor.options.epistemic_factor)
        if volumes := self._volumes(prediction.segmentation, properties):
            entry["volume_ml"] = volumes
            if samples:
                entry["sample_volumes"] = summarize_volumes([sample.volumes_ml for sample in samples])
        shares = [sample.foreground_share for sample in samples]
        if degeneration := degenerate_samples(shares, float((prediction.segmentation > 0).mean())):
            entry["degenerate_samples"] = degeneration
        return entry

    def _volumes(self, segmentation: np.ndarray, properties: dict[str, Any]) -> dict[str, float]:
        voxel_ml = voxel_volume_ml(properties)
        labels = self.predictor.model.dataset_json["labels"]
        return {} if voxel_ml is None else structure_volumes(segmentation, labels, voxel_ml)

    def withdraw(self, case: InputCase) -> None:
        """Let no earlier prediction pass for that of a case that failed."""
        try:
            self.output.withdraw(case.name)
            self.record.remove(case.name)
        except OSError as error:  # the case's own failure is the message
            tqdm.write(f"earlier files of case {case.name} could not be removed: {error}", file=sys.stderr)

    @contextmanager
    def _reporting(self, case: InputCase) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # readers raise what their libraries raise: any Exception is this case's failure
            self.output.discard(case.name)
            self.withdraw(case)
            self.failures[case.name] = str(error) or type(error).__name__
            tqdm.write(f"case {case.name} failed: {self.failures[case.name]}", file=sys.stderr)


def _absolute(files: Sequence[Path]) -> list[str]:
    return [str(file.resolve()) for file in files]


class _SampleExport:
    """Writes the samples of one case while the next are drawn, a few at a time."""

    def __init__(
        self, pipeline: _Pipeline, case: InputCase, properties: dict[str, Any], executor: Executor, at_once: int
    ) -> None:
        self._pipeline, self._case, self._properties = pipeline, case, properties
        self._executor, self._at_once = executor, at_once
        self._running: deque[tuple[int, Future]] = deque()
        self._written: dict[int, _WrittenSample] = {}
        pipeline.output.begin(case.name)

    def __enter__(self) -> _SampleExport:
        return self

    def __exit__(self, *_: object) -> None:
        wait([export for _, export in self._running])  # none may write any more when a failed case is tidied up

    def submit(self, index: int, log_ratios: Tensor) -> None:
        """Write a sample."""
        while len(self._running) >= self._at_once:
            self._finish_one()
        export = self._executor.submit(self._pipeline.export_sample, self._case, index, log_ratios, self._properties)
        self._running.append((index, export))

    def finish(self) -> list[_WrittenSample]:
        """Wait for all samples; what was written, in order."""
        while self._running:
            self._finish_one()
        return [self._written[index] for index in sorted(self._written)]

    def _finish_one(self) -> None:
        index, export = self._running.popleft()
        self._written[index] = export.result()


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
