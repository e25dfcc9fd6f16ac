"""Training on raters: which masks a trainer sees, how often, and what it says when they are missing."""

from __future__ import annotations

import json
import pickle
import shutil
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2, nnUNetDatasetNumpy
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_stochastic.training.raters import RaterDataset, RaterFolder, count_raters, trained_on_raters

TRAINERS = ["nnUNetTrainerDeterministic", "nnUNetTrainerLowRank", "nnUNetTrainerMoB", "nnUNetTrainerProbUNet"]
NUM_RATERS = 3


@pytest.fixture
def with_raters(make_dataset):
    """Give a tiny dataset raters: rater r marks a block of r + 1 voxels along x as ball, and nothing else."""

    def make(*, complete: bool = True, **options):
        dataset = make_dataset(**options)
        dataset.dataset_json["num_raters"] = NUM_RATERS
        raters = rater_folder(dataset)
        raters.path.mkdir()
        images = cases_of(dataset)
        for case in images.identifiers:
            shape = images.load_case(case)[1].shape
            for rater in range(NUM_RATERS):
                mask = np.zeros(shape, dtype=np.int16)
                mask[:, -1, 2, 5 : 6 + rater] = 1
                nnUNetDatasetBlosc2.save_seg(mask, str(raters.mask(case, rater).with_suffix("")))
                locations = {1: np.argwhere(mask == 1), 2: []}
                raters.class_locations(case, rater).write_bytes(pickle.dumps(locations))
            if complete:
                raters.record(case).write_text(json.dumps({"settings": raters.settings, "sources": []}))
        return dataset

    return make


def rater_folder(dataset) -> RaterFolder:
    plans = PlansManager(json.loads(json.dumps(dataset.plans)))
    base = dataset.folders["nnUNet_preprocessed"] / "Dataset999_Tiny"
    return RaterFolder.of_configuration(
        base, plans, plans.get_configuration(dataset.configuration), dataset.dataset_json
    )


def cases_of(dataset) -> nnUNetDatasetBlosc2:
    folder = dataset.folders["nnUNet_preprocessed"] / "Dataset999_Tiny" / f"tiny_{dataset.dimensions}d"
    return nnUNetDatasetBlosc2(str(folder))


def test_a_seeded_epoch_draws_the_same_raters_whether_or_not_others_came_before_it(with_raters, monkeypatch):
    dataset = with_raters(dimensions=2, patch=(8, 8))
    monkeypatch.setenv("nnUNet_stochastic_seed", "0")
    load = RaterFolder.load

    def draws(*, from_epoch: int) -> dict[int, list[tuple[str, int]]]:
        trainer = dataset.trainer("nnUNetTrainerDeterministic")
        trainer.on_train_start()
        drawn = defaultdict(list)

        def load_and_record(folder: RaterFolder, case: str, rater: int) -> tuple:
            drawn[trainer.current_epoch].append((str(case), rater))
            return load(folder, case, rater)

        with monkeypatch.context() as patch:
            patch.setattr(RaterFolder, "load", load_and_record)
            for trainer.current_epoch in range(from_epoch, 4):
                trainer.on_train_epoch_start()
                for _ in range(6):
                    next(trainer.dataloader_train)
        return drawn

    np.random.seed(1)  # noqa: NPY002 the seed of the training must win over it
    expected = draws(from_epoch=0)
    assert [{rater for _, rater in drawn} for drawn in expected.values()] == [set(range(NUM_RATERS))] * 4
    assert len({str(drawn) for drawn in expected.values()}) == 4
    np.random.seed(2)  # noqa: NPY002
    assert draws(from_epoch=2) == {epoch: expected[epoch] for epoch in (2, 3)}


def test_each_load_draws_one_of_all_raters_with_its_own_class_locations(with_raters):
    dataset = with_raters()
    images = cases_of(dataset)
    raters = RaterDataset(images, rater_folder(dataset))
    assert raters.identifiers == images.identifiers
    np.random.seed(0)  # noqa: NPY002 the generator that nnU-Net seeds
    drawn = Counter()
    image, _, _, properties = images.load_case("case_1")
    for _ in range(300):
        loaded, mask, previous_stage, rater_properties = raters.load_case("case_1")
        count = int((mask[:] == 1).sum())
        drawn[count] += 1
        np.testing.assert_array_equal(rater_properties["class_locations"][1], np.argwhere(mask[:] == 1))
        assert rater_properties["spacing"] == properties["spacing"]
        assert previous_stage is None
    np.testing.assert_array_equal(loaded[:], image[:])
    assert sorted(drawn) == [1, 2, 3]
    assert min(drawn.values()) > 75  # of 100 expected, standard deviation 8
    np.random.seed(3)  # noqa: NPY002
    first = [int((raters["case_0"][1][:] == 1).sum()) for _ in range(20)]
    np.random.seed(3)  # noqa: NPY002
    assert [int((raters["case_0"][1][:] == 1).sum()) for _ in range(20)] == first
    assert len(set(first)) > 1


@pytest.mark.parametrize("name", TRAINERS)
def test_trainers_train_on_raters_and_validate_on_the_label(with_raters, name, tiny_generative_models):
    dataset = with_raters()
    trainer = dataset.trainer(name)
    trainer.initialize()
    training, validation = trainer.get_tr_and_val_datasets()
    assert isinstance(training, RaterDataset)
    assert training.identifiers == ["case_0", "case_1", "case_2"]
    assert {int((training.load_case("case_0")[1][:] == 1).sum()) for _ in range(40)} == {1, 2, 3}
    label = cases_of(dataset).load_case("case_3")[1][:]
    for _ in range(5):
        np.testing.assert_array_equal(validation.load_case("case_3")[1][:], label)
    log = Path(trainer.log_file).read_text()
    assert log.count("trains on the masks of 3 raters, one at random each time a case is loaded") == 1


@pytest.mark.parametrize("name", ["nnUNetTrainerMoB", "nnUNetTrainerDiffusion"])
def test_a_training_goes_through_and_its_batches_hold_raters(with_raters, name, tiny_generative_models):
    dataset = with_raters()
    trainer = dataset.trainer(name)
    trainer.num_epochs = 1
    trainer.on_train_start()

    def largest_label(loader) -> int:
        target = next(loader)["target"]  # one for each resolution of deep supervision, or one
        return int((target[0] if isinstance(target, list) else target).max())

    # The label has a core, which is 2; the raters have none.
    assert max(largest_label(trainer.dataloader_train) for _ in range(5)) <= 1
    assert max(largest_label(trainer.dataloader_val) for _ in range(5)) == 2
    trainer.run_training()
    assert (Path(trainer.output_folder) / "checkpoint_final.pth").is_file()


@pytest.mark.parametrize("options", [{"dimensions": 2}, {"cascade": True}, {"labels": "regions"}])
def test_in_settings_of_nnunet(with_raters, options):
    dataset = with_raters(**options)
    trainer = dataset.trainer("nnUNetTrainerLowRank")
    if options.get("labels") == "regions":
        for path in rater_folder(dataset).path.glob("*.pkl"):
            locations = pickle.loads(path.read_bytes())
            path.write_bytes(pickle.dumps(locations | {(1, 2): locations[1]}))
    trainer.on_train_start()
    trainer.network.train()
    batch = next(trainer.dataloader_train)
    assert np.isfinite(float(trainer.train_step(batch)["loss"]))
    training = trainer.get_tr_and_val_datasets()[0]
    previous_stage = training.load_case("case_0")[2]
    if options.get("cascade"):
        expected = trainer.dataset_class(
            trainer.preprocessed_dataset_folder,
            ["case_0"],
            folder_with_segs_from_previous_stage=trainer.folder_with_segs_from_previous_stage,
        ).load_case("case_0")[2]
        np.testing.assert_array_equal(previous_stage[:], expected[:])
        assert previous_stage[:].max() == 2
    else:
        assert previous_stage is None


def test_folders_of_npz_files(with_raters):
    dataset = with_raters()
    images = cases_of(dataset)
    folder = Path(images.source_folder)
    loaded = {case: images.load_case(case) for case in images.identifiers}
    arrays = {case: (image[:], label[:], properties) for case, (image, label, _, properties) in loaded.items()}
    shutil.rmtree(folder)
    folder.mkdir()
    for case, (image, label, properties) in arrays.items():
        nnUNetDatasetNumpy.save_case(image, label, properties, str(folder / case))
    trainer = dataset.trainer("nnUNetTrainerMoB")
    trainer.initialize()
    training = trainer.get_tr_and_val_datasets()[0]
    assert isinstance(training.cases, nnUNetDatasetNumpy)
    image, mask, _, _ = training.load_case("case_2")
    np.testing.assert_array_equal(image, arrays["case_2"][0])
    assert 1 <= (mask[:] == 1).sum() <= 3


def test_majority_label_on_request(with_raters, monkeypatch):
    dataset = with_raters(complete=False)
    trainer = dataset.trainer("nnUNetTrainerMoB")
    monkeypatch.setattr(type(trainer), "train_on_raters", False)
    trainer.initialize()
    training = trainer.get_tr_and_val_datasets()[0]
    assert type(training) is nnUNetDatasetBlosc2
    assert "trains on labelsTr, not on its 3 raters" in Path(trainer.log_file).read_text()


def test_without_raters_nothing_changes(make_dataset):
    trainer = make_dataset().trainer("nnUNetTrainerMoB")
    trainer.initialize()
    assert type(trainer.get_tr_and_val_datasets()[0]) is nnUNetDatasetBlosc2
    log = Path(trainer.log_file).read_text()
    assert "labelsTr" not in log
    assert "trains on" not in log


@pytest.mark.parametrize("damage", ["no record", "half a record", "no mask", "other labels", "other plans"])
def test_incomplete_raters_end_the_training_before_it_starts(with_raters, damage):
    dataset = with_raters()
    raters = rater_folder(dataset)
    if damage == "no record":
        raters.record("case_1").unlink()
    elif damage == "half a record":
        raters.record("case_1").write_text('{"settings": ')
    elif damage == "no mask":
        raters.mask("case_1", 2).unlink()
    elif damage == "other labels":
        record = json.loads(raters.record("case_1").read_text())
        record["settings"]["labels"]["core"] = 3
        raters.record("case_1").write_text(json.dumps(record))
    else:
        record = json.loads(raters.record("case_1").read_text())
        record["settings"]["spacing"][0] = 2.0
        raters.record("case_1").write_text(json.dumps(record))
    trainer = dataset.trainer("nnUNetTrainerMoB")
    command = "nnunet_stochastic_preprocess_raters -d Dataset999_Tiny -p nnUNetPlans -c 3d_fullres"
    with pytest.raises(ValueError, match=rf"of 1 of 3 training cases: case_1; run `{command}`"):
        trainer.on_train_start()
    assert not list(Path(trainer.output_folder).glob("*.pth"))


@pytest.mark.parametrize("on_raters", [True, False])
def test_a_checkpoint_tells_what_its_training_saw(with_raters, monkeypatch, on_raters):
    """Whatever the trainer's class and the dataset have become since."""
    dataset = with_raters()
    trainer = dataset.trainer("nnUNetTrainerDeterministic")
    monkeypatch.setattr(type(trainer), "train_on_raters", on_raters)
    trainer.on_train_start()
    file = Path(trainer.output_folder) / "checkpoint.pth"
    trainer.save_checkpoint(str(file))
    init_args = torch.load(file, weights_only=False)["init_args"]
    assert trained_on_raters(init_args, train_on_raters=not on_raters) is on_raters
    assert isinstance(trainer.get_tr_and_val_datasets()[0], RaterDataset) is on_raters


def test_validation_cases_need_no_raters(with_raters):
    dataset = with_raters()
    rater_folder(dataset).record("case_3").unlink()
    trainer = dataset.trainer("nnUNetTrainerMoB")
    trainer.initialize()
    assert isinstance(trainer.get_tr_and_val_datasets()[0], RaterDataset)


def test_masks_on_another_grid_than_the_image(with_raters):
    dataset = with_raters()
    raters = rater_folder(dataset)
    for rater in range(NUM_RATERS):
        mask = np.zeros((1, 16, 20, 17), dtype=np.int16)
        nnUNetDatasetBlosc2.save_seg(mask, str(raters.mask("case_0", rater).with_suffix("")))
    loaded = RaterDataset(cases_of(dataset), raters)
    with pytest.raises(ValueError, match=r"has shape \(16, 20, 17\), the preprocessed image \(16, 20, 18\)"):
        loaded.load_case("case_0")


def test_it_can_be_sent_to_a_worker_process(with_raters):
    dataset = with_raters()
    sent = pickle.loads(pickle.dumps(RaterDataset(cases_of(dataset), rater_folder(dataset))))
    assert 1 <= (sent.load_case("case_0")[1][:] == 1).sum() <= 3


@pytest.mark.parametrize(("entry", "expected"), [({}, 0), ({"num_raters": 0}, 0), ({"num_raters": 4}, 4)])
def test_number_of_raters(entry, expected):
    assert count_raters(entry) == expected


@pytest.mark.parametrize("value", [-1, 2.5, "4", True, None])
def test_numbers_of_raters_that_are_none(value):
    with pytest.raises(ValueError, match=r"num_raters in dataset\.json must be a whole number"):
        count_raters({"num_raters": value})
