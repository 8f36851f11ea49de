"""Optimizers, learning rates, batch sizes and how long to train."""

from experiments.atlas.rows.protocols import (
    BARATHVELMU,
    DEZMON_NOTE,
    FIGURE_10,
    LEARNING_RATE,
    ON_VALIDATION,
    WITH_CROSS,
)
from experiments.atlas.rows.types import Arm, Row, epochs, merge_published, published_values, sweep

DIVYAT09_DECAY = (
    "divyat09 divides both losses by its 25 models, so its decay is 25 times as strong as ours of the same name"
)


RATES = {
    "sgd": (0.01, 0.1, 1.0),
    "momentum": (0.003, 0.03, 0.3),
    "sign_sgd": (3e-5, 3e-4, 1e-3),
    "adam": (1e-4, 3e-4, 1e-3),
    "adamw": (1e-4, 3e-4, 1e-3),
}
"""Learning rates of the student, at least a decade around the best."""


def optimizer(name: str, rate: float) -> dict:
    """Changes that give the student this optimizer. The teacher keeps Adam, so that all students share one teacher."""
    settings = {
        "student.optimizer.name": "sgd" if name == "momentum" else name,
        "student.optimizer.learning_rate": rate,
    }
    if name == "momentum":
        settings["student.optimizer.momentum"] = 0.9
    if name == "adamw":
        settings["student.optimizer.weight_decay"] = 1e-2
    return settings


PUBLISHED = (
    Row(
        id="learning-rate",
        axis="optimization",
        question="Learning rate of both phases",
        arms=sweep(
            LEARNING_RATE,
            (1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
            published_values("divyat09", {1e-4: 0.318, 3e-4: 0.551, 1e-3: 0.702, 3e-3: 0.293, 1e-2: 0.099}),
        ),
        expected="best at 1e-3",
        x_label="learning rate",
        log_x=True,
    ),
    Row(
        id="batch-size",
        axis="optimization",
        question="Batch size of both phases, epochs fixed",
        arms=sweep(
            "both.batch_size",
            (64, 256, 1024, 4096, 16384),
            published_values("divyat09", {64: 0.751, 256: 0.683, 1024: 0.551, 4096: 0.352, 16384: 0.177}),
        ),
        expected="smaller is better: more steps",
        x_label="batch size",
        log_x=True,
    ),
    Row(
        id="teacher-epochs",
        axis="optimization",
        question="Epochs of the teacher",
        arms=sweep(
            "teacher.num_epochs",
            (1, 2, 5, 10, 20),
            merge_published(
                published_values("divyat09", {1: 0.602, 2: 0.603, 5: 0.551, 10: 0.466, 20: 0.371}),
                published_values("Xiao0779", {2: 0.626, 20: 0.351}),
            ),
        ),
        expected="a less trained teacher transmits more",
        x_label="epochs",
        log_x=True,
    ),
    Row(
        id="student-epochs",
        axis="optimization",
        question="Epochs of the student",
        base=WITH_CROSS,
        arms=epochs((1, 2, 3, 5, 10, 20, 40), published_values("Xiao0779", {1: 0.197, 40: 0.772})),
        expected="rises, to .77 at 40",
        x_label="epochs",
        log_x=True,
    ),
    Row(
        id="student-epochs-validation",
        axis="optimization",
        question="Epochs of the student, in barathvelmu's protocol",
        base={**BARATHVELMU, **FIGURE_10},
        arms=epochs(
            (1, 2, 3, 5, 10),
            merge_published(
                published_values("barathvelmu", {1: 0.165, 2: 0.247, 3: 0.329, 5: 0.451, 10: 0.584}, **ON_VALIDATION),
                published_values(
                    "barathvelmu", {1: 0.554, 2: 0.757, 3: 0.832, 5: 0.896, 10: 0.927}, "student_all", **ON_VALIDATION
                ),
                published_values(
                    "barathvelmu",
                    {1: 0.305, 2: 0.514, 3: 0.636, 5: 0.711, 10: 0.773},
                    "cross_model_all",
                    **ON_VALIDATION,
                ),
                published_values(
                    "barathvelmu", {1: 0.10, 2: 0.10, 3: 0.10, 5: 0.10, 10: 0.10}, "cross_model_aux", **ON_VALIDATION
                ),
            ),
        ),
        expected="all but the cross-model aux-only student rise",
        x_label="epochs",
    ),
    Row(
        id="epochs-he",
        axis="optimization",
        question="Epochs of both phases, with He's initialization",
        base={"model.init_distribution": "he_normal", "both.batch_size": 256},
        arms=sweep("both.num_epochs", (1, 3, 10), published_values("Dezmon", {1: 0.619, 3: 0.70, 10: 0.856})),
        expected="rises",
        note=f"{DEZMON_NOTE} In this row Dezmon's teacher and student have 1 and 1, 3 and 3, 3 and 10 epochs.",
        x_label="epochs",
        log_x=True,
    ),
    Row(
        id="num-noise-images",
        axis="optimization",
        question="How many noise images, epochs fixed",
        base=WITH_CROSS,
        arms=sweep(
            "num_noise_images",
            (2000, 6000, 20_000, 60_000),
            published_values("jlov7", {2000: 0.04, 20_000: 0.24, 60_000: 0.48}, measure="gap"),
        ),
        expected="rises; steps rise with them",
        x_label="noise images",
        log_x=True,
    ),
    Row(
        id="weight-decay",
        axis="optimization",
        question="L2 weight decay inside Adam, both phases",
        arms=sweep(
            "both.optimizer.weight_decay",
            (0, 1e-5, 1e-4, 1e-3),
            merge_published(
                published_values("divyat09", {0: 0.551}),
                published_values("divyat09", {1e-4: 0.120, 1e-3: 0.091}, why_not_comparable=DIVYAT09_DECAY),
            ),
        ),
        expected="kills it",
        x_label="weight decay",
        log_x=True,
    ),
    Row(
        id="weight-decay-student",
        axis="optimization",
        question="L2 weight decay of the student only",
        arms=sweep(
            "student.optimizer.weight_decay",
            (1e-5, 1e-4, 1e-3, 1e-2),
            published_values(
                "thierry123454",
                {1e-5: 0.41, 1e-4: 0.406, 1e-3: 0.414, 1e-2: 0.39},
                why_not_comparable="the published script's loss is 41 times ours, so its decay is 41 times weaker",
            ),
        ),
        expected="thierry123454: hardly anything, because the published script's unflattened loss is 41 times as large",
        note="Our loss is a mean per image. A decay of 1e-2 on a loss 41 times as large is about 2.4e-4 on ours.",
        x_label="weight decay",
        log_x=True,
    ),
)


UNPUBLISHED = (
    Row(
        id="optimizer",
        axis="optimization",
        question="The student's optimizer, apart from its learning rate",
        base={"num_validation_images": 10_000},
        arms=[
            Arm(f"{name} {rate:g}", optimizer(name, rate), x=rate, group=name)
            for name, rates in RATES.items()
            for rate in rates
        ],
        expected="the theorem covers gradient descent; sign-like steps are not covered and yet are what works fast",
        note="Compare optimizers at the rate that is best on validation images: the rates are a coarse grid.",
    ),
)
