"""Which parts of the initialization student and teacher must share, and how closely."""

from experiments.atlas.rows.protocols import (
    AUX_AND_ALL,
    BARATHVELMU,
    BEFORE_THE_FIX,
    BROCKERS,
    DEZMON,
    DEZMON_NOTE,
    ON_VALIDATION,
    WITH_CROSS,
)
from experiments.atlas.rows.types import Arm, Published, Row, merge_published, published_values, sweep
from sublim_jax.models import init_sharing
from sublim_jax.training.config import UpdateScale

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


PUBLISHED = (
    Row(
        id="start-noise-relative",
        axis="initialization",
        question="Noise on the student's start, relative to each tensor's standard deviation",
        base=AUX_AND_ALL,
        arms=sweep(
            "init_sharing.relative_noise",
            (0, 0.02, 0.05, 0.1, 0.2, 0.4),
            merge_published(
                published_values("jasshone", {0: 0.55, 0.02: 0.55, 0.05: 0.54, 0.1: 0.53, 0.2: 0.42, 0.4: 0.26}),
                published_values("jasshone", {0: 0.91, 0.4: 0.86}, "student_all"),
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
            "init_sharing.relative_noise",
            (0, 0.1, 0.2, 0.4),
            published_values("jasshone", {0: 0.55, 0.2: 0.45, 0.4: 0.30}),
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
            merge_published(
                published_values("divyat09", {0: 0.551, 0.01: 0.393, 0.05: 0.105, 0.1: 0.107}),
                published_values("jiang", {0: 0.277, 0.2: 0.105}),
            ),
        ),
        expected="sharp: at .05, the size of a weight (.036 to .0625), nothing is left",
        x_label="noise, absolute",
        log_x=True,
    ),
    Row(
        id="start-noise-guided",
        axis="initialization",
        question="Noise on the start, with feature distillation of the hidden layer",
        base={**DEZMON, "feature_loss_weight": 0.1},
        arms=sweep(
            "init_sharing.absolute_noise",
            (0.02, 0.05, 0.1, 0.2),
            published_values("Dezmon", {0.02: 0.965, 0.05: 0.902, 0.1: 0.277, 0.2: 0.126}),
        ),
        expected="feature distillation rescues small noise only",
        note=f"{DEZMON_NOTE} Feature distillation reads the teacher's hidden layer: not subliminal learning. "
        f"{BEFORE_THE_FIX}",
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
        "head. Brockers et al. used another protocol, which is that of `share-parts-brockers`; this is the paper's.",
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
        base={**DEZMON, **WITH_CROSS},
        arms=[
            Arm("he_normal", published=[Published("Dezmon", 0.768)]),
            Arm("torch_uniform", {"model.init_distribution": "torch_uniform"}),
            Arm("fan_in_normal", {"model.init_distribution": "fan_in_normal"}),
        ],
        expected="the scale matters: He's far better than N(0, .02), which gives .223; cross-model 7 to 13 % (Dezmon)",
        note=DEZMON_NOTE,
    ),
    Row(
        id="init-scale",
        axis="initialization",
        question="The scale of the initialization",
        base={**BARATHVELMU, "conditions": ("student_aux", "student_all", "cross_model_all")},
        arms=sweep(
            "model.init_scale",
            (0.5, 1, 2, 4),
            merge_published(
                published_values("barathvelmu", {0.5: 0.323, 1: 0.451, 2: 0.206, 4: 0.109}, **ON_VALIDATION),
                published_values("barathvelmu", {0.5: 0.91, 1: 0.90, 2: 0.70, 4: 0.21}, "student_all", **ON_VALIDATION),
                published_values(
                    "barathvelmu", {0.5: 0.905, 1: 0.711, 2: 0.249, 4: 0.133}, "cross_model_all", **ON_VALIDATION
                ),
            ),
        ),
        expected="best at 1; at .5 students with another start learn all logits as well as those with the teacher's",
        x_label="scale of the weights",
        log_x=True,
    ),
)


UNPUBLISHED = (
    Row(
        id="share-weights",
        axis="initialization",
        question="A random share of the individual weights",
        arms=sweep("init_sharing.shared_weight_probability", (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0)),
        expected="falls long before half of the weights are gone: half shared is noise as large as the weights",
        x_label="share of the weights",
    ),
    Row(
        id="permuted-neurons",
        axis="initialization",
        question="The same function with its hidden neurons in another order",
        base=AUX_AND_ALL,
        arms=[Arm("own order"), Arm("permuted", {"init_sharing.permute_neurons": True})],
        expected="transmits, since reordering commutes with training; only the coordinates' labels differ",
        note="Both heads are permuted accordingly, so the student computes the reference's function.",
    ),
    Row(
        id="freeze-parts",
        axis="initialization",
        question="Which parts must be free to move?",
        arms=[
            Arm(
                name,
                {"trainable": UpdateScale(hidden=parts.hidden, class_head=parts.class_head, aux_head=parts.aux_head)},
            )
            for name, parts in (
                ("all free", init_sharing.ParamGroups()),
                ("first hidden frozen", init_sharing.ParamGroups(hidden=(0.0, 1.0))),
                ("second hidden frozen", init_sharing.ParamGroups(hidden=(1.0, 0.0))),
                ("auxiliary head frozen", init_sharing.ParamGroups(aux_head=0.0)),
                ("both hidden frozen", init_sharing.ParamGroups(hidden=(0.0, 0.0))),
                ("only first hidden free", init_sharing.ParamGroups(hidden=(1.0, 0.0), class_head=0.0, aux_head=0.0)),
                ("only second hidden free", init_sharing.ParamGroups(hidden=(0.0, 1.0), class_head=0.0, aux_head=0.0)),
            )
        ],
        expected="with both hidden layers frozen exactly nothing: the class logits cannot move",
    ),
    Row(
        id="matching-dose",
        axis="initialization",
        question="Another start that first learns to behave like the teacher's reference, for how many epochs?",
        base={"conditions": ("matched_aux", "cross_model_aux")},
        arms=sweep("matching.phase.num_epochs", (1, 3, 10, 30)),
        expected="Nature's abstract says behaviourally matched base models suffice, for language models",
        x_label="epochs of matching",
        log_x=True,
        cited=("nature",),
    ),
    Row(
        id="same-start-other-order",
        axis="initialization",
        question="Do members differ because of their starts, or because of their data order and noise?",
        base={"conditions": ("student_aux",)},
        arms=[
            Arm("all differ"),
            Arm("one reference", {"shared_streams": ("reference",)}),
            Arm("one noise and order", {"shared_streams": ("student/noise", "student/batches", "teacher/batches")}),
        ],
        about="standard deviations",
        expected="visible in the standard deviations, not in the means",
        note="Compare the standard deviations below: a difference of means is here that of one initialization, or of "
        "one draw of noise and order.",
    ),
)
