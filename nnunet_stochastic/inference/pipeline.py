"""The stages of a case: preprocessing ahead, the network, export behind, each at its own pace.

Preprocessing and export run in threads: both spend their time in code that releases the interpreter's lock, and a
process would first import everything again. Both queues are bounded, so memory does not grow with the number of cases.
A case that fails is reported and the others go on. Files are kept as they are only where the record shows that they are
whole and of the same images, model and settings; see ``record``.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import save_pickle
from torch import Tensor
from tqdm import tqdm

from nnunet_stochastic.degenerate_samples import degenerate_samples
from nnunet_stochastic.inference.cases import InputCase, OutputFolder
from nnunet_stochastic.inference.collapse import epistemic_ratio
from nnunet_stochastic.inference.images import write_labels, write_map
from nnunet_stochastic.inference.label_store import LabelStore
from nnunet_stochastic.inference.predictor import StochasticPredictor
from nnunet_stochastic.inference.record import Record
from nnunet_stochastic.inference.restore import GridPrediction, Prediction
from nnunet_stochastic.inference.rounding import round_mantissa
from nnunet_stochastic.inference.structures import LesionChoice, describe_case, without_maps
from nnunet_stochastic.inference.threads import results_ahead, thread_executor
from nnunet_stochastic.inference.volumes import structure_volumes, summarize_volumes
from nnunet_stochastic.io.grid import SOURCE, check_same_grid, voxel_volume_ml
from nnunet_stochastic.io.images import read_label_map
from nnunet_stochastic.labels import EvaluatedLabels
from nnunet_stochastic.progress import progress_bar

__all__ = ["Pipeline", "note"]

Result = TypeVar("Result")


def note(text: str) -> None:
    """Tell the user something beside the bars."""
    tqdm.write(f"note: {text}", file=sys.stderr)


@dataclass(frozen=True)
class _Outcomes:
    """Whole segmentations of a case: samples, which are written, and the segmentations of the members."""

    samples: LabelStore = field(default_factory=LabelStore)
    members: LabelStore = field(default_factory=LabelStore)


class Pipeline:
    """The three stages of a case, and what failed in any of them."""

    def __init__(
        self, predictor: StochasticPredictor, output: OutputFolder, record: Record, lesions: LesionChoice
    ) -> None:
        self.predictor, self.output, self.record, self.lesions = predictor, output, record, lesions
        self.labels = EvaluatedLabels.from_dataset_json(predictor.model.dataset_json)
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
        elif "structures" not in entry:
            reason = "the record says nothing of its structures"
        elif entry["input_sha256"] != case.sha256():
            reason = "its images are not those of which the files there were predicted"
        elif any(name.startswith("samples/") for name in self.output.surplus(case.name, recorded)):
            reason = "fewer samples are asked for"
        else:
            reason = self.output.damage(case.name, recorded)
        if reason is not None:
            note(f"case {case.name} is predicted again: {reason}")
            return False
        kept = entry | case.origin()
        if surplus := self.output.surplus(case.name, recorded):
            kept["files"] = {name: digest for name, digest in recorded.items() if name not in surplus}
            kept = without_maps(kept, {Path(file).parent.name for file in surplus} - {""})
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
        image, properties = case.read(reader)
        self.lesions.check_image(case.files[0], properties)
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
            outcomes = _Outcomes()
            self.output.begin(case.name)

            def export_sample(index: int, log_ratios: Tensor) -> float:
                return self.export_sample(case, index, log_ratios, properties, outcomes.samples)

            def keep_member(index: int, log_ratios: Tensor) -> None:
                outcomes.members.add(index, self.predictor.restore_sample(log_ratios, properties))

            with (
                _InTurn(exporting, export_sample, at_once) as samples,
                _InTurn(exporting, keep_member, at_once) as members,
            ):
                grid = self.predictor.predict_grid(
                    data, case=case.name, on_sample=samples.submit, on_member=members.submit, progress=progress
                )
                members.finish()
                shares = samples.finish()
            return exporting.submit(self.export, case, grid, properties, shares, outcomes)
        return None

    def export_sample(
        self, case: InputCase, index: int, log_ratios: Tensor, properties: dict[str, Any], kept: LabelStore
    ) -> float:
        """Write a whole sample to the case's hidden folder, and keep it; the share of the image that is foreground."""
        labels = self.predictor.restore_sample(log_ratios, properties)
        kept.add(index, labels)
        path = self.output.begun(case.name) / self.output.sample(case.name, index)
        write_labels(labels, path, properties, self.reader_writer)
        return float((labels > 0).mean())

    def export(
        self,
        case: InputCase,
        grid: GridPrediction,
        properties: dict[str, Any],
        shares: Sequence[float],
        outcomes: _Outcomes,
    ) -> None:
        """Write all files of a case: complete, or none that counts as complete."""
        prediction = self.predictor.restore(
            grid,
            properties,
            probabilities=self.output.probabilities,
            channels=() if self.output.probabilities else list(self.lesions.channels(self.labels).values()),
            sums=True,
        )
        digits = self.output.map_digits
        rounded = {name: round_mantissa(array, digits) for name, array in prediction.maps.items()}
        prediction = replace(prediction, maps=rounded)
        folder, segmentation = self.output.begun(case.name), self.output.segmentation(case.name)
        for name, array in prediction.maps.items():
            write_map(array, folder / name / f"{case.name}{self.output.map_ending}", properties, self.reader_writer)
        if prediction.probabilities is not None and self.output.num_probability_images is not None:
            for channel, array in enumerate(prediction.probabilities):
                path = folder / self.output.probability_image(case.name, channel)
                write_map(array, path, properties, self.reader_writer)
        elif prediction.probabilities is not None:
            np.savez_compressed(folder / f"{case.name}.npz", probabilities=prediction.probabilities)
            nnunets = {key: value for key, value in properties.items() if key != SOURCE}
            save_pickle(nnunets, str(folder / f"{case.name}.pkl"))
        write_labels(prediction.segmentation, folder / segmentation.name, properties, self.reader_writer)
        entry = self._entry(case, prediction, properties, shares, outcomes) | {
            "input_sha256": self._input_sha256[case.name],
            "files": self.output.staged_sha256(case.name),
        }
        self.output.publish(case.name, before_last=lambda: self.record.add(case.name, entry))

    def _entry(
        self,
        case: InputCase,
        prediction: Prediction,
        properties: dict[str, Any],
        shares: Sequence[float],
        outcomes: _Outcomes,
    ) -> dict[str, Any]:
        entry: dict[str, Any] = case.origin()
        for name, array in prediction.maps.items():
            entry[f"mean_{name}"] = float(array.mean(dtype=np.float64))
        entry["epistemic_to_aleatoric"] = epistemic_ratio(entry, factor=self.predictor.options.epistemic_factor)
        if volumes := self._volumes(prediction.segmentation, properties):
            entry["volume_ml"] = volumes
        samples = outcomes.samples.overlaps(self.labels.classes) if len(outcomes.samples) else None
        voxel_ml = voxel_volume_ml(properties)
        if samples is not None and voxel_ml is not None:
            of_samples = [
                dict(zip(self.labels.names, ml, strict=True)) for ml in (samples.voxels.T * voxel_ml).tolist()
            ]
            entry["sample_volumes"] = summarize_volumes([{name: ml[name] for name in volumes} for ml in of_samples])
        if degeneration := degenerate_samples(shares, float((prediction.segmentation > 0).mean())):
            entry["degenerate_samples"] = degeneration
        return entry | describe_case(
            prediction,
            properties,
            self.labels,
            self.lesions,
            samples=outcomes.samples,
            overlaps=samples,
            members=outcomes.members,
        )

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


class _InTurn(Generic[Result]):
    """Work on the whole segmentations of one case while the next are drawn, a few at a time."""

    def __init__(self, executor: Executor, work: Callable[[int, Tensor], Result], at_once: int) -> None:
        self._executor, self._work, self._at_once = executor, work, at_once
        self._running: deque[tuple[int, Future]] = deque()
        self._results: dict[int, Result] = {}

    def __enter__(self) -> _InTurn[Result]:
        return self

    def __exit__(self, *_: object) -> None:
        wait([future for _, future in self._running])  # none may write any more when a failed case is tidied up

    def submit(self, index: int, log_ratios: Tensor) -> None:
        """Work on the segmentation with these log-ratios (D, *S)."""
        while len(self._running) >= self._at_once:
            self._finish_one()
        self._running.append((index, self._executor.submit(self._work, index, log_ratios)))

    def finish(self) -> list[Result]:
        """Wait for all; the results, in order."""
        while self._running:
            self._finish_one()
        return [self._results[index] for index in sorted(self._results)]

    def _finish_one(self) -> None:
        index, future = self._running.popleft()
        self._results[index] = future.result()
