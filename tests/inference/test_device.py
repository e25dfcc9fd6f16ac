"""What runs on CUDA only, without CUDA: by stand-ins that record flags and lack memory, and by fake tensors."""

from __future__ import annotations

import contextlib
from functools import partial
from operator import methodcaller
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode

from nnunet_stochastic.distributions import DenoisingLogits, NoiseSchedule, logistic_normal_moments
from nnunet_stochastic.distributions.lattice import lattice_nodes, lattice_points
from nnunet_stochastic.inference.blending import has_voxel_law
from nnunet_stochastic.inference.restore import restore
from nnunet_stochastic.inference.samples import SampleDraw
from nnunet_stochastic.inference.seeds import NoiseKey
from nnunet_stochastic.inference.sliding_window import mirrored_views, predict_logit_distribution, tiles
from nnunet_stochastic.inference.stitching import Stitching
from nnunet_stochastic.inference.sweep import Sweep
from nnunet_stochastic.maps import epistemic_map, variance_map
from nnunet_stochastic.moments import MomentSums
from nnunet_stochastic.outcomes import OutcomeSpace
from nnunet_stochastic.training import BasisTrainer, DiagonalTrainer, LowRankTrainer
from nnunet_stochastic.voxel_law import sampled_moments
from tests.inference.predictors import (
    PROPERTIES,
    TinyDiffusion,
    TinyProbUNet,
    TinySoftmax,
    TinySSN,
    VolumeBasis,
    build,
)
from tests.inference.sweeping import make_collector

CUDA = torch.device("cuda")


class CudaIsTheCpu(TorchFunctionMode):
    """Lets tensors that are to go to a CUDA device stay on the CPU, and keeps the shapes of what comes and goes."""

    def __init__(self):
        super().__init__()
        self.sent, self.fetched = set(), set()

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        if function is torch.device:
            return function(*arguments, **(keywords or {}))
        if function is torch.Tensor.to and any(str(value).startswith("cuda") for value in arguments[1:]):
            self.sent.add(tuple(arguments[0].shape))
        if function is torch.Tensor.cpu:
            self.fetched.add(tuple(arguments[0].shape))

        def on_cpu(value):
            is_cuda = isinstance(value, (str, torch.device)) and str(value).startswith("cuda")
            return torch.device("cpu") if is_cuda else value

        keywords = {name: on_cpu(value) for name, value in (keywords or {}).items()}
        return function(*map(on_cpu, arguments), **keywords)


@pytest.fixture
def predictor(tmp_path, folders, stochastic_trainer):
    """Of two stochastic folds, on the stand-in or on the CPU."""
    folder = folders.write_model_folder(tmp_path / "model", trainer=stochastic_trainer, patch_size=8, folds=(0, 1))

    fixed = {"folds": (0, 1), "num_samples": 2, "num_saved_samples": 3, "mirroring": False}
    return lambda device, **options: build(folder, device=device, **fixed, **options)


@pytest.fixture
def image(folders):
    return folders.image_array(shape=(8, 12, 13))[None]


def backend_flags() -> tuple[bool, ...]:
    """All of cuDNN's but ``benchmark``."""
    cudnn = torch.backends.cudnn
    return cudnn.enabled, cudnn.deterministic, cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_convolutions_are_benchmarked_and_no_other_flag_is_touched(predictor, image, monkeypatch, before, fails):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", before)
    flags, recorded = backend_flags(), []
    with CudaIsTheCpu():
        on_stand_in = predictor("cuda")

        def record(*_):
            recorded.append((torch.backends.cudnn.benchmark, backend_flags()))
            if fails and len(recorded) == 2:
                raise RuntimeError("the network fails")

        on_stand_in.model.network.network.register_forward_hook(record)
        with pytest.raises(RuntimeError, match="the network fails") if fails else contextlib.nullcontext():
            on_stand_in.predict_array(image, PROPERTIES)
    assert len(recorded) > 1
    assert set(recorded) == {(True, flags)}
    assert torch.backends.cudnn.benchmark is before
    assert backend_flags() == flags


def test_the_cpu_leaves_cudnn_alone(predictor, image, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    on_cpu, recorded = predictor("cpu"), set()
    on_cpu.model.network.network.register_forward_hook(lambda *_: recorded.add(torch.backends.cudnn.benchmark))
    on_cpu.predict_array(image, PROPERTIES)
    assert recorded == {False}


@pytest.mark.parametrize("accumulate_on_device", [True, False])
def test_the_stand_in_predicts_as_the_cpu(predictor, image, accumulate_on_device):
    expected = predictor("cpu", accumulate_on_device=accumulate_on_device).predict_array(image, PROPERTIES)
    with CudaIsTheCpu():
        found = predictor("cuda", accumulate_on_device=accumulate_on_device).predict_array(image, PROPERTIES)
    np.testing.assert_array_equal(found.maps["total"], expected.maps["total"])
    np.testing.assert_array_equal(np.stack(found.samples), np.stack(expected.samples))


def test_images_stay_on_the_host(predictor, image):
    """While the network runs its device has no more of the image's size than the sums."""
    with CudaIsTheCpu() as mode:
        predictor("cuda").predict_preprocessed(torch.from_numpy(image))
    assert (1, 1, 8, 8, 8) in mode.sent
    assert (1, 8, 12, 13) not in mode.sent
    assert (8, 12, 13) in mode.fetched  # the sum of the tiles' weights


@pytest.mark.parametrize("passes", [1, 6, 9, 12])
def test_a_device_without_memory_leaves_the_sums_to_the_cpu(predictor, image, monkeypatch, capsys, passes):
    """In the first or last tile of the first member, or of the second, after samples of the first were handed over."""
    expected = predictor("cpu").predict_array(image, PROPERTIES)
    with CudaIsTheCpu():
        on_stand_in = predictor("cuda")
        predict, devices, count = on_stand_in._predict_moments, [], 0

        def record(data, sums_device, *arguments):
            devices.append(sums_device.type)
            return predict(data, sums_device, *arguments)

        def lack_memory(*_):
            nonlocal count
            count += 1
            if count == passes:
                raise torch.cuda.OutOfMemoryError

        monkeypatch.setattr(on_stand_in, "_predict_moments", record)
        on_stand_in.model.network.network.register_forward_hook(lack_memory)
        found = on_stand_in.predict_array(image, PROPERTIES)
    assert devices == ["cuda", "cpu"]
    assert "do not fit into the memory of the device: they stay on the CPU" in capsys.readouterr().out
    for name, values in expected.maps.items():
        np.testing.assert_array_equal(found.maps[name], values)
    np.testing.assert_array_equal(np.stack(found.samples), np.stack(expected.samples))


@pytest.fixture
def restoring(monkeypatch):
    """Devices on which predictions were restored, call by call; ``lack_memory`` of the CUDA device is a choice."""
    choice = SimpleNamespace(devices=[], lack_memory=False)

    def record(*arguments, device=torch.device("cpu"), **keywords):
        choice.devices.append(device.type)
        if choice.lack_memory and device.type == "cuda":
            raise torch.cuda.OutOfMemoryError
        return restore(*arguments, device=device, **keywords)

    monkeypatch.setattr("nnunet_stochastic.inference.predictor.restore", record)
    return choice


@pytest.mark.parametrize("accumulate_on_device", [True, False])
def test_predictions_are_restored_where_sums_are(predictor, image, restoring, accumulate_on_device):
    with CudaIsTheCpu():
        predictor("cuda", accumulate_on_device=accumulate_on_device).predict_array(image, PROPERTIES)
    assert restoring.devices == ["cuda" if accumulate_on_device else "cpu"] * 4  # three samples, and all else


def test_what_a_full_device_cannot_restore_the_cpu_does(predictor, image, restoring, capsys):
    expected = predictor("cpu").predict_array(image, PROPERTIES)
    restoring.devices.clear()
    restoring.lack_memory = True
    with CudaIsTheCpu():
        found = predictor("cuda").predict_array(image, PROPERTIES)
    assert restoring.devices == ["cuda", "cpu"] * 4
    assert "the CPU does it" in capsys.readouterr().out
    for name, values in expected.maps.items():
        np.testing.assert_array_equal(found.maps[name], values)
    np.testing.assert_array_equal(np.stack(found.samples), np.stack(expected.samples))


def test_a_device_without_memory_for_the_network_is_an_error(predictor, image):
    def lack_memory(*_):
        raise torch.cuda.OutOfMemoryError("not even a tile")

    with CudaIsTheCpu():
        on_stand_in = predictor("cuda")
        on_stand_in.model.network.network.register_forward_hook(lack_memory)
        with pytest.raises(torch.cuda.OutOfMemoryError, match="not even a tile"):
            on_stand_in.predict_array(image, PROPERTIES)


TRAINERS = [
    nnUNetTrainer,
    DiagonalTrainer,
    LowRankTrainer,
    BasisTrainer,
    VolumeBasis,
    TinySoftmax,
    TinySSN,
    TinyProbUNet,
    TinyDiffusion,
]
PREDICTIONS = [
    *((trainer, labels) for trainer in TRAINERS[:5] for labels in ("LABELS", "THREE_LABELS", "REGIONS", "SIX_LABELS")),
    *((trainer, "THREE_LABELS") for trainer in TRAINERS[5:]),
    (TinySSN, "REGIONS"),
]


class Numbers:
    """Real numbers among fake tensors, which have none: of DDIM's times."""

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values

    def __getitem__(self, index):
        with unset_fake_temporarily():
            return Numbers(self.values[index])

    def tolist(self):
        with unset_fake_temporarily():
            return self.values.tolist()


@pytest.fixture
def fake_cuda(monkeypatch):
    """A mode in which tensors have shapes, types and devices, CUDA among them, but no values."""
    # What is computed once for all calls must have values: it is computed before. And it is computed anew, since fake
    # tensors do not go along with the tensors of an inference mode that earlier tests may have left.
    lattice_points.cache_clear()
    for std in (0.1, 3.0):
        logistic_normal_moments(torch.zeros(1), torch.full((1,), std))
    for log_ratios in range(1, 6):
        list(lattice_nodes(3, torch.zeros(log_ratios, 1)))
    linspace, levels = torch.linspace, NoiseSchedule.levels

    def real_linspace(*arguments, **keywords):
        with unset_fake_temporarily():
            return Numbers(linspace(*arguments, **keywords))

    def real_levels(self, time):
        if not isinstance(time, Numbers):
            return levels(self, time)
        with unset_fake_temporarily():
            return tuple(map(Numbers, levels(self, time.values)))

    denoise_fully = DenoisingLogits._denoise_fully

    def denoise(self, noise):
        with monkeypatch.context() as patch:
            patch.setattr(torch, "linspace", real_linspace)
            return denoise_fully(self, noise)

    monkeypatch.setattr(NoiseSchedule, "levels", real_levels)
    monkeypatch.setattr(DenoisingLogits, "_denoise_fully", denoise)
    # Autocast is switched off without CUDA.
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        yield


def fake_network(folders, trainer, labels):
    """A network of 2D images on the fake device, and the meaning of its logits."""
    manager = PlansManager(folders.plans(dimension=2, patch_size=8))
    regions = labels == "REGIONS"
    space = OutcomeSpace(2 if regions else len(getattr(folders, labels)), regions=regions)
    with CUDA:
        configuration = manager.get_configuration("2d")
        network = trainer.build_network_architecture(manager, configuration, 1, space.num_logits, False)
    return network.eval(), space


def is_on_cuda(tensor: torch.Tensor) -> bool:
    return tensor.device.type == "cuda"


@pytest.mark.parametrize(("trainer", "labels"), PREDICTIONS)
def test_every_prediction_stays_on_the_device(folders, fake_cuda, trainer, labels):
    """A whole sweep of two members under autocast, the sums on the device, with samples, by every estimator."""
    network, space = fake_network(folders, trainer, labels)
    has_samples, gaussian = getattr(network, "has_samples", False), getattr(network, "is_gaussian", False)
    shape, patch_size = (1, 8, 8 if trainer is TinyDiffusion else 12), (8, 8)
    image = torch.empty(1, *shape)
    image_tiles = tiles(shape, patch_size, 0.5)
    stitching = Stitching(torch.empty(patch_size, device=CUDA), torch.empty(shape))
    views = mirrored_views((0,))
    blends_laws = has_voxel_law(space, has_samples=has_samples, gaussian=gaussian)
    noise = NoiseKey(0, "case")

    class Member:
        name, posterior = "fold_0", None

        def activate(self, model):
            pass

    class Stand:
        pass

    model = Stand()
    model.network, model.space = network, space
    model.configuration_manager = Stand()
    model.configuration_manager.patch_size = list(patch_size)
    estimators = ["mc", "plug_in"] + (["exact"] if blends_laws and gaussian and space.scalar else [])
    for estimator in estimators if has_samples and trainer is not TinyDiffusion else ["mc"]:
        make = partial(
            make_collector,
            space,
            stitching,
            views,
            noise,
            estimator=estimator,
            num_samples=3 if blends_laws else 5,
            blends_laws=blends_laws,
            has_samples=has_samples,
        )
        sums = MomentSums(
            space,
            shape,
            num_members=2,
            has_samples=has_samples,
            lost_entropy=not blends_laws and estimator == "mc",
            device=CUDA,
        )
        samples = {}
        draws = [[SampleDraw(member, tuple(views))] for member in range(2)]
        sweep = Sweep(model, CUDA, image, image_tiles, stitching, views, noise, samples.__setitem__)
        fingerprints = sweep.run([Member(), Member()], draws, make, methodcaller("add_moments_to", sums))
        moments = sums.moments()
        for field in (moments.mean, moments.mean_log_ratios, moments.expected_entropy, moments.second_moment):
            assert is_on_cuda(field)
            assert field.dtype == torch.float32
            assert field.shape[-3:] == shape
        assert (moments.lost_entropy is None) == (blends_laws or estimator != "mc")
        assert all(map(is_on_cuda, [epistemic_map(moments), variance_map(moments)]))
        assert sorted(samples) == [0, 1]
        for sample in samples.values():
            assert is_on_cuda(sample)
            assert sample.shape == (space.num_log_ratios, *shape)
        assert all(fingerprint.device.type == "cpu" for fingerprint in fingerprints)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_sums_on_the_cpu_take_what_the_device_predicts(folders, fake_cuda, trainer, monkeypatch):
    """Where they do not fit into its memory: sums on the CPU, the network on the device."""
    # Which voxels are certain depends on values, of which these tensors have none.
    monkeypatch.setattr(
        "nnunet_stochastic.inference.blending.LawBlend._moments_of_classes",
        lambda self, piece, shift: sampled_moments(self.space, piece, self._lattice(shift)),
    )
    network, space = fake_network(folders, trainer, "THREE_LABELS")
    shape, patch_size = (1, 8, 12), (8, 8)
    stitching = Stitching(torch.empty(patch_size), torch.empty(shape))
    has_samples = getattr(network, "has_samples", False)
    blends_laws = has_voxel_law(space, has_samples=has_samples, gaussian=getattr(network, "is_gaussian", False))
    view, noise = mirrored_views(())[0], NoiseKey(0)
    collector = make_collector(
        space, stitching, [view], noise, num_samples=3, blends_laws=blends_laws, has_samples=has_samples
    )
    collector.start("fold_0", 0)
    for tile in tiles(shape, patch_size, 0.5):
        distribution = predict_logit_distribution(network, torch.empty(1, 1, *patch_size, device=CUDA))
        collector.add_view(distribution, tile, view)
        collector.close_tile(tile)
    collector.finish()
    sums = MomentSums(space, shape, num_members=2, has_samples=has_samples)
    collector.add_moments_to(sums)
    collector.add_moments_to(sums)
    assert sums.moments().mean.device.type == "cpu"


@pytest.mark.parametrize("trainer", TRAINERS)
def test_networks_run_in_half_precision_on_the_device(folders, fake_cuda, trainer):
    """As nnU-Net's do; what noise is added to, and log-ratios, are in single precision."""
    network, space = fake_network(folders, trainer, "THREE_LABELS")
    types = set()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda module, inputs, output: types.add(output.dtype))
    distribution = predict_logit_distribution(network, torch.empty(1, 1, 8, 8, device=CUDA))
    noise, shared = distribution.draw_noise(2), distribution.draw_shared_noise(2)
    samples = distribution.transform(noise, shared)
    assert samples.shape == (2, 1, 3, 8, 8)
    assert all(map(is_on_cuda, (samples, noise, shared, distribution.mean_logits)))
    assert torch.float16 in types
    if distribution.has_samples:
        assert samples.dtype == torch.float32
    assert space.log_ratios(samples[0, 0]).dtype == torch.float32
    assert not torch.is_autocast_enabled("cuda")
