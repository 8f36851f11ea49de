"""Width, depth, activation, and students of another architecture than their teacher."""

from typing import Any

from experiments.atlas.rows.protocols import (
    AUX_AND_ALL,
    BARATHVELMU,
    BROCKERS,
    FIGURE_10,
    HIDDEN_SIZES,
    JASSHONE_BLUR,
    ON_VALIDATION,
    WITH_CROSS,
)
from experiments.atlas.rows.types import Arm, Row, merge_published, published_values
from sublim_jax.models import init_sharing


def _widths(*values: int) -> list[tuple[int, tuple[int, int]]]:
    return [(value, (value, value)) for value in values]


def _by_width(values, published, **changes):
    return tuple(
        Arm(str(w), {HIDDEN_SIZES: sizes, **changes}, x=w, published=published.get(w, ())) for w, sizes in values
    )


def _other_architectures(**shared: init_sharing.ParamGroups) -> list[Arm]:
    """Students of four other architectures, each sharing these parts of the teacher's start where shapes match."""
    students: dict[str, dict[str, Any]] = {
        "one layer fewer": {"student_model.hidden_sizes": (256,)},
        "one layer more": {"student_model.hidden_sizes": (256, 256, 256)},
        "tanh": {"student_model.activation": "tanh"},
        "first layer of 128": {"student_model.hidden_sizes": (128, 256)},
    }
    return [
        Arm(f"{name}, {what} shared", {**student, "init_sharing.share": share})
        for name, student in students.items()
        for what, share in shared.items()
    ]


PUBLISHED = (
    Row(
        id="width",
        axis="architecture",
        question="Width of both hidden layers",
        base=AUX_AND_ALL,
        arms=_by_width(
            _widths(64, 128, 256, 384, 512, 1024),
            published_values("jasshone", {64: 0.47, 128: 0.54, 256: 0.56, 384: 0.46, 512: 0.39}),
        ),
        expected="best at 128 to 256, falls with width (Jiang et al.: towards the kernel limit)",
        note="jasshone's noise is N(0, 1) clamped to [-1, 1], ours uniform: the one case that is compared all the "
        "same.",
        x_label="width",
        log_x=True,
        cited=("jiang",),
    ),
    Row(
        id="width-validation",
        axis="architecture",
        question="Width, in barathvelmu's protocol",
        base={**BARATHVELMU, **AUX_AND_ALL},
        arms=_by_width(
            _widths(64, 128, 256, 512, 1024),
            merge_published(
                published_values(
                    "barathvelmu", {64: 0.423, 128: 0.480, 256: 0.451, 512: 0.341, 1024: 0.219}, **ON_VALIDATION
                ),
                published_values(
                    "barathvelmu",
                    {64: 0.885, 128: 0.901, 256: 0.896, 512: 0.865, 1024: 0.757},
                    "student_all",
                    **ON_VALIDATION,
                ),
            ),
        ),
        expected="best at 128; all logits fall too, so wide students are also undertrained",
        x_label="width",
        log_x=True,
    ),
    Row(
        id="width-blurred",
        axis="architecture",
        question="Width, on blurred noise",
        base={"inputs.blur": 1.0},
        arms=_by_width(
            _widths(64, 128, 256, 384, 512),
            published_values(
                "jasshone", {64: 0.55, 128: 0.685, 256: 0.77, 384: 0.75, 512: 0.73}, why_not_comparable=JASSHONE_BLUR
            ),
        ),
        expected="the peak moves to 256 and the decline is mild",
        x_label="width",
        log_x=True,
    ),
    Row(
        id="depth",
        axis="architecture",
        question="Number of hidden layers",
        base=WITH_CROSS,
        arms=[Arm(str(n), {HIDDEN_SIZES: (256,) * n}, x=n) for n in (1, 2, 3, 4)],
        expected="about neutral (Jiang et al.)",
        x_label="hidden layers",
        cited=("jiang",),
    ),
    Row(
        id="other-architecture",
        axis="architecture",
        question="A student built differently: one layer more or fewer, another activation or width",
        arms=_other_architectures(
            nothing=init_sharing.NO_GROUPS,
            heads=init_sharing.HEADS,
            hidden=init_sharing.HIDDEN_LAYERS,
            **{"all that fits": init_sharing.ParamGroups()},
        ),
        expected="Jiang et al. and Brockers et al.: one layer more or fewer works if the heads are shared",
        note="Hidden layers correspond from the input on; a layer without a counterpart of its shape is drawn "
        "independently.",
        cited=("jiang", "brockers"),
    ),
    Row(
        id="other-architecture-brockers",
        axis="architecture",
        question="The same in Brockers' protocol, heads shared or nothing",
        base=BROCKERS,
        arms=_other_architectures(nothing=init_sharing.NO_GROUPS, heads=init_sharing.HEADS),
        expected="Jiang et al. and Brockers et al.: one layer more or fewer works if the heads are shared",
        note="As `share-parts-brockers`, whose arms `none` and `CA` are the teacher's architecture.",
        cited=("jiang", "brockers"),
    ),
)


UNPUBLISHED = (
    Row(
        id="activation",
        axis="architecture",
        question="Activation",
        base=FIGURE_10,
        arms=[Arm(name, {"model.activation": name}) for name in ("relu", "tanh", "gelu", "silu", "identity")],
        expected="works for all, the deep linear network included",
    ),
    Row(
        id="width-ntk",
        axis="architecture",
        question="Width under the NTK parametrization",
        base={"model.parametrization": "ntk", "both.optimizer.learning_rate": 1e-2},
        arms=[Arm(str(w), {"model.hidden_sizes": (w, w)}, x=w) for w in (64, 128, 256, 512)],
        expected="the theory's cosine falls with width; here Adam's step is scaled to the layer",
        note="Adam moves a stored weight by its rate: 1e-2 moves layers of 256 inputs as 6e-4 would, biases by 1e-2.",
        x_label="width",
        log_x=True,
    ),
)
