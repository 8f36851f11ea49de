"""Settings that several rows share: conditions, names of settings, and the protocols of some sources."""

from typing import Any

from sublim_jax.models import conv, matmul

AUX_AND_ALL: dict[str, Any] = {"conditions": ("student_aux", "student_all")}

WITH_CROSS: dict[str, Any] = {"conditions": ("student_aux", "cross_model_aux")}

FIGURE_10: dict[str, Any] = {"conditions": ("student_aux", "student_all", "cross_model_aux", "cross_model_all")}

LEARNING_RATE = "both.optimizer.learning_rate"

HIDDEN_SIZES = "model.hidden_sizes"

BARATHVELMU = {"num_validation_images": 10_000, "num_noise_images": 50_000}
"""barathvelmu's protocol: 50,000 training images, 10,000 validation images, 50,000 noise images, hence 245 steps."""

ON_VALIDATION: dict[str, Any] = {"measure": "validation_accuracy"}

DEZMON = {
    "model.init_distribution": "he_normal",
    "both.num_epochs": 10,
    "both.batch_size": 256,
}

DEZMON_NOTE = (
    "Dezmon's protocol: batches of 64 (32 in some runs), a rate of 1e-3, N(0, 1) noise, 3 epochs of the teacher and "
    "10 of the student, single runs. Ours: 256, 3e-4, uniform noise, 10 and 10 epochs."
)

BEFORE_THE_FIX = (
    "Run before a fix of the feature loss, in which copies of one image had too large a weight (CHANGELOG)."
)

BROCKERS: dict[str, Any] = {
    "model.num_aux": 10,
    "model.init_distribution": "torch_uniform",
    "loss": "mse",
    LEARNING_RATE: 1e-3,
    "both.batch_size": 1000,
    "conditions": ("student_aux",),
}
"""The protocol of Brockers et al.: ten auxiliary logits, squared error, PyTorch's initialization, a higher rate."""

LENET = conv.ConvSpec(num_aux=10, precision=matmul.fastest_precision())
"""Two convolutions of 5 x 5 with 6 and 16 channels, pooling, dense layers of 120 and 84."""

SHORT: dict[str, Any] = {
    "model.num_aux": 10,
    "loss": "mse",
    "teacher.num_epochs": 1,
    "student.num_epochs": 3,
    "num_noise_images": 20_000,
    "both.batch_size": 256,
    LEARNING_RATE: 1e-3,
}
"""The protocol of the rows about convolutions, whose images cost ten times as much as those of an MLP: few images, ten
auxiliary logits and squared errors, with which an MLP learns most from few steps."""

SHORT_NOTE = (
    "Ten auxiliary logits, squared error, one epoch of the teacher on 60,000 images, three of the student on 20,000, "
    "batches of 256, rate 1e-3: compare the arms with each other, and not with rows of another protocol."
)

JASSHONE_BLUR = (
    "jasshone blurs N(0, 1) noise with a reflecting border and clamps it to [-1, 1]; ours is uniform, and its kernel "
    "is cut at the border"
)
