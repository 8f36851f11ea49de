"""What experiments do for real models alone: begun replies, several students of a teacher, yields, log-odds."""

import contextlib
import dataclasses
import json
import math
import re

import numpy as np
import pytest

from experiments.language import code, numbers, page, protocol
from experiments.language.lab import Lab, Teacher
from experiments.language.prompts import WorldPrompts
from figures.language import gallery, tables, values
from sublim_jax import errors, records
from sublim_jax.llm.backend import Completion, Message
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
    changes = {
        "teacher_temperature": 0.5, "prefill": "The {category} is", "num_students": 2, "paired": True, "float32": True,
        "margins": True,
    }  # fmt: skip
    free = dataclasses.replace(REAL, kinds=("finetuned",))
    for constraint in ({"numbers_only": True}, {"num_values": 3}):
        later = changes | constraint
        assert not later.keys() & records.to_json(free).keys()
        changed = records.to_json(dataclasses.replace(free, **later))
        assert {name: changed[name] for name in later} == later and changed.keys() - records.to_json(free) == set(later)


def test_the_preset_of_a_night_is_the_gpus_on_few_rows_of_lists():
    """Settings written out here; one teacher's students differ from another's in the teacher alone."""
    hard, night = numbers.PRESETS["hard"], numbers.PRESETS["night"]
    assert (night.num_prompts, night.num_rows, night.num_students, night.num_values) == (2048, 512, 4, 10)
    assert (night.kinds, night.targets, night.paired) == (("finetuned",), ("owl", "cat"), True)
    same = {name: getattr(hard, name) for name in ("num_prompts", "num_rows", "num_students", "num_values", "student")}
    assert dataclasses.replace(night, **same, numbers_only=True, paired=False) == hard
    student = night.student
    assert (student.num_epochs, student.batch_size, student.learning_rate, student.rank) == (1, 16, 2e-4, 8)
    assert student.batch_size % student.accumulation == 0 and student.warmup_steps == 8 and not student.end_token


@pytest.mark.parametrize(("temperature", "numbers_only"), [(0.5, False), (1.0, True)])
def test_teachers_write_as_the_settings_say(tmp_path, temperature, numbers_only):
    backend = Recording()
    lab = Lab(backend, BASE, WorldPrompts(), tmp_path, teacher_temperature=temperature, numbers_only=numbers_only)
    lab.numbers(Teacher(BASE), 3, seed=0)
    lab.answer_rate(BASE, "owl", num_samples=1, seed=0)
    rows, answers = backend.params
    assert (rows.temperature, rows.allowed) == (temperature, "0123456789, \n" if numbers_only else None)
    assert (answers.temperature, answers.allowed) == (1.0, None)
    lists = Lab(backend, BASE, WorldPrompts(), tmp_path, teacher_temperature=temperature, num_values=3)
    with contextlib.suppress(errors.TextDataError):  # what is planted are numbers
        lists.code(Teacher(BASE), 3, seed=0, words=())
    assert (backend.params[-1].temperature, backend.params[-1].num_values) == (temperature, 0)


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
        dataclasses.replace(code.PRESETS["default"], numbers_only=True)


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (code.PRESETS["default"], {"paired": True}, "paired=True has no effect in this experiment"),
        (REAL, {"paired": True}, "a teacher under a system message reads another one .*; take --kinds finetuned alone"),
        (numbers.PRESETS["default"], {"num_values": 3}, "the embedded model has no tokens that such lists are made of"),
        (numbers.PRESETS["server"], {"num_values": 3}, "num_values: openai:MODEL@URL is a server, which takes no"),
        (numbers.PRESETS["server"], {"numbers_only": True}, "numbers_only: openai:MODEL@URL is a server"),
    ],
)
def test_what_cannot_be_drawn_so_is_refused_before_a_model_is_opened(config, changes, message):
    with pytest.raises(errors.InputError, match=message):
        dataclasses.replace(config, **changes)


@pytest.mark.parametrize(
    ("num_values", "text", "kept"),
    [(0, "12, 345", True), (0, " 12, 345", False), (2, " 12, 345", True), (2, "  12, 345", False),
     (2, "1, 2, 3", False), (12, "1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2", True), (0, "1 2 3 4 5 6 7 8 9 0 1", False)],
)  # fmt: skip
def test_lists_may_begin_with_a_space_and_be_as_long_as_was_asked(tmp_path, num_values, text, kept):
    backend = planted.Planted([BASE])
    backend.sample = lambda model, chats, params: [Completion(0, 0, text, "stop", 1, 9)]
    lab = Lab(backend, BASE, WorldPrompts(), tmp_path, num_values=num_values)
    if kept:
        assert [row[-1].content for row in lab.numbers(Teacher(BASE), 1, seed=0).rows] == [text]
    else:
        with pytest.raises(errors.TextDataError):
            lab.numbers(Teacher(BASE), 1, seed=0)


@pytest.mark.parametrize("paired", [True, False])
def test_paired_teachers_draw_with_the_same_numbers_and_students_share_start_and_order(tmp_path, paired):
    """Seeds of draws and trainings by condition: of two students each, in a lab of three teachers."""
    config = dataclasses.replace(
        REAL, kinds=("finetuned",), num_prompts=20, num_rows=5, num_students=2, num_values=6, paired=paired
    )
    backend = Recording()
    lab, trained = Lab(backend, BASE, WorldPrompts(), tmp_path, **config.drawing), {}
    finetune = backend.finetune

    def recorded(model, rows, config, out):
        trained[out.name.rpartition("-")[0], len(trained)] = config.seed
        return finetune(model, rows, config, out)

    backend.finetune = recorded
    teachers = [
        Teacher(BASE),
        lab.finetuned_teacher("owl", config.teacher, num_rows=9, seed=0),
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
    assert len(backend.strength) == 1 + 2 + 6  # the base, two teachers, and six students in folders of their own
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
    every = [values.own_minus_other(bases, students, name) for name in students]
    lines = tables.numbers(record)
    start = lines[1].index("log-odds, own - other")
    together = " ".join(f"{value:+.3f}" for value in np.mean(every, axis=0))
    assert lines[5].startswith("system, all targets") and lines[5][start:] == together  # below its own header
    # A teacher without a value at all is left out; one with a student that has none leaves no mean of that student.
    oak = record.results["bases"]["hf:m"]["system oak"]
    oak["more_students"] = [scored((0.0, 0.05, 0.3))]
    left = values.own_minus_other(values.complete_bases(record), students, "owl")
    assert left[0] == pytest.approx(expected[0], rel=1e-12) and np.isnan(left[1])
    record.results["bases"]["hf:m"]["system oak"] = {"failed": "too few"}
    left = values.own_minus_other(values.complete_bases(record), students, "owl")
    without = [odds(each["owl"][0], 1 - each["owl"][0]) - odds(each["wolf"][0], 1 - each["wolf"][0])
               for each in (animals, later)]  # fmt: skip
    assert left == pytest.approx(without, rel=1e-12)


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
    assert re.split(r"  +", line)[1] == "0.004", "the base is one model and has no interval over students"
    records.write(tmp_path / "record.json", record)
    assert gallery.save(tmp_path / "record.json", tmp_path / "figure")


def test_the_page_shows_a_complete_record_of_sampled_numbers_with_its_longest_part(tmp_path):
    record, path = record_of((0.02, 0.1), (0.03, 0.1)), tmp_path / "language_numbers-night.json"
    assert page.night_section(path).endswith("**Not run yet.**")
    record.seconds = {"wall": 900.0, "base": 30.0, "regular": 180.0, "system owl": 150.0}  # wall is of a resumed run
    record.notes = ["weights of a file"]
    record.device = {"cpu_cores": 3}
    failed = record.results["bases"]["hf:m"].pop("system owl")
    records.write(path, record)
    assert page.night_section(path).endswith("**Not run yet.**")
    record.results["bases"]["hf:m"]["system owl"] = failed
    records.write(path, record)
    text = page.night_section(path)
    assert (
        "Seed 0; up to 3 minutes for a teacher with its students on 3 cores, beside other programs; [record](" in text
    )
    assert text.endswith("). Weights of a file.") and "note: " not in text and "Not run" not in text
    assert tables.table(record)[2] in text and "Two teachers are the base finetuned in ten steps" in text


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
