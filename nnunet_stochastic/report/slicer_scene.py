"""A scene of 3D Slicer per case: the image, its segmentation over it, and its maps, each with its window.

    image                             from its 0.1 to its 99.9 percentile
    total, aleatoric, epistemic       from 0 to the largest value of the three, so that they compare; in colours
    variance                          from 0 to its largest value; in colours
    segmentation                      as a label map, in the colours of ``label_colours``

A scene (MRML, https://slicer.readthedocs.io/en/latest/developer_guide/mrml_overview.html) names its files relative to
itself, percent-encoded: predictions, images and scenes may move together. Geometry is read from the files.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from nnunet_stochastic.evaluation.maps import find_map
from nnunet_stochastic.measures import FOLDERS, MAPS
from nnunet_stochastic.report.page.cases import CaseSource

__all__ = ["COLOUR_TABLE", "SceneVolume", "case_volumes", "slicer_scene"]

COLOUR_TABLE = "labels.ctbl"
_PERCENTILES = (0.1, 99.9)
_VIEWS = ("Red", "Yellow", "Green")
_GREY, _MAP_COLOURS = "vtkMRMLColorTableNodeGrey", "vtkMRMLColorTableNodeFileViridis.txt"
_OWN_COLOURS = "vtkMRMLColorTableNode1"
_TYPE_OF_FILE = "14"  # of vtkMRMLColorTableNode: read from a file
_MAP_OPACITY = "0.5"
#: All that Slicer encodes and decodes in names of files (vtkMRMLNode::URLEncodeString); others it takes as they are.
_ENCODED = str.maketrans({sign: f"%{ord(sign):02X}" for sign in "% '<>\""})


@dataclass(frozen=True)
class SceneVolume:
    """A file that a scene shows, and the values that its window runs between; no window for a label map."""

    name: str
    file: Path
    window: tuple[float, float] | None


@dataclass
class _Scene:
    """Nodes of a scene, numbered as they come."""

    folder: Path
    root: ElementTree.Element = field(
        default_factory=lambda: ElementTree.Element("MRML", {"version": "Slicer5", "userTags": ""})
    )
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, tag: str, kind: str, name: str, **attributes: str) -> str:
        """Add a node; returns its identifier."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        identifier = f"vtkMRML{kind}Node{self.counts[kind]}"
        ElementTree.SubElement(self.root, tag, {"id": identifier, "name": name, **attributes})
        return identifier

    def path(self, file: Path) -> str:
        # Folders alone are resolved: a link to an image has the image's name, its target may have another one.
        place = file.parent.resolve() / file.name
        return Path(os.path.relpath(place, self.folder.resolve())).as_posix().translate(_ENCODED)


def case_volumes(source: CaseSource) -> list[SceneVolume]:
    """Image, segmentation and maps of a case, with windows from their values.

    Parameters
    ----------
    source
        The case.

    Raises
    ------
    ValueError, OSError
        A file is missing or damaged, or on another voxel grid than the segmentation.
    """
    files = source.files
    segmentation, grid = source.prediction()
    image = source.image(segmentation.shape)
    if image is None:
        where = "uncertainty.json names none" if source.image_path is None else f"{source.image_path} is not there"
        raise FileNotFoundError(f"{source.name}: no image ({where}); name the folder of the images with --images")
    assert source.image_path is not None  # else there is no image
    low, high = (float(value) for value in np.percentile(image, _PERCENTILES))
    volumes = [
        SceneVolume("image", source.image_path, _above(low, high)),
        SceneVolume("segmentation", files.folder / f"{source.name}{files.file_ending}", None),
    ]
    highest = {
        name: float(array.max()) for name in MAPS if (array := source.map(name, segmentation.shape, grid)) is not None
    }
    of_entropies = max((highest[name] for name in FOLDERS.values() if name in highest), default=0.0)
    for name, own in highest.items():
        file = find_map(files.folder, name, source.name, files.file_ending)
        assert file is not None  # it was read
        volumes.append(SceneVolume(name, file, _above(0.0, of_entropies if name in FOLDERS.values() else own)))
    return volumes


def slicer_scene(volumes: list[SceneVolume], folder: Path, num_labels: int) -> str:
    """Content of a scene.

    Parameters
    ----------
    volumes
        What it shows; the image, the segmentation and the first map are seen at once, maps half transparent.
    folder
        Folder that the scene and its colour table will lie in.
    num_labels
        Number of rows of the colour table.
    """
    scene = _Scene(folder)
    storage = scene.add("ColorTableStorage", "ColorTableStorage", "label colours", fileName=COLOUR_TABLE)
    scene.add(
        "ColorTable",
        "ColorTable",
        "labels",
        type=_TYPE_OF_FILE,
        numcolors=str(num_labels),
        storageNodeRef=storage,
        references=f"storage:{storage};",
    )
    identifiers = {volume.name: _add_volume(scene, volume) for volume in volumes}
    first_map = next((name for name in identifiers if name in MAPS), None)
    shown = {"background": identifiers["image"], "label": identifiers["segmentation"]}
    if first_map is not None:
        shown["foreground"] = identifiers[first_map]
    _add_views(scene, shown)
    ElementTree.indent(scene.root)
    text = ElementTree.tostring(scene.root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _add_volume(scene: _Scene, volume: SceneVolume) -> str:
    storage = scene.add(
        "VolumeArchetypeStorage",
        "VolumeArchetypeStorage",
        f"{volume.name} file",
        fileName=scene.path(volume.file),
        centerImage="0",
        UseOrientationFromFile="1",
    )
    if volume.window is None:
        tag, kind = "LabelMapVolume", "LabelMapVolume"
        display = scene.add(
            "LabelMapVolumeDisplay",
            "LabelMapVolumeDisplay",
            f"{volume.name} display",
            visibility="true",
            colorNodeID=_OWN_COLOURS,
            references=f"color:{_OWN_COLOURS};",
        )
    else:
        tag, kind = "Volume", "ScalarVolume"
        low, high = volume.window
        colours = _MAP_COLOURS if volume.name in MAPS else _GREY
        display = scene.add(
            "VolumeDisplay",
            "ScalarVolumeDisplay",
            f"{volume.name} display",
            window=f"{high - low:.6g}",
            level=f"{(high + low) / 2:.6g}",
            autoWindowLevel="0",
            autoThreshold="0",
            applyThreshold="0",
            interpolate="1",
            colorNodeID=colours,
            references=f"color:{colours};",
        )
    return scene.add(
        tag,
        kind,
        volume.name,
        storageNodeRef=storage,
        displayNodeRef=display,
        references=f"display:{display};storage:{storage};",
    )


def _add_views(scene: _Scene, shown: Mapping[str, str]) -> None:
    old = {f"{layer}VolumeID": identifier for layer, identifier in shown.items()}
    references = "".join(f"{layer}Volume:{identifier};" for layer, identifier in shown.items())
    for view in _VIEWS:
        ElementTree.SubElement(
            scene.root,
            "SliceComposite",
            {
                "id": f"vtkMRMLSliceCompositeNode{view}",
                "name": f"SliceComposite {view}",
                "singletonTag": view,
                "layoutName": view,
                "references": references,
                **old,
                "compositing": "0",
                "foregroundOpacity": _MAP_OPACITY,
                "labelOpacity": "1",
                "linkedControl": "1",
            },
        )


def _above(low: float, high: float) -> tuple[float, float]:
    """The window; of one value alone, one that is not empty."""
    return (low, high) if high > low else (low, low + 1.0)
