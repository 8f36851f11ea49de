"""What the student sees: noise of other distributions, blurred, in subspaces, and real images."""

from experiments.atlas.rows.protocols import AUX_AND_ALL, BARATHVELMU, JASSHONE_BLUR, ON_VALIDATION
from experiments.atlas.rows.types import Arm, Published, Row, merge_published, published_values, sweep

JASSHONE_SUBSPACE = (
    "jasshone's noise is not rescaled, so its pixels have a standard deviation of sqrt(dimensions / 784), and it is "
    "clamped to [-1, 1]"
)


JASSHONE_MIXTURE = (
    "jasshone's text says gaussian noise with the pixels' standard deviation, as ours is; the code mixes uniform noise"
)


BARATHVELMU_MIXTURE = (
    "barathvelmu adds a multiple of uniform noise to real images, or draws noise alone: 8 models x 3 seeds, scored on "
    "validation images"
)


GAUSSIAN = {"noise.distribution": "gaussian", "noise.amplitude": 1.0}


GAUSSIAN_LIKE_PIXELS = {
    "noise.distribution": "gaussian",
    "noise.amplitude": 0.616,
}  # standard deviation of MNIST's scaled pixels


def _real_weight(weight: float) -> dict:
    return {"inputs.real_weight": weight}


PUBLISHED = (
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
        arms=sweep("noise.amplitude", (0.5, 1, 2), published_values("thierry123454", {0.5: 0.547, 1: 0.548, 2: 0.539})),
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
            merge_published(
                published_values("thierry123454", {0.25: 0.563, 0.5: 0.559, 1: 0.550}),
                published_values(
                    "jasshone",
                    {0.1: 0.55, 2: 0.55},
                    why_not_comparable="jasshone clamps the noise to [-1, 1] and states about .55 only",
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
        arms=sweep("noise.amplitude", (0.5, 1, 2), published_values("thierry123454", {0.5: 0.553, 1: 0.549, 2: 0.510})),
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
            published_values(
                "jasshone", {0: 0.55, 0.5: 0.67, 1: 0.77, 1.5: 0.76, 2: 0.71}, why_not_comparable=JASSHONE_BLUR
            ),
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
            published_values(
                "jasshone",
                {0: 0.56, 0.5: 0.685, 1: 0.76, 1.5: 0.75, 2: 0.70},
                why_not_comparable="jasshone fixes the magnitudes, draws the phases, rescales to a standard deviation "
                "of 1 and clamps",
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
            merge_published(
                published_values(
                    "jasshone",
                    {10: 0.13, 25: 0.15, 50: 0.205, 100: 0.27, 200: 0.40, 400: 0.495, 784: 0.55},
                    why_not_comparable=JASSHONE_SUBSPACE,
                ),
                published_values(
                    "jasshone",
                    {10: 0.19, 25: 0.31, 50: 0.43, 100: 0.60, 200: 0.79, 400: 0.875, 784: 0.91},
                    "student_all",
                    why_not_comparable=JASSHONE_SUBSPACE,
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
        base={**GAUSSIAN_LIKE_PIXELS, **AUX_AND_ALL, "metrics": ("representation",)},
        arms=[
            Arm(
                f"{a:g}",
                _real_weight(a),
                x=a,
                published=[
                    Published("jasshone", aux, why_not_comparable=JASSHONE_MIXTURE),
                    *(
                        [Published("jasshone", every, "student_all", why_not_comparable=JASSHONE_MIXTURE)]
                        if every
                        else []
                    ),
                    *(
                        [
                            Published("barathvelmu", cka[0], why_not_comparable=BARATHVELMU_MIXTURE),
                            Published("barathvelmu", cka[1], measure="cka", why_not_comparable=BARATHVELMU_MIXTURE),
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
            Arm("upright, B's protocol", BARATHVELMU, published=[Published("barathvelmu", 0.146, **ON_VALIDATION)]),
            Arm("one shuffle for all", {"inputs.real": "one_shuffle"}),
            Arm("pixels shuffled", {"inputs.real": "pixels_shuffled"}),
        ],
        expected="little above chance (four sources)",
        note="B's protocol is barathvelmu's.",
        cited=("jasshone", "jiang"),
    ),
)


UNPUBLISHED = (
    Row(
        id="spectra",
        axis="inputs",
        question="Perlin-like noise, and random phases under MNIST's own spectrum",
        arms=[
            *[Arm(f"lattice of {n}", {"inputs.perlin_cells": n, "inputs.preserve_std": True}) for n in (4, 7, 14)],
            Arm("MNIST's spectrum", {"inputs.mnist_spectrum": True, "noise.distribution": "gaussian"}),
            Arm("blur of 1, std kept", {"inputs.blur": 1.0, "inputs.preserve_std": True}),
        ],
        expected="as good as blurred noise where the spectrum is as broad",
    ),
)
