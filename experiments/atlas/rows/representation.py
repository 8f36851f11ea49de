"""How similar the student's hidden layer is to the teacher's."""

from experiments.atlas.rows.protocols import BARATHVELMU, BEFORE_THE_FIX, DEZMON, DEZMON_NOTE, WITH_CROSS
from experiments.atlas.rows.types import Arm, Published, Row, published_values, sweep

JASSHONE_PROBE = (
    "jasshone's probe: ridge regression (1e-3, no bias) on the first 5,000 training images, scored on the first 5,000 "
    "test images"
)


BARATHVELMU_PROBE = "barathvelmu's probe: logistic regression on 3,000 images, five models of one seed"


PUBLISHED = (
    Row(
        id="linear-probe",
        axis="representation",
        question="What a linear readout finds in the last hidden layer",
        base={"metrics": ("representation", "update_cosine"), "conditions": ("student_aux", "student_all")},
        arms=[
            Arm(
                "base",
                published=[
                    Published("jasshone", 0.814, "reference", "probe_accuracy", why_not_comparable=JASSHONE_PROBE),
                    Published("jasshone", 0.87, "student_aux", "probe_accuracy", why_not_comparable=JASSHONE_PROBE),
                    Published("jasshone", 0.92, "teacher", "probe_accuracy", why_not_comparable=JASSHONE_PROBE),
                ],
            )
        ],
        expected="features of the untrained network already serve; the student's a little better",
        note="Our probe is ridge regression on all 60,000 training images. jasshone also reports that a probe from "
        "auxiliary logits to labels rises from .11 to .36 with more real images, while students fall.",
    ),
    Row(
        id="linear-probe-validation",
        axis="representation",
        question="The same in barathvelmu's protocol, and the hidden layer's likeness to the teacher's",
        base={
            **BARATHVELMU,
            "metrics": ("representation", "update_cosine"),
            "conditions": ("student_aux", "student_all"),
        },
        arms=[
            Arm(
                "base",
                published=[
                    Published(
                        "barathvelmu", 0.874, "reference", "probe_accuracy", why_not_comparable=BARATHVELMU_PROBE
                    ),
                    Published(
                        "barathvelmu", 0.909, "student_aux", "probe_accuracy", why_not_comparable=BARATHVELMU_PROBE
                    ),
                    Published("barathvelmu", 0.939, "teacher", "probe_accuracy", why_not_comparable=BARATHVELMU_PROBE),
                    Published("barathvelmu", 0.644, "reference", "hidden_cosine"),
                    Published("barathvelmu", 0.825, "student_aux", "hidden_cosine"),
                ],
            )
        ],
        expected="as before; a frozen readout, which is the accuracy of reference, student and teacher, gives .106, "
        ".391 and .937 (barathvelmu)",
        note="Our probe is ridge regression on the training images.",
    ),
    Row(
        id="representation-and-accuracy",
        axis="representation",
        question="Do students whose hidden layer is like the teacher's read better, across runs?",
        base={"metrics": ("representation",)},
        arms=sweep("student.num_epochs", (1, 5, 20)),
        about="likeness",
        expected="barathvelmu: correlation .61 across its sweep",
        x_label="epochs",
        log_x=True,
        cited=("barathvelmu",),
    ),
    Row(
        id="cka-cross",
        axis="representation",
        question="Likeness of hidden layers, same against different initialization",
        base={**DEZMON, **WITH_CROSS, "metrics": ("representation",)},
        arms=[
            Arm(
                "base",
                published=[
                    Published(
                        "Dezmon", 0.716, "student_aux", "cka", why_not_comparable="mutual nearest neighbours, not CKA"
                    ),
                    Published(
                        "Dezmon",
                        0.475,
                        "cross_model_aux",
                        "cka",
                        why_not_comparable="mutual nearest neighbours, not CKA; and a teacher of N(0, .02) after 20 "
                        "epochs against a student of He's",
                    ),
                ],
            )
        ],
        expected="same above cross",
        note=DEZMON_NOTE,
    ),
    Row(
        id="guidance",
        axis="representation",
        question="Feature distillation: a loss on the hidden layer in addition to that on logits",
        base={**DEZMON, **WITH_CROSS},
        arms=sweep("feature_loss_weight", (0, 0.1), published_values("Dezmon", {0: 0.768, 0.1: 0.965})),
        expected="96.5 % with the same initialization; hurts with another",
        note=f"{DEZMON_NOTE} Feature distillation reads the teacher's hidden layer: not subliminal learning, and why "
        f"96 % is no record. {BEFORE_THE_FIX}",
        x_label="weight of the feature loss",
    ),
)
