"""Students with another start: a control whose alignment averages to exactly zero, for networks with a symmetry.

If a student does not share the teacher's start, is its alignment zero on average? Only by symmetry. In a tanh network
the signs of a hidden layer can be flipped (its incoming weights and bias, and its outgoing weights) without a change of
the function or of the distribution of initial weights. Averaged over such flips, only the output bias of the student's
step remains. A teacher of the class logits and a student of the auxiliary ones move different entries of that bias, so
the mean alignment is zero up to rounding. ReLU has no such symmetry, and independent ReLU students have a small
positive mean alignment: half of the signs being positive is the wrong test for ReLU.
"""

from sublim_jax import errors
from sublim_jax.models import mlp

ODD_ACTIVATIONS = ("tanh", "identity")


def flipped(params: mlp.Params, signs: tuple[int, ...]) -> mlp.Params:
    """The network with all units of hidden layer i multiplied by `signs[i]`: the same function for an odd activation.

    Raises:
        InputError: there is not one sign per hidden layer.
    """
    if len(signs) != len(params) - 1:
        raise errors.InputError(f"expected one sign per hidden layer, {len(params) - 1} of them, got {len(signs)}")
    ins, outs = (1, *signs), (*signs, 1)
    return tuple(
        mlp.Dense(out * into * layer.weight, out * layer.bias)
        for layer, into, out in zip(params, ins, outs, strict=True)
    )


def antithetic_students(params: mlp.Params, *, activation: mlp.Activation) -> tuple[mlp.Params, ...]:
    """Four copies of a start that compute the same function and whose alignments add up to zero, for any depth.

    Signs alternate a, b, a, b, ... over the hidden layers with (a, b) in {1, -1}². Then the mean of every sign and of
    every product of neighbouring signs is zero, and no other products appear in a step. With one hidden layer two pairs
    coincide.

    Raises:
        InputError: the activation is not odd, so that a flip changes the function, or there is no hidden layer.
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
