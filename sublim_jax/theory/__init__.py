"""The alignment theorem, computed: what a student receives from a teacher with which it shares its start.

How the pieces fit. Teacher and student start from the same `reference` θ0. The teacher moves to θ0 + ε D, where
D = `teacher_update` is any direction in parameter space. The student takes one gradient step on a distillation loss
l(student logits, teacher logits), averaged over inputs that need have nothing to do with what moved the teacher.

    v = J D                          logit tangent                                                  `one_step`
    M = −∂y ∂z l at y = z            metric of the loss on logits, positive semidefinite            `loss_geometry`
    G = E[Jᵀ M J]                    Gauss-Newton matrix; the student moves by ε G D + o(ε)         `spectrum`
    A = E[vᵀ M v] = Dᵀ G D ≥ 0       alignment coefficient: ⟨Δθ_S, D⟩ = ε A + o(ε)                 `one_step`

`conditions` refuses what voids the theorem; `counterexamples` shows that each condition is needed. `certificate` and
`kinks` tell how far in ε the sign holds; `linear` has the cases where it holds for every ε. `normal_approximations` is
about sampled labels and unequal starts, `filters` about filtered samples, `multi_step` about many steps,
`preconditioned` about a change of metric, and `symmetry` about a control whose alignment averages to exactly zero.

Three conventions run through all of it. `f(params, inputs)` maps a batch to the DISTILLED logits, shape (batch, logit);
a function of one input becomes one by `jax.vmap(f, in_axes=(None, 0))`, a sequence model by reshaping (batch, position)
into rows. The loss is the very function that training minimises: a mean over rows, a sum over logits. Vectors in
parameter space are pytrees like `params`.
"""

import importlib
from typing import Any

_NAMES = {"FirstStep": "model_step", "first_step": "model_step", "teacher_update": "one_step"}
"""The most used names, and the file of each, which is imported when the name is first used."""


def __getattr__(name: str) -> Any:
    """Import a public name or a file of this folder when it is first used."""
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from error
