"""Which labels are scored, and what each channel of the probabilities means, in nnU-Net's terms.

Labels: softmax over all label values, channel c is label c. Regions: one sigmoid channel per foreground region, in the
order of dataset.json; regions overlap. The ignore label, the largest value, is left out of every metric.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import EllipsisType

import numpy as np

__all__ = ["EvaluatedLabels", "voxels_of"]


@dataclass(frozen=True)
class EvaluatedLabels:
    """Foreground classes of a dataset.

    Attributes
    ----------
    names
        Name of each foreground class.
    classes
        Label values of each foreground class: one for a label, several for a region.
    has_regions
        Whether probabilities are sigmoid per region (C = len(classes)) or softmax (C = num_labels).
    num_labels
        Number of label values, background included, ignore label left out.
    ignore_label
        Value of voxels without annotation, or None.
    """

    names: tuple[str, ...]
    classes: tuple[tuple[int, ...], ...]
    has_regions: bool
    num_labels: int
    ignore_label: int | None = None

    @classmethod
    def from_dataset_json(cls, dataset_json: Mapping) -> EvaluatedLabels:
        """Read the entry ``labels`` of nnU-Net's dataset.json."""
        entries = {
            name: tuple(int(value) for value in (values if isinstance(values, list | tuple) else [values]))
            for name, values in dataset_json["labels"].items()
        }
        ignore = entries.pop("ignore", None)
        foreground = {name: values for name, values in entries.items() if set(values) != {0}}
        if not foreground:
            raise ValueError(
                "dataset.json has the background as its only label; evaluation needs at least one foreground label"
            )
        values = sorted({0}.union(*foreground.values()))
        if values != list(range(len(values))):
            raise ValueError(f"the labels of dataset.json must be consecutive from 0, as nnU-Net demands, got {values}")
        has_regions = any(len(labels) > 1 for labels in entries.values())
        if not has_regions:
            # Channel order is the order of label values, whatever order dataset.json lists them in.
            foreground = dict(sorted(foreground.items(), key=lambda entry: entry[1]))
        return cls(
            names=tuple(foreground),
            classes=tuple(foreground.values()),
            has_regions=has_regions,
            num_labels=len(values),
            ignore_label=ignore[0] if ignore else None,
        )

    @property
    def num_channels(self) -> int:
        """C, channels of the probabilities."""
        return len(self.classes) if self.has_regions else self.num_labels

    @property
    def by_name(self) -> dict[str, tuple[int, ...]]:
        """Label values of each foreground class by its name, in their order."""
        return dict(zip(self.names, self.classes, strict=True))

    @property
    def highest(self) -> int:
        """The largest label value, that of the ignore label included."""
        return self.num_labels - 1 if self.ignore_label is None else self.ignore_label

    def channel(self, index: int) -> int:
        """Channel of the probabilities that belongs to foreground class ``index``."""
        return index if self.has_regions else self.classes[index][0]

    def target(self, label: np.ndarray, index: int) -> np.ndarray:
        """Voxels of the label map (*S) that belong to foreground class ``index``, (*S), bool."""
        return voxels_of(label, self.classes[index])

    def annotated(self, annotations: Sequence[np.ndarray]) -> np.ndarray | EllipsisType:
        """Index of the voxels that all label maps (*S) label: a mask (*S), or ``...`` where no label is ignored."""
        if self.ignore_label is None:
            return ...
        return np.all([annotation != self.ignore_label for annotation in annotations], axis=0)

    def without_ignored(self, prediction: np.ndarray) -> np.ndarray:
        """A segmentation (*S) with background for the ignore label.

        Networks do not predict it, but a segmentation from elsewhere may hold it.
        """
        return prediction if self.ignore_label is None else np.where(prediction == self.ignore_label, 0, prediction)

    def value_names(self) -> dict[int, str]:
        """Name of each foreground label value: its class, or the smallest region that holds it."""
        by_size = sorted(zip(self.classes, self.names, strict=True), key=lambda entry: -len(entry[0]))
        names = {value: name for values, name in by_size for value in values}
        return dict(sorted(names.items()))


def voxels_of(labels: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Voxels of a label map (*S), integers, that have one of the values: (*S), bool, and no more memory than that."""
    first, *others = values
    inside = labels == first
    for value in others:
        inside |= labels == value
    return inside
