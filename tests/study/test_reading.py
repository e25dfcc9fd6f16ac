"""STUDY.yaml is read as its schema says; every error has the key's path, what came and what to write."""

import copy
import json
import re
from pathlib import Path

import pytest

from nnunet_stochastic.datasets.corruptions import SHIFTS
from nnunet_stochastic.epistemic import EPISTEMIC_METHODS
from nnunet_stochastic.study.description import CORRUPTIONS, PREDICT_OPTIONS

yaml = pytest.importorskip("yaml")
pytest.importorskip("pydantic")
jsonschema = pytest.importorskip("jsonschema")

from nnunet_stochastic.study.reading import read_study  # noqa: E402
from nnunet_stochastic.study.schema import Predict, json_schema  # noqa: E402

EXAMPLES = Path(__file__).parents[2] / "examples"

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
    assert study.resources == {"train": {"threads": 4, "gpu": 2, "slurm_partition": "long"}}
    assert study.convention == "values"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds: 3", "seeds: three", "seeds must be a whole number of at least 1, got 'three'"),
        ("seeds: 3", "seeds: true", "seeds must be a whole number of at least 1, got True"),
        ("seeds: 3", "seeds: 1", "seeds must be at least 2 for an ensemble, as its members; got 1"),
        ("seeds: 3", "", "datasets[0].seeds is missing: write how often each model is trained, such as 5"),
        ("seeds: 3", "seeds: 3\nseeds: 4", "line 4: seeds is there twice; leave one"),
        ("seeds: 3", "seeds: 3\nseed: 4", "seed is no key of a study; remove or correct it"),
        ("output: results", "", "output is missing: write a folder for the results"),
        ("swag, swag_diag", "SWAG", f"epistemic[3] must be one of {', '.join(EPISTEMIC_METHODS)}, got 'SWAG'"),
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


ENTRY = "configuration: 2d"


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("seeds: 3", "seeds:", 3, "seeds is empty; write its value, or remove the key"),
        ("seeds: 3", "seeds: 3\n5: 4", 4, "5: a key must be text, got 5; put it into quotes"),
        ("results", "7", 2, "output must be text, got 7; put it into quotes"),
        ("results", "' '", 2, "output must be text, got ' '; put it into quotes"),
        ("[Softmax, SSN]", "{1: {}}", 4, "aleatoric.1: a key must be text, got 1; put it into quotes"),
        ("[Softmax, SSN]", "{a b: {}}", 4, "aleatoric.a b must be of letters, digits, '-', '_' and '.', got 'a b'"),
        ("[Softmax, SSN]", "{SSN: 3}", 4, "aleatoric.SSN must be a mapping (key: value), got 3"),
        (
            "[Softmax, SSN]",
            "[Softmax, 3]",
            4,
            "aleatoric must be a mapping (NAME: OPTIONS) or a list of names, such as [one, two], got ['Softmax', 3]",
        ),
        (
            "[Softmax, SSN]",
            "{SSN: {trainer: 1}}",
            4,
            "aleatoric.SSN.trainer must be the {aleatoric} of a trainer's name, got 1",
        ),
        (
            "[none, ensemble, dropout, swag, swag_diag]",
            "{none: 1}",
            5,
            "epistemic must be a list of names, such as [one, two], got {'none': 1}",
        ),
        ("swag, swag_diag", "swag, swag", 5, "epistemic has swag twice; leave one"),
        (
            "[Softmax/none]",
            "Softmax/none",
            6,
            "exclude must be a list of names, such as [one, two], got 'Softmax/none'",
        ),
        ("- {", "- 5\n  - {", 8, "datasets[0] must be a mapping (key: value), got 5"),
        (
            "dataset: 7",
            "dataset: 1000",
            8,
            "datasets[0].dataset must be nnU-Net's number (1 to 999) or name (Dataset511_LIDC), got 1000",
        ),
        (
            "dataset: 7",
            "plans: x",
            8,
            "datasets[0].dataset is missing: write nnU-Net's number or name, such as 511",
        ),
        (ENTRY, f"{ENTRY}, raters: 1", 8, "datasets[0].raters must be true or false, got 1"),
        (
            ENTRY,
            f"{ENTRY},\n    predict: {{step_size: .inf}}",
            9,
            "datasets[0].predict.step_size must be a number above 0, got inf",
        ),
        (
            ENTRY,
            f"{ENTRY}, minutes: {{\n    train: true}}",
            9,
            "datasets[0].minutes.train must be a number above 0, got True",
        ),
        (
            "seeds: 3",
            "seeds: 3\nminutes: {training: 3}",
            4,
            "minutes.training is no kind of job; there are convert, plan, sets, train, predict, calibrate, evaluate, "
            "compare, report",
        ),
        (
            "seeds: 3",
            "seeds: 3\nvariables: {every: {}}",
            4,
            "variables.every is no kind of job; there are all, convert, plan, sets, train, predict, calibrate, "
            "evaluate, compare, report",
        ),
        (
            "seeds: 3",
            "seeds: 3\nresources: {train: {mem_mb: 1.5}}",
            4,
            "resources.train.mem_mb must be a whole number or text, got 1.5",
        ),
        (
            "seeds: 3",
            "seeds: 3\nresources: {train: {mem_mb: true}}",
            4,
            "resources.train.mem_mb must be a whole number or text, got True",
        ),
        ("seeds: 3", "seeds: 3\npredict: [1]", 4, "predict must be a mapping (key: value), got [1]"),
        (
            "seeds: 3",
            "seeds: 3\npredict: {estimator: best}",
            4,
            "predict.estimator must be one of auto, exact, mc, plug_in, got 'best'",
        ),
        ("seeds: 3", "seeds: 3\nevaluate: {np: 0}", 4, "evaluate.np must be a whole number of at least 1, got 0"),
        (
            "seeds: 3",
            "seeds: 3\ntrainer: '{aleatoric'",
            4,
            "trainer must have {aleatoric} and {epistemic} in it and no other braces, such as "
            "'nnUNetTrainer{aleatoric}{epistemic}'; got '{aleatoric'",
        ),
    ],
)
def test_the_whole_message_of_one_mistake(write_study, old, new, line, message):
    assert old in SMALL
    file = write_study(SMALL.replace(old, new, 1))
    with pytest.raises(ValueError) as error:  # noqa: PT011  the whole message is looked at
        read_study(file)
    assert str(error.value) == f"{file}, line {line}: {message}"


def test_all_mistakes_of_a_file_at_once(write_study):
    file = write_study(SMALL.replace("seeds: 3", "seeds: 0\nseed: 1").replace(ENTRY, "raters: 2"))
    with pytest.raises(ValueError, match="4 mistakes") as error:
        read_study(file)
    assert str(error.value).splitlines() == [
        f"{file} has 4 mistakes:",
        "  line 3: seeds must be a whole number of at least 1, got 0",
        "  line 4: seed is no key of a study; remove or correct it",
        "  line 9: datasets[0].configuration is missing: write one of nnU-Net's, such as 2d",
        "  line 9: datasets[0].raters must be true or false, got 2",
    ]
    more = (
        SMALL.replace("Softmax/none", "Softmax/x").replace("seeds: 3", "seeds: 1") + "  - {dataset: 7, " + ENTRY + "}\n"
    )
    with pytest.raises(
        ValueError, match="3 mistakes"
    ) as error:  # those of the whole are looked for in a file without such
        read_study(write_study(more))
    assert str(error.value).splitlines()[1:] == [
        "  line 3: seeds must be at least 2 for an ensemble, as its members; got 1",
        "  line 6: exclude has 'Softmax/x', which is no ALEATORIC/EPISTEMIC of this study",
        "  line 7: datasets has Dataset007 twice; join the two entries",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file must be a mapping (key: value), got None"),
        ("- 1\n", "the file must be a mapping (key: value), got [1]"),
        ("output: [", "is no YAML file: while parsing a flow node"),
        ("a: {b: 1, b: 2}\n", "line 1: b is there twice; leave one"),
        ("\na: 1\na: 2\n", "line 3: a is there twice; leave one"),
        ("a: 1\non: 4\n", "line 2: True: a key must be text, got True; put it into quotes"),
        ("a: 1\n~: 4\n", "line 2: None: a key must be text, got None; put it into quotes"),
        ("a: 1\n1.50: 4\n", "line 2: 1.5: a key must be text, got 1.5; put it into quotes"),
        ("a: &same {b: 1}\nc: {<<: *same, b: 2}\n", "line 1: a is no key of a study"),
        ("a: 1\nname: \0\n", "line 2: YAML has no character '\\x00'"),
        ("a: 1\nb: [1]\n[1]: 2", "is no YAML file: while constructing a mapping"),
        ("a: 1\nb:\n\tc: 1\n", "line 3, column 1"),
        (f"a: {'[' * 2000}{']' * 2000}", "it is nested too deeply"),
        ("exclude: &self [*self]", "line 1 holds itself by an alias"),
        ("name: 2024-13-45", "'2024-13-45' is no timestamp; put it into quotes, if it is text\n  in"),
        ("name: !!timestamp soon", "'soon' is no timestamp"),
        ("name: !!bool maybe", "'maybe' is no bool"),
        ("name: !!int much", "'much' is no int"),
        (f"seeds: {'9' * 5000}", "is no int"),
        ("name: !!python/object:os.system x", "could not determine a constructor"),
    ],
)
def test_no_mapping_or_no_yaml(write_study, text, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011  the whole message is looked at
        read_study(write_study(text))
    assert message in str(error.value)
    assert "study.yaml" in str(error.value)


def test_another_encoding(write_study):
    file = write_study(SMALL)
    file.write_bytes(f"{SMALL}name: Größe\n".encode("latin-1"))
    with pytest.raises(ValueError, match="line 9: not in UTF-8; save the file in that encoding") as error:
        read_study(file)
    assert str(file) in str(error.value)
    file.write_bytes(f"{SMALL}name: Größe\n".encode("utf-8-sig"))
    assert read_study(file).name == "Größe"


def values_of(content, path=()):
    """Path of each value in a file."""
    parts = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in parts:
        yield (*path, key)
        yield from values_of(value, (*path, key))


@pytest.mark.parametrize("wrong", [None, True, 1.5, -1, "?", [], [None], {}, {"x": None}, {1: 2}])
def test_whatever_is_wrong_is_said_in_the_words_of_a_study(write_study, wrong):
    content = yaml.safe_load((EXAMPLES / "tiny" / "tiny.yaml").read_text())
    for path in values_of(content):
        changed = copy.deepcopy(content)
        place = changed
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = wrong
        file = write_study(yaml.safe_dump(changed))
        try:
            read_study(file)
        except ValueError as error:
            assert str(file) in str(error)  # noqa: PT017  some of these values are right at some places
            assert re.search(r"line \d+: \S.* (must|has|is|a key) ", str(error))  # noqa: PT017
            assert not re.search(r"[Ii]nput|valid|Extra", str(error))  # noqa: PT017


STUDY_FILES = sorted(EXAMPLES.glob("*/*.yaml"))


@pytest.mark.parametrize("file", STUDY_FILES, ids=lambda file: file.stem)
def test_editors_and_the_command_accept_the_same_examples(file):
    jsonschema.validate(yaml.safe_load(file.read_text()), json_schema())
    assert read_study(file).datasets


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": 0},
        {"seeds": None},
        {"seed": 1},
        {"device": "gpu"},
        {"aleatoric": ["a/b"]},
        {"aleatoric": {"SSN": {"num_samples": 3}}},
        {"epistemic": ["SWAG"]},
        {"minutes": {"training": 3}},
        {"resources": {"train": {"threads": 0}}},
        {"variables": {"train": {"x": True}}},
        {"datasets": []},
        {"datasets": [{"dataset": 1000, "configuration": "2d"}]},
    ],
)
def test_editors_and_the_command_mark_the_same_mistakes(write_study, change):
    content = yaml.safe_load(SMALL) | change
    with pytest.raises(ValueError):  # noqa: PT011  messages are above
        read_study(write_study(yaml.safe_dump(content)))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, json_schema())


def test_every_key_has_an_explanation_for_editors():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    keys = [key for model in (schema, *schema["$defs"].values()) for key in model["properties"].items()]
    assert [name for name, value in keys if "description" not in value] == []
    assert {name for name, value in keys if "null" in json.dumps(value)} == {"aleatoric"}  # whose models may be empty


def test_predict_has_a_key_for_each_option_that_jobs_know():
    assert set(Predict.model_fields) == set(PREDICT_OPTIONS)


def test_options_keep_the_order_of_the_file(write_study):
    text = SMALL + "predict: {seed: 1, chk: x.pth, num_samples: 3}\n"
    (dataset,) = read_study(write_study(text)).datasets
    assert list(dataset.predict.items()) == [("seed", 1), ("chk", "x.pth"), ("num_samples", 3)]


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


def test_folders_are_read_as_by_a_shell(write_study, nnunet, monkeypatch):
    monkeypatch.setenv("HOME", str(nnunet / "home"))
    monkeypatch.setenv("WHERE", str(nnunet / "where"))
    for written, meant in (
        ("~/out", nnunet / "home" / "out"),
        ("$WHERE/out", nnunet / "where" / "out"),
        ("${WHERE}s", nnunet / "wheres"),
        ("a$$b", nnunet / "a$b"),
        ("a~b", nnunet / "a~b"),
    ):
        assert read_study(write_study(SMALL.replace("output: results", f"output: {written}"))).output == meant
    for unknown in ("$NOT_SET_ANYWHERE/out", "~no_such_user_here/out", "a$"):
        with pytest.raises(ValueError, match=r"output has .* is not known; set it"):
            read_study(write_study(SMALL.replace("output: results", f"output: {unknown}")))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("predict: {step_size: 5}", r"predict.step_size must be at most 1, got 5"),
        ('trainer: "nnUNetTrainer{aleatoric:20}{epistemic}"', r"trainer must have \{aleatoric\} and \{epistemic\}"),
        ('trainer: "nnUNetTrainer{aleatoric!r}{epistemic}"', r"trainer must have \{aleatoric\} and \{epistemic\}"),
        ('variables: {all: {NAME: "a\\0b"}}', r"variables.all.NAME must be text or a number"),
        ('variables: {all: {"a=b": 1}}', r"'a=b' is no name of an environment variable"),
        ('name: "a\\0b"', r"name must be text"),
        (f"name: [{'x' * 5000}]", r"name must be text, got \['x{100,200}…; put"),
        ("name: 2024-99-99", r"'2024-99-99' is no timestamp"),
        ("name: &a [*a]", r"holds itself by an alias"),
        (f"name: {'[' * 3000}{']' * 3000}", r"nested too deeply"),
        (
            "a0: &a0 [x, x]\n" + "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)),
            r"has more than 100000 parts",
        ),
    ],
)
def test_values_that_only_a_job_would_find_wrong(write_study, lines, message):
    key = lines.partition(":")[0]
    kept = [line for line in SMALL.splitlines() if not line.startswith(f"{key}:")]
    with pytest.raises(ValueError, match=message) as error:
        read_study(write_study("\n".join([lines, *kept])))
    assert "study.yaml" in str(error.value)
    assert len(str(error.value)) < 1000


def test_a_file_that_is_not_utf8(write_study):
    file = write_study("")
    file.write_bytes(b"output: \xff")
    with pytest.raises(ValueError, match=r"study\.yaml, line 1: not in UTF-8"):
        read_study(file)


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ("[none]; predict: {save_samples: 2}", r"predict\.save_samples is 2, but Softmax/none .* per member, 1; ask"),
        ("[ensemble]; predict: {save_samples: 4}", r"is 4, but Softmax/ensemble .* per member, 3; ask"),
        ("[swag]; predict: {save_samples: 9, num_members: 8}", r"is 9, but Softmax/swag .* per member, 8; ask"),
        ("[none]; predict: {save_samples: 2, tiles_and_views: average, disable_tta: true}", r"Softmax/none"),
        ("[none]; predict: {save_samples: 1}", None),
        ("[ensemble]; predict: {save_samples: 3}", None),
        ("[dropout]; predict: {save_samples: 8, num_members: 8}", None),
        ("[none]; predict: {save_samples: 4, aleatoric: tta}", None),
        ("[none]; predict: {save_samples: 4, tiles_and_views: average}", None),
    ],
)
def test_samples_that_a_deterministic_network_has_not(write_study, study, message):
    epistemic, _, predict = study.partition("; ")
    lines = ["output: results", "seeds: 3", "aleatoric: [Softmax]", f"epistemic: {epistemic}", predict]
    file = write_study("\n".join([*lines, "datasets: [{dataset: 7, configuration: 2d}]"]))
    if message is None:
        read_study(file)
    else:
        with pytest.raises(ValueError, match=r"study\.yaml, line 5: .*" + message):
            read_study(file)
    file.write_text(file.read_text().replace("Softmax", "SSN"))
    read_study(file)


def test_a_folder_of_trainers_that_nnunet_would_take_for_two(write_study, nnunet):
    (nnunet / "a:b").mkdir()
    with pytest.raises(ValueError, match=r"line 1: trainers has ':' in its path, .* nnUNet_extTrainer; rename"):
        read_study(write_study("trainers: a:b" + SMALL))


def test_a_byte_order_mark(write_study):
    file = write_study(SMALL)
    content = file.read_bytes()
    expected = read_study(file)
    file.write_bytes(b"\xef\xbb\xbf" + content)
    assert read_study(file) == expected
