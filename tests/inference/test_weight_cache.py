import errno
import gc
import os
import shutil
import tempfile

import pytest
import torch
from filelock import FileLock

from nnunet_stochastic.inference import PredictionOptions, StochasticPredictor, predict_folder, weight_cache
from nnunet_stochastic.inference.weight_cache import WeightCache, remove_dead_caches


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """The system's folder of temporary files."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


def fill(cache: WeightCache) -> None:
    network = torch.nn.Linear(1, 1)
    cache.note("weights", network)
    cache.note("weights", network)


def test_folders_of_dead_processes_are_removed_and_no_others(temporary):
    cache = WeightCache()
    fill(cache)
    (alive,) = temporary.iterdir()
    dead = temporary / "nnunet_stochastic_weights_dead"
    others = temporary / "nnunet_stochastic_weights_of_mine"
    for folder, files in ((dead, ("lock", "0.raw")), (others, ("a",))):
        folder.mkdir()
        for file in files:
            (folder / file).touch()
    remove_dead_caches()
    assert sorted(temporary.iterdir()) == sorted([alive, others])
    assert cache.restore("weights", torch.nn.Linear(1, 1))
    del cache
    gc.collect()
    assert list(temporary.iterdir()) == [others]
    remove_dead_caches()


def test_a_folder_is_locked_as_long_as_it_has_its_name(temporary):
    cache = WeightCache()
    fill(cache)
    (folder,) = temporary.iterdir()
    with pytest.raises(TimeoutError), FileLock(folder / "lock", timeout=0):
        pass
    del cache


class Mixed(torch.nn.Module):
    """Tensors of all kinds that a network's state may have, of sizes that are no multiple of an alignment."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        convolution = torch.nn.Conv3d(3, 5, 3).to(memory_format=torch.channels_last_3d)
        self.layers = torch.nn.Sequential(convolution, torch.nn.BatchNorm3d(5), torch.nn.Linear(7, 3).half())
        self.register_buffer("flags", torch.rand(11, generator=generator) > 0.5)
        self.register_buffer("empty", torch.empty(0))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
            self.layers[1].num_batches_tracked += seed


@pytest.mark.parametrize("seed", [1, 2])
def test_weights_come_back_bit_for_bit(seed: int) -> None:
    cache, networks = WeightCache(), {number: Mixed(number) for number in (1, 2)}
    for number, network in [*networks.items()] * 2:
        cache.note(number, network)
    other = Mixed(3)
    assert cache.restore(seed, other)
    expected = networks[seed].state_dict()
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
        assert tensor.stride() == expected[name].stride()


class WithExtraState(torch.nn.Linear):
    def get_extra_state(self) -> dict[str, int]:
        return {"steps": 3}


def test_a_state_that_is_more_than_tensors_is_not_kept(temporary) -> None:
    cache, network = WeightCache(), WithExtraState(2, 2)
    for _ in range(3):
        cache.note("weights", network)
    assert not cache.restore("weights", network)
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("trouble", ["full", "tidied", "cut"])
def test_predictions_go_on_without_room_for_weights(tmp_path, temporary, folders, monkeypatch, capsys, trouble):
    model = folders.write_model_folder(tmp_path / "model", folds=(0, 1))
    for seed in range(4):
        folders.write_image(tmp_path / "images" / f"{seed}_0000.nii.gz", folders.image_array(seed, (14, 16, 15)))

    def maps(out):
        predictor = StochasticPredictor.from_model_folder(
            model, folds=(0, 1), options=PredictionOptions(mirroring=False)
        )
        report = predict_folder(predictor, tmp_path / "images", out, preprocessing_threads=0, export_threads=0)
        assert report.failures == {}
        return {path.name: path.read_bytes() for path in (out / "epistemic").iterdir()}

    expected, write = maps(tmp_path / "reference"), weight_cache._write

    def write_badly(network, path):
        write(network, path)
        if trouble == "full":
            path.write_bytes(path.read_bytes()[:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if trouble == "cut":
            os.truncate(path, path.stat().st_size // 2)
        else:
            shutil.rmtree(path.parent)

    monkeypatch.setattr(weight_cache, "_write", write_badly)
    assert maps(tmp_path / "out") == expected
    assert capsys.readouterr().err.count(f"weights of members cannot be kept in {temporary}") == 1
    assert not list(temporary.rglob("*.raw"))
