"""Are two models relatives? An audit of their weights.

    python -m experiments.audit --weights tiny:100+runs/student --reference tiny:100
    python -m experiments.audit --weights model.npz --reference reference.safetensors

A model is named as everywhere (smollm2, hf:DIR, hf:FILE.gguf, tiny:SEED, each with +DIR for a student), or is a file of
a chain of dense layers, .npz or .safetensors, whose arrays are named alike, e.g. 0.weight (out, in) and 0.bias. Entries
are compared as they stand (`direct`), and after units were matched, in case somebody permuted them (`matched`). A
p-value is the share of random orders of the reference's units that correlate as much (`sublim_jax.audit.lineage`). It
is exact, except after matching with a reference of dense layers that was trained, which the report says. The report
goes into the record, a picture and a page of HTML beside it.
"""

import dataclasses
import hashlib
import pathlib
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from experiments.own import opened
from experiments.study import Report, Study
from sublim_jax import errors, records, specs
from sublim_jax.audit import lineage
from sublim_jax.forms import audit_weights as form
from sublim_jax.llm import open as open_llm
from sublim_jax.llm.local.model import Model

FILES = (".npz", ".safetensors")

RATES = (
    "of 56 unrelated pairs under each of 27 disguises, `direct` called 30 of 1,512 related (2.0 %), `matched` 13 (0.9 "
    "%), one or both 43; of eight relatives under each disguise, `direct` missed none under the 13 that "
    "leave units in place and all under the 14 that permute them, `matched` all under noise of 20 standard deviations "
    "and none under the other 26; both together missed none"
)
"""What the comparisons did to models of eight untrained references; `experiments/records/evidence_lineage.json`."""
TRAINED = (
    "where both models were trained, `direct` called 5 of 112 unrelated pairs related and missed none of 16 relatives, "
    "and `matched` cannot tell"
)
"""The same with trained references."""


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightsConfig:
    """Settings of an audit of weights."""

    weights: str = ""
    """The model in question."""
    reference: str = ""
    """A model that may be its ancestor, or its sibling."""
    num_permutations: specs.Count = 999
    """Random orders of units; the smallest p-value is one by one more than these."""
    seed: specs.Seed = 0

    def __post_init__(self):
        lineage.require_permutations(self.num_permutations)


PRESETS = {"default": WeightsConfig()}


class Opened(NamedTuple):
    """Parameters of both models."""

    model: Any
    reference: Any
    head_dim: int | None
    config: WeightsConfig

    @property
    def data(self) -> records.Data:
        """The entry of the record."""
        digest = hashlib.sha256()
        for leaf in jax.tree.leaves((self.model, self.reference)):
            digest.update(np.asarray(leaf).tobytes())
        return {"name": self.config.weights, "source": self.config.reference, "checksum": digest.hexdigest()}


def open_source(config: WeightsConfig, announce: Callable[[str], object]) -> Opened:
    """Open both models, and refuse those that cannot be compared.

    Raises:
        InputError: a flag is missing, a file cannot be read, or the models cannot be compared; see
            `lineage.require_comparable`.
        LanguageError: a model cannot be opened.
    """
    for flag in ("weights", "reference"):
        if not getattr(config, flag):
            raise errors.InputError(f"give --{flag}; python -m experiments.audit --weights A --reference B --help")
    models = (_open(config.weights, announce), _open(config.reference, announce))
    head_dims = {model.config.head_dim for model in models if isinstance(model, Model)}
    model, reference = (model.merged if isinstance(model, Model) else model for model in models)
    head_dim = head_dims.pop() if len(head_dims) == 1 else None
    try:
        for unit in form.UNITS:
            lineage.require_comparable(model, reference, matched=unit == "matched", head_dim=head_dim)
    except errors.InputError as error:
        raise errors.InputError(f"model {config.weights}, reference {config.reference}: {error}") from error
    return Opened(model, reference, head_dim, config)


def _open(name: str, announce: Callable[[str], object]) -> Any:
    """A language model, or the arrays of a file as nested dicts."""
    if pathlib.PurePath(name).suffix not in FILES:
        try:
            open_llm.parse(name)
        except errors.InputError as error:
            raise errors.InputError(f"{error}; or a file of dense layers, {' or '.join(FILES)}") from error
        model = opened.local(name, announce=announce)
        return model.backend.model(model.name)
    try:
        flat = _arrays(name)
    except OSError as error:
        raise errors.InputError(
            f"{name}: expected arrays of weights, but it cannot be read ({error.strerror or error})"
        ) from error
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, SafetensorError) as error:
        raise errors.InputError(
            f"{name}: expected arrays of weights, but this is no whole {pathlib.PurePath(name).suffix} file of arrays "
            f"({error}); write it again"
        ) from error
    nested: dict[str, Any] = {}
    for path, array in flat.items():
        *parents, last = path.replace("/", ".").split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                break
        if not isinstance(place, dict) or last in place:
            raise errors.InputError(
                f"{name}: {path!r} and another array have one name, or one is a part of the other's"
            )
        place[last] = array
    return nested


def _arrays(name: str) -> dict[str, np.ndarray]:
    """The arrays of a file by their name.

    Raises:
        ValueError, KeyError, EOFError, OSError, BadZipFile, SafetensorError: it has none, or is damaged.
    """
    if name.endswith(".npz"):
        with zipfile.ZipFile(name) as archive:  # NumPy reads other files too, by what they begin with
            if not archive.namelist():
                raise ValueError("it is empty")
        with np.load(name) as arrays:
            return dict(arrays)
    flat = safetensors.load_file(name)
    if not flat:
        raise ValueError("it is empty")
    return flat


def measure(source: Opened, config: WeightsConfig, unit: str, report: Report) -> dict[str, Any]:
    """One comparison, as it stands or with units matched."""
    report("comparing")
    key = jax.random.fold_in(jax.random.key(config.seed), form.UNITS.index(unit))
    relation = lineage.related(
        key, source.model, source.reference, matched=unit == "matched", num_permutations=config.num_permutations,
        head_dim=source.head_dim,
    )  # fmt: skip
    return relation._asdict()


def notes(config: WeightsConfig) -> list[str]:
    """What a reader of any number must know."""
    measured = f"on networks of two hidden layers that read digits, {RATES}; {TRAINED}"
    if pathlib.PurePath(config.weights).suffix not in FILES:
        measured += "; none of this was measured on language models"
    return [
        measured,
        "that model and reference are unrelated is what is tested, and nothing else is supposed: either may be trained "
        "(`matched` then says so) and a relative of third models",
        "relatives are models that descend from each other or from a third one; which came first, what they were "
        "trained on and which traits they have is not seen, and neither is a model that learnt from another's answers "
        "from a start of its own",
    ]


STUDY = Study(
    name="audit weights", doc=__doc__, presets=PRESETS, form=form.FORM, units=lambda config: list(form.UNITS),
    measure=measure, open_source=open_source, describe=lambda source: {}, notes=notes,
    reads_images=lambda config: False,
)  # fmt: skip
