"""plans.json is code: names in it lie in nnU-Net's own packages, or nothing of the folder is called."""

import json
import shutil

import pytest
import torch

from nnunet_stochastic.commands import evaluate, predict
from nnunet_stochastic.inference.model import load_model
from nnunet_stochastic.plans import check_configuration_names, find_label_manager, find_reader_writer
from tests.inference import model_folder

CONFIGURATION = "3d_fullres"
EVIL_MODULE = "import pathlib; pathlib.Path({path!r}).touch()\n"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return model_folder.write_model_folder(tmp_path_factory.mktemp("plans") / "model")


@pytest.fixture
def folder(written, tmp_path):
    shutil.copytree(written, tmp_path / "model")
    return tmp_path / "model"


def change(folder, *keys, **values):
    path = folder / "plans.json"
    plans = json.loads(path.read_text())
    entry = plans
    for key in keys:
        entry = entry[key]
    entry.update(values)
    path.write_text(json.dumps(plans))


def arguments(**values):
    return ("configurations", CONFIGURATION, "architecture", "arch_kwargs"), values


def architecture(**values):
    return ("configurations", CONFIGURATION, "architecture"), values


def configuration(**values):
    return ("configurations", CONFIGURATION), values


REFUSED = {
    "a command": (arguments(nonlin="subprocess.Popen", nonlin_kwargs={"args": ["touch", "RAN"]}), "nonlin"),
    "a function": (arguments(norm_op="os.system"), "norm_op"),
    "a function by a way round": (arguments(conv_op="torch.nn.modules.module.functools.partial"), "conv_op"),
    "another part of torch": (arguments(dropout_op="torch.nn.functional.torch.hub.load"), "dropout_op"),
    "a function of nnU-Net": (
        arguments(nonlin="nnunetv2.utilities.find_class_by_name.recursive_find_python_class"),
        "nonlin",
    ),
    "a module of this folder": (arguments(nonlin="evil.Module"), "nonlin"),
    "a network of this folder": (architecture(network_class_name="evil.Module"), "network_class_name"),
    "a name like a package's": (architecture(network_class_name="nnunetv2evil.Module"), "network_class_name"),
    "no class": (architecture(network_class_name="torch.nn"), "network_class_name"),
    "a module instead of a preprocessor": (configuration(preprocessor_name="torch"), "preprocessor_name"),
    "a function that imports": (
        configuration(resampling_fn_data="recursive_find_python_class"),
        "resampling_fn_data",
    ),
    "a function of numpy": (configuration(resampling_fn_probabilities="np"), "resampling_fn_probabilities"),
    "an imported class": (configuration(normalization_schemes=["ABC"]), "normalization_schemes"),
    "a module's attribute": (configuration(normalization_schemes=["__builtins__"]), "normalization_schemes"),
    "an imported function for labels": (((), {"label_manager": "join"}), "label_manager"),
    "an imported function for images": (((), {"image_reader_writer": "join"}), "image_reader_writer"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_run_code_is_refused(folder, tmp_path, monkeypatch, capsys, name):
    (keys, values), place = REFUSED[name]
    (tmp_path / "evil.py").write_text(EVIL_MODULE.format(path=str(tmp_path / "RAN")))
    (tmp_path / "images").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    change(folder, *keys, **values)
    common = ["-m", str(folder), "-f", "0", "-i", str(tmp_path / "images"), "-o", str(tmp_path / "out")]
    assert predict.main([*common, "-device", "cpu"]) == 1
    message = capsys.readouterr().err.splitlines()[0]
    assert message.startswith(f"error: {folder / 'plans.json'}: ")
    assert f"{place}" in message
    assert "could run code" in message
    assert not (tmp_path / "RAN").exists()
    assert not (tmp_path / "out").exists()


def test_a_network_of_another_package_needs_trust(folder, tmp_path, monkeypatch):
    (tmp_path / "my_operators.py").write_text("from torch.nn import ReLU\nclass Mine(ReLU): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    change(folder, *arguments()[0], nonlin="my_operators.Mine")
    with pytest.raises(ValueError, match=r"nonlin is 'my_operators.Mine', none of .* --trust_checkpoint"):
        load_model(folder, folds=(0,))
    model = load_model(folder, folds=(0,), trust_checkpoint=True)
    assert "Mine" in {type(module).__name__ for module in model.network.modules()}


def test_a_name_that_is_nowhere(folder):
    change(folder, *arguments()[0], nonlin="torch.nn.Nowhere")
    for trust in (False, True):
        with pytest.raises(ValueError, match=r"plans.json.*nonlin: there is no torch.nn.Nowhere"):
            load_model(folder, folds=(0,), trust_checkpoint=trust)


@pytest.mark.parametrize(("dimension", "reader"), [(2, "NaturalImage2DIO"), (3, "NibabelIOWithReorient")])
def test_what_nnunet_plans_passes(dimension, reader):
    plans = model_folder.plans(dimension=dimension, reader_writer=reader)
    check_configuration_names("plans.json", next(iter(plans["configurations"].values())))
    assert find_reader_writer("plans.json", plans["image_reader_writer"]).__name__ == reader
    assert find_label_manager("plans.json", plans["label_manager"]).__name__ == "LabelManager"


@pytest.mark.parametrize(
    "names",
    [
        {"resampling_fn_data": "resample_torch_fornnunet", "normalization_schemes": ["CTNormalization"]},
        {"resampling_fn_seg": "no_resampling_hack", "normalization_schemes": ["RGBTo01Normalization"]},
    ],
)
def test_other_names_of_nnunet_pass(names):
    check_configuration_names("plans.json", model_folder.plans()["configurations"][CONFIGURATION] | names)


def test_a_network_that_has_moved_is_found_as_nnunet_finds_it(folder):
    change(folder, *architecture()[0], network_class_name="dynamic_network_architectures.old_place.PlainConvUNet")
    assert type(load_model(folder, folds=(0,)).network).__name__ == "PlainConvUNet"


def test_the_reader_of_evaluated_predictions(tmp_path, capsys):
    (tmp_path / "a.nii.gz").touch()
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "x": 1}, "file_ending": ".nii.gz"}')
    (tmp_path / "plans.json").write_text('{"image_reader_writer": "join"}')
    assert evaluate.main(["-pred", str(tmp_path), "-gt", str(tmp_path / "gt")]) == 1
    assert "plans.json: image_reader_writer: join is no BaseReaderWriter of nnunetv2.imageio" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["flipped byte", "zeroed pages"])
def test_a_damaged_checkpoint_is_noticed(folder, kind):
    path = folder / "fold_0" / "checkpoint_final.pth"
    load_model(folder, folds=(0,))
    content = bytearray(path.read_bytes())
    weights = torch.load(path, weights_only=False)["network_weights"]
    largest = max(weights.values(), key=lambda tensor: tensor.numel()).contiguous()
    start = content.index(largest.numpy().tobytes())
    content[start : start + (1 if kind == "flipped byte" else 1000)] = (
        bytes([content[start] ^ 16]) if kind == "flipped byte" else bytes(1000)
    )
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint_final.pth is damaged: the checksum of .*/data/\d+ is wrong"):
        load_model(folder, folds=(0,))
