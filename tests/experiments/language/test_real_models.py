"""What experiments do for real models alone: begun replies, several students of a teacher, yields, log-odds."""

import dataclasses
import json
import math

import numpy as np
import pytest

from experiments.language import numbers, protocol
from experiments.language.lab import Lab, Teacher
from experiments.language.prompts import WorldPrompts
from figures.language import gallery, tables, values
from sublim_jax import errors, records
from sublim_jax.llm.backend import Message
from sublim_jax.metrics import intervals
from tests.experiments.language import planted

BASE = "tiny:100"
REAL = dataclasses.replace(numbers.PRESETS["paper"], backend="hf:m", targets=("owl",), num_eval_samples=0)


class Recording(planted.Planted):
    """Keeps what it was asked, and scores beginnings by the length of the chat."""

    def __init__(self):
        super().__init__([BASE])
        self.asked, self.params = [], []

    def sample(self, model, chats, params):
        self.asked += chats
        self.params.append(params)
        return super().sample(model, chats, params)

    def beginning_logprobs(self, model, chats, texts):
        self.asked += chats
        return np.log(np.array([[0.5 / len(texts) + 0.1 * (text == "owl") for text in texts]] * len(chats)))


def test_settings_that_came_later_are_in_records_only_where_they_are_used():
    """Configs of older records stay equal, so that their runs can be resumed and their hashes are the same."""
    later = {"teacher_temperature", "numbers_only", "prefill", "num_students", "paired"}
    assert not later & set(records.to_json(REAL))
    changed = dataclasses.replace(
        REAL, teacher_temperature=0.5, numbers_only=True, prefill="The {category} is", num_students=2, paired=True
    )
    assert {name: records.to_json(changed)[name] for name in later} == {
        "teacher_temperature": 0.5, "numbers_only": True, "prefill": "The {category} is", "num_students": 2,
        "paired": True,
    }  # fmt: skip


@pytest.mark.parametrize(("temperature", "numbers_only"), [(0.5, False), (1.0, True)])
def test_teachers_write_as_the_settings_say(tmp_path, temperature, numbers_only):
    backend = Recording()
    lab = Lab(backend, BASE, WorldPrompts(), tmp_path, teacher_temperature=temperature, numbers_only=numbers_only)
    lab.numbers(Teacher(BASE), 3, seed=0)
    lab.answer_rate(BASE, "owl", num_samples=1, seed=0)
    rows, answers = backend.params
    assert (rows.temperature, rows.allowed) == (temperature, "0123456789, \n" if numbers_only else None)
    assert (answers.temperature, answers.allowed) == (1.0, None)


def test_the_yield_is_announced_after_the_first_completions(tmp_path, monkeypatch):
    lab, lines = Lab(planted.Planted([BASE], spoilt="owl"), BASE, WorldPrompts(), tmp_path), []
    lab.announce = lines.append
    lab.numbers(Teacher(BASE), 70, seed=0)
    assert lines == [f"{BASE}: 64 of the first 64 completions pass the filter (100%)"]
    lines.clear()
    with pytest.raises(errors.TextDataError):
        lab.numbers(lab.system_teacher("owl"), 5, seed=0)
    assert lines == [f"{BASE}: 0 of the first 5 completions pass the filter (0%); 5 'no number'"]


def test_a_prefill_begins_replies_and_answers_are_what_comes_next(tmp_path):
    backend = Recording()
    lab = Lab(backend, BASE, WorldPrompts(), tmp_path, prefill="top {category} :")
    scored = lab.preferences(BASE, "animal")
    assert all(chat[-1] == Message("assistant", "top animal :") for chat in backend.asked) and backend.asked
    assert scored.of("owl").raw == pytest.approx(0.5 / len(scored.names) + 0.1)  # written in one way there
    backend.asked.clear()
    lab.answer_rate(BASE, "oak", num_samples=2, seed=0)
    assert {chat[-1] for chat in backend.asked} == {Message("assistant", "top tree :")}
    assert all(chat[-1].role == "user" for chat in lab.sample(Teacher(BASE), ["1"], max_tokens=1, seed=0)[0])
    without = Lab(planted.Planted([BASE]), BASE, WorldPrompts(), tmp_path, prefill="top")
    with pytest.raises(errors.CapabilityError, match="leave out --prefill"):
        without.preferences(BASE, "animal")


def test_students_of_a_teacher_differ_in_rows_and_seeds(tmp_path):
    config = dataclasses.replace(REAL, num_prompts=40, num_rows=10, num_students=3)
    lab = Lab(planted.Planted([BASE]), BASE, WorldPrompts(), tmp_path)
    trained = []
    finetune = lab.finetune
    lab.finetune = lambda data, tuning, name, **options: (
        trained.append((tuple(data), options["seed"])) or finetune(data, tuning, name, **options)
    )
    teacher = lab.system_teacher("owl")
    filtered = lab.numbers(teacher, 40, seed=0)
    measured = protocol.measure_student(lab, config, "system owl", teacher, filtered, lambda model: {"model": model})
    names = [measured["student"]["model"], *(each["model"] for each in measured["more_students"])]
    assert len(set(names)) == len({rows for rows, _ in trained}) == len({seed for _, seed in trained}) == 3
    alone = dataclasses.replace(config, num_students=1)
    first = protocol.measure_student(lab, alone, "system owl", teacher, filtered, lambda model: {"model": model})
    assert first["student"]["model"] == names[0] and "more_students" not in first
    with pytest.raises(errors.InputError, match="take more of them"):
        dataclasses.replace(numbers.PRESETS["default"], num_students=2)
    with pytest.raises(errors.InputError, match="numbers_only has no effect"):
        from experiments.language import code

        dataclasses.replace(code.PRESETS["default"], numbers_only=True)


@pytest.mark.parametrize("paired", [True, False])
def test_paired_teachers_draw_with_the_same_numbers_and_students_share_start_and_order(tmp_path, paired):
    """Seeds of draws and trainings by condition: of two students each, in a lab of three teachers."""
    config = dataclasses.replace(REAL, num_prompts=20, num_rows=5, num_students=2, num_values=6, paired=paired)
    backend = Recording()
    lab, trained = Lab(backend, BASE, WorldPrompts(), tmp_path, **config.drawing), {}
    finetune = backend.finetune

    def recorded(model, rows, config, out):
        trained[out.name.rpartition("-")[0], len(trained)] = config.seed
        return finetune(model, rows, config, out)

    backend.finetune = recorded
    teachers = [
        Teacher(BASE),
        lab.system_teacher("owl"),
        lab.finetuned_teacher("oak", config.teacher, num_rows=9, seed=0),
    ]
    for name, teacher in zip(("regular", "owl", "oak"), teachers, strict=True):
        filtered = lab.numbers(teacher, 20, seed=0)
        protocol.measure_student(lab, config, name, teacher, filtered, lambda model: {})
    draws = {params.seed for params in backend.params}
    students = {name: [seed for (label, _), seed in trained.items() if label == f"student-of-{name}"]
                for name in ("regular", "owl", "oak")}  # fmt: skip
    assert all(len(set(own)) == 2 for own in students.values())
    assert len(draws) == (1 if paired else 3)
    assert len(set(map(tuple, students.values()))) == (1 if paired else 3)
    assert len(backend.strength) == 1 + 1 + 6  # the base, a teacher, and six students in folders of their own
    assert {(params.max_tokens, params.num_values) for params in backend.params} == {(30, 6)}


def test_own_minus_other_leaves_out_what_every_teacher_does(tmp_path):
    """Two students of three teachers by hand; owl and wolf are animals, oak is a tree."""
    config = dataclasses.replace(REAL, num_students=2, targets=("owl", "wolf", "oak"))
    record = records.Record.begin("language_numbers", config, {"name": "hf:m", "source": "", "checksum": None})
    animals = {"regular": (0.1, 0.1, 0.1), "owl": (0.3, 0.2, 0.1), "wolf": (0.2, 0.15, 0.1), "oak": (0.05, 0.05, 0.4)}
    later = {"regular": (0.1, 0.1, 0.1), "owl": (0.25, 0.2, 0.1), "wolf": (0.1, 0.3, 0.1), "oak": (0.1, 0.05, 0.3)}

    def scored(levels):
        owl, wolf, oak = levels
        return {"animal": {"owl": owl, "wolf": wolf}, "tree": {"oak": oak}}

    conditions = {name if name == "regular" else f"system {name}": name for name in animals}
    record.results["bases"] = {"hf:m": {"base": {"student": scored((0.1, 0.1, 0.1))}} | {
        place: {"student": scored(animals[name]), "more_students": [scored(later[name])]}
        for place, name in conditions.items()
    }}  # fmt: skip
    bases = values.complete_bases(record)
    students = {name: (f"system {name}", "student") for name in ("owl", "wolf", "oak")}
    expected = [
        odds(each["owl"][0], 1 - each["owl"][0])
        - (odds(each["wolf"][0], 1 - each["wolf"][0]) + odds(each["oak"][0], 1 - each["oak"][0])) / 2
        for each in (animals, later)
    ]
    assert values.own_minus_other(bases, students, "owl") == pytest.approx(expected, rel=1e-12)
    header, row = (line.split("  ") for line in tables.numbers(record)[1:3])
    header, row = ([cell.strip() for cell in line if cell.strip()] for line in (header, row))
    assert row[header.index("log-odds, own - other")] == " ".join(f"{value:+.3f}" for value in expected)
    alone = {"owl": students["owl"]}
    assert np.isnan(values.own_minus_other(bases, alone, "owl")).all()


def record_of(*students: tuple[float, float], rates: bool = False) -> records.Record:
    """A real model with .07 of option mass, as the base of the study. A pair is owl's probability and the mass."""
    config = dataclasses.replace(REAL, num_students=len(students), num_eval_samples=4 if rates else 0)
    record = records.Record.begin("language_numbers", config, {"name": "hf:m", "source": "", "checksum": None})

    def favourites(owl, mass):
        sampled = {"sampled": {"owl": {"rate": 0.25, "num_samples": 100}}} if rates else {}
        return {"animal": {"owl": owl, "wolf": mass - owl}} | sampled

    def measured(*pairs):
        first, *others = (favourites(*pair) for pair in pairs)
        return {"student": first} | ({"more_students": others} if others else {})

    record.results["bases"] = {
        "hf:m": {
            "base": measured((0.004, 0.07)),
            "regular": measured(*[(0.005, 0.08)] * len(students)),
            "system owl": measured(*students),
        }
    }
    return record


def odds(probability: float, rest: float) -> float:
    return math.log(probability / rest)


def test_tables_of_a_real_model_show_log_odds_and_mass():
    title, header, line, mean, *notes = tables.table(record_of((0.02, 0.1)))
    assert title.endswith("; one model, one student of each teacher") and "base(s)" not in title
    assert notes[0].startswith("So few students") and "--num-students" in notes[0]
    expected = odds(0.02, 0.98) - odds(0.005, 0.995), odds(0.02, 0.08) - odds(0.005, 0.075)
    cells = [cell.strip() for cell in line.split("  ") if cell.strip()]
    shifts = [f"{shift:+.3f}" for shift in expected]
    assert cells == ["system, owl", "0.004", "0.005", "0.020", "mass < 0.9", *shifts, "0.080", "0.100"]
    assert all(shift in mean for shift in shifts)
    assert "log-odds, student - regular" in header
    (summary,) = tables.summary_lines(record_of((0.02, 0.1), rates=True), "hf:m")
    assert f"log-odds, student - regular {shifts[0]}, mass 0.080 and 0.100; sampled 0.250 [" in summary


def test_several_students_are_the_n_of_a_real_model(tmp_path):
    students = [(0.02, 0.1), (0.03, 0.1), (0.025, 0.09), (0.04, 0.12)]
    record = record_of(*students)
    bases = values.complete_bases(record)
    assert list(bases) == ["hf:m", "hf:m, student 2", "hf:m, student 3", "hf:m, student 4"]
    shifts = values.log_odds_shift(bases, values.REGULAR, ("system owl", "student"), "owl")
    expected = [odds(owl, 1 - owl) - odds(0.005, 0.995) for owl, _ in students]
    np.testing.assert_allclose(shifts, expected, rtol=1e-12)
    title, _, line, *_ = tables.table(record)
    assert title.endswith("one model, n = 4 students of each teacher")
    assert f"{intervals.t_interval(expected):+.3f}" in line
    records.write(tmp_path / "record.json", record)
    assert gallery.save(tmp_path / "record.json", tmp_path / "figure")


def test_a_shift_of_log_odds_without_log_odds_is_failed():
    record = record_of((0.0, 0.1))
    bases = values.complete_bases(record)
    assert np.isnan(values.log_odds(bases, ("system owl", "student"), "owl")).all()
    assert "failed" in tables.table(record)[2]


def test_records_of_one_student_are_read_as_before():
    record = record_of((0.02, 0.1))
    assert "num_students" not in record.config
    old = json.loads(json.dumps(record.results["bases"]))
    assert dict(values.complete_bases(record)) == old
