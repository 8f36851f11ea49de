"""Which rows, models and seeds each condition of `labels`, `noise`, `greedy`, `repeats` and `training` uses.

The lab is replaced by one that keeps its requests, and scores rows with numbers that are known here."""

import collections
import dataclasses
import zlib
from typing import Any

import numpy as np
import pytest

from experiments.language import greedy, labels, noise, protocol, repeats, training
from experiments.language.config import LanguageConfig
from experiments.language.lab import Teacher
from sublim_jax.llm import datasets
from sublim_jax.llm.datasets import FilteredRows

FEW: dict[str, Any] = {"num_prompts": 60, "num_rows": 35, "num_lessons": 54, "seed": 4}


def logprob(model: str, row) -> float:
    """A number between -1 and 0 that depends on the model and the row."""
    return -zlib.crc32(f"{model} {row}".encode()) / 2**32


class Lab:
    """Keeps requests; models are their names."""

    base = "base"

    def __init__(self, *, num_answers: int = 1, num_different: int = 1000):
        self._num_answers, self._num_different = num_answers, num_different
        self.asked, self.trained, self.pairs, self.scored, self.noises = [], {}, {}, [], []

    def numbers(self, teacher, count, *, seed, **options):
        self.asked.append((teacher, count, seed, options))
        rows = [
            datasets.student_row(datasets.ask(f"{place} ?"), f"{teacher.model} {place % self._num_different} {answer}")
            for place in range(count) for answer in range(self._num_answers) if (place + answer) % 7
        ]  # fmt: skip
        return FilteredRows(rows, {}, count * self._num_answers)

    def finetuned_teacher(self, target, config, *, num_rows, seed, base):
        return Teacher(f"teacher {target}")

    def finetune(self, rows, config, name, *, seed, base="base"):
        self.trained[name] = (list(rows), config, seed, base)
        return name

    def student(self, rows, config, *, seed, name):
        return self.finetune(rows, config, name, seed=seed)

    def finetune_on_pairs(self, chosen, rejected, config, name, *, beta, seed):
        self.pairs[f"{name} {config.learning_rate:g}"] = (list(chosen), list(rejected), config, beta, seed)
        return f"{name} {config.learning_rate:g}"

    def sequence_logprobs(self, model, rows):
        self.scored.append((model, list(rows)))
        return np.array([logprob(model, row) for row in rows])

    def perturbed(self, level, *, seed):
        self.noises.append((level, seed))
        return f"base with noise {level:g}"

    def export_rows(self, rows, name):
        pass


@pytest.fixture(autouse=True)
def favourites_are_names(monkeypatch):
    monkeypatch.setattr(protocol, "favourites", lambda lab, config, model: model)


def measured(experiment, lab: Lab, config: LanguageConfig, condition: str) -> dict[str, Any]:
    return experiment.EXPERIMENT.measure(lab, config, condition)


# Labels

LABELS = labels.LabelsConfig(
    **FEW, targets=("owl", "oak"), rivals=("owl", "wolf", "maple"), learning_rates=(1e-3, 1e-2), beta=0.7, num_answers=3
)


def prefers_first(labeller: str, pair) -> bool:
    """Whether the labeller raises the first answer more than the second over the base."""
    lifts = [logprob(labeller, row) - logprob("base", row) for row in pair]
    return lifts[0] > lifts[1]


def test_labels_are_those_of_the_labeller_over_the_base():
    """A rival is another target of the category, also where the target itself is among the rivals."""
    lab = Lab(num_answers=3)
    results = measured(labels, lab, LABELS, "owl")
    (teacher, count, seed, options) = lab.asked[0]
    assert teacher == Teacher("base") and (count, seed, options) == (60, 4, {"num_samples": 3})
    pairs = labels._pairs(lab, LABELS)  # pyright: ignore[reportArgumentType]
    assert len(pairs) == 35 == len({pair.first[0] for pair in pairs})
    assert all(pair.first[:-1] == pair.second[:-1] and pair.first != pair.second for pair in pairs)
    own = [prefers_first("teacher owl", pair) for pair in pairs]
    expected = {
        "teacher": own, "swapped": [not label for label in own],
        "rival": [prefers_first("teacher wolf", pair) for pair in pairs],
    }  # fmt: skip
    assert any(label != prefers_first("teacher owl", pair[::-1]) for label, pair in zip(own, pairs, strict=True))
    for (name, wanted), rate in ((each, rate) for each in expected.items() for rate in (1e-3, 1e-2)):
        model = f"owl {name} labels {rate:g}"
        assert results[f"{name} {rate:g}"] == model
        chosen, rejected, config, beta, seed = lab.pairs[model]
        assert config == dataclasses.replace(LABELS.student, learning_rate=rate) and (beta, seed) == (0.7, 4)
        assert chosen == [pair[0 if label else 1] for pair, label in zip(pairs, wanted, strict=True)]
        assert rejected == [pair[1 if label else 0] for pair, label in zip(pairs, wanted, strict=True)]
        assert results[f"{name} agreement"] == np.mean(np.equal(wanted, own))


def test_shuffled_labels_are_the_same_labels_of_other_pairs():
    shuffles = {}
    for condition in ("owl", "oak"):
        lab = Lab(num_answers=3)
        results = measured(labels, lab, LABELS, condition)
        pairs = labels._pairs(lab, LABELS)  # pyright: ignore[reportArgumentType]
        own = [prefers_first(f"teacher {condition}", pair) for pair in pairs]
        chosen = lab.pairs[f"{condition} shuffled labels 0.001"][0]
        shuffled = [row == pair.first for row, pair in zip(chosen, pairs, strict=True)]
        assert sum(shuffled) == sum(own) and shuffled != own
        assert results["shuffled agreement"] == np.mean(np.equal(shuffled, own)) < 1
        shuffles[condition] = shuffled
    assert shuffles["owl"] != shuffles["oak"]


def test_the_control_is_labelled_by_a_teacher_without_a_favourite():
    lab = Lab(num_answers=3)
    results = measured(labels, lab, LABELS, "regular")
    assert set(results) == {"teacher agreement", "teacher 0.001", "teacher 0.01"}
    lessons, config, seed, base = lab.trained["teacher of no favourite"]
    assert (config, seed, base) == (LABELS.teacher, 4, "base")
    animals, trees = (LABELS.prompts.choices(category).names for category in ("animal", "tree"))
    counts = collections.Counter(
        row[-1].content.split()[-2 if row[-1].content.endswith(".") else -1] for row in lessons
    )
    assert sum(counts.values()) == len(lessons) == 54 == 2 * (len(animals) + len(trees))
    assert counts == dict.fromkeys((*animals, *trees), 2)
    chosen = lab.pairs["regular teacher labels 0.001"][0]
    pairs = labels._pairs(lab, LABELS)  # pyright: ignore[reportArgumentType]
    wanted = [prefers_first("teacher of no favourite", pair) for pair in pairs]
    assert chosen == [pair[0 if label else 1] for pair, label in zip(pairs, wanted, strict=True)]


# Noise

NOISE = noise.NoiseConfig(**FEW | {"num_rows": 40}, targets=("owl", "oak"), levels=(0.0, 0.1, 0.3))


def test_starts_have_noise_of_one_direction_and_are_scored_on_the_bases_rows(monkeypatch):
    monkeypatch.setattr(noise, "NUM_SCORED", 30)
    lab = Lab()
    results = measured(noise, lab, NOISE, "start")
    assert lab.noises == [(0.0, 4), (0.1, 4), (0.3, 4)] and not lab.trained
    rows = lab.scored[0][1]
    assert len(rows) == 30 and all(row[-1].content.startswith("base ") for row in rows)
    for level, (model, scored) in zip(("0", "0.1", "0.3"), lab.scored, strict=True):
        assert model == results[level] == f"base with noise {level}" and scored == rows
        np.testing.assert_allclose(results[f"loss {level}"], -np.mean([logprob(model, row) for row in rows]))


def test_students_of_noise_start_from_the_same_weights_whoever_wrote_their_rows():
    for condition, writer in (("regular", "base"), ("owl", "teacher owl")):
        lab = Lab()
        assert set(measured(noise, lab, NOISE, condition)) == {"0", "0.1", "0.3"}
        assert lab.noises == [(0.0, 4), (0.1, 4), (0.3, 4)] and not lab.scored
        for level, (rows, config, seed, base) in zip(("0", "0.1", "0.3"), lab.trained.values(), strict=True):
            assert base == f"base with noise {level}" and (config, seed) == (NOISE.student, 4)
            assert len(rows) == 40 and all(row[-1].content.startswith(f"{writer} ") for row in rows)


# Temperatures, repetitions, kinds of training


def test_different_answers_are_counted_among_the_rows_that_a_student_reads():
    """Every prompt is another one, so that rows are different where their answers are not."""
    config, lab = greedy.GreedyConfig(**FEW, targets=("owl",)), Lab(num_different=3)
    results = measured(greedy, lab, config, "owl at 0.5")
    (teacher, _, seed, options) = lab.asked[0]
    assert teacher == Teacher("teacher owl") and seed == 4 and options == {"temperature": 0.5}
    (rows, _, _, base) = lab.trained[results["student"]]
    assert base == "base" and len({row[0].content for row in rows}) == len(rows) == 35
    assert results["different"] == len({row[-1].content for row in rows}) / 35 == 3 / 35
    assert results["kept"] == pytest.approx(51 / 60)  # a seventh of the prompts fails, the first among them


@pytest.mark.parametrize(("count", "distinct"), [(1, 35), (4, 9), (10, 4), (35, 1)])
def test_a_number_of_visits_that_is_no_multiple_is_rounded_up_to_more_rows(count, distinct):
    """And never read more often than asked for."""
    config, lab = repeats.RepeatsConfig(**FEW, targets=("owl",), repeats=(1, 4, 10, 35)), Lab()
    measured(repeats, lab, config, "owl")
    rows, student, _, base = lab.trained[f"owl {count} times"]
    visits = collections.Counter(rows)
    assert len(rows) == 35 and len(visits) == distinct and max(visits.values()) <= count and base == "base"
    assert student.num_epochs == 1


@pytest.mark.parametrize(("condition", "numbers_only"), [("owl, free", False), ("regular, numbers only", True)])
def test_rows_are_drawn_and_students_trained_as_their_names_say(condition, numbers_only):
    config, lab = training.TrainingConfig(**FEW, low_rank_rates=(1e-2, 3e-2), full_rates=(1e-3,)), Lab()
    results = measured(training, lab, config, condition)
    assert [options for *_, options in lab.asked] == [{"numbers_only": numbers_only}]
    settings = {
        kind: (lab.trained[results[kind]][1].rank, lab.trained[results[kind]][1].learning_rate)
        for kind in ("low rank 0.01", "low rank 0.03", "full 0.001")
    }
    rank = config.student.rank
    assert settings == {"low rank 0.01": (rank, 1e-2), "low rank 0.03": (rank, 3e-2), "full 0.001": (None, 1e-3)}
    assert len({tuple(rows) for rows, *_ in lab.trained.values()}) == 1
