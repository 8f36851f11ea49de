"""The arms of figure 10: where a student starts, and which of its teacher's logits it distils."""

from collections.abc import Sequence
from typing import Literal, cast, get_args

Condition = Literal[
    "student_aux",
    "student_class",
    "student_all",
    "cross_model_aux",
    "cross_model_class",
    "cross_model_all",
    "matched_aux",
    "matched_class",
    "matched_all",
]
"""`student_*` starts from the teacher's reference, or from what `InitSharing` makes of it; `cross_model_*` from another
member's, `matched_*` from another member's after it was made to behave like this one (see `BehaviourMatching`)."""

DistilledLogits = Literal["aux", "class", "all"]
"""Which logits enter a student's loss."""

CONDITIONS: tuple[Condition, ...] = get_args(Condition)

Recorded = Literal[Condition, "reference", "teacher", "matched_start"]
"""Everything that a member's record has an accuracy of."""


def start_of(condition: Condition) -> str:
    """`student`, `cross_model` or `matched`."""
    return condition.rpartition("_")[0]


def recorded_conditions(conditions: Sequence[Condition]) -> tuple[str, ...]:
    """Names under which a run of these conditions reports accuracies, in the order of a figure."""
    matched = ("matched_start",) if any(start_of(condition) == "matched" for condition in conditions) else ()
    return ("reference", "teacher", *matched, *conditions)


def distilled_logits_of(condition: Condition) -> DistilledLogits:
    """`aux`, `class` or `all`."""
    return cast(DistilledLogits, condition.rpartition("_")[2])
