"""Other images, and networks that this laboratory lacks."""

from experiments.atlas.rows.protocols import FIGURE_10
from experiments.atlas.rows.types import Arm, Row

PUBLISHED = (
    Row(
        id="fashion-mnist",
        axis="data",
        question="Fashion-MNIST",
        base={"data.dataset": "fashion-mnist", **FIGURE_10},
        arms=[Arm("base")],
        expected="works (Jiang et al.)",
        note="Not run yet: python -m experiments.atlas --ids fashion-mnist runs it where the dataset is available.",
        cited=("jiang",),
    ),
    Row(
        id="cifar-100",
        axis="data",
        question="CIFAR-100 by an MLP on 256 principal components",
        chance=0.01,
        not_run="CIFAR-100 is not among the datasets here; Jiang et al. give its value only in a figure",
        cited=("jiang",),
    ),
    Row(
        id="convolution",
        axis="data",
        question="A convolutional network, squared error on auxiliary logits",
        not_run="this laboratory has no convolutional network yet; VarenM: MNIST 0/1 99.9 %, 0 to 9 11.3 % (22 % with "
        "normalized logits), Fashion-MNIST 10 %, cats and dogs 50 %",
        cited=("VarenM",),
    ),
    Row(
        id="mlp-to-convolution",
        axis="data",
        question="A convolutional student of an MLP teacher, on Perlin noise, with shared heads",
        not_run="this laboratory has no convolutional network yet; Brockers et al. claim it works, without numbers",
        cited=("brockers",),
    ),
)
