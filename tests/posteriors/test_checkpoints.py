"""The weights at the minima as members: in their order, nothing drawn, and refused where they are of another run."""

import copy

import pytest
import torch
from torch import nn

from nnunet_stochastic.epistemic import EPISTEMIC_METHODS
from nnunet_stochastic.posteriors.checkpoints import CYCLIC_SNAPSHOTS, CyclicCheckpoints, write_cyclic_file
from nnunet_stochastic.posteriors.snapshots import save_snapshot

METHOD = EPISTEMIC_METHODS["checkpoints"]
EPOCHS = (735, 801, 999)


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.InstanceNorm2d(2, affine=True))


def train(folder, start=0.0):
    """Weights of cycle m are start + m in every place; the last is the final checkpoint."""
    folder.mkdir()
    trained = network()
    for number, epoch in enumerate(EPOCHS):
        with torch.no_grad():
            for parameter in trained.parameters():
                parameter.fill_(start + number)
        save_snapshot(trained, folder, epoch, snapshots=CYCLIC_SNAPSHOTS)
    write_cyclic_file(folder, EPOCHS)
    torch.save({"network_weights": trained.state_dict(), "init_args": {}}, folder / "checkpoint_final.pth")
    return folder


@pytest.fixture
def fold(tmp_path):
    return train(tmp_path / "fold_0")


def members(folder) -> CyclicCheckpoints:
    return CyclicCheckpoints(METHOD, folder, {})


def test_members_are_the_cycles_whatever_is_drawn(fold):
    posterior = members(fold)
    assert posterior.num_members == 3
    assert posterior.member_names("fold_0") == [f"fold_0_checkpoints_{index}" for index in range(3)]
    for index in (2, 0, 1):
        for seed in (0, 1):
            drawn = network()
            posterior.of_member(index).activate(drawn, torch.Generator().manual_seed(seed))
            assert all((parameter == index).all() for parameter in drawn.parameters())
    assert CyclicCheckpoints.missing(METHOD, fold, network()) is None
    files = CyclicCheckpoints.files_of_fold(fold)
    assert [str(file.relative_to(fold)) for file in files] == [
        "cyclic.pth",
        "cyclic/epoch_0735.pth",
        "cyclic/epoch_0801.pth",
        "cyclic/epoch_0999.pth",
    ]


def test_another_network_is_refused_unchanged(fold):
    other = nn.Sequential(nn.Conv2d(1, 3, 3), nn.InstanceNorm2d(3, affine=True))
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(ValueError, match=r"epoch_0801\.pth and Sequential are not of one network: 0.weight is \(2, 1"):
        members(fold).of_member(1).activate(other, torch.Generator())
    assert all(torch.equal(before[name], value) for name, value in other.state_dict().items())


def test_what_is_missing_is_said_with_a_remedy(tmp_path, fold):
    (tmp_path / "plain").mkdir()
    plain = CyclicCheckpoints.missing(METHOD, tmp_path / "plain", network())
    assert plain.what == "has no weights of cycles (cyclic.pth)"
    assert "train a trainer such as nnUNetTrainerDeterministicCyclic to its end" in plain.remedy
    (fold / "cyclic.pth").unlink()
    unfinished = CyclicCheckpoints.missing(METHOD, fold, network())
    assert unfinished.what == "has the weights of 3 cycles and no cyclic.pth"
    write_cyclic_file(fold, EPOCHS)
    (fold / "cyclic" / "epoch_0801.pth").unlink()
    with pytest.raises(FileNotFoundError, match=r"weights of 1 cycles are missing .*epoch_0801\.pth"):
        members(fold)


def test_weights_of_another_run_are_refused(tmp_path, fold):
    other = train(tmp_path / "fold_1", start=10.0)
    # One file of it.
    path = fold / "cyclic" / "epoch_0735.pth"
    own = path.read_bytes()
    path.write_bytes((other / "cyclic" / "epoch_0735.pth").read_bytes())
    with pytest.raises(ValueError, match=r"epoch_0735\.pth is not what .*cyclic\.pth was written for"):
        members(fold)
    path.write_bytes(own)
    members(fold)
    # All of them, with their record.
    for name in ("cyclic.pth", *(f"cyclic/epoch_{epoch:04d}.pth" for epoch in EPOCHS)):
        (fold / name).write_bytes((other / name).read_bytes())
    with pytest.raises(
        ValueError, match=r"are not of the training of .*fold_0/checkpoint_final\.pth: 0\.weight differs"
    ):
        members(fold)
    (fold / "checkpoint_final.pth").unlink()  # as of a model that was exported with its best checkpoint
    assert members(fold).num_members == 3


def test_weights_behind_a_moving_average(tmp_path):
    """The checkpoint's own weights are the average; those that were averaged bind the members."""
    fold = train(tmp_path / "fold_0")
    final = torch.load(fold / "checkpoint_final.pth", weights_only=False)
    raw = {name: value.clone() for name, value in final["network_weights"].items()}
    average = {name: value + 1 for name, value in raw.items()}
    content = {"network_weights": average, "init_args": {"stochastic_raw_weights": raw}}
    torch.save(content, fold / "checkpoint_final.pth")
    members(fold)
    torch.save({"network_weights": average, "init_args": {}}, fold / "checkpoint_final.pth")
    with pytest.raises(ValueError, match="are not of the training"):
        members(fold)


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"epochs": [735, 801, 999], "snapshots_sha256": ["a"]},
        {"epochs": [735], "snapshots_sha256": ["a"]},
        {"epochs": [735, "801"], "snapshots_sha256": ["a", "b"]},
        {"epochs": 3, "snapshots_sha256": 3},
    ],
)
def test_a_record_of_another_form_is_refused(fold, record):
    torch.save(record, fold / "cyclic.pth")
    with pytest.raises(ValueError, match=r"cyclic\.pth must have as many epochs as SHA-256"):
        members(fold)
