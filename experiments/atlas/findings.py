"""What the records say, in sentences whose numbers come from them."""

from sublim_jax import records


def text(found: dict[str, records.Record]) -> str:
    """The findings whose rows are there."""
    return "\n".join(f"{number}. {finding}" for number, finding in enumerate(_all(found), 1))


def _all(found):
    return []
