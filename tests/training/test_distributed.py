"""Two processes under DistributedDataParallel, on gloo and the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed
import torch.multiprocessing

from nnunet_stochastic.posteriors.swag_moments import SwagMoments

SWAG_FOLD = "nnUNetTrainerDeterministicSWAG__nnUNetPlans__3d_fullres/fold_0"
TRAINERS = ("nnUNetTrainerMoB", "nnUNetTrainerLowRank", "nnUNetTrainerMoBDropout")
GENERATIVE = ("nnUNetTrainerSSN", "nnUNetTrainerProbUNet")


def train_on_one_rank(rank: int, dataset, folder: str) -> None:
    torch.set_num_threads(1)
    meeting = (Path(folder) / "meeting").as_uri()
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    # nnU-Net knows DDP on CUDA alone: it names the device and passes device_ids. Both go, the rest is as it is there.
    from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as module

    data_parallel = module.DDP
    module.DDP = lambda network, device_ids: data_parallel(network)
    for name in TRAINERS:
        torch.manual_seed(rank)
        trainer = dataset.trainer(name)
        trainer.device, trainer.grad_scaler = torch.device("cpu"), None
        trainer.on_train_start()
        assert isinstance(trainer.network, data_parallel)
        trainer.network.train()
        for epoch in (0, 0, 50, 50):  # on the mean alone, then on samples
            trainer.current_epoch = epoch
            trainer.train_step(next(trainer.dataloader_train))
        trainer.network.eval()
        with torch.no_grad():
            trainer.validation_step(next(trainer.dataloader_val))
        torch.save(trainer.network.module.state_dict(), Path(folder) / f"{name}_{rank}.pth")
        torch.distributed.barrier()

    for name in GENERATIVE:
        train_generative_model(rank, dataset, name, Path(folder))

    trainer = dataset.trainer("nnUNetTrainerDeterministicSWAG")
    trainer.device, trainer.grad_scaler = torch.device("cpu"), None
    trainer.num_epochs, trainer.num_snapshots = 3, 2
    trainer.run_training()
    torch.save(trainer.network.module.state_dict(), Path(folder) / f"SWAG_{rank}.pth")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def train_generative_model(rank: int, dataset, name: str, folder: Path) -> None:
    """Steps before and in the phase of sampling, a validation, and a checkpoint that is loaded again."""
    with pytest.MonkeyPatch.context() as patch:
        dataset.shrink_generative_models(patch)
        torch.manual_seed(rank)
        trainer = dataset.trainer(name)
        trainer.device, trainer.grad_scaler = torch.device("cpu"), None
        trainer.on_train_start()
        trainer.network.train()
        for epoch in (0, 0, 50, 50):
            trainer.current_epoch = epoch
            trainer.train_step(next(trainer.dataloader_train))
        trainer.network.eval()
        with torch.no_grad():
            trainer.validation_step(next(trainer.dataloader_val))
        raw = {key: value.clone() for key, value in trainer.network.module.state_dict().items()}
        averaged = {key: value.clone() for key, value in trainer.average.weights.items()}
        torch.save({"raw": raw, "averaged": averaged}, folder / f"{name}_{rank}.pth")
        trainer.save_checkpoint(str(folder / f"{name}.pth"))
        torch.distributed.barrier()
        trainer.train_step(next(trainer.dataloader_train))
        trainer.load_checkpoint(str(folder / f"{name}.pth"))
        for key, value in trainer.network.module.state_dict().items():
            assert torch.equal(value, raw[key]), key
        for key, value in trainer.average.weights.items():
            assert torch.equal(value, averaged[key]), key
        assert trainer.average.num_updates == 4
        torch.distributed.barrier()


def test_ranks_stay_equal_through_warm_up_and_sampling(make_dataset, tmp_path: Path) -> None:
    dataset = make_dataset()
    torch.multiprocessing.spawn(train_on_one_rank, args=(dataset, str(tmp_path)), nprocs=2)
    for name in TRAINERS:
        ranks = [torch.load(tmp_path / f"{name}_{rank}.pth") for rank in range(2)]
        fresh = dataset.trainer(name)
        fresh.initialize()
        for key, value in ranks[0].items():
            assert torch.equal(value, ranks[1][key]), f"{name}: {key} differs between the ranks"
        added = fresh.network.names_of_added_weights()
        assert any(ranks[0][key].any() for key in added if "log_variance.weight" in key)

    for name in GENERATIVE:
        ranks = [torch.load(tmp_path / f"{name}_{rank}.pth") for rank in range(2)]
        for kind in ("raw", "averaged"):
            for key, value in ranks[0][kind].items():
                assert torch.equal(value, ranks[1][kind][key]), f"{name}: {kind} {key} differs between the ranks"
        averaged = ranks[0]["averaged"]
        assert any(not torch.equal(value, ranks[0]["raw"][key]) for key, value in averaged.items())

    posterior = SwagMoments.load(Path(fresh.output_folder_base).parent / SWAG_FOLD)
    for key, value in posterior.snapshots[-1].items():
        for rank in range(2):
            assert torch.equal(torch.load(tmp_path / f"SWAG_{rank}.pth")[key], value), f"{key} on rank {rank}"
