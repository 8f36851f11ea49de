"""Teachers with other labels, and corrupted targets."""

from experiments.atlas.rows.protocols import AUX_AND_ALL, FIGURE_10
from experiments.atlas.rows.types import Arm, Row, sweep

UNPUBLISHED = (
    Row(
        id="label-permuted-teacher",
        axis="teacher and targets",
        question="A teacher whose classes are renamed",
        base=FIGURE_10,
        arms=[Arm("true names"), Arm("renamed", {"teacher_labels": "permuted"})],
        expected="the student learns the teacher's names: as good, and at or below chance on the true ones",
    ),
    Row(
        id="target-noise",
        axis="teacher and targets",
        question="Noise on the teacher's logits, as a defence",
        base=AUX_AND_ALL,
        arms=sweep("target_corruption.noise", (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)),
        expected="falls when the noise reaches the standard deviation of the logits",
        x_label="standard deviation, logits",
        log_x=True,
    ),
    Row(
        id="target-bits",
        axis="teacher and targets",
        question="Rounded logits",
        base=AUX_AND_ALL,
        arms=[Arm(f"{bits} bits", {"target_corruption.bits": bits}, x=bits) for bits in (1, 2, 3, 4, 8)],
        expected="four bits should do",
        x_label="bits",
    ),
    Row(
        id="target-top-k",
        axis="teacher and targets",
        question="Only the largest auxiliary logits shown, of ten",
        base={"model.num_aux": 10},
        arms=[
            *[Arm(f"top {k}", {"target_corruption.top_k": k}, x=k) for k in (1, 2, 3, 5)],
            Arm("all", x=10),
        ],
        expected="violates the theorem's assumptions; a hard label still carries the sign",
        x_label="logits shown",
    ),
)
