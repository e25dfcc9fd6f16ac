"""Pictures of evaluated cases: reads each case's files and writes PICTURE_FOLDER/CASE.png.

A volume stays in memory only until its slice is cut out, so a case needs no more memory than its evaluation did.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import style

from nnunet_stochastic.evaluation.cases import CaseFiles, load_probabilities
from nnunet_stochastic.evaluation.maps import find_map, read_map
from nnunet_stochastic.evaluation.model import recorded_images
from nnunet_stochastic.evaluation.parallel import map_in_threads
from nnunet_stochastic.evaluation.readers import ImageReader, read_first_channel, read_label_map
from nnunet_stochastic.io.grid import flipped_axes
from nnunet_stochastic.io.staging import staged_file
from nnunet_stochastic.labels import EvaluatedLabels
from nnunet_stochastic.report.picture import MAP_TITLES, CasePicture, case_figure
from nnunet_stochastic.report.slice_view import SliceView

__all__ = ["PICTURE_DPI", "first_images", "write_pictures"]

# Sharp enough to zoom in on contours that lie close together; a row of six panels is about 3500 pixels wide.
PICTURE_DPI = 150


def first_images(
    cases: Sequence[CaseFiles], prediction_folder: Path, image_folder: Path | None, file_ending: str
) -> dict[str, Path]:
    """File with the first channel of each case's image, for the cases where it is known and still there.

    Parameters
    ----------
    cases
        The cases.
    prediction_folder
        Folder whose uncertainty.json, if there is one, says where the images were.
    image_folder
        Folder of the images; None: where that file says.
    file_ending
        File ending of the dataset, with its dot.
    """
    if image_folder is not None:
        images = {case.name: image_folder / f"{case.name}_0000{file_ending}" for case in cases}
        missing = [str(image) for image in images.values() if not image.is_file()]
        if missing:
            raise FileNotFoundError(f"images are missing in -i: {', '.join(missing)}")
        return images
    names = {case.name for case in cases}
    recorded = recorded_images(prediction_folder)
    return {name: image for name, image in recorded.items() if name in names and image.is_file()}


def write_pictures(
    cases: Sequence[CaseFiles],
    labels: EvaluatedLabels,
    reader: ImageReader,
    folder: Path,
    *,
    images: Mapping[str, Path],
    file_ending: str,
    shared_scale: bool,
    epistemic_is_stand_in: bool,
    num_threads: int,
    show_progress: bool,
) -> None:
    """Write a picture per case.

    Parameters
    ----------
    cases
        Cases that passed ``check_cases``.
    labels
        The classes.
    reader
        nnU-Net's reader of the dataset.
    folder
        Folder that pictures go to.
    images
        File with the image's first channel under the case's name, for the cases that have one.
    file_ending
        File ending of the dataset, with its dot.
    shared_scale
        Option of ``case_figure``.
    epistemic_is_stand_in
        Attribute of ``CasePicture``.
    num_threads
        Number of cases read at a time.
    show_progress
        Whether to draw a progress bar.
    """
    folder.mkdir(exist_ok=True)
    drawing = threading.Lock()  # matplotlib is not safe to draw with from several threads

    def draw(case: CaseFiles) -> None:
        picture = _read_picture(
            case, labels, reader, images.get(case.name), file_ending, epistemic_is_stand_in=epistemic_is_stand_in
        )
        with drawing, style.context("default"):
            figure = case_figure(picture, shared_scale=shared_scale)
            with staged_file(folder / f"{case.name}.png") as staged:
                figure.savefig(staged, dpi=PICTURE_DPI)

    map_in_threads(draw, cases, num_threads=num_threads, description="pictures", show_progress=show_progress)


def _read_picture(
    case: CaseFiles,
    labels: EvaluatedLabels,
    reader: ImageReader,
    image: Path | None,
    file_ending: str,
    *,
    epistemic_is_stand_in: bool,
) -> CasePicture:
    class_names = labels.value_names()
    prediction, grid = read_label_map(case.prediction, labels, reader)
    shape = prediction.shape
    files = {f"rater {index}": path for index, path in enumerate(case.raters)}
    if not files and case.reference is not None:
        files = {"reference": case.reference}
    annotations = {name: read_label_map(path, labels, reader)[0] for name, path in files.items()}
    foreground = np.any([np.isin(volume, list(class_names)) for volume in (prediction, *annotations.values())], axis=0)

    def read(name: str) -> np.ndarray | None:
        path = find_map(case.prediction.parent, name, case.name, file_ending)
        if path is None:
            return None
        return read_map(path, reader, labels, prediction=case.prediction, shape=shape, grid=grid)

    # The total is read first because it decides on the slice where there is no foreground.
    volume = read("total")
    view = SliceView.of_case(foreground, grid["spacing"], uncertainty=volume, flipped=flipped_axes(grid))
    maps, maxima = {}, {}
    for name in sorted(MAP_TITLES, key=lambda name: name != "total"):
        if name != "total":
            volume = read(name)
        if volume is not None:
            maps[name], maxima[name] = view.cut(volume), float(volume.max())
    del volume

    channels = load_probabilities(case, prediction, grid, labels, reader)
    if channels is None:
        raise ValueError(f"{case.name} has no probabilities; predict again with --save_probabilities")
    probabilities = [view.cut(channel) for channel in channels]
    return CasePicture(
        name=case.name,
        view=view,
        image=None if image is None else view.cut(read_first_channel(image, reader, shape)),
        prediction=view.cut(prediction),
        annotations={name: view.cut(annotation) for name, annotation in annotations.items()},
        class_names=class_names,
        # The union of regions is at least as probable as the likeliest, and just that where one holds the others.
        foreground_probability=np.max(probabilities, axis=0) if labels.has_regions else 1 - probabilities[0],
        maps=maps,
        maxima=maxima,
        epistemic_is_stand_in=epistemic_is_stand_in,
    )
