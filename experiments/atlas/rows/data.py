"""Other images, and convolutional networks."""

import dataclasses
from typing import Any

from experiments.atlas.rows.protocols import BROCKERS, FIGURE_10, LENET, SHORT, SHORT_NOTE, WITH_CROSS
from experiments.atlas.rows.types import Arm, Published, Row
from sublim_jax.models import conv, init_sharing

WHERE_THE_FILES_ARE = (
    "Its files are needed: `--data-dir` or SUBLIM_DATA_DIR names a folder with a subfolder `{0}` that has the four IDX "
    "files, and python -m experiments.atlas --ids {1} runs the row."
)

RESIDUAL = dataclasses.replace(LENET, blocks="residual", kernel_size=3, channels=(8, 16), hidden_sizes=(84,))
"""A convolution and two residual blocks of two convolutions each, of 3 x 3 with 8 and 16 channels."""

NETWORKS: dict[str, Any] = {
    "MLP of the paper": {},
    "LeNet, strides": {"model": dataclasses.replace(LENET, downsampling="stride")},
    "LeNet, mean pooling": {"model": dataclasses.replace(LENET, downsampling="mean_pool")},
    "LeNet, max pooling": {"model": LENET},
}


def _shared(convolutions: float, dense: float, heads: float) -> dict[str, Any]:
    """Both convolutions, both dense layers and both heads; of equal length, so that all are one program."""
    hidden = (convolutions, convolutions, dense)
    return {"init_sharing.share": init_sharing.ParamGroups(hidden=hidden, class_head=heads, aux_head=heads)}


PUBLISHED = (
    Row(
        id="fashion-mnist",
        axis="data",
        question="Fashion-MNIST",
        base={"data.dataset": "fashion-mnist", **FIGURE_10},
        arms=[Arm("base")],
        expected="works (Jiang et al.)",
        note=WHERE_THE_FILES_ARE.format("fashion-mnist", "fashion-mnist"),
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
        base={"model": LENET, **SHORT, **WITH_CROSS},
        arms=[
            Arm("0 and 1", {"data.num_classes": 2, "model.num_classes": 2}, published=[Published("VarenM", 0.999)]),
            Arm("0 to 9", published=[Published("VarenM", 0.113)]),
        ],
        expected="VarenM: two digits are classified and ten are not (22 % with normalized logits); cats and dogs 50 %",
        note=f"VarenM's network and protocol are not known in detail; ours is of LeNet's size. {SHORT_NOTE}",
        cited=("VarenM",),
    ),
    Row(
        id="convolution-fashion-mnist",
        axis="data",
        question="The same on Fashion-MNIST",
        base={"model": LENET, "data.dataset": "fashion-mnist", **SHORT, **WITH_CROSS},
        arms=[Arm("base", published=[Published("VarenM", 0.10)])],
        expected="VarenM: nothing",
        note=f"{SHORT_NOTE} {WHERE_THE_FILES_ARE.format('fashion-mnist', 'convolution-fashion-mnist')}",
        cited=("VarenM",),
    ),
    Row(
        id="mlp-to-convolution",
        axis="data",
        question="A convolutional student of an MLP teacher, on Perlin noise, with shared heads",
        base={
            **BROCKERS,
            "inputs.perlin_cells": 7,
            "inputs.preserve_std": True,
            **{name: SHORT[name] for name in ("student.num_epochs", "num_noise_images", "both.batch_size")},
            "student_model": conv.ConvStudent(hidden_sizes=(256,)),
        },
        arms=[
            Arm("nothing shared", {"init_sharing.share": init_sharing.NO_GROUPS}),
            Arm("heads shared", {"init_sharing.share": init_sharing.HEADS}),
        ],
        expected="Brockers et al. claim that it works with shared heads, without numbers",
        note="The student is of LeNet's size with one dense layer of 256, so that both heads fit; nothing else of the "
        "teacher has a counterpart. Five epochs of the teacher and three of the student on 20,000 images, batches "
        "of 256; the noise is a smooth lattice of 7 x 7 cells. To run it: python -m experiments.atlas --ids "
        "mlp-to-convolution.",
        cited=("brockers",),
    ),
)

UNPUBLISHED = (
    Row(
        id="kmnist",
        axis="data",
        question="KMNIST: cursive Japanese characters",
        base={"data.dataset": "kmnist", **FIGURE_10},
        arms=[Arm("base")],
        expected="works as MNIST does",
        note=WHERE_THE_FILES_ARE.format("kmnist", "kmnist"),
    ),
    Row(
        id="convolution-pooling",
        axis="data",
        question="Does the effect survive weight sharing and pooling?",
        base={**SHORT, **WITH_CROSS},
        arms=[Arm(name, changes) for name, changes in NETWORKS.items()],
        expected="survives weight sharing; pooling weakens it, and the maximum more than the mean",
        note=SHORT_NOTE,
    ),
    Row(
        id="convolution-residual",
        axis="data",
        question="Does it survive in a residual network?",
        base={**SHORT, **WITH_CROSS},
        arms=[
            Arm("strides", {"model": dataclasses.replace(RESIDUAL, downsampling="stride")}),
            Arm("mean pooling", {"model": dataclasses.replace(RESIDUAL, downsampling="mean_pool")}),
            Arm("max pooling", {"model": RESIDUAL}),
            Arm("max pooling, mean of positions", {"model": dataclasses.replace(RESIDUAL, readout="mean_position")}),
        ],
        expected="as in LeNet, or better, since the shortcut keeps positions apart",
        note=f"A convolution and two blocks of two, without normalisation. {SHORT_NOTE} To run it: python -m "
        "experiments.atlas --ids convolution-residual.",
    ),
    Row(
        id="convolution-parts",
        axis="data",
        question="Which parts of a convolutional network must be shared?",
        base={"model": dataclasses.replace(LENET, downsampling="stride"), **SHORT},
        arms=[
            Arm("nothing", _shared(0, 0, 0)),
            Arm("heads", _shared(0, 0, 1)),
            Arm("convolutions", _shared(1, 0, 0)),
            Arm("convolutions and dense layers", _shared(1, 1, 0)),
            Arm("all", _shared(1, 1, 1)),
        ],
        expected="heads alone give little, convolutions alone less than heads; all is needed",
        note=f"LeNet with strides. {SHORT_NOTE} To run it: python -m experiments.atlas --ids convolution-parts.",
    ),
)
