"""What hypothesis draws for the tests of more than one room."""

import numpy as np
from hypothesis import strategies as st

from sublim_jax.models import mlp

seeds = st.integers(0, 2**32 - 1)
"""A seed prints, shrinks and replays; a key or an array does not."""

# A new shape costs seconds of compilation, so numerical properties use few shapes and many seeds.
PALETTE = tuple(
    mlp.MLPSpec(in_size=4, hidden_sizes=hidden, num_classes=3, num_aux=num_aux, activation="tanh")
    for hidden in ((), (5,), (5, 1))
    for num_aux in (2, 3)
)


@st.composite
def mlp_specs(draw, *, max_width: int = 64, max_depth: int = 4) -> mlp.MLPSpec:
    """Any valid network, shrinking towards a linear map. For structural properties, which only trace."""
    widths = st.integers(1, max_width)
    return mlp.MLPSpec(
        in_size=draw(widths),
        hidden_sizes=tuple(draw(st.lists(widths, max_size=max_depth))),
        num_classes=draw(st.integers(1, 10)),
        num_aux=draw(st.integers(0, 10)),
        activation=draw(st.sampled_from(["relu", "tanh", "gelu", "silu", "identity"])),
        init_distribution=draw(st.sampled_from(["fan_in_normal", "he_normal", "torch_uniform"])),
        precision=draw(st.sampled_from(["float32", "bfloat16"])),
    )


def normal(seed: int, *shape: int, scale: float = 1.0) -> np.ndarray:
    """Independent N(0, scale^2) numbers, in double precision."""
    return scale * np.random.default_rng(seed).standard_normal(shape)
