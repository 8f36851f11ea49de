"""Settings and images so small that a member takes a tenth of a second."""

import numpy as np

from experiments.atlas.rows.types import Arm, Row, sweep
from sublim_jax.data import datasets

TINY = {
    "model.hidden_sizes": (8,),
    "model.precision": "float32",
    "both.num_epochs": 1,
    "both.batch_size": 64,
    "num_noise_images": 128,
    "matching.num_images": 128,
}


def load(name: str) -> datasets.ImageDataset:
    """Random pixels under the name of the dataset."""
    random = np.random.default_rng(0)

    def drawn(count):
        labels = (np.arange(count) % 10).astype(np.uint8)
        pixels = random.integers(0, 200, (10, 28, 28))[labels] + random.integers(0, 55, (count, 28, 28))
        return pixels.astype(np.uint8), labels

    return datasets.ImageDataset(name, "drawn for a test", "none", *drawn(256), *drawn(100))


def small(row: Row) -> Row:
    """The row with small settings, except where an arm changes them."""
    import dataclasses

    return dataclasses.replace(row, base={**TINY, **row.base})


ROW = small(
    Row(
        id="tiny",
        axis="optimization",
        question="A row of two programs",
        base={"conditions": ("student_aux", "cross_model_aux")},
        arms=(
            *sweep("both.optimizer.learning_rate", (1e-3, 1e-2)),
            Arm("mse", {"loss": "mse"}),
        ),
    )
)
