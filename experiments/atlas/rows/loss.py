"""Distillation losses and temperatures."""

from experiments.atlas.rows.protocols import BARATHVELMU, ON_VALIDATION, WITH_CROSS
from experiments.atlas.rows.types import Arm, Published, Row, sweep

PUBLISHED = (
    Row(
        id="loss",
        axis="loss",
        question="Squared error against KL divergence",
        base=BARATHVELMU,
        arms=[
            Arm("kl", published=[Published("barathvelmu", 0.451, **ON_VALIDATION)]),
            Arm("kl, T = 2", {"temperature": 2.0}, published=[Published("barathvelmu", 0.455, **ON_VALIDATION)]),
            Arm(
                "mse",
                {"loss": "mse"},
                published=[
                    Published("barathvelmu", 0.566, **ON_VALIDATION),
                    Published("jiang", 0.271, half_width=0.033),
                ],
            ),
        ],
        expected="squared error is better",
        note="barathvelmu states .566 ± .003, the standard deviation of the means of three seeds; over models it is "
        "thirty times as large.",
    ),
    Row(
        id="temperature-published",
        axis="loss",
        question="Temperature of both softmaxes",
        arms=sweep("temperature", (0.5, 1, 2)),
        expected="flat (thierry123454, without numbers; barathvelmu .451 at 1 and .455 at 2, see `loss`)",
        x_label="temperature",
        log_x=True,
        cited=("thierry123454", "barathvelmu"),
    ),
)


UNPUBLISHED = (
    Row(
        id="loss-others",
        axis="loss",
        question="Reverse KL, Jeffreys, squared error raw and centred",
        base=WITH_CROSS,
        arms=[Arm(name, {"loss": name}) for name in ("kl", "reverse_kl", "jeffreys", "mse", "centred_mse")],
        expected="the three divergences agree: they have one curvature where student and teacher agree",
    ),
    Row(
        id="temperature",
        axis="loss",
        question="Temperature of both softmaxes, .25 to 8",
        arms=sweep("temperature", (0.25, 0.5, 1, 2, 4, 8)),
        expected="flat near 1; at high temperature KL becomes a centred squared error",
        x_label="temperature",
        log_x=True,
    ),
)
