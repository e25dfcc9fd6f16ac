"""Pictures of evaluated cases: reads each case's files and writes PICTURE_FOLDER/CASE.png.

A volume is held only until its slice is cut out, so a case needs no more memory than its evaluation did.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nnunet_stochastic.evaluation import CaseFiles, EvaluatedLabels, flipped_axes, map_in_threads, read_label_map
from nnunet_stochastic.evaluation.cases import ImageReader
from nnunet_stochastic.report import MAP_TITLES, CasePicture, SliceView, case_figure

__all__ = ["PICTURE_DPI", "write_pictures"]

# Sharp enough to zoom in on contours that lie close together; a row of six panels is about 3500 pixels wide.
PICTURE_DPI = 150


def write_pictures(
    cases: Sequence[CaseFiles],
    labels: EvaluatedLabels,
    reader: ImageReader,
    folder: Path,
    *,
    images: Mapping[str, Path],
    file_ending: str,
    shared_scale: bool,
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
        Where pictures go.
    images
        File with the image's first channel under the case's name, for the cases that have one.
    file_ending
        The dataset's, with its dot.
    shared_scale
        As in ``case_figure``.
    num_threads
        Cases read at a time.
    show_progress
        Draw a progress bar.
    """
    folder.mkdir(exist_ok=True)
    matplotlib = threading.Lock()  # which is not safe to draw with from several threads

    def draw(case: CaseFiles) -> None:
        picture = _read_picture(case, labels, reader, images.get(case.name), file_ending)
        with matplotlib:
            case_figure(picture, shared_scale=shared_scale).savefig(folder / f"{case.name}.png", dpi=PICTURE_DPI)

    map_in_threads(draw, cases, num_threads=num_threads, description="pictures", show_progress=show_progress)


def _read_picture(
    case: CaseFiles, labels: EvaluatedLabels, reader: ImageReader, image: Path | None, file_ending: str
) -> CasePicture:
    class_names = labels.value_names()
    prediction, grid = read_label_map(case.prediction, labels, reader)
    shape = prediction.shape
    files = {f"rater {index}": path for index, path in enumerate(case.raters)} or {"reference": case.reference}
    annotations = {name: read_label_map(path, labels, reader)[0] for name, path in files.items()}
    foreground = np.any([np.isin(volume, list(class_names)) for volume in (prediction, *annotations.values())], axis=0)

    map_files = _map_files(case, file_ending)
    # It is read first because it decides on the slice where there is no foreground.
    volume = _read_map(map_files["total"], reader, shape) if "total" in map_files else None
    view = SliceView.of_case(foreground, grid["spacing"], uncertainty=volume, flipped=flipped_axes(grid))
    maps, maxima = {}, {}
    for name, path in map_files.items():
        if name != "total":
            volume = _read_map(path, reader, shape)
        maps[name], maxima[name] = view.cut(volume), float(volume.max())
    del volume

    with np.load(case.probabilities) as archive:
        probabilities = [view.cut(channel) for channel in archive["probabilities"]]
    return CasePicture(
        name=case.name,
        view=view,
        image=None if image is None else view.cut(_read_image(image, reader, shape)),
        prediction=view.cut(prediction),
        annotations={name: view.cut(annotation) for name, annotation in annotations.items()},
        class_names=class_names,
        # The union of regions is at least as probable as the likeliest, and just that where one holds the others.
        foreground_probability=np.max(probabilities, axis=0) if labels.has_regions else 1 - probabilities[0],
        maps=maps,
        maxima=maxima,
    )


def _map_files(case: CaseFiles, file_ending: str) -> dict[str, Path]:
    """The maps that were written, the total first."""
    found = {}
    for name in sorted(MAP_TITLES, key=lambda name: name != "total"):
        # Where the dataset's format holds no fractions (png), maps are tif.
        for path in (case.prediction.parent / name / f"{case.name}{ending}" for ending in (file_ending, ".tif")):
            if path.is_file():
                found[name] = path
                break
    return found


def _read_map(path: Path, reader: ImageReader, shape: tuple[int, ...]) -> np.ndarray:
    volume = _read_channels(path, reader, shape)[0]
    if not (volume.min() >= 0 and np.isfinite(volume.max())):  # false for NaN too
        raise ValueError(
            f"{path} must have finite values of at least 0, got {volume.min():g} to {volume.max():g}; "
            "predict this case again."
        )
    return volume


def _read_image(path: Path, reader: ImageReader, shape: tuple[int, ...]) -> np.ndarray:
    """First channel (z, y, x), or colours (1, y, x, 3) where a 2D file has them."""
    channels = _read_channels(path, reader, shape)
    coloured = shape[0] == 1 and len(channels) in (3, 4)  # the fourth is the opacity
    return np.moveaxis(channels[:3], 0, -1) if coloured else channels[0]


def _read_channels(path: Path, reader: ImageReader, shape: tuple[int, ...]) -> np.ndarray:
    """Channels (channels, z, y, x) of an image or map, which must have the size of the prediction."""
    try:
        channels, _ = reader.read_images([str(path)])
    except RuntimeError as error:  # what the readers raise for broken files
        raise ValueError(f"{path} cannot be read: {error}") from error
    if channels.shape[1:] != shape:
        raise ValueError(f"{path} has size (z, y, x) {channels.shape[1:]}, the prediction {shape}.")
    return channels
