"""Which annotations a fit sees: those of the training, by trainer and checkpoint, and what the others would do."""

import json
import pickle

import numpy as np
import pytest
import torch
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

from nnunet_stochastic.fitting.fold_annotations import trained_annotations
from nnunet_stochastic.fitting.fold_cases import find_fold_cases
from nnunet_stochastic.fitting.laplace import LaplaceFitting
from nnunet_stochastic.inference import PredictionOptions, StochasticPredictor
from nnunet_stochastic.training.raters import RaterFolder

CPU = torch.device("cpu")
CASES = tuple(f"case_{index}" for index in range(4))
SHAPE = (16, 20, 18)


def one_class(value):
    return np.full(SHAPE, value, np.int16)


def folder_of(model):
    return find_fold_cases(model, model.checkpoints[0], fit_against="labels").folder


def write_masks(model, masks):
    """The preprocessed masks of raters, {case: [mask of each rater]}."""
    raters = RaterFolder.of_configuration(
        folder_of(model).parent, model.plans_manager, model.configuration_manager, model.dataset_json
    )
    raters.path.mkdir()
    for case, annotations in masks.items():
        for rater, mask in enumerate(annotations):
            nnUNetDatasetBlosc2.save_seg(mask[None], str(raters.mask(case, rater).with_suffix("")))
            raters.class_locations(case, rater).write_bytes(pickle.dumps({}))
        raters.record(case).write_text(json.dumps({"settings": raters.settings, "sources": []}))
    return raters


def fit(model, **options):
    fitting = LaplaceFitting(model, CPU, step_size=1.0, **options)
    return fitting.fit(model.checkpoints[0], fitting.check(model.checkpoints[0], overwrite=True))


NO_RATERS = {"channel_names": {"0": "CT"}, "labels": {"background": 0}, "file_ending": ".nii.gz"}


@pytest.mark.parametrize(
    ("trainer", "num_raters", "init_args", "expected"),
    [
        ("nnUNetTrainer", 2, {}, "labels"),
        ("nnUNetTrainerDeterministic", 0, {}, "labels"),
        ("nnUNetTrainerDeterministic", 2, {}, "raters"),
        ("nnUNetTrainerMoB", 1, {}, "raters"),
        ("nnUNetTrainerMoB", 2, {"stochastic_settings": {"train_on_raters": False}}, "labels"),
        ("nnUNetTrainerMoB", 2, {"stochastic_settings": {"train_on_raters": True}}, "raters"),
        ("nnUNetTrainerMoB", 2, {"dataset_json": NO_RATERS}, "labels"),  # raters came after the training
        ("nnUNetTrainerMoB", 2, {"dataset_json": NO_RATERS | {"num_raters": 2}}, "raters"),
    ],
)
def test_the_training_tells(make_model, trainer, num_raters, init_args, expected):
    model = make_model(trainer, num_raters=num_raters, init_args=init_args)
    assert trained_annotations(model, model.checkpoints[0]) == expected


def test_by_default_the_fit_sees_what_was_trained_on(make_model):
    of_raters = make_model("nnUNetTrainerDeterministic", num_raters=2)
    write_masks(of_raters, {case: [one_class(1), one_class(2)] for case in CASES})
    checkpoint = of_raters.checkpoints[0]
    cases = find_fold_cases(of_raters, checkpoint)
    assert (cases.trained_against, cases.fitted_against) == ("raters", "raters")
    np.testing.assert_array_equal(cases.load("case_3").labels, [one_class(1), one_class(2)])
    labels = find_fold_cases(of_raters, checkpoint, fit_against="labels")
    assert (labels.trained_against, labels.fitted_against) == ("raters", "labels")
    assert sorted(np.unique(labels.load("case_3").labels)) == [0, 1, 2]


def test_a_label_that_the_network_is_sure_of_with_raters_who_are_not(make_model):
    """Trained on labels: what raters disagree on is in no member. Against raters members make up for it."""
    model = make_model(num_raters=2, scale=0.5)
    predictor = StochasticPredictor(model, options=PredictionOptions(epistemic="none", mirroring=False))
    cases = find_fold_cases(model, model.checkpoints[0])
    assert cases.fitted_against == "labels"
    masks = {}
    for case in CASES:  # all voxels are as the network says; one of two raters says the next class
        image = cases.load(case).image
        mean = predictor.predict_preprocessed(image).mean
        label = model.space.all_probabilities(mean).argmax(0).numpy().astype(np.int16)
        nnUNetDatasetBlosc2.save_seg(label[None], str(cases.folder / f"{case}_seg"))
        masks[case] = [label, (label + 1) % 3]
    write_masks(model, masks)
    by_default, on_labels, on_raters = fit(model), fit(model, fit_against="labels"), fit(model, fit_against="raters")
    assert by_default.record == on_labels.record
    assert (by_default.fitted_against, on_raters.fitted_against) == ("labels", "raters")
    assert torch.equal(by_default.curvature.matrix, on_raters.curvature.matrix)  # the Hessian has no label in it

    def spread(fit):
        contrast = torch.tensor([[-1.0, 1.0, 0.0]])
        return float(fit.spectrum.covariance_of(contrast, fit.temperature, fit.prior_precision).diagonal(0, 1, 2).sum())

    assert spread(on_raters) > 1e4 * spread(by_default)
    assert on_raters.determined_weights > 0
    assert on_raters.notes()[0].startswith("the last layer was fitted against the raters' masks and trained on labels")


@pytest.mark.parametrize(
    ("trainer", "num_raters", "options", "message"),
    [
        ("nnUNetTrainer", 0, {"fit_against": "raters"}, "has no num_raters, so there are no raters' masks, but --fit_"),
        (
            "nnUNetTrainer",
            2,
            {"fit_against": "raters"},
            "of 4 of 4 training cases: .*; --fit_against raters needs",
        ),
        ("nnUNetTrainerMoB", 2, {}, "of 4 of 4 training cases: .*; the network was trained on them: run"),
    ],
)
def test_masks_that_are_not_there_are_not_replaced(make_model, trainer, num_raters, options, message):
    model = make_model(trainer, num_raters=num_raters)
    fitting = LaplaceFitting(model, CPU, **options)
    with pytest.raises(ValueError, match=message):
        fitting.check(model.checkpoints[0], overwrite=False)


def test_another_word_is_refused(make_model):
    with pytest.raises(ValueError, match="fit_against must be one of trained, labels, raters, got 'majority'"):
        LaplaceFitting(make_model(), CPU, fit_against="majority")
