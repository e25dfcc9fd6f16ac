"""All that is written of a case lies where its image lies, for programs that read NIfTI by ITK or by nibabel."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from nnunet_stochastic.inference import PredictionOptions, StochasticPredictor, predict_folder

SHAPE = (11, 14, 12)


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)], ids=str)
@pytest.mark.parametrize("reader", ["SimpleITKIO", "SimpleITKIOWithReorient", "NibabelIO", "NibabelIOWithReorient"])
def test_every_file_lies_where_the_image_lies(tmp_path, folders, stochastic_trainer, reader, flips):
    direction = Rotation.from_euler("xyz", [20, -10, 35], degrees=True).as_matrix() * flips
    image = sitk.GetImageFromArray(folders.image_array(1, SHAPE))
    image.SetSpacing((0.7, 0.9, 2.5))
    image.SetOrigin((-31.5, 40.25, 112.0))
    image.SetDirection(direction.flatten())
    (tmp_path / "images").mkdir()
    source = tmp_path / "images" / "a_0000.nii.gz"
    sitk.WriteImage(image, str(source))

    model = folders.write_model_folder(tmp_path / "model", trainer=stochastic_trainer, reader_writer=reader)
    options = PredictionOptions(num_samples=2, num_saved_samples=1, mirroring=False)
    predictor = StochasticPredictor.from_model_folder(model, folds=(0,), options=options)
    nifti = {"save_probabilities": True, "probability_format": "nifti"}
    assert predict_folder(predictor, tmp_path / "images", tmp_path / "out", **nifti).failures == {}

    expected, world = sitk.ReadImage(str(source)), nibabel.load(source).affine
    written = sorted((tmp_path / "out").rglob("*.nii.gz"))
    assert len(written) == 1 + 4 + 1 + 2  # segmentation, maps, sample, probabilities
    for path in written:
        found = sitk.ReadImage(str(path))
        assert found.GetSize() == expected.GetSize()
        for index in ((0, 0, 0), (11, 0, 0), (0, 13, 0), (0, 0, 10), (11, 13, 10)):
            place = expected.TransformIndexToPhysicalPoint(index)
            np.testing.assert_allclose(found.TransformIndexToPhysicalPoint(index), place, atol=1e-3)
        np.testing.assert_allclose(nibabel.load(path).affine, world, atol=1e-4)
