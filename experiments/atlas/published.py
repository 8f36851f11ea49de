"""The rows that somebody has published, with their numbers.

Values are their authors' own. `Published.how` says why a value cannot be compared with ours where it cannot; a source
that is not comparable as a whole says so in `sources`. Where a source leaves a setting open, our reading is in the
row's note.
"""

from typing import Any

from experiments.atlas.registry import (
    AUX_AND_ALL,
    FIGURE_10,
    WITH_CROSS,
    Arm,
    Published,
    Row,
    epochs,
    sweep,
    table,
    together,
)
from sublim_jax.models import init_sharing

PARTS = ("first hidden layer", "second hidden layer", "class head", "auxiliary head")
SHARED_PARTS = [
    Arm(
        "".join(name for name, on in zip("12CA", bits, strict=True) if on) or "none",
        {
            "init_sharing.share": init_sharing.ParamGroups(
                hidden=(float(bits[0]), float(bits[1])), class_head=float(bits[2]), aux_head=float(bits[3])
            )
        },
        signs={part: 1 if bit else -1 for part, bit in zip(PARTS, bits, strict=True)},
    )
    for bits in [tuple(int(b) for b in f"{n:04b}") for n in range(16)]
]
"""All sixteen choices of shared parts: first and second hidden layer, class head, auxiliary head."""

RATE = "both.optimizer.learning_rate"
HIDDEN = "model.hidden_sizes"

B_PROTOCOL = {"num_validation_images": 10_000, "num_noise_images": 50_000}
"""barathvelmu's: 50,000 training images, 10,000 to score on, 50,000 noise images, hence 245 steps."""
VALIDATION: dict[str, Any] = {"measure": "validation_accuracy"}

HE_TEN_EPOCHS = {
    "model.init_distribution": "he_normal",
    "both.num_epochs": 10,
    "both.batch_size": 256,
}
BEFORE_THE_MEND = "Run before a mend of the pull, in which copies of one image had too large a weight (CHANGELOG)."
B_MIXTURE = (
    "barathvelmu adds a multiple of uniform noise to real images, or draws noise alone: 8 models x 3 seeds, scored on "
    "validation images"
)
Z_NOTE = (
    "Dezmon's protocol: batches of 64 (32 in some runs), a rate of 1e-3, N(0, 1) noise, 3 epochs of the teacher and 10 "
    "of the student, single runs. Ours: 256, 3e-4, uniform noise, 10 and 10 epochs."
)
BROCKERS: dict[str, Any] = {
    "model.num_aux": 10,
    "model.init_distribution": "torch_uniform",
    "loss": "mse",
    RATE: 1e-3,
    "both.batch_size": 1000,
    "conditions": ("student_aux",),
}
"""Brockers et al.: ten auxiliary logits, squared error, PyTorch's initialization, a higher rate."""


J_BLUR = (
    "jasshone blurs N(0, 1) noise with a reflecting border and clamps it to [-1, 1]; ours is uniform, and its kernel "
    "is "
    "cut at the border"
)
J_CLASSES = (
    "jasshone draws as many noise images as there are training images of these classes (12,665 for two), this row "
    "60,000"
)
J_SUBSPACE = (
    "jasshone's noise is not rescaled, so its pixels have a standard deviation of sqrt(dimensions / 784), and it is "
    "clamped to [-1, 1]"
)
J_MIXTURE = (
    "jasshone's text says gaussian noise with the pixels' standard deviation, as ours is; the code mixes uniform noise"
)
J_PROBE = (
    "jasshone's probe: ridge regression (1e-3, no bias) on the first 5,000 training images, scored on the first 5,000 "
    "test images"
)
B_PROBE = "barathvelmu's probe: logistic regression on 3,000 images, five models of one seed"
D_DECAY = "divyat09 divides both losses by its 25 models, so its decay is 25 times as strong as ours of the same name"
"""What the sources' code does otherwise than these rows."""


def widths(*values: int) -> list[tuple[int, tuple[int, int]]]:
    return [(value, (value, value)) for value in values]


def by_width(values, published, **changes):
    return tuple(Arm(str(w), {HIDDEN: sizes, **changes}, x=w, published=published.get(w, ())) for w, sizes in values)


def built_differently(**shared: init_sharing.ParamGroups) -> list[Arm]:
    """Students of four other architectures, each with these parts of the teacher's start as far as they fit."""
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


BASELINE = [
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
        "draw "
        "of 25 models: .551 ± .037 (divyat09), .548 (thierry123454), about .55 (jasshone, a bar chart). One draw, not "
        "four. divyat09's distillation loss is averaged over images.",
        cited=("cloud", "divyat09", "thierry123454", "Xiao0779", "nature"),
    ),
    Row(
        id="figure-10-validation",
        axis="baseline",
        question="The same on 50,000 images, scored on 10,000 held-out ones",
        base={**FIGURE_10, **B_PROTOCOL},
        arms=[
            Arm(
                "base",
                published=[
                    Published("barathvelmu", 0.451, **VALIDATION),
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
]

INITIALIZATION = [
    Row(
        id="start-noise-relative",
        axis="initialization",
        question="Noise on the student's start, relative to each tensor's standard deviation",
        base=AUX_AND_ALL,
        arms=sweep(
            "init_sharing.relative_noise",
            (0, 0.02, 0.05, 0.1, 0.2, 0.4),
            together(
                table("jasshone", {0: 0.55, 0.02: 0.55, 0.05: 0.54, 0.1: 0.53, 0.2: 0.42, 0.4: 0.26}),
                table("jasshone", {0: 0.91, 0.4: 0.86}, "student_all"),
            ),
        ),
        expected="flat to about .1, then falls; all logits: robust",
        x_label="noise / standard deviation of the tensor",
        log_x=True,
    ),
    Row(
        id="start-noise-relative-hidden",
        axis="initialization",
        question="The same noise on the hidden layers only",
        base={"init_sharing.noise_scale": init_sharing.HIDDEN_LAYERS},
        arms=sweep(
            "init_sharing.relative_noise", (0, 0.1, 0.2, 0.4), table("jasshone", {0: 0.55, 0.2: 0.45, 0.4: 0.30})
        ),
        expected="hurts less than noise everywhere",
        x_label="noise / standard deviation of the tensor",
    ),
    Row(
        id="start-noise-absolute",
        axis="initialization",
        question="Noise of one absolute size on every parameter of the student's start",
        arms=sweep(
            "init_sharing.absolute_noise",
            (0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 1.0),
            together(
                table("divyat09", {0: 0.551, 0.01: 0.393, 0.05: 0.105, 0.1: 0.107}),
                table("jiang", {0: 0.277, 0.2: 0.105}),
            ),
        ),
        expected="sharp: at .05, the size of a weight (.036 to .0625), nothing is left",
        x_label="noise, absolute",
        log_x=True,
    ),
    Row(
        id="start-noise-guided",
        axis="initialization",
        question="Noise on the start when the hidden layer is also pulled towards the teacher's",
        base={**HE_TEN_EPOCHS, "feature_loss_weight": 0.1},
        arms=sweep(
            "init_sharing.absolute_noise",
            (0.02, 0.05, 0.1, 0.2),
            table("Dezmon", {0.02: 0.965, 0.05: 0.902, 0.1: 0.277, 0.2: 0.126}),
        ),
        expected="the pull rescues small noise only",
        note=f"{Z_NOTE} The pull reads the teacher's hidden layer: not subliminal learning. {BEFORE_THE_MEND}",
        x_label="noise, absolute",
    ),
    Row(
        id="start-noise-across-gradient",
        axis="initialization",
        question="Noise across the teacher's gradient against noise anywhere",
        arms=[
            Arm(
                f"{kind}, {size:g}",
                {"init_sharing.absolute_noise": size, "init_sharing.orthogonal_to_gradient": kind == "across"},
            )
            for size in (0.01, 0.02)
            for kind in ("anywhere", "across")
        ],
        expected="no difference (Jiang et al.): one direction of 270,000 carries next to none of the noise",
        cited=("jiang",),
    ),
    Row(
        id="share-parts",
        axis="initialization",
        question="Which parts must be shared? First and second hidden layer, class head, auxiliary head",
        base=AUX_AND_ALL,
        arms=SHARED_PARTS,
        expected="Brockers et al.: the heads carry it; Cloud et al.: everything is shared or nothing",
        note="An arm is named after the parts it shares: 1 and 2 the hidden layers, C the class head, A the auxiliary "
        "head. "
        "Brockers et al. used another protocol, which is that of `share-parts-brockers`; this is the paper's.",
        cited=("brockers",),
    ),
    Row(
        id="share-parts-brockers",
        axis="initialization",
        question="The same factorial in Brockers' protocol",
        base=BROCKERS,
        arms=SHARED_PARTS,
        expected="random hidden layers learn if both heads are shared (Brockers et al., without stored numbers)",
        note="Brockers et al. draw 60,000 fresh images each epoch and normalize pixels differently; ours repeat.",
        cited=("brockers",),
    ),
    Row(
        id="share-interpolated",
        axis="initialization",
        question="A start between the teacher's and another: lower layers, and heads",
        arms=[
            Arm(f"{what} {w:g}", {"init_sharing.share": share(w)}, x=w)
            for what, share in (
                ("hidden", lambda w: init_sharing.ParamGroups(hidden=(w, w))),
                ("heads", lambda w: init_sharing.ParamGroups(class_head=w, aux_head=w)),
            )
            for w in (0.0, 0.125, 0.25, 0.5, 0.75, 0.875)
        ],
        expected="nothing: VincentLimbach stored no numbers",
        x_label="weight of the teacher's start",
        cited=("VincentLimbach",),
    ),
    Row(
        id="init-law",
        axis="initialization",
        question="Distribution of the initial weights",
        base={**HE_TEN_EPOCHS, **WITH_CROSS},
        arms=[
            Arm("he_normal", published=[Published("Dezmon", 0.768)]),
            Arm("torch_uniform", {"model.init_distribution": "torch_uniform"}),
            Arm("fan_in_normal", {"model.init_distribution": "fan_in_normal"}),
        ],
        expected="the scale matters: He's far better than N(0, .02), which gives .223; cross-model 7 to 13 % (Dezmon)",
        note=Z_NOTE,
    ),
    Row(
        id="init-scale",
        axis="initialization",
        question="The scale of the initialization",
        base={**B_PROTOCOL, "conditions": ("student_aux", "student_all", "cross_model_all")},
        arms=sweep(
            "model.init_scale",
            (0.5, 1, 2, 4),
            together(
                table("barathvelmu", {0.5: 0.323, 1: 0.451, 2: 0.206, 4: 0.109}, **VALIDATION),
                table("barathvelmu", {0.5: 0.91, 1: 0.90, 2: 0.70, 4: 0.21}, "student_all", **VALIDATION),
                table("barathvelmu", {0.5: 0.905, 1: 0.711, 2: 0.249, 4: 0.133}, "cross_model_all", **VALIDATION),
            ),
        ),
        expected="best at 1; at .5 a foreign start learns all logits as well as the own one",
        x_label="scale of the weights",
        log_x=True,
    ),
]

ARCHITECTURE = [
    Row(
        id="width",
        axis="architecture",
        question="Width of both hidden layers",
        base=AUX_AND_ALL,
        arms=by_width(
            widths(64, 128, 256, 384, 512, 1024),
            table("jasshone", {64: 0.47, 128: 0.54, 256: 0.56, 384: 0.46, 512: 0.39}),
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
        base={**B_PROTOCOL, **AUX_AND_ALL},
        arms=by_width(
            widths(64, 128, 256, 512, 1024),
            together(
                table("barathvelmu", {64: 0.423, 128: 0.480, 256: 0.451, 512: 0.341, 1024: 0.219}, **VALIDATION),
                table(
                    "barathvelmu",
                    {64: 0.885, 128: 0.901, 256: 0.896, 512: 0.865, 1024: 0.757},
                    "student_all",
                    **VALIDATION,
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
        arms=by_width(
            widths(64, 128, 256, 384, 512),
            table("jasshone", {64: 0.55, 128: 0.685, 256: 0.77, 384: 0.75, 512: 0.73}, how=J_BLUR),
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
        arms=[Arm(str(n), {HIDDEN: (256,) * n}, x=n) for n in (1, 2, 3, 4)],
        expected="about neutral (Jiang et al.)",
        x_label="hidden layers",
        cited=("jiang",),
    ),
    Row(
        id="other-architecture",
        axis="architecture",
        question="A student built differently: one layer more or fewer, another activation or width",
        arms=built_differently(
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
        arms=built_differently(nothing=init_sharing.NO_GROUPS, heads=init_sharing.HEADS),
        expected="Jiang et al. and Brockers et al.: one layer more or fewer works if the heads are shared",
        note="As `share-parts-brockers`, whose arms `none` and `CA` are the teacher's architecture.",
        cited=("jiang", "brockers"),
    ),
]

AUXILIARY = [
    Row(
        id="num-aux",
        axis="auxiliary logits",
        question="How many auxiliary logits",
        base=WITH_CROSS,
        arms=sweep(
            "model.num_aux",
            (2, 3, 5, 10, 30, 100, 300),
            together(
                table("jlov7", {3: 0.24, 10: 0.59, 30: 0.72}, "student_aux", measure="gap",
                      how="at 20,000 noise images; this row draws 60,000"),
            ),
        ),
        expected="more is better, up to 100 at least (Jiang et al.)",
        note="jlov7 gives the *gap*, the difference between same and other initialization. The gap for one logit, "
        ".001, "
        "belongs to the row `one-logit`.",
        x_label="auxiliary logits",
        log_x=True,
        cited=("jiang", "VincentLimbach"),
    ),
    Row(
        id="num-aux-wide",
        axis="auxiliary logits",
        question="How many auxiliary logits, in a wide network",
        base={HIDDEN: (1024, 1024)},
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
            Arm(str(k), {"data.num_classes": k, "model.num_classes": k}, x=k,
                published=[Published("jasshone", value, how="" if k == 10 else J_CLASSES)])
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
]  # fmt: skip

OPTIMIZATION = [
    Row(
        id="learning-rate",
        axis="optimization",
        question="Learning rate of both phases",
        arms=sweep(
            RATE,
            (1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
            table("divyat09", {1e-4: 0.318, 3e-4: 0.551, 1e-3: 0.702, 3e-3: 0.293, 1e-2: 0.099}),
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
            table("divyat09", {64: 0.751, 256: 0.683, 1024: 0.551, 4096: 0.352, 16384: 0.177}),
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
            together(
                table("divyat09", {1: 0.602, 2: 0.603, 5: 0.551, 10: 0.466, 20: 0.371}),
                table("Xiao0779", {2: 0.626, 20: 0.351}),
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
        arms=epochs((1, 2, 3, 5, 10, 20, 40), table("Xiao0779", {1: 0.197, 40: 0.772})),
        expected="rises, to .77 at 40",
        x_label="epochs",
        log_x=True,
    ),
    Row(
        id="student-epochs-validation",
        axis="optimization",
        question="Epochs of the student, in barathvelmu's protocol",
        base={**B_PROTOCOL, **FIGURE_10},
        arms=epochs(
            (1, 2, 3, 5, 10),
            together(
                table("barathvelmu", {1: 0.165, 2: 0.247, 3: 0.329, 5: 0.451, 10: 0.584}, **VALIDATION),
                table("barathvelmu", {1: 0.554, 2: 0.757, 3: 0.832, 5: 0.896, 10: 0.927}, "student_all", **VALIDATION),
                table("barathvelmu", {1: 0.305, 2: 0.514, 3: 0.636, 5: 0.711, 10: 0.773}, "cross_model_all",
                      **VALIDATION),
                table("barathvelmu", {1: 0.10, 2: 0.10, 3: 0.10, 5: 0.10, 10: 0.10}, "cross_model_aux", **VALIDATION),
            ),
        ),
        expected="all but the foreign aux-only student rise",
        x_label="epochs",
    ),
    Row(
        id="epochs-he",
        axis="optimization",
        question="Epochs of both phases, with He's initialization",
        base={"model.init_distribution": "he_normal", "both.batch_size": 256},
        arms=sweep("both.num_epochs", (1, 3, 10), table("Dezmon", {1: 0.619, 3: 0.70, 10: 0.856})),
        expected="rises",
        note=f"{Z_NOTE} In this row Dezmon's teacher and student have 1 and 1, 3 and 3, 3 and 10 epochs.",
        x_label="epochs",
        log_x=True,
    ),
    Row(
        id="num-noise-images",
        axis="optimization",
        question="How many noise images, epochs fixed",
        base=WITH_CROSS,
        arms=sweep(
            "num_noise_images", (2000, 6000, 20_000, 60_000), table("jlov7", {2000: 0.04, 20_000: 0.24, 60_000: 0.48},
                                                                    measure="gap"),
        ),
        expected="rises; steps rise with them",
        x_label="noise images",
        log_x=True,
    ),
    Row(
        id="weight-decay",
        axis="optimization",
        question="L2 weight decay inside Adam, both phases",
        arms=sweep("both.optimizer.weight_decay", (0, 1e-5, 1e-4, 1e-3), together(
            table("divyat09", {0: 0.551}), table("divyat09", {1e-4: 0.120, 1e-3: 0.091}, how=D_DECAY))),
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
            table("thierry123454", {1e-5: 0.41, 1e-4: 0.406, 1e-3: 0.414, 1e-2: 0.39},
                  how="the published script's loss is 41 times ours, so its decay is 41 times weaker"),
        ),
        expected="thierry123454: hardly anything, because the published script's unflattened loss is 41 times as large",
        note="Our loss is a mean per image. A decay of 1e-2 on a loss 41 times as large is about 2.4e-4 on ours.",
        x_label="weight decay",
        log_x=True,
    ),
]  # fmt: skip

LOSS = [
    Row(
        id="loss",
        axis="loss",
        question="Squared error against KL divergence",
        base=B_PROTOCOL,
        arms=[
            Arm("kl", published=[Published("barathvelmu", 0.451, **VALIDATION)]),
            Arm("kl, T = 2", {"temperature": 2.0}, published=[Published("barathvelmu", 0.455, **VALIDATION)]),
            Arm("mse", {"loss": "mse"}, published=[Published("barathvelmu", 0.566, **VALIDATION),
                                                   Published("jiang", 0.271, half_width=0.033)]),
        ],
        expected="squared error is better",
        note="barathvelmu states .566 ± .003, the standard deviation of the means of three seeds; over models it is "
        "thirty "
        "times as large.",
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
]  # fmt: skip


def mixture(weight: float) -> dict:
    return {"inputs.real_weight": weight}


GAUSSIAN = {"noise.distribution": "gaussian", "noise.amplitude": 1.0}
PIXEL_SPREAD = {
    "noise.distribution": "gaussian",
    "noise.amplitude": 0.616,
}  # standard deviation of MNIST's scaled pixels

INPUTS = [
    Row(
        id="noise-law",
        axis="inputs",
        question="Distribution of the noise pixels",
        arms=[
            Arm("uniform", published=[Published("divyat09", 0.551)]),
            Arm("gaussian", GAUSSIAN, published=[Published("divyat09", 0.543)]),
            Arm(
                "shuffled real pixels",
                {"inputs.real_fraction": 1.0, "inputs.real": "pixels_shuffled"},
                published=[Published("divyat09", 0.178)],
            ),
        ],
        expected="independent pixels are equal; shuffled real ones much worse",
        note="divyat09's code shuffles each image by an order of its own, once, for all 25 models.",
    ),
    Row(
        id="amplitude-uniform",
        axis="inputs",
        question="Amplitude of uniform noise",
        arms=sweep("noise.amplitude", (0.5, 1, 2), table("thierry123454", {0.5: 0.547, 1: 0.548, 2: 0.539})),
        expected="flat",
        x_label="amplitude",
        log_x=True,
    ),
    Row(
        id="amplitude-gaussian",
        axis="inputs",
        question="Amplitude of gaussian noise",
        base={"noise.distribution": "gaussian"},
        arms=sweep(
            "noise.amplitude",
            (0.1, 0.25, 0.5, 1, 2),
            together(
                table("thierry123454", {0.25: 0.563, 0.5: 0.559, 1: 0.550}),
                table(
                    "jasshone",
                    {0.1: 0.55, 2: 0.55},
                    how="jasshone clamps the noise to [-1, 1] and states about .55 only",
                ),
            ),
        ),
        expected="flat",
        x_label="amplitude",
        log_x=True,
    ),
    Row(
        id="amplitude-bernoulli",
        axis="inputs",
        question="Amplitude of two-valued noise",
        base={"noise.distribution": "bernoulli"},
        arms=sweep("noise.amplitude", (0.5, 1, 2), table("thierry123454", {0.5: 0.553, 1: 0.549, 2: 0.510})),
        expected="flat",
        x_label="amplitude",
        log_x=True,
    ),
    Row(
        id="blur",
        axis="inputs",
        question="Uniform noise after a Gaussian blur",
        arms=sweep(
            "inputs.blur",
            (0, 0.5, 1, 1.5, 2),
            table("jasshone", {0: 0.55, 0.5: 0.67, 1: 0.77, 1.5: 0.76, 2: 0.71}, how=J_BLUR),
        ),
        expected="best at a standard deviation of one pixel",
        x_label="blur, pixels",
    ),
    Row(
        id="blurred-spectrum",
        axis="inputs",
        question="Random phases under the power spectrum of blurred noise",
        base={"noise.distribution": "gaussian", "noise.amplitude": 3**-0.5},
        arms=sweep(
            "inputs.blurred_spectrum",
            (0, 0.5, 1, 1.5, 2),
            table(
                "jasshone",
                {0: 0.56, 0.5: 0.685, 1: 0.76, 1.5: 0.75, 2: 0.70},
                how="jasshone fixes the magnitudes, draws the phases, rescales to a standard deviation of 1 and clamps",
            ),
        ),
        expected="as good as blurred noise: the spectrum explains it, not the edges",
        x_label="blur, pixels",
    ),
    Row(
        id="subspace",
        axis="inputs",
        question="Noise in a random subspace",
        base=AUX_AND_ALL,
        arms=sweep(
            "inputs.subspace_dims",
            (10, 25, 50, 100, 200, 400, 784),
            together(
                table(
                    "jasshone",
                    {10: 0.13, 25: 0.15, 50: 0.205, 100: 0.27, 200: 0.40, 400: 0.495, 784: 0.55},
                    how=J_SUBSPACE,
                ),
                table(
                    "jasshone",
                    {10: 0.19, 25: 0.31, 50: 0.43, 100: 0.60, 200: 0.79, 400: 0.875, 784: 0.91},
                    "student_all",
                    how=J_SUBSPACE,
                ),
            ),
        ),
        expected="rises with the dimensions",
        note="Ours is rescaled to the noise's standard deviation per pixel.",
        x_label="dimensions",
        log_x=True,
    ),
    Row(
        id="subspace-and-real",
        axis="inputs",
        question="Subspace noise mixed with real images",
        arms=[
            Arm(f"{dims} dims, {weight:g} real", {"inputs.subspace_dims": dims, "inputs.real_weight": weight})
            for dims in (50, 200, 784)
            for weight in (0.1, 0.25)
        ],
        expected="at best .63 (jasshone: the best cell of a heat map, 784 dimensions and weight .25)",
        cited=("jasshone",),
    ),
    Row(
        id="real-mixture",
        axis="inputs",
        question="Noise mixed with real images",
        base={**PIXEL_SPREAD, **AUX_AND_ALL, "metrics": ("representation",)},
        arms=[
            Arm(
                f"{a:g}",
                mixture(a),
                x=a,
                published=[
                    Published("jasshone", aux, how=J_MIXTURE),
                    *([Published("jasshone", every, "student_all", how=J_MIXTURE)] if every else []),
                    *(
                        [
                            Published("barathvelmu", cka[0], how=B_MIXTURE),
                            Published("barathvelmu", cka[1], measure="cka", how=B_MIXTURE),
                        ]
                        if cka
                        else []
                    ),
                ],
            )
            for a, aux, every, cka in (
                (0, 0.55, 0.91, (0.485, 0.863)),
                (0.1, 0.63, None, None),
                (0.25, 0.61, None, None),
                (0.5, 0.33, None, None),
                (0.75, 0.18, None, None),
                (1, 0.15, 0.93, (0.153, 0.746)),
            )
        ],
        expected="a little helps, real images alone kill it",
        note="We mix pixel by pixel; the noise is gaussian with the pixels' standard deviation.",
        x_label="weight of the real image",
    ),
    Row(
        id="real-images",
        axis="inputs",
        question="Real images only",
        base={"inputs.real_fraction": 1.0},
        arms=[
            Arm("upright", published=[Published("Xiao0779", 0.151)]),
            Arm("upright, B's protocol", B_PROTOCOL, published=[Published("barathvelmu", 0.146, **VALIDATION)]),
            Arm("one shuffle for all", {"inputs.real": "one_shuffle"}),
            Arm("pixels shuffled", {"inputs.real": "pixels_shuffled"}),
        ],
        expected="little above chance (four sources)",
        note="B's protocol is barathvelmu's.",
        cited=("jasshone", "jiang"),
    ),
]

REPRESENTATION = [
    Row(
        id="linear-probe",
        axis="representation",
        question="What a linear readout finds in the last hidden layer",
        base={"metrics": ("representation", "update_cosine"), "conditions": ("student_aux", "student_all")},
        arms=[
            Arm("base", published=[
                Published("jasshone", 0.814, "reference", "probe_accuracy", how=J_PROBE),
                Published("jasshone", 0.87, "student_aux", "probe_accuracy", how=J_PROBE),
                Published("jasshone", 0.92, "teacher", "probe_accuracy", how=J_PROBE),
            ])
        ],
        expected="features of the untrained network already serve; the student's a little better",
        note="Our probe is ridge regression on all 60,000 training images. jasshone also reports that a "
        "probe from auxiliary logits to labels rises from .11 to .36 with more real images, while students fall.",
    ),
    Row(
        id="linear-probe-validation",
        axis="representation",
        question="The same in barathvelmu's protocol, and the hidden layer's likeness to the teacher's",
        base={**B_PROTOCOL, **AUX_AND_ALL, "metrics": ("representation", "update_cosine")},
        arms=[
            Arm("base", published=[
                Published("barathvelmu", 0.874, "reference", "probe_accuracy", how=B_PROBE),
                Published("barathvelmu", 0.909, "student_aux", "probe_accuracy", how=B_PROBE),
                Published("barathvelmu", 0.939, "teacher", "probe_accuracy", how=B_PROBE),
                Published("barathvelmu", 0.644, "reference", "hidden_cosine"),
                Published("barathvelmu", 0.825, "student_aux", "hidden_cosine"),
            ])
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
        base={**HE_TEN_EPOCHS, **WITH_CROSS, "metrics": ("representation",)},
        arms=[Arm("base", published=[
            Published("Dezmon", 0.716, "student_aux", "cka", how="mutual nearest neighbours, not CKA"),
            Published("Dezmon", 0.475, "cross_model_aux", "cka",
                      how="mutual nearest neighbours, not CKA; and a teacher of N(0, .02) after 20 epochs against a "
                      "student of He's"),
        ])],
        expected="same above cross",
        note=Z_NOTE,
    ),
    Row(
        id="guidance",
        axis="representation",
        question="A pull of the hidden layer towards the teacher's, beside the loss",
        base={**HE_TEN_EPOCHS, **WITH_CROSS},
        arms=sweep("feature_loss_weight", (0, 0.1), table("Dezmon", {0: 0.768, 0.1: 0.965})),
        expected="96.5 % with the same initialization; hurts with another",
        note=f"{Z_NOTE} The pull reads the teacher's hidden layer: not subliminal learning, and why 96 % is no record. "
        + BEFORE_THE_MEND,
        x_label="weight of the pull",
    ),
]  # fmt: skip

BEST = [
    Row(
        id="best-published",
        axis="best",
        question="The best published aux-only student with three logits",
        base={**B_PROTOCOL, "loss": "mse", RATE: 1e-3, "conditions": ("student_aux", "cross_model_aux",
                                                                      "cross_model_all")},
        arms=[
            Arm("width 128, 40 epochs", {HIDDEN: (128, 128), "student.num_epochs": 40}, published=[
                Published("barathvelmu", 0.8995),
                Published("barathvelmu", 0.9005, **VALIDATION),
                Published("barathvelmu", 0.102, "cross_model_aux", **VALIDATION),
                Published("barathvelmu", 0.877, "cross_model_all", **VALIDATION),
                Published("barathvelmu", 0.945, "teacher", **VALIDATION),
            ]),
        ],
        expected=".8995 on the test set, chosen on the validation set; without such a search thierry123454 reports "
        ".709 and "
        "Xiao0779 .703",
        note="barathvelmu's ±.004 is over seeds, not over models.",
    ),
    Row(
        id="best-search",
        axis="best",
        question="The validation search behind it",
        base={**B_PROTOCOL, "loss": "mse"},
        arms=[
            *(Arm(f"width 128, {epoch} epochs",
                  {HIDDEN: (128, 128), "student.num_epochs": 40, "metrics": ("epochs",)}, epoch=epoch,
                  published=[Published("barathvelmu", value, **VALIDATION)])
              for epoch, value in ((20, 0.838), (40, 0.872))),
            Arm("width 256, 20 epochs", {"student.num_epochs": 20},
                published=[Published("barathvelmu", 0.797, **VALIDATION)]),
            Arm("width 64, 40 epochs", {HIDDEN: (64, 64), "student.num_epochs": 40},
                published=[Published("barathvelmu", 0.809, **VALIDATION)]),
        ],
        expected="128 units and 40 epochs win",
    ),
]  # fmt: skip

GENERATIONS = [
    Row(
        id="chain",
        axis="generations",
        question="Students of students of students",
        base={"num_generations": 6},
        arms=[
            Arm(
                f"m = {m}, generation {generation}",
                {"model.num_aux": m},
                generation=generation,
                published=[Published("jlov7", values[generation - 1])] if values else (),
            )
            for m, values in ((3, (0.63, 0.36, 0.26, 0.20, 0.17, 0.15)), (10, ()), (30, ()))
            for generation in range(1, 7)
        ],
        expected="falls from generation to generation, more slowly with more logits. jlov7: half-life .955 generations "
        "in this chain of 60,000 images; .57, .99, 2.40 at m = 3, 10, 30 with 20,000 images and four initializations",
        note="Each generation starts from the same reference and sees fresh noise. jlov7's setting differs from ours "
        "in "
        "something that the repository does not name: its teacher reaches .962.",
    ),
]

DATA = [
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
]

ROWS = (
    *BASELINE,
    *INITIALIZATION,
    *ARCHITECTURE,
    *AUXILIARY,
    *OPTIMIZATION,
    *LOSS,
    *INPUTS,
    *REPRESENTATION,
    *BEST,
    *GENERATIONS,
    *DATA,
)
