"""Is a model recognized as a relative of its reference, however it was disguised, and is no other?

    python -m experiments.evidence lineage
    python -m experiments.evidence lineage --preset record
    python -m experiments.evidence lineage --preset smoke      reduced

References of the paper's network are drawn from seeds on which nothing was tuned, and teachers of several lengths and
rates are trained from each. Every teacher, disguised in every way, is tested against all references: its own and those
of others, which give the distribution of the test where there is nothing to be seen. `direct` compares entries as they
stand, `matched` matches hidden units first. Two trained models of one reference are tested too, without it. Then
weights are hidden, and noise images are asked: for each number of queries the statistics of `audit.outputs` with all
references, which are untrained and known, while the model is not.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key, UInt8

from experiments.evidence import disguises
from experiments.study import Report, Source, Study
from sublim_jax import errors, keys, losses, records, specs
from sublim_jax.audit import lineage, outputs
from sublim_jax.data import datasets
from sublim_jax.forms import evidence_lineage as form
from sublim_jax.models import mlp

BATCH_SIZE = 128
UNRELATED = 500
"""An unrelated ancestor, for models that are mixed or whose layers are replaced, has this many added to the seed."""


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class LineageConfig:
    """Settings of `lineage`."""

    first_seed: specs.Seed = 2000
    """Seed of the first reference; the others follow. Nothing was tuned on 2000 and above."""
    num_references: specs.Count = 8
    num_models: specs.Count = 8
    """References whose teachers are tested, the first ones; each is a unit."""
    hidden_sizes: tuple[specs.Count, ...] = (256, 256)
    num_steps: specs.Count = 400
    """Steps of a teacher, of 128 images; the short one has an eighth, the long ones nearly four times as many."""
    num_permutations: specs.Count = 999
    num_queries: tuple[specs.Count, ...] = (4, 16, 64, 256, 1024)

    def __post_init__(self):
        if self.num_models > self.num_references:
            raise errors.InputError(
                f"num_models={self.num_models} of num_references={self.num_references}: the models are the references' "
                f"own, so there can be no more of them"
            )
        if self.num_references < outputs.FEWEST_UNRELATED + 1:
            raise errors.InputError(
                f"num_references={self.num_references}: answers are ranked among {outputs.FEWEST_UNRELATED} unrelated "
                f"references, so give {outputs.FEWEST_UNRELATED + 1} at least"
            )

    @property
    def model(self) -> mlp.MLPSpec:
        """The paper's network, but for the sizes."""
        return mlp.MLPSpec(hidden_sizes=self.hidden_sizes)


PRESETS = {
    "default": LineageConfig(),
    "record": LineageConfig(),
    "smoke": LineageConfig(
        num_models=2, hidden_sizes=(32, 32), num_steps=40, num_permutations=99, num_queries=(4, 64)
    ),
}  # fmt: skip

SHORT, USUAL, LONG, FAST = "50 steps", "400 steps", "1,500 steps", "1,500 steps, rate 5e-3"
"""Teachers, by their length in the record's preset. The rate is 1e-3 unless it is said."""


def units(config: LineageConfig) -> list[str]:
    """The references whose models are tested."""
    return form.units(records.to_json(config))


def _pixels(images: UInt8[np.ndarray, "image height width"]) -> UInt8[Array, "image pixel"]:
    return jnp.asarray(images.reshape(len(images), -1))


@functools.partial(jax.jit, static_argnames=("model", "num_frozen"))
def _trained(
    key: Key[Array, ""], start: mlp.Params, images: UInt8[Array, "image pixel"], labels: Int[Array, "image"], *,
    model: mlp.MLPSpec, rate: Float[Array, ""], num_steps: Int[Array, ""], num_frozen: int = 0,
) -> mlp.Params:  # fmt: skip
    """A teacher after some steps of Adam; the first layers may stay as they are. Lengths are data: one program serves
    all of them."""
    optimizer = optax.scale_by_adam()

    def loss(params, index):
        shown = datasets.scale_pixels(jnp.take(images, index, axis=0))
        logits = model.apply((*start[:num_frozen], *params[num_frozen:]), shown)[:, : model.num_classes]
        return losses.cross_entropy(logits, jnp.take(labels, index))

    def step(number, carried):
        params, state = carried
        index = jax.random.randint(jax.random.fold_in(key, number), (BATCH_SIZE,), 0, len(images))
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(jax.grad(loss)(params, index), state, params)
        return jax.tree.map(lambda a, b: a - rate * b, params, updates), state

    return jax.lax.fori_loop(0, num_steps, step, (start, optimizer.init(start)))[0]


class _Family:
    """References and the models trained from them, each once for the whole run."""

    def __init__(self, source: Source, config: LineageConfig):
        assert source.images is not None
        self.config, self._images = config, source.images
        self._pixels = _pixels(source.images.train_images)
        self._labels = jnp.asarray(source.images.train_labels.astype(np.int32))
        self._models: dict[tuple[int, str], mlp.Params] = {}

    def key(self, index: int, role: str) -> Key[Array, ""]:
        """Key of a reference for some purpose."""
        return keys.stream(jax.random.key(self.config.first_seed + index), f"lineage/{role}")

    def reference(self, index: int) -> mlp.Params:
        """A reference, as it was drawn."""
        return self.config.model.init(self.key(index, "reference"))

    def teacher(self, index: int, name: str) -> mlp.Params:
        """A teacher of a reference, trained at its first use."""
        if (index, name) not in self._models:
            steps, rate = {
                SHORT: (self.config.num_steps // 8, 1e-3),
                USUAL: (self.config.num_steps, 1e-3),
                LONG: (self.config.num_steps * 15 // 4, 1e-3),
                FAST: (self.config.num_steps * 15 // 4, 5e-3),
            }[name]
            self._models[index, name] = self.train(self.key(index, name), self.reference(index), steps, rate)
        return self._models[index, name]

    def train(
        self, key: Key[Array, ""], start: mlp.Params, num_steps: int, rate: float = 1e-3, *, num_frozen: int = 0,
        shuffled: bool = False,
    ) -> mlp.Params:  # fmt: skip
        """A model after training on the digits, or on the digits with their pixels in another order."""
        images = self._pixels
        if shuffled:
            images = images[:, jax.random.permutation(jax.random.key(0), images.shape[1])]
        return _trained(
            key, start, images, self._labels, model=self.config.model, rate=jnp.float32(rate),
            num_steps=jnp.int32(num_steps), num_frozen=num_frozen,
        )  # fmt: skip

    def accuracy(self, params: mlp.Params) -> float:
        """On the first 2,000 test images."""
        images, labels = self._images.test_images[:2000], self._images.test_labels[:2000]
        logits = self.config.model.apply(params, datasets.scale_pixels(_pixels(images)))
        return float(np.mean(np.argmax(np.asarray(logits)[:, : self.config.model.num_classes], axis=1) == labels))


_families: dict[str, _Family] = {}


def _family(source: Source, config: LineageConfig) -> _Family:
    """The one family of a run, so that its units share what is trained."""
    name = records.fingerprint([config, source.data])
    if name not in _families:
        _families.clear()
        _families[name] = _Family(source, config)
    return _families[name]


Disguise = Callable[[Key[Array, ""], mlp.Params], mlp.Params]


def _then(*steps: Disguise) -> Disguise:
    """Disguises one after the other."""

    def all_steps(key, params):
        for index, step in enumerate(steps):
            params = step(jax.random.fold_in(key, index), params)
        return params

    return all_steps


def _pruned(share: float) -> Disguise:
    return lambda key, params: disguises.pruned(params, share)


def _quantized(bits: int) -> Disguise:
    return lambda key, params: disguises.quantized(params, bits)


def _noisy(size: float) -> Disguise:
    return lambda key, params: disguises.noisy(key, params, size)


def _plain(key, params):
    return params


_permuted: Disguise = disguises.permuted
_rescaled: Disguise = disguises.rescaled

DISGUISES: dict[str, tuple[str, Disguise]] = {
    SHORT: (SHORT, _plain),
    USUAL: (USUAL, _plain),
    LONG: (LONG, _plain),
    FAST: (FAST, _plain),
    "pruned 50 %": (USUAL, _pruned(0.5)),
    "pruned 90 %": (USUAL, _pruned(0.9)),
    "pruned 99 %": (USUAL, _pruned(0.99)),
    "4 bits": (USUAL, _quantized(4)),
    "2 bits": (USUAL, _quantized(2)),
    "1 bit": (USUAL, _quantized(1)),
    "noise of 1 sd": (USUAL, _noisy(1.0)),
    "noise of 5 sd": (USUAL, _noisy(5.0)),
    "noise of 20 sd": (USUAL, _noisy(20.0)),
    "permuted": (USUAL, _permuted),
    "permuted, 1,500 steps": (LONG, _permuted),
    "permuted, 1,500 steps, rate 5e-3": (FAST, _permuted),
    "permuted, rescaled": (USUAL, _then(_permuted, _rescaled)),
    "permuted, pruned 90 %": (USUAL, _then(_permuted, _pruned(0.9))),
    "permuted, pruned 99 %": (USUAL, _then(_permuted, _pruned(0.99))),
    "permuted, 2 bits": (USUAL, _then(_permuted, _quantized(2))),
    "permuted, noise of 1 sd": (USUAL, _then(_permuted, _noisy(1.0))),
    "permuted, noise of 3 sd": (USUAL, _then(_permuted, _noisy(3.0))),
    "permuted, noise of 5 sd": (USUAL, _then(_permuted, _noisy(5.0))),
    "permuted, rescaled, pruned 90 %, 2 bits": (USUAL, _then(_permuted, _rescaled, _pruned(0.9), _quantized(2))),
}
"""By name: a teacher, and what is done to it."""
MIXED, FINETUNED, RETRAINED = (
    "permuted, averaged with an unrelated teacher",
    "permuted, finetuned on shuffled pixels",
    "permuted, later layers replaced and retrained",
)
PAIRS = {"1,500 steps and 400 steps": (LONG, USUAL), "1,500 steps at 5e-3 and at 1e-3": (FAST, LONG)}
"""Two trained models without their ancestor: which teacher is tested against which teacher of every reference."""


def _disguised(family: _Family, index: int) -> dict[str, mlp.Params]:
    """All models of a reference by disguise."""
    usual = family.teacher(index, USUAL)
    models = {
        name: disguise(family.key(index, name), family.teacher(index, teacher))
        for name, (teacher, disguise) in DISGUISES.items()
    }
    unrelated = family.teacher(index + UNRELATED, USUAL)
    steps = family.config.num_steps
    mixed = {
        MIXED: disguises.averaged(usual, unrelated),
        FINETUNED: family.train(family.key(index, FINETUNED), usual, steps, shuffled=True),
        RETRAINED: family.train(
            family.key(index, RETRAINED),
            disguises.with_fresh_layers(usual, family.reference(index + UNRELATED)),
            steps,
            num_frozen=1,
        ),
    }
    return models | {
        name: disguises.permuted(family.key(index, f"{name}/order"), model) for name, model in mixed.items()
    }


def _tests(
    key: Key[Array, ""], model: mlp.Params, candidates: list[mlp.Params], method: form.Method, num_permutations: int
) -> form.Tested:
    """A model against each of the candidates."""
    relations = [
        lineage.related(
            jax.random.fold_in(key, index), model, candidate, matched=method == "matched",
            num_permutations=num_permutations,
        )
        for index, candidate in enumerate(candidates)
    ]  # fmt: skip
    return {
        "z": [relation.z for relation in relations],
        "p_value": [relation.p_value for relation in relations],
        "correlation": [relation.correlations[relation.tensor] for relation in relations],
        "is_exact": [relation.is_exact for relation in relations],
    }


@functools.partial(jax.jit, static_argnames="model")
def _answers(params: mlp.Params, queries: Float[Array, "query pixel"], model: mlp.MLPSpec):
    return model.apply_with_features(params, queries)


def _outputs(family: _Family, index: int) -> dict[str, dict[str, dict[form.Statistic, list[float]]]]:
    """Statistics of the answers of a reference's models with all references, by case and number of queries."""
    config, spec = family.config, family.config.model
    usual = family.teacher(index, USUAL)
    aux = slice(spec.num_classes, None)
    readouts = family.key(index, "readouts")
    models = {
        USUAL: usual,
        LONG: family.teacher(index, LONG),
        FAST: family.teacher(index, FAST),
        "output noise of 3 sd": usual,
        "13 fresh readouts": disguises.with_readouts(jax.random.fold_in(readouts, 13), usual, 13),
        "40 fresh readouts": disguises.with_readouts(jax.random.fold_in(readouts, 40), usual, 40),
    }
    values: dict[str, dict[str, dict[form.Statistic, list[float]]]] = {name: {} for name in models}
    for count in config.num_queries:
        shape = (count, spec.in_size)
        queries = jax.random.uniform(family.key(index, f"queries/{count}"), shape, minval=-1)
        known = [_answers(family.reference(other), queries, spec) for other in range(config.num_references)]
        logits = [np.asarray(answer[0]) for answer in known]
        features = [np.asarray(answer[1]).T for answer in known]
        for name, params in models.items():
            shown = np.asarray(_answers(params, queries, spec)[0])
            is_fresh = name.endswith("readouts")
            seen = [answer if is_fresh else answer[:, aux] for answer in logits]
            if not is_fresh:
                shown = shown[:, aux]
            if name.startswith("output noise"):
                noise = np.asarray(jax.random.normal(family.key(index, f"noise/{count}"), shown.shape))
                shown = shown + 3 * np.std(shown) * noise
            statistics: dict[form.Statistic, list[float]] = {}
            if shown.shape == seen[0].shape:
                statistics["correlation"] = [outputs.correlation(shown, answer) for answer in seen]
                labels = np.argmax(shown, axis=1)
                statistics["labels"] = [outputs.label_correlation(labels, answer) for answer in seen]
            statistics["ridge"] = [outputs.ridge_score(layer, shown) for layer in features]
            values[name][str(count)] = statistics
    return values


def measure(source: Source, config: LineageConfig, unit: str, report: Report) -> dict:
    """All tests of one reference's models."""
    family, index = _family(source, config), form.own(unit)
    report("training")
    references = [family.reference(other) for other in range(config.num_references)]
    results: dict = {
        "accuracy": {name: family.accuracy(family.teacher(index, name)) for name in (SHORT, USUAL, LONG, FAST)},
        "weights": {},
        "pairs": {},
    }
    for name, model in _disguised(family, index).items():
        report(name)
        key = family.key(index, f"{name}/test")
        results["weights"][name] = {
            method: _tests(key, model, references, method, config.num_permutations) for method in form.METHODS
        }
    for name, (first, second) in PAIRS.items():
        report(name)
        model, key = family.teacher(index, first), family.key(index, f"{name}/test")
        candidates = [family.teacher(other, second) for other in range(config.num_references)]
        order = family.key(index, f"{name}/order")
        results["pairs"][name] = {
            "direct": _tests(key, model, candidates, "direct", config.num_permutations),
            "matched": _tests(key, disguises.permuted(order, model), candidates, "matched", config.num_permutations),
        }
    report("answers")
    results["outputs"] = _outputs(family, index)
    return results


STUDY = Study(name="lineage", doc=__doc__, presets=PRESETS, form=form.FORM, units=units, measure=measure)
