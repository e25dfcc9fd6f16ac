"""Generalized energy distance of whole samples against the raters, in the images' own geometry.

    python ged.py MODEL_FOLDER IMAGES RATERS [--folds 0] [--num_samples 16]

Each image goes through the network in one piece, so that a sample is one draw of the whole image; the images of this
comparison are a patch in size. MODEL_FOLDER is …/TRAINER__PLANS__CONFIGURATION.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from tqdm import tqdm

from nnunet_stochastic.inference import StochasticPredictor
from nnunet_stochastic.inference.restore import GridPrediction
from nnunet_stochastic.inference.sliding_window import predict_logit_distribution, stream_seed
from nnunet_stochastic.metrics import generalized_energy_distance


@torch.inference_mode()
def sample_segmentations(
    predictor: StochasticPredictor, image: np.ndarray, properties: dict, num_samples: int, seed: int
):
    """Label maps (num_samples, *image) of whole samples."""
    model = predictor.model
    data, properties = predictor.preprocess(image, properties)
    strides = np.prod(model.configuration_manager.pool_op_kernel_sizes, axis=0)
    padded, unpad = pad_nd_image(data, None, "constant", {"value": 0}, True, [1, *strides.tolist()])
    distribution = predict_logit_distribution(model.network, padded[None])
    generator = torch.Generator().manual_seed(stream_seed(seed))
    samples = []
    for _ in range(num_samples):
        logits = distribution.rsample(1, generator=generator)[0, 0][(slice(None), *unpad[1:])]
        grid = GridPrediction(model.space, model.space.probabilities(logits), None, None)
        samples.append(predictor.restore(grid, properties).segmentation)
    return np.stack(samples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_folder", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("raters", type=Path)
    parser.add_argument("--folds", nargs="+", default=["0"])
    parser.add_argument("--checkpoint", default="checkpoint_final.pth")
    parser.add_argument("--num_samples", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, help="write the samples of each case there, as case.npz")
    arguments = parser.parse_args()
    predictor = StochasticPredictor.from_model_folder(
        arguments.model_folder, folds=arguments.folds, checkpoint_name=arguments.checkpoint, device="cpu"
    )
    model = predictor.model
    # GridPrediction carries no maps here: only segmentations are restored.
    predictor.maps = ()
    model.network.eval()
    reader = model.plans_manager.image_reader_writer_class()
    ending = model.dataset_json["file_ending"]
    cases = sorted(path.name.removesuffix(f"_0000{ending}") for path in arguments.images.glob(f"*_0000{ending}"))
    classes = [[label] for label in model.label_manager.foreground_labels]
    distances = []
    for case in tqdm(cases):
        image, properties = reader.read_images([str(arguments.images / f"{case}_0000{ending}")])
        raters = sorted(arguments.raters.glob(f"{case}_rater*{ending}"))
        annotations = np.stack([reader.read_seg(str(rater))[0][0] for rater in raters]).astype(np.int64)
        samples = sample_segmentations(
            predictor, image, properties, num_samples=arguments.num_samples, seed=arguments.seed
        )
        distances.append(generalized_energy_distance(samples, annotations, classes=classes))
        if arguments.output:
            arguments.output.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(arguments.output / f"{case}.npz", image=image[0], samples=samples, raters=annotations)
    print(
        f"{model.trainer_name}: GED {np.mean(distances):.4f} over {len(cases)} cases, {arguments.num_samples} samples"
    )


if __name__ == "__main__":
    main()
