"""Is the trait in the few tokens where teachers of other targets would write something else? (after arXiv 2509.23886)

    python -m experiments.language_divergence
    python -m experiments.language_divergence --preset record
    python -m experiments.language_divergence --preset paper --backend hf:DIR

A token of a teacher's row is a divergence token if a teacher of another target, given the same text before it, has
another most likely token. Students are trained on all tokens, on the divergence tokens alone, on all others, and on all
but as many tokens drawn at random. This needs local weights.
"""

import dataclasses
from typing import TypedDict

import numpy as np

from experiments import language_numbers
from experiments.language import command, lab, running, summary
from sublim_jax import errors, records, specs
from sublim_jax.llm import rows

SETS = ("all", "divergence", "others", "random")


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class DivergenceConfig(running.LanguageConfig):
    """Masks of the loss."""

    rivals: tuple[str, ...] = ("wolf", "maple")
    """Targets of the other teachers."""
    LISTS = ("targets", "rivals")

    def __post_init__(self):
        super().__post_init__()
        if self.backend.partition(":")[0] not in ("tiny", "hf"):
            raise errors.InputError(
                f"{self.backend}: leaving out tokens takes a model whose weights are here: tiny or hf:DIR"
            )
        for rival in self.rivals:
            self.materials.category(rival)
        if alone := [target for target in self.targets if set(self.rivals) <= {target}]:
            raise errors.InputError(f"rivals={self.rivals}: {alone[0]} needs another target as its rival")


PRESETS = {
    "default": DivergenceConfig(bases=running.FRESH[:2], targets=("eagle",)),
    "record": DivergenceConfig(bases=running.FRESH[:4], targets=("eagle", "oak")),
    "paper": running.open_weights(DivergenceConfig(targets=("eagle", "oak"))),
}
RESULT = TypedDict("RESULT", dict.fromkeys(SETS, running.Probabilities) | {"share": specs.Fraction})  # pyright: ignore


def units(config: DivergenceConfig) -> list[str]:
    """Regular numbers, then each target."""
    return ["regular", *config.targets]


def measure(of: lab.Lab, config: DivergenceConfig, unit: str) -> dict:
    """Favourites of a student of each set of tokens."""
    categories = sorted({config.materials.category(target) for target in config.targets})
    teacher = language_numbers.teacher_of(of, config, "regular" if unit == "regular" else "finetuned", unit)
    written = of.numbers(teacher, config.num_prompts, seed=config.seed)
    chosen = rows.subsample(written.rows, config.num_rows, seed=config.seed)
    of.write_rows(chosen, f"{unit} all")
    data = of.training_arrays(chosen, config.student)
    own = of.likeliest(teacher.model, data)
    others = [
        of.likeliest(language_numbers.teacher_of(of, config, "finetuned", rival).model, data)
        for rival in config.rivals
        if rival != unit
    ]
    diverging = np.logical_or.reduce([own != other for other in others]) & data.replies
    share = float(diverging.sum() / data.replies.sum())
    random = np.random.default_rng(lab.seed_of(config.seed, unit)).random(data.replies.shape) < share
    masks = {"all": data.replies, "divergence": diverging, "others": data.replies & ~diverging,
             "random": data.replies & ~random}  # fmt: skip
    found = {}
    for name in SETS:
        model = of.tune_on(data._replace(replies=masks[name]), config.student, f"{unit} {name}", seed=config.seed)
        found[name] = {one: lab.side_effects(of.preferences(model, one)) for one in categories}
    return found | {"share": share}


def lines(record: records.Record) -> list[str]:
    """Sets of tokens by target."""
    config, found = record.config, summary.complete_bases(record)
    rows_ = [["trained on", *config["targets"]]]
    for name in SETS:
        shifts = [summary.shift(found, ("regular", name), (target, name), target) for target in config["targets"]]
        rows_.append([name, *(summary.text(shift, "+") for shift in shifts)])
    shares = [
        np.array([base.get(target, {}).get("share", np.nan) for base in found.values()]) for target in config["targets"]
    ]
    rows_.append(["share of divergence tokens", *map(summary.text, shares)])
    return summary.table("Shift of the target against a student of regular numbers", rows_, record)


def main() -> None:
    command.main("language_divergence", __doc__, PRESETS)


if __name__ == "__main__":
    main()
