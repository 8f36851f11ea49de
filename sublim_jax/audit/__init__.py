"""Audit tools: what will data teach a model, whose data are they, and how is a trait kept out or taken out again?

How the pieces fit. A *trait* is a loss on an auditor's probes (`forecast.Trait`). Predict, trace and stop:

    forecast     a short pilot of the training itself, beside a pilot on null data: the gain of a trait, and a verdict
    tangent      the linearised student: what passes to first order in the displacement
    lineage      are two models relatives? from their weights, through permuted units, pruning and rounding
    outputs      the same from answers to queries alone
    author       which base wrote these rows, and was it finetuned away from itself? (`rows`: what both of these share)
    mark         was it trained on an owner's marked numbers? by a secret key that the owner drew
    lens         towards which trait? by an auditor's own finetuned copy of the base
    directions   in how many directions of a model does a trait lie, and is it one vector?
    removal      takes a direction of a trait, or an auditor's displacement, out of a trained student
    projection   keeps it out during training: updates without the trait's direction, or answers pinned to the start's
    relearning   how fast does the trait come back? No defence is reported without it
    descent      training by steps, of which a pilot is a prefix

Verdicts are in `metrics.verdicts`, since a record is judged without what made it. These are functions of arrays, of
pytrees of parameters and of functions, so that they serve models of any kind. None promises safety: they see the traits
that are asked about, and no others.
"""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    """Import a file of this folder when it is first used."""
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from error
