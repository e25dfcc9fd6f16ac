"""SWAG against its dense covariance, its moments against NumPy, and what becomes of damaged files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nnunet_stochastic.epistemic import EPISTEMIC_METHODS
from nnunet_stochastic.posteriors import SWAG_FILE, fit_swag, posterior_class
from nnunet_stochastic.posteriors.snapshots import (
    delete_snapshots,
    refuse_batch_norm,
    save_snapshot,
    saved_epochs,
    snapshot_path,
)
from nnunet_stochastic.posteriors.swag import Swag
from nnunet_stochastic.posteriors.swag_moments import SwagMoments

EPOCHS = range(7, 12)


def swag(folder: Path, name: str = "swag", scale: float | None = None) -> Swag:
    """SWAG or SWAG-D of a fold."""
    method = EPISTEMIC_METHODS[name]
    return posterior_class(method)(method, folder, {"num_members": 1, "swag_scale": scale})


class TwoLayers(nn.Module):
    """Two layers and a norm, 11 weights; one layer is registered twice, as nnU-Net's decoders hold their encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 1)
        self.norm = nn.InstanceNorm2d(2, affine=True)
        self.second = nn.Linear(2, 1)
        self.again = self.first


def flat(network: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()]).clone()


@pytest.fixture
def thetas() -> np.ndarray:
    """Five snapshots of 11 weights, shape (5, 11), with strong covariances between the layers."""
    generator = np.random.default_rng(0)
    return (generator.normal(size=(5, 3)) @ generator.normal(size=(3, 11)) + 2).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path, thetas: np.ndarray) -> Path:
    network = TwoLayers()
    for epoch, theta in zip(EPOCHS, thetas, strict=True):
        nn.utils.vector_to_parameters(torch.from_numpy(theta), network.parameters())
        save_snapshot(network, tmp_path, epoch)
    fit_swag(tmp_path, EPOCHS)
    return tmp_path


def test_moments_are_numpys(folder: Path, thetas: np.ndarray) -> None:
    posterior = SwagMoments.load(folder)
    assert list(posterior.mean) == [name for name, _ in TwoLayers().named_parameters()]
    for moment, expected in ((posterior.mean, thetas.mean(0)), (posterior.variance, thetas.var(0))):
        np.testing.assert_allclose(torch.cat([t.flatten() for t in moment.values()]), expected, rtol=1e-6)


def test_variance_does_not_cancel(tmp_path: Path) -> None:
    """Weights near 1 that move by 1e-6: E[θ²] - E[θ]² in float32 would be rounding alone."""
    network = nn.Linear(3, 1, bias=False)
    thetas = np.float32(1) + np.random.default_rng(0).normal(0, 1e-6, (4, 3)).astype(np.float32)
    for epoch, theta in enumerate(thetas):
        nn.utils.vector_to_parameters(torch.from_numpy(theta), network.parameters())
        save_snapshot(network, tmp_path, epoch)
    fit_swag(tmp_path, range(4))
    variance = SwagMoments.load(tmp_path).variance["weight"][0]
    np.testing.assert_allclose(variance, thetas.astype(np.float64).var(0), rtol=1e-5)


def draws(posterior: Swag, number: int) -> np.ndarray:
    network, generator = TwoLayers(), torch.Generator().manual_seed(0)
    thetas = []
    for _ in range(number):
        posterior.activate(network, generator)
        thetas.append(flat(network).numpy())
    return np.stack(thetas).astype(np.float64)


@pytest.mark.parametrize(("name", "scale"), [("swag", None), ("swag", 2.0), ("swag_diag", None), ("swag_diag", 0.25)])
def test_covariance_of_draws_is_the_dense_one(folder: Path, thetas: np.ndarray, name: str, scale: float | None) -> None:
    diagonal, sample = np.diag(thetas.var(0)), np.cov(thetas.T)  # np.cov divides by T - 1
    if name == "swag_diag":
        expected = (1.0 if scale is None else scale) * diagonal
    else:
        expected = (0.5 if scale is None else scale) * (diagonal + sample)
        assert np.abs(expected[:4, 8:]).max() > 0.5, "the example has no covariance between its layers"
    number = 1500
    drawn = draws(swag(folder, name, scale), number)
    variances = np.diag(expected)
    np.testing.assert_array_less(np.abs(drawn.mean(0) - thetas.mean(0)), 5 * np.sqrt(variances / number))
    error = np.sqrt((np.outer(variances, variances) + expected**2) / number)
    np.testing.assert_array_less(np.abs(np.cov(drawn.T) - expected), 5 * error)


def test_draw_is_the_linear_map_of_its_noise(folder: Path, thetas: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each unit vector of noise in turn: √scale [diag σ | D / √(T - 1)], exactly, with one z2 for all layers."""
    noise = iter(())
    monkeypatch.setattr(torch, "randn", lambda *_, **__: next(noise))
    posterior, network = swag(folder, scale=0.7), TwoLayers()
    shapes = [parameter.shape for parameter in network.parameters()]

    def draw(z1: np.ndarray, z2: np.ndarray) -> np.ndarray:
        nonlocal noise
        split = torch.from_numpy(z1).float().split([shape.numel() for shape in shapes])
        parts = [part.reshape(shape) for part, shape in zip(split, shapes, strict=True)]
        noise = iter([torch.from_numpy(z2).float(), *parts])
        posterior.activate(network, torch.Generator())
        assert next(noise, None) is None, "not all noise was used: z2 is not drawn once for all layers"
        return flat(network).numpy() - thetas.mean(0)

    columns = [draw(column[:11], column[11:]) for column in np.eye(16)]
    deviations = (thetas - thetas.mean(0)).T
    expected = np.sqrt(0.7) * np.hstack([np.diag(thetas.std(0)), deviations / np.sqrt(4)])
    np.testing.assert_allclose(np.stack(columns, 1), expected, atol=2e-6)


def test_scale_zero_is_the_mean_and_seeds_repeat(folder: Path, thetas: np.ndarray) -> None:
    posterior = swag(folder)
    np.testing.assert_allclose(draws(swag(folder, scale=0), 1)[0], thetas.mean(0), rtol=1e-6)
    one, two = TwoLayers(), TwoLayers()
    for network in (one, two):
        with torch.inference_mode():
            posterior.activate(network, torch.Generator().manual_seed(5))
    assert torch.equal(flat(one), flat(two))
    one.second(torch.ones(1, 2)).sum().backward()  # what inference mode changed can still be trained
    assert one.second.weight.grad.abs().sum() > 0


def test_a_weight_that_never_moved_stays(tmp_path: Path) -> None:
    network = nn.Linear(4, 1, bias=False)
    for epoch in range(3):
        save_snapshot(network, tmp_path, epoch)
    fit_swag(tmp_path, range(3))
    drawn = nn.Linear(4, 1, bias=False)
    swag(tmp_path).activate(drawn, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.weight, network.weight)


def test_snapshots_hold_each_weight_once_whatever_its_storage(tmp_path: Path) -> None:
    network = TwoLayers()
    network.second.weight = nn.Parameter(torch.arange(2000.0).view(1000, 2)[3:4])  # a view of a large storage
    save_snapshot(network, tmp_path, 3)
    snapshot = torch.load(snapshot_path(tmp_path, 3))
    assert list(snapshot) == ["first.weight", "first.bias", "norm.weight", "norm.bias", "second.weight", "second.bias"]
    assert all(tensor.dtype == torch.float32 for tensor in snapshot.values())
    assert snapshot["second.weight"].tolist() == [[6.0, 7.0]]
    assert snapshot_path(tmp_path, 3).stat().st_size < 4000
    assert [path.name for path in (tmp_path / "swag").iterdir()] == ["epoch_0003.pth"]


def test_deletes_from_an_epoch_on_and_what_is_unfinished(folder: Path) -> None:
    unfinished = folder / "swag" / ".epoch_0008.pth.unfinished-1"
    unfinished.mkdir()
    (unfinished / "epoch_0008.pth").write_bytes(b"half")
    delete_snapshots(folder, from_epoch=9)
    assert saved_epochs(folder) == [7, 8]
    assert len(list((folder / "swag").iterdir())) == 2
    delete_snapshots(folder / "nothing here", from_epoch=0)


def test_batch_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="batch norm would not fit them: 1 and 0 further"):
        refuse_batch_norm(nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)))
    refuse_batch_norm(nn.Sequential(nn.InstanceNorm2d(2, affine=True), nn.GroupNorm(1, 2)))


def test_absent_and_unfinished(folder: Path, tmp_path: Path) -> None:
    (folder / SWAG_FILE).unlink()
    with pytest.raises(FileNotFoundError, match=r"has 5 snapshots and no swag.pth.*continue it with --c"):
        SwagMoments.load(folder)
    delete_snapshots(folder, from_epoch=0)
    with pytest.raises(FileNotFoundError, match="it was not trained with SWAG"):
        SwagMoments.load(folder)
    with pytest.raises(FileNotFoundError, match=r"epoch_0007.pth is missing"):
        fit_swag(folder, EPOCHS)
    with pytest.raises(ValueError, match="at least 2 snapshots, got 1"):
        fit_swag(folder, [3])


@pytest.mark.parametrize("size", [0, 100, 0.5, -1])
@pytest.mark.parametrize("name", [SWAG_FILE, "swag/epoch_0009.pth"])
def test_truncated(folder: Path, name: str, size: float) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(size * len(content)) if size == 0.5 else size])
    with pytest.raises(ValueError, match=rf"{Path(name).name} .*(incomplete|no plain checkpoint)"):
        SwagMoments.load(folder)


def test_missing_snapshot_and_foreign_files(folder: Path, tmp_path: Path) -> None:
    snapshot_path(folder, 9).unlink()
    with pytest.raises(FileNotFoundError, match=r"epoch_0009.pth is missing"):
        SwagMoments.load(folder)
    save_snapshot(nn.Linear(2, 2), folder, 9)
    with pytest.raises(ValueError, match=r"epoch_0009.pth and .*swag.pth are not of one network: weight is \(2, 2\)"):
        SwagMoments.load(folder)
    with pytest.raises(ValueError, match=r"epoch_0009.pth and that of epoch 7 are not of one network"):
        fit_swag(folder, EPOCHS)
    torch.save({"weight": torch.zeros(1)}, folder / SWAG_FILE)
    with pytest.raises(ValueError, match="it has no mean, variance, epochs"):
        SwagMoments.load(folder)


@pytest.mark.parametrize("hashed", [True, False])
def test_snapshots_of_another_training_are_refused(folder: Path, hashed: bool) -> None:
    """Also by a ``swag.pth`` of a time when it had no hashes of its snapshots."""
    if not hashed:
        moments = torch.load(folder / SWAG_FILE)
        del moments["snapshots_sha256"]
        torch.save(moments, folder / SWAG_FILE)
    SwagMoments.load(folder)
    snapshot = torch.load(snapshot_path(folder, 9))
    snapshot["first.weight"] += 0.01
    torch.save(snapshot, snapshot_path(folder, 9))
    with pytest.raises(ValueError, match=r"of which .*swag.pth was made"):
        SwagMoments.load(folder)


def test_another_network_and_bad_arguments_change_nothing(folder: Path) -> None:
    posterior = swag(folder)
    other = TwoLayers()
    other.second = nn.Linear(2, 3)
    before = flat(other)
    with pytest.raises(ValueError, match=r"TwoLayers and .*swag.pth are not of one network: second.weight is \(3, 2\)"):
        posterior.activate(other, torch.Generator())
    assert torch.equal(flat(other), before)
    for scale in (-0.5, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="scale must be a finite number of at least 0"):
            swag(folder, scale=scale)


@pytest.mark.parametrize("file", [SWAG_FILE, "swag/epoch_0009.pth"])
def test_a_flipped_byte_is_noticed(folder, thetas, file):
    fit_swag(folder, EPOCHS)
    SwagMoments.load(folder)
    content = bytearray((folder / file).read_bytes())
    torch.load(folder / file)
    number = thetas[2, :2] if file != SWAG_FILE else thetas.astype(np.float64).mean(axis=0)[:2].astype(np.float32)
    content[content.index(number.tobytes())] ^= 1
    (folder / file).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{file} is damaged: the checksum of .* is wrong; restore it or train again"):
        SwagMoments.load(folder)


@pytest.mark.parametrize("file", [SWAG_FILE, "swag/epoch_0009.pth"])
def test_content_of_another_kind_is_refused(folder, file):
    fit_swag(folder, EPOCHS)
    torch.save([1, 2], folder / file)
    with pytest.raises(ValueError, match=rf"{file} is no checkpoint: it holds a list"):
        SwagMoments.load(folder)
    torch.save({"mean": {"a": 1}, "variance": {"a": 1}, "epochs": [1]}, folder / file)
    with pytest.raises(ValueError, match=rf"{file}.*must be tensors by name"):
        SwagMoments.load(folder)
