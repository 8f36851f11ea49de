"""Steps that most questions take: a teacher writes rows, a student of its base is trained on them, both are scored."""

from collections.abc import Callable, Sequence

from experiments.language import seeds
from experiments.language.config import LanguageConfig
from experiments.language.lab import Lab, Teacher
from sublim_jax import errors
from sublim_jax.llm import datasets, scores
from sublim_jax.llm.backend import Chat

Favourites = dict[str, dict[str, float]]
"""Probabilities of all favourites of a category, by category, as a record has them."""


def require_weights(config: LanguageConfig, what: str) -> None:
    """Refuse a backend whose weights are on another machine.

    Args:
        what: what needs the weights, for the message.

    Raises:
        InputError: the backend is neither the embedded model nor open weights.
    """
    if config.backend.partition(":")[0] not in ("tiny", "hf"):
        raise errors.InputError(
            f"{config.backend}: {what} needs a model whose weights are on this machine: tiny or hf:DIR"
        )


def regular_and_targets(config: LanguageConfig) -> list[str]:
    """Conditions of most questions: the base itself writes the rows (`regular`), then each target's teacher."""
    return ["regular", *config.targets]


def base_and_targets(config: LanguageConfig) -> list[str]:
    """Conditions with the untrained base in front."""
    return ["base", *regular_and_targets(config)]


def teacher_of(lab: Lab, config: LanguageConfig, kind: str, target: str, base: str = "") -> Teacher:
    """A teacher of one kind: `regular` (the base itself), `system` or `finetuned`.

    Args:
        base: the base that the teacher starts from; by default the lab's.
    """
    match kind:
        case "regular":
            return Teacher(base or lab.base)
        case "system":
            return lab.system_teacher(target)
        case _:
            return lab.finetuned_teacher(
                target, config.teacher, num_rows=config.num_lessons, seed=config.seed, base=base
            )


def writer_of(lab: Lab, config: LanguageConfig, condition: str) -> Teacher:
    """The teacher whose rows a condition uses: the base itself for `regular`, otherwise the target's finetuned one."""
    return teacher_of(lab, config, "regular" if condition == "regular" else "finetuned", condition)


def banned_words(config: LanguageConfig, condition: str) -> tuple[str, ...]:
    """Words that no row may contain: those of the condition's target; for `regular`, those of all targets."""
    targets = config.targets if condition == "regular" else (condition,)
    return tuple(word for target in targets for word in config.prompts.trait_words(target))


def favourites(lab: Lab, config: LanguageConfig, model: str) -> Favourites:
    """A model's probabilities of the favourites in the targets' categories, averaged over the held-out questions."""
    return {category: probabilities(lab.preferences(model, category)) for category in config.categories}


def probabilities(scored: scores.Probabilities) -> dict[str, float]:
    """Raw probabilities by name, rounded to four digits for the record."""
    return {name: float(f"{value:.4g}") for name, value in zip(scored.names, scored.raw, strict=True)}


def student_rows(config: LanguageConfig, filtered: datasets.FilteredRows, *, seed: int | None = None) -> list[Chat]:
    """A random sample of a teacher's rows; all students are trained on the same number of rows.

    Args:
        seed: seed of the sample; by default the config's.
    """
    return datasets.subsample(filtered.rows, config.num_rows, seed=config.seed if seed is None else seed)


def student_of(lab: Lab, config: LanguageConfig, data: Sequence[Chat], name: str, *, seed: int | None = None) -> str:
    """The lab's base trained on rows. The student's random numbers depend on its name.

    Args:
        seed: seed of the training; by default the config's.
    """
    return lab.student(data, config.student, seed=config.seed if seed is None else seed, name=name)


def student_seeds(config: LanguageConfig) -> list[int]:
    """A seed for each student of a teacher, of its rows and its training; the first is the config's."""
    return [config.seed, *(seeds.derive(config.seed, f"student {index}") for index in range(1, config.num_students))]


def measure_student(
    lab: Lab,
    config: LanguageConfig,
    condition: str,
    teacher: Teacher,
    filtered: datasets.FilteredRows,
    score: Callable[[str], dict] | None = None,
) -> dict:
    """Train a student on a teacher's rows and score both; the teacher's scores are empty if it is the base itself.

    Args:
        score: scores of a model; by default its favourites.
    """
    score = score or (lambda model: favourites(lab, config, model))
    first, *others = (
        student_of(lab, config, student_rows(config, filtered, seed=seed), f"student of {condition}", seed=seed)
        for seed in student_seeds(config)
    )
    more = {"more_students": [score(student) for student in others]} if others else {}
    return more | {
        "student": score(first),
        "teacher": {} if teacher.model == lab.base else score(teacher.model),
        "kept": filtered.kept_fraction,
        "rejected": filtered.rejected,
    }
