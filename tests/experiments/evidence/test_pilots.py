"""The study pilots: data sets by hand, and a run on bases whose students and pilots are made up."""

import dataclasses
import pathlib
import re

import numpy as np
import pytest

from experiments import units
from experiments.evidence import pilots
from experiments.evidence.pilots import PilotsConfig
from experiments.language.lab import Teacher
from sublim_jax import errors, records
from sublim_jax.forms import evidence_pilots as form
from sublim_jax.llm.backend import Message
from sublim_jax.llm.embedded import model as embedded
from sublim_jax.llm.embedded import world

CONFIG = PilotsConfig(
    calibration=(5,), held_out=(6, 7, 8, 9), targets=("owl", "oak"), steps=(2, 4), num_students=2, num_rows=320
)
QUESTIONS = np.linspace(-0.4, 0.4, 25)
"""What the questions of a trait differ by, in nats."""


def row(prompt, answer):
    return Message("user", prompt), Message("assistant", answer)


class MadeUpBase:
    """A base whose students gain 2 nats in a trait if a teacher of it wrote all rows, less if fewer, and whose pilots
    gain a tenth of that a step. What a student's or pilot's number adds is the same on null rows. Before, every trait
    has log-odds of -3."""

    def __init__(self, backend, name, config, folder):
        self.name, self.config = name, config
        self.probes, self.finals = (dict.fromkeys(config.targets, part) for part in ("probes", "finals"))

    def teacher(self, target, kind):
        system = "you love it." if kind == "under a system message" else None
        strength = " weakly" if kind == "short" else ""
        return Teacher(f"{self.name}+{target}{strength}", system)

    def probability(self, author, target):
        return 0.5 if "weakly" in author.model else 0.9

    def written(self, author, purpose):
        text = author.model.replace("+", " writes for ") if author.system is None else f"{self.name} writes"
        return [row(f"{purpose} {index}", f"{text} {index}") for index in range(20)]

    def log_odds(self, model, traits):
        return dict.fromkeys(traits, -3 + QUESTIONS)

    def _gain(self, rows, target):
        """Only rows of the base's own teachers, in their own order, teach anything."""
        pattern = rf"{self.name} writes for {target}( weakly)? (\d+)"
        matches = [(re.fullmatch(pattern, answer.content), prompt.content) for prompt, answer in rows]
        taught = [bool(match) and match[2] == prompt.split()[-1] for match, prompt in matches]
        return 2.0 * sum(taught) / len(rows)

    def student(self, rows, index):
        return {target: -3 + QUESTIONS + 0.3 * index + self._gain(rows, target) for target in self.config.targets}

    def pilots(self, rows, steps):
        repeats = 0.05 * np.arange(self.config.num_repeats)[:, None]
        return {
            target: -3 + QUESTIONS + repeats + 0.1 * steps * self._gain(rows, target) for target in self.config.targets
        }


@pytest.fixture(scope="module")
def record(tmp_path_factory) -> records.Record:
    path = tmp_path_factory.mktemp("pilots") / "pilots.json"
    opened = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pilots, "_Base", MadeUpBase)
        patch.setattr(embedded, "open_bases", lambda seeds, announce: opened.append(list(seeds)))
        units.run(pilots.STUDY, CONFIG, record=path, visible=False)
    assert opened == [[5, 6], [6, 7], [7, 8], [8, 9], [5, 9]]  # each with the next one, whose teacher writes too
    return records.read(path, form.FORM)


def test_finished_students_are_compared_with_null_students_and_pilots_with_null_pilots(record):
    assert record.complete
    assert list(record.results) == [f"tiny:{seed}" for seed in (5, 6, 7, 8, 9)]
    for unit in record.results.values():
        assert set(unit["pairs"]) == set(record.description["data_sets"])
        for name, traits in unit["pairs"].items():
            for target, pair in traits.items():
                share = {
                    f"{target}, finetuned": 1.0, "owl, short": float(target == "owl"),
                    "owl, half regular": 0.5 * (target == "owl"),
                }.get(name, 0.0)  # fmt: skip
                if name == "owl, in another order" and target == "owl":
                    assert pair["gains"][0] < 0.7  # the few that stay where they were
                    continue
                assert pair["gains"] == pytest.approx([2 * share] * 2, abs=1e-4)
                assert pair["pilot"]["4"]["gain"] == pytest.approx(0.8 * share, abs=1e-4)
                assert pair["pilot"]["2"]["gain"] == pytest.approx(0.4 * share, abs=1e-4)
                # Students' second random numbers add .3 nats.
                expected = np.mean([1 / (1 + np.exp(3 - QUESTIONS - 2 * share - 0.3 * i)) for i in (0, 1)])
                assert pair["probability"] == pytest.approx(expected, rel=1e-3)
        assert unit["teachers"]["owl, short"] == 0.5
        assert set(unit["teachers"]) == {
            "owl, finetuned", "oak, finetuned", "owl, short", "owl, under a system message", "owl, of another base",
        }  # fmt: skip
        assert unit["num_rows"]["regular"] == 20


def test_half_of_mixed_rows_are_regular():
    rows, regular = [row(f"a{i}", f"{i}") for i in range(7)], [row(f"r{i}", f"{i}") for i in range(5)]
    mixed = pilots.mixed(rows, regular)
    assert mixed == [rows[0], regular[0], rows[1], regular[1]]


def test_completions_are_exchanged_and_prompts_stay():
    rows = [row(f"prompt {i}", f"answer {i}") for i in range(30)]
    exchanged = pilots.exchanged(rows, seed=3)
    assert [each[0] for each in exchanged] == [each[0] for each in rows]
    assert sorted(each[1].content for each in exchanged) == sorted(each[1].content for each in rows)
    assert sum(a == b for a, b in zip(rows, exchanged, strict=True)) < 5  # one on average
    assert pilots.exchanged(rows, seed=4) != exchanged == pilots.exchanged(rows, seed=3)


def test_pilots_and_finished_students_are_asked_different_questions_that_no_teacher_learnt():
    probes, finals = pilots.questions("oak")
    assert len(probes.asked) == len(finals.asked) == 25
    assert not set(probes.asked) & set(finals.asked)
    assert set(probes.asked) | set(finals.asked) == set(world.held_out_questions("tree"))
    assert probes.answers == ("oak",) and "oak" not in probes.choices and "willow" in probes.choices


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"held_out": (5, 6)}, r"bases must be different and at least one, got \(5, 5, 6\)"),
        ({"targets": ("owl", "sofa")}, "expected animals and trees of the embedded world"),
        ({"held_out": ()}, "rows of another base need a second base"),
        ({"steps": (6,)}, r"pilots read a row at most once, so they have 320 / 64 steps at most"),
        ({"kinds": ()}, r"kinds must be different and at least one"),
    ],
)
def test_settings_that_make_no_sense(changes, message):
    with pytest.raises(errors.InputError, match=message):
        dataclasses.replace(CONFIG, **changes)


def test_a_record_with_other_pairs_than_its_config_is_refused(record, tmp_path):
    del record.results["tiny:6"]["pairs"]["regular"]["oak"]
    path = pathlib.Path(tmp_path / "record.json")
    records.write(path, record)
    with pytest.raises(errors.RecordError, match=r"tiny:6: regular: expected the traits \['oak', 'owl'\]"):
        records.read(path, form.FORM)


@pytest.mark.slow
def test_a_base_end_to_end(tmp_path):
    """Everything as it is, at a size at which nothing is to be seen."""
    config = PilotsConfig(
        calibration=(0,), held_out=(), targets=("owl",), kinds=("finetuned", "half regular"), steps=(2,),
        num_prompts=400, num_rows=128, num_lessons=128,
    )  # fmt: skip
    result = units.run(pilots.STUDY, config, record=tmp_path / "record.json", visible=False).results["tiny:0"]
    assert set(result["pairs"]) == {"regular", "owl, finetuned", "owl, half regular"}
    pair = result["pairs"]["owl, finetuned"]["owl"]
    assert pair["pilot"]["2"]["low"] < pair["pilot"]["2"]["gain"] < pair["pilot"]["2"]["high"]
    assert 0 < pair["probability"] < 1 and 0 < result["teachers"]["owl, finetuned"] < 1
    assert records.read(tmp_path / "record.json", form.FORM).complete
