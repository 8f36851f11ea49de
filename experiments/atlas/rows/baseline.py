"""The paper's figure 10, and what others had at the same settings."""

from experiments.atlas.rows.protocols import BARATHVELMU, FIGURE_10, ON_VALIDATION, WITH_CROSS
from experiments.atlas.rows.types import Arm, Published, Row

PUBLISHED = (
    Row(
        id="figure-10",
        axis="baseline",
        question="Figure 10 of the paper",
        base={
            "conditions": (*FIGURE_10["conditions"], "matched_aux"),
            "metrics": ("epochs", "representation", "update_cosine"),
        },
        arms=[
            Arm(
                "base",
                published=[
                    Published("divyat09", 0.551, half_width=0.037),
                    Published("cloud", 0.91, "student_all"),
                    Published("cloud", 0.10, "cross_model_aux"),
                    Published("cloud", 0.72, "cross_model_all"),
                    Published("cloud", 0.94, "teacher"),
                    Published("cloud", 0.10, "reference"),
                ],
            )
        ],
        expected="aux-only far above chance with a shared initialization, at chance without",
        note="jasshone, divyat09, thierry123454 and Xiao0779 ran the published script with its seed, that is on one "
        "draw of 25 models: .551 ± .037 (divyat09), .548 (thierry123454), about .55 (jasshone, a bar chart). One "
        "draw, not four. divyat09's distillation loss is averaged over images.",
        cited=("cloud", "divyat09", "thierry123454", "Xiao0779", "nature"),
    ),
    Row(
        id="figure-10-validation",
        axis="baseline",
        question="The same on 50,000 images, scored on 10,000 held-out ones",
        base={**FIGURE_10, **BARATHVELMU},
        arms=[
            Arm(
                "base",
                published=[
                    Published("barathvelmu", 0.451, **ON_VALIDATION),
                    Published("barathvelmu", 0.463),
                    Published("barathvelmu", 0.098, "cross_model_aux"),
                    Published("barathvelmu", 0.726, "cross_model_all"),
                    Published("barathvelmu", 0.9375, "teacher"),
                ],
            )
        ],
        expected=".463 on the test set: 50 steps fewer than the paper's 295",
    ),
    Row(
        id="ten-initializations",
        axis="baseline",
        question="Same against different initialization, ten of them",
        base=WITH_CROSS,
        arms=[
            Arm(
                "base",
                published=[Published("jlov7", 0.630, half_width=0.052), Published("jlov7", 0.090, "cross_model_aux")],
            )
        ],
        expected="far apart",
        note="jlov7's file gives a standard deviation of .073 over ten initializations; the interval is made from it.",
    ),
)
