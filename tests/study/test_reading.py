"""STUDY.yaml is read as its schema says; every error has the key's path, what came and what to write."""

import pytest

from nnunet_stochastic.datasets.corruptions import SHIFTS
from nnunet_stochastic.evaluation import tasks
from nnunet_stochastic.evaluation.conventions import PRESETS
from nnunet_stochastic.study.description import CORRUPTIONS
from nnunet_stochastic.study.reading import ACE, CONVENTIONS, read_study

pytest.importorskip("yaml")

SMALL = """
output: results
seeds: 3
aleatoric: [Softmax, SSN]
epistemic: [none, ensemble, dropout, swag, swag_diag]
exclude: [Softmax/none]
datasets:
  - {dataset: 7, configuration: 2d}
"""


def test_names_are_those_of_the_commands():
    assert tuple(SHIFTS) == CORRUPTIONS
    assert tuple(PRESETS) == CONVENTIONS
    assert tasks.ACE == ACE


def test_defaults(write_study):
    file = write_study(SMALL)
    study = read_study(file)
    assert (study.name, study.output) == ("study", file.parent / "results")
    assert (study.device, study.convention, study.viewer_cases, study.trainers) == ("cuda", "entanglement", 20, None)
    (dataset,) = study.datasets
    assert (dataset.dataset, dataset.plans, dataset.planner, dataset.raters) == (
        "Dataset007",
        "nnUNetPlans",
        None,
        True,
    )
    assert dataset.seeds == 3
    assert (dataset.corruptions, dataset.ood, dataset.ace, dataset.start_from) == ((), (), None, None)
    assert len(dataset.models) == 9
    gpus = {kind: study.resource(kind, "gpu") for kind in ("plan", "train", "predict", "evaluate")}
    assert gpus == {"plan": 0, "train": 1, "predict": 1, "evaluate": 0}
    assert study.resource("train", "threads") == 1


def test_a_training_run_serves_all_methods_that_can_share_it(write_study):
    (dataset,) = read_study(write_study(SMALL)).datasets
    trainers = {method: dataset.trainer_of(model, method) for model, method in dataset.models if model.name == "SSN"}
    swag = "nnUNetTrainerSSNSWAG"
    assert trainers == {**dict.fromkeys(trainers, swag), "dropout": "nnUNetTrainerSSNDropout"}
    (dataset,) = read_study(write_study(SMALL.replace(", swag, swag_diag", ""))).datasets
    assert dataset.trainer_of(dataset.aleatoric[1], "none") == "nnUNetTrainerSSN"


def test_a_dataset_may_say_otherwise(write_study):
    study = read_study(
        write_study(
            SMALL
            + """  - dataset: Dataset008_Other
    configuration: 3d_fullres
    planner: nnUNetPlannerResEncM
    raters: false
    corruptions: [blur]
    ood: [far-away]
    seeds: 1
    aleatoric: {Paper: {trainer: MoB, predict: {num_samples: 5}}, TTA: {trainer: "", predict: {aleatoric: tta}}}
    epistemic: [none]
    exclude: []
    start_from: nnUNetTrainer
    predict: {step_size: 0.25, disable_tta: true}
    minutes: {train: 2.5}
variables: {all: {OMP_NUM_THREADS: 1}, train: {nnUNet_n_proc_DA: 0}}
resources: {train: {threads: 4, gpu: 2, slurm_partition: long}}
evaluate: {np: 6, convention: values}
"""
        )
    )
    first, second = study.datasets
    assert (first.seeds, len(first.models)) == (3, 9)
    assert (second.plans, second.seeds, second.start_from) == ("nnUNetResEncUNetMPlans", 1, "nnUNetTrainer")
    assert [second.trainer_of(model, method) for model, method in second.models] == [
        "nnUNetTrainerMoB",
        "nnUNetTrainer",
    ]
    assert second.predict == {"step_size": 0.25, "disable_tta": True}
    assert second.aleatoric[0].predict == {"num_samples": 5}
    assert second.minutes == {"train": 2.5}
    assert study.variables == {"all": {"OMP_NUM_THREADS": "1"}, "train": {"nnUNet_n_proc_DA": "0"}}
    assert (study.resource("train", "threads"), study.resource("train", "gpu")) == (4, 2)
    assert study.resource("evaluate", "threads") == 6
    assert study.convention == "values"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds: 3", "seeds: three", "seeds must be a whole number of at least 1, got 'three'"),
        ("seeds: 3", "seeds: true", "seeds must be a whole number of at least 1, got True"),
        ("seeds: 3", "seeds: 1", "seeds must be at least 2 for an ensemble, as its members; got 1"),
        ("seeds: 3", "", "datasets[0].seeds is missing: write how often each model is trained, such as 5"),
        ("seeds: 3", "seeds: 3\nseeds: 4", "line 2: seeds is there twice; leave one"),
        ("seeds: 3", "seeds: 3\nseed: 4", "seed is no key of a study; remove or correct it"),
        ("output: results", "", "output is missing: write a folder for the results"),
        ("swag, swag_diag", "SWAG", "epistemic[3] must be one of none, ensemble, dropout, swag, swag_diag, got 'SWAG'"),
        ("[Softmax, SSN]", "[Softmax, Softmax]", "aleatoric has Softmax twice; leave one"),
        ("[Softmax, SSN]", "Softmax", "aleatoric must be a mapping"),
        ("[Softmax, SSN]", "[a/b]", "aleatoric.a/b must be of letters, digits, '-', '_' and '.', got 'a/b'"),
        ("[Softmax, SSN]", "{SSN: {num_samples: 3}}", "aleatoric.SSN.num_samples is no key of a study"),
        ("Softmax/none", "Softmax/tta", "exclude has 'Softmax/tta', which is no ALEATORIC/EPISTEMIC of this study"),
        ("configuration: 2d", "plans: x", "datasets[0].configuration is missing: write one of nnU-Net's, such as 2d"),
        ("dataset: 7", "dataset: LIDC", "datasets[0].dataset must be nnU-Net's number (1 to 999) or name"),
        ("configuration: 2d", "configuration: 2d, ood: [ID]", "datasets[0].ood: the name ID has another meaning here"),
        (
            "configuration: 2d",
            "configuration: 2d, planner: Mine",
            "datasets[0].plans is missing: write what Mine calls",
        ),
        (
            "configuration: 2d",
            "configuration: 2d, corruptions: [fog]",
            "datasets[0].corruptions[0] must be one of blur,",
        ),
        ("configuration: 2d", "configuration: 2d, predict: {samples: 3}", "predict.samples is no key of a study"),
        ("configuration: 2d", "configuration: 2d, predict: {num_samples: 0}", "predict.num_samples must be a whole"),
        ("configuration: 2d", "configuration: 2d, minutes: {training: 3}", "minutes.training is no kind of job"),
        ("seeds: 3", "seeds: 3\nvariables: {train: {x: true}}", "variables.train.x must be text or a number, got True"),
        ("seeds: 3", "seeds: 3\nresources: {train: {threads: 0}}", "resources.train.threads must be a whole number"),
        ("seeds: 3", "seeds: 3\ntrainer: My{aleatoric}", "trainer must have {aleatoric} and {epistemic} in it"),
        ("seeds: 3", "seeds: 3\ndevice: gpu", "device must be one of cuda, cpu, mps, got 'gpu'"),
        ("datasets:", "data:", "datasets must be a list with an entry `- dataset: NUMBER` per dataset, got None"),
    ],
)
def test_errors(write_study, old, new, message):
    assert old in SMALL
    file = write_study(SMALL.replace(old, new, 1))
    with pytest.raises(ValueError) as error:  # noqa: PT011  the whole message is looked at
        read_study(file)
    assert str(file) in str(error.value)
    assert message in str(error.value)


def test_a_dataset_twice(write_study):
    with pytest.raises(ValueError, match="Dataset007 twice; join the two entries"):
        read_study(write_study(SMALL + "  - {dataset: Dataset007_Toy, configuration: 3d_fullres}\n"))


def test_parts_may_be_named_and_used_again(write_study):
    text = SMALL + "  - {<<: *seven, dataset: 8, raters: false}\n"
    first, second = read_study(write_study(text.replace("{dataset: 7", "&seven {dataset: 7"))).datasets
    assert (second.dataset, second.configuration, second.raters) == ("Dataset008", "2d", False)
    assert first.raters


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.yaml; name the YAML file"):
        read_study(tmp_path / "no.yaml")
