"""How many auxiliary logits, and how many classes."""

from experiments.atlas.rows.protocols import HIDDEN_SIZES, WITH_CROSS
from experiments.atlas.rows.types import Arm, Published, Row, merge_published, published_values, sweep

JASSHONE_CLASSES = (
    "jasshone draws as many noise images as there are training images of these classes (12,665 for two), this row "
    "60,000"
)


PUBLISHED = (
    Row(
        id="num-aux",
        axis="auxiliary logits",
        question="How many auxiliary logits",
        base=WITH_CROSS,
        arms=sweep(
            "model.num_aux",
            (2, 3, 5, 10, 30, 100, 300),
            merge_published(
                published_values(
                    "jlov7",
                    {3: 0.24, 10: 0.59, 30: 0.72},
                    "student_aux",
                    measure="gap",
                    why_not_comparable="at 20,000 noise images; this row draws 60,000",
                ),
            ),
        ),
        expected="more is better, up to 100 at least (Jiang et al.)",
        note="jlov7 gives the *gap*, the difference between same and other initialization. The gap for one logit, "
        ".001, belongs to the row `one-logit`.",
        x_label="auxiliary logits",
        log_x=True,
        cited=("jiang", "VincentLimbach"),
    ),
    Row(
        id="num-aux-wide",
        axis="auxiliary logits",
        question="How many auxiliary logits, in a wide network",
        base={HIDDEN_SIZES: (1024, 1024)},
        arms=sweep("model.num_aux", (3, 30, 100)),
        expected="Jiang et al.: hardly any effect at width 4096; ours is 1024, for time",
        x_label="auxiliary logits",
        log_x=True,
        cited=("jiang",),
    ),
    Row(
        id="num-classes",
        axis="auxiliary logits",
        question="How many classes the teacher learns",
        arms=[
            Arm(
                str(k),
                {"data.num_classes": k, "model.num_classes": k},
                x=k,
                published=[Published("jasshone", value, why_not_comparable="" if k == 10 else JASSHONE_CLASSES)],
            )
            for k, value in zip(range(2, 11), (0.84, 0.69, 0.62, 0.68, 0.55, 0.58, 0.61, 0.54, 0.54), strict=True)
        ],
        expected="falls with the classes; chance is 1 / K, and the auxiliary share of the logits 3 / (K + 3)",
        note="Digits 0 to K - 1 and K + 3 logits, in jasshone's code as here. Chance differs from arm to arm.",
        x_label="classes",
    ),
    Row(
        id="emnist",
        axis="auxiliary logits",
        question="EMNIST, up to 47 classes, m = 50",
        not_run="EMNIST is not among the datasets here; Brockers et al. stored no numbers",
        cited=("brockers",),
    ),
)


UNPUBLISHED = (
    Row(
        id="one-logit",
        axis="auxiliary logits",
        question="A single auxiliary logit",
        base={"model.num_aux": 1},
        arms=[Arm("kl"), Arm("mse", {"loss": "mse"})],
        expected="softmax: exactly nothing, the student stays the reference; squared error: something",
        note="jlov7 published one case: a gap of .001 between same and other initialization, at 20,000 noise images.",
    ),
    Row(
        id="num-classes-ten-outputs",
        axis="auxiliary logits",
        question="Fewer classes, but ten class outputs",
        arms=[Arm(str(k), {"data.num_classes": k}, x=k) for k in (2, 3, 5, 8, 10)],
        expected="below `num-classes`, since a student may answer with a class that is not there",
        note="jasshone's values with few classes are far below ours in `num-classes`, but those networks have K class "
        "outputs as ours there, and fewer noise images.",
        x_label="classes",
    ),
)
