"""Students of another start: a control whose alignment averages to exactly zero, and which networks allow it.

If a student does not share the teacher's start, is its alignment zero on average? Only by symmetry. In a tanh network
the signs of a hidden layer may be flipped (its incoming weights and bias, and the weights that leave it) without
changing the function or the law of initialisation. Averaged over such flips the student's step has only its output
bias left, where a teacher of the class logits and a student of the auxiliary ones do not meet: the mean alignment is
zero to rounding. ReLU has no such symmetry, and independent ReLU students have a small positive mean alignment: "a
different start means half the signs" is the wrong test for ReLU.
"""

from sublim_jax import errors
from sublim_jax.models import mlp

ODD_ACTIVATIONS = ("tanh", "identity")


def flipped(params: mlp.Params, signs: tuple[int, ...]) -> mlp.Params:
    """The network with the sign of every unit of hidden layer i multiplied by `signs[i]`; the same function if odd.

    Raises:
        InputError: the number of signs is not that of the hidden layers.
    """
    if len(signs) != len(params) - 1:
        raise errors.InputError(f"expected one sign per hidden layer, {len(params) - 1} of them, got {len(signs)}")
    ins, outs = (1, *signs), (*signs, 1)
    return tuple(
        mlp.Dense(out * into * layer.weight, out * layer.bias)
        for layer, into, out in zip(params, ins, outs, strict=True)
    )


def antithetic_students(params: mlp.Params, *, activation: mlp.Activation) -> tuple[mlp.Params, ...]:
    """Four copies of a start that compute the same function and whose alignments cancel, for any depth.

    Signs alternate a, b, a, b, ... over the hidden layers with (a, b) in {1, -1}²: then the mean of every sign and of
    every product of neighbours is zero, and those are all that appear in a step. With one hidden layer two pairs
    coincide.

    Raises:
        InputError: the activation is not odd, so a flip changes the function; or there is no hidden layer to flip.
    """
    if activation not in ODD_ACTIVATIONS:
        raise errors.InputError(
            f"activation={activation!r}: expected an odd one ({', '.join(ODD_ACTIVATIONS)}), whose units can change "
            "sign without changing the network. ReLU networks have only permutations, which leave a mean alignment. "
            "Use tanh, or report the difference from a control (filters.differential_update)."
        )
    if len(params) < 2:
        raise errors.InputError(
            "a single affine layer has no hidden unit to flip; the alignment of its aux logits is zero anyway"
        )
    return tuple(
        flipped(params, tuple(a if index % 2 == 0 else b for index in range(len(params) - 1)))
        for a in (1, -1)
        for b in (1, -1)
    )
