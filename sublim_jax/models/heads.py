"""Which logits are which: the first `num_classes` outputs are the class logits, the auxiliary ones follow."""

from jaxtyping import Array, Float

from sublim_jax import specs
from sublim_jax.conditions import DistilledLogits


def selection(which: DistilledLogits, *, num_classes: int) -> slice:
    """Positions of the class, the auxiliary or all logits in the output.

    Raises:
        InputError: `which` is none of "aux", "class" and "all".
    """
    specs.check(which, DistilledLogits, "distilled_logits")
    return {"aux": slice(num_classes, None), "class": slice(0, num_classes), "all": slice(None)}[which]


def class_logits(logits: Float[Array, "*batch logit"], *, num_classes: int) -> Float[Array, "*batch class"]:
    """The logits that are scored against labels."""
    return logits[..., :num_classes]


def aux_logits(logits: Float[Array, "*batch logit"], *, num_classes: int) -> Float[Array, "*batch aux"]:
    """The auxiliary logits, which no label ever touches."""
    return logits[..., num_classes:]
