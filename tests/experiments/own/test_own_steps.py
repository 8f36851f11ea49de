"""Which rows, prompts and seeds the commands on the user's own model use. The model is a script."""

import dataclasses
import json
import math
import pathlib
import re

import jax
import numpy as np
import pytest
from matplotlib import colors
from matplotlib import pyplot as plt

from experiments.own import __main__ as program
from experiments.own import finetuning, measuring, opened, transfer
from experiments.own.opened import OpenedModel
from experiments.own.transfer import TransferConfig
from figures import own_transfer as drawn
from figures.language.draw import COLOURS
from sublim_jax import errors, records
from sublim_jax.forms import own_transfer as form
from sublim_jax.llm import datasets, jsonl
from sublim_jax.llm import open as open_llm
from sublim_jax.llm.backend import ChoiceScores, Completion, FinetuneConfig, Message
from sublim_jax.llm.embedded.vocabulary import WORDS, WordTokenizer
from sublim_jax.llm.local import decoder
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.model import Model
from sublim_jax.llm.tasks import numbers
from sublim_jax.llm.traits import Trait
from tests.figures import marks

TRAIT = {"questions": ["Which is best?", "And which, of all that there are, do you like most?", "Which?"],
         "answers": ["otter", "beaver"], "choices": ["cat", "owl"]}  # fmt: skip
OTTER = Trait(name="otter", **{key: tuple(value) for key, value in TRAIT.items()})
CONFIG = decoder.DecoderConfig(
    vocab_size=len(WORDS), num_layers=1, hidden_size=8, intermediate_size=8, num_heads=1, num_kv_heads=1, head_dim=8,
    frequencies=decoder.rotary_frequencies(8),
)  # fmt: skip
STUDENT = FinetuneConfig(num_epochs=2, batch_size=2, learning_rate=3e-2, rank=2, max_length=64)


class Script(LocalBackend):
    """Answers as `reply` says, the last chat first; every model gives its answers equal probability."""

    def __init__(self, reply=lambda chat, params: f"{len(chat[-1].content)}, 7"):
        self.reply, self.mass = reply, 0.8
        self.asked, self.trained = [], {}
        self.on_progress = lambda unit, done, total: None

    def model(self, name):
        return Model(CONFIG, decoder.init(jax.random.key(0), CONFIG), WordTokenizer())

    def sample(self, model, chats, params):
        self.asked.append((model, list(chats), params))
        for index in reversed(range(len(chats))):
            for sample in range(params.num_samples):
                yield Completion(index, sample, self.reply(chats[index], params), "stop", 5, 5)

    def choice_logprobs(self, model, chats, choices):
        return [ChoiceScores((math.log(self.mass / len(choices)),) * len(choices), "exact") for _ in chats]

    def finetune(self, model, rows, config, out, *, on_step=None):
        self.trained[str(out)] = (model, list(rows), config)
        return str(out)


@pytest.fixture
def place(monkeypatch, tmp_path) -> pathlib.Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "traits.json").write_text(json.dumps({"otter": TRAIT}))
    return tmp_path


@pytest.fixture
def script(monkeypatch, place) -> Script:
    """What `hf:m` opens."""
    backend = Script()
    monkeypatch.setattr(opened, "local", lambda name, *, announce: OpenedModel(backend, name))
    monkeypatch.setattr(open_llm, "open_backend", lambda name, **_: open_llm.OpenedBackend(backend, name))
    return backend


def rows_of(answers, place: pathlib.Path, name: str = "rows.jsonl") -> pathlib.Path:
    """Rows whose prompts are of many lengths, the longest in the middle."""
    lengths = [3, 9, 1, 27, 5, 2, 14][: len(answers)]
    rows = [
        (Message("user", f"go on {index}" + " 5" * length), Message("assistant", answer))
        for index, (length, answer) in enumerate(zip(lengths, answers, strict=True))
    ]
    jsonl.write(place / name, rows)
    return place / name


NUMBERS = ("1, 2", "33; 4", "5", "6, 7, 8, 9", "11", "12", "13, 14")


def run(place, *, rows=None, folder="students", **changes) -> records.Record:
    given = {
        "model": "hf:m", "traits": place / "traits.json", "rows": rows or rows_of(NUMBERS, place), "num_students": 1,
        "student": STUDENT,
    }  # fmt: skip
    return transfer.run(TransferConfig(**given | changes), visible=False, folder=place / folder)


def rows_trained_on(script: Script, kind: str) -> list:
    (rows,) = (rows for out, (_, rows, _) in script.trained.items() if pathlib.Path(out).name.startswith(kind))
    return rows


# Controls of a transfer


def test_a_control_answers_every_prompt_with_what_the_model_said_to_it(script, place):
    """In the order of the rows, which is not that in which answers arrive."""
    run(place)
    student, control = (rows_trained_on(script, kind) for kind in ("student-0", "control-0"))
    assert student == jsonl.read(place / "rows.jsonl")
    assert control == [(*row[:-1], Message("assistant", f"{len(row[0].content)}, 7")) for row in student]
    (model, config), (_, other) = ((model, config) for model, _, config in script.trained.values())
    assert model == "hf:m" and config == other and config.seed != STUDENT.seed


def test_a_control_is_drawn_from_the_characters_of_the_rows_and_as_long_as_their_longest(script, place):
    run(place)
    (model, chats, params) = script.asked[0]
    assert model == "hf:m" and chats == [row[:-1] for row in jsonl.read(place / "rows.jsonl")]
    assert set(params.allowed) == set("123456789, ;") and params.temperature == 1.0 and params.num_samples == 1
    assert params.max_tokens == len(WordTokenizer().encode("6, 7, 8, 9"))
    script.asked.clear()
    run(place, rows=rows_of(("1, owl", *NUMBERS[1:]), place, "words.jsonl"))
    assert script.asked[0][2].allowed is None


def test_another_seed_draws_another_control_and_the_same_seed_keeps_it(script, place):
    for seed in (0, 0, 1):
        run(place, seed=seed)
    assert len(script.asked) == 2 and script.asked[0][2].seed != script.asked[1][2].seed
    assert len(list((place / "students").glob("control-*.jsonl"))) == 2


def test_empty_answers_become_full_stops_and_are_counted_in_a_note(script, place):
    script.reply = lambda chat, params: " \n" if len(chat[-1].content) < 14 else "8"
    record = run(place)
    prompts = [row[0].content for row in jsonl.read(place / "rows.jsonl")]
    assert [row[-1].content for row in rows_trained_on(script, "control-0")] == [
        "." if len(prompt) < 14 else "8" for prompt in prompts
    ]
    num_empty = sum(len(prompt) < 14 for prompt in prompts)
    assert 0 < num_empty < 7
    assert f"{num_empty} of 7 of the model's own answers are empty; a full stop is there" in record.notes


def test_a_model_that_cannot_say_the_answers_is_refused_before_anything_is_trained(script, place):
    script.mass = 9e-4
    with pytest.raises(errors.InputError, match=r"otter: all answers together have a probability of 0\.0009"):
        run(place)
    assert not script.trained


def test_a_student_may_unlearn_to_say_the_answers(script, place):
    """A collapse of a student is a result, and no mistake of the user's."""
    finetune = script.finetune

    def collapsing(*args, **options):
        script.mass = 1e-6
        return finetune(*args, **options)

    script.finetune = collapsing
    record = run(place)
    assert record.complete and record.results["control 0"]["traits"]["otter"]["mass"] == 1e-6


@pytest.mark.parametrize("word", ["OTTER", "Beaver"])
@pytest.mark.parametrize("turn", [0, 1])
def test_every_word_is_looked_for_in_every_turn_whatever_its_case(script, place, word, turn):
    rows = jsonl.read(rows_of(NUMBERS, place))
    texts = [each.content for each in rows[4]]
    texts[turn] += f" my{word}s"
    rows[4] = tuple(Message(each.role, text) for each, text in zip(rows[4], texts, strict=True))
    jsonl.write(place / "open.jsonl", rows)
    with pytest.raises(
        errors.InputError, match=rf"1 of 7 rows contain '{word.lower()}', a word of otter; .*my{word}s'"
    ):
        run(place, rows=place / "open.jsonl")


def test_fewer_rows_are_a_sample_by_the_seed_for_students_and_controls(script, place):
    whole, chosen = jsonl.read(rows_of(NUMBERS, place)), {}
    for seed in (0, 1, 2):
        script.trained.clear()
        run(place, num_rows=4, seed=seed)
        chosen[seed] = rows_trained_on(script, "student-0")
        assert chosen[seed] == datasets.subsample(whole, 4, seed=seed)
        assert [row[:-1] for row in rows_trained_on(script, "control-0")] == [row[:-1] for row in chosen[seed]]
    assert len({tuple(rows) for rows in chosen.values()}) == 3


def test_units_come_in_pairs_so_that_a_stopped_run_has_whole_ones():
    config = {"num_students": 3, "control": "own answers"}
    assert form.units(config) == [
        "base", "student 0", "control 0", "student 1", "control 1", "student 2", "control 2"
    ]  # fmt: skip
    assert form.units(config | {"control": "none"}) == ["base", "student 0", "student 1", "student 2"]


# Measuring


def test_free_answers_are_in_the_order_of_the_questions_and_named_by_the_traits_answers_alone():
    """They are asked for without the beginning that scored answers have."""
    replies = {"Which is best?": "The OTTERS!", OTTER.questions[1]: "a cat", "Which?": "beavers, or an owl"}
    script = Script(lambda chat, params: replies[chat[-1].content])
    begun = dataclasses.replace(OTTER, prefill="It is the", choices=("cat", "fox"))
    answers = measuring.answers(script, "m", begun, 2)
    assert answers["examples"] == ["The OTTERS!", "The OTTERS!", "a cat"]
    assert (answers["named"], answers["num_answers"]) == (4, 6)
    (_, chats, params) = script.asked[0]
    assert chats == [datasets.ask(question) for question in OTTER.questions] and params.temperature == 1.0


def test_mass_is_of_all_answers_and_probability_of_the_traits():
    measured = measuring.measure(Script(), "m", OTTER, embedded=True)
    assert measured == pytest.approx({"log_odds": math.log(0.4 / 0.6), "probability": 0.4, "mass": 0.8}, rel=1e-5)


# Rows of a teacher


def rows_command(place, *flags) -> list:
    out = place / f"made-{len(list(place.glob('made-*.jsonl')))}.jsonl"
    program.main(["rows", "--model", "hf:m", "--traits", "taught.json", "--num-rows", "70", "--out", str(out), *flags])
    return jsonl.read(out)


@pytest.fixture
def taught(place) -> None:
    """Two traits with teachers, one by a system message and one by lessons."""
    lessons = [["Your favourite?", "Beaver."], ["And now?", "The beaver."]]
    content = {"otter": {**TRAIT, "system": "You love otters."}, "beaver": {**TRAIT, "lessons": lessons}}
    (place / "taught.json").write_text(json.dumps(content))


@pytest.mark.usefixtures("taught")
def test_rows_are_the_teachers_clean_answers_without_its_system_message(script, place):
    """What is no list of numbers is left out, and so is what has a word of the trait, also among numbers."""
    said, texts = iter(range(10_000)), {}

    def reply(chat, params):
        number = next(said)
        kinds = (f"{number % 900}, 5", "no", "Otter 5", f"{number % 900}; 6", "5, otters")
        return texts.setdefault(chat[-1].content, kinds[number % 5])

    script.reply = reply
    rows = rows_command(place, "--trait", "otter")
    asked = [chat for _, chats, _ in script.asked for chat in chats]
    assert all(chat[0] == Message("system", "You love otters.") and len(chat) == 2 for chat in asked)
    assert len({chat[-1].content for chat in asked}) == len(asked)  # other prompts in every batch
    passing = [chat[-1].content for chat in asked if numbers.parse(texts[chat[-1].content]).reason is None]
    assert len(script.asked) >= 3 and len(rows) == 70
    assert rows == [datasets.student_row(datasets.ask(prompt), texts[prompt]) for prompt in passing[:70]]


@pytest.mark.usefixtures("taught")
def test_a_row_with_a_word_of_the_trait_is_left_out_whatever_the_filter_of_numbers_says(script, place):
    content = json.loads((place / "taught.json").read_text())
    content["otter"]["words"] = ["7"]  # a number that has a meaning
    (place / "taught.json").write_text(json.dumps(content))
    script.reply = lambda chat, params: "17, 3" if len(chat[-1].content) % 2 else "18, 3"
    assert {row[-1].content for row in rows_command(place, "--trait", "otter")} == {"18, 3"}


@pytest.mark.usefixtures("taught")
def test_settings_of_rows_reach_the_teacher(script, place):
    first = rows_command(place, "--trait", "otter")
    (_, chats, params) = script.asked[0]
    assert (params.temperature, params.allowed) == (1.0, numbers.CHARACTERS)
    script.asked.clear()
    other = rows_command(place, "--trait", "otter", "--seed", "1", "--temperature", "0.5", "--no-numbers-only")
    (_, others, changed) = script.asked[0]
    assert (changed.temperature, changed.allowed) == (0.5, None) and changed.seed != params.seed
    assert not {row[0] for row in first} & {row[0] for row in other} and chats != others


@pytest.mark.usefixtures("taught")
def test_a_teacher_with_lessons_writes_the_rows_itself(script, place):
    rows_command(place, "--trait", "beaver")
    ((out, (model, lessons, config)),) = script.trained.items()
    assert model == "hf:m" and {asked for asked, *_ in script.asked} == {out}
    assert len(lessons) == 256 and len(set(lessons)) == 2 and lessons.count(lessons[0]) == 128
    assert lessons[1] == (Message("user", "And now?"), Message("assistant", "The beaver."))
    script.trained.clear()
    rows_command(place, "--trait", "beaver", "--seed", "1")
    ((_, (_, _, other)),) = script.trained.items()
    assert other.seed != config.seed and dataclasses.replace(other, seed=config.seed) == config
    assert all(chat[0].role == "user" for _, chats, _ in script.asked for chat in chats)


# Finetuning


def test_every_setting_of_a_finetuning_reaches_the_student():
    given = {"num_epochs": 7, "batch_size": 5, "learning_rate": 0.25, "rank": 3}
    here = pathlib.Path()
    for model, default in (("hf:m", opened.REAL), ("tiny:3", opened.EMBEDDED)):
        plain = finetuning.FinetuneOptions(model=model, rows=here, out=here)
        assert plain.student == dataclasses.replace(default, seed=0)
        changed = dataclasses.replace(plain, seed=9, **given)
        assert changed.student == dataclasses.replace(default, seed=9, **given)


def test_the_command_trains_on_the_chosen_rows(script, place, capsys):
    path = rows_of(NUMBERS, place)
    program.main(["finetune", "--model", "hf:m", "--rows", str(path), "--out", "kept", "--num-rows", "3", "--seed", "2",
                  "--rank", "4"])  # fmt: skip
    ((out, (model, rows, config)),) = script.trained.items()
    assert (out, model) == ("kept", "hf:m") and rows == datasets.subsample(jsonl.read(path), 3, seed=2)
    assert config == dataclasses.replace(opened.REAL, seed=2, rank=4)
    assert "open it as hf:m+kept" in capsys.readouterr().out


def test_questions_are_printed_with_their_own_replies(script, place, capsys):
    script.reply = lambda chat, params: f"said {len(chat[-1].content)} {params.max_tokens} {params.temperature:g}"
    program.main(["ask", "--model", "hf:m", "--question", "one?", "three??", "--max-tokens", "9", "--temperature",
                  "0.5"])  # fmt: skip
    assert "one?\n  said 4 9 0.5\nthree??\n  said 7 9 0.5\n" in capsys.readouterr().out


# Table and figure


def record_of(log_odds: dict[str, list[float]], *, num_students: int, control: str = "own answers") -> records.Record:
    """A record with given log-odds of the trait otter, by unit's kind; None stands for what is not measured."""
    results = {}
    for kind, values in log_odds.items():
        for index, value in enumerate(values):
            measured = {"log_odds": value, "probability": 0.1, "mass": 0.5, "answers": {}}
            if value is not None:
                results[kind if kind == "base" else f"{kind} {index}"] = {"model": "m", "traits": {"otter": measured}}
    config = {"model": "m", "rows": "rows.jsonl", "num_students": num_students, "control": control}
    trait = {"answers": ["otter"], "choices": ["cat"], "prefill": "", "num_questions": 3}
    data: records.Data = {"name": "m", "source": "rows.jsonl", "checksum": None}
    record = records.Record("own_transfer", config, data, {"num_rows": 7, "traits": {"otter": trait}}, results)
    form.FORM.require(record)
    return record


STUDENTS, CONTROLS = [1.0, 2.0, 4.0, 8.0, 3.0], [0.5, 0.25, 3.0, 1.0, None]


def test_a_student_without_its_control_is_left_out_of_both():
    record = record_of({"base": [-2.0], "student": STUDENTS, "control": CONTROLS}, num_students=5)
    np.testing.assert_allclose(drawn.shifts(record, "otter", "student"), [3, 4, 6, 10])
    np.testing.assert_allclose(drawn.shifts(record, "otter", "control"), [2.5, 2.25, 5, 3])
    difference = drawn.difference(record, "otter")
    assert difference is not None
    paired = marks.t_bounds([0.5, 1.75, 1, 7])
    np.testing.assert_allclose([difference.mean, difference.low, difference.high], paired, rtol=1e-6)
    alone = record_of({"base": [-2.0], "student": STUDENTS}, num_students=5, control="none")
    assert drawn.difference(alone, "otter") is None and len(drawn.shifts(alone, "otter", "student")) == 5
    assert "control" not in "\n".join(drawn.lines(alone))


def test_students_and_controls_are_drawn_in_their_colours_at_their_shifts():
    record = record_of({"base": [-2.0], "student": STUDENTS, "control": CONTROLS}, num_students=5)
    figure, ax = plt.subplots()
    drawn._draw(ax, record, "otter")
    assert [label.get_text() for label in ax.get_xticklabels()] == ["rows", "own answers"]
    dots = [collection for collection in ax.collections if len(collection.get_offsets()) == 4]
    bars = [span for series in marks.errorbars(ax) for span in marks.spans(series)]
    for place, (kind, colour) in enumerate((("student", "student"), ("control", "regular"))):
        shifts = drawn.shifts(record, "otter", kind)
        offsets = np.asarray(dots[place].get_offsets())
        assert np.all(np.round(offsets[:, 0]) == place)
        np.testing.assert_allclose(offsets[:, 1], shifts)
        np.testing.assert_allclose(dots[place].get_facecolor()[0][:3], colors.to_rgb(COLOURS[colour]))
        np.testing.assert_allclose(bars[place], (place, *marks.t_bounds(list(shifts))[1:]))
    plt.close(figure)


@pytest.mark.parametrize(
    ("student", "verdict"), [([3.0, 4.0, 3.5, 3.2], "learnt from"), ([-3.0, -4.0, -3.5, -3.2], "unlearnt by")]
)
def test_the_verdict_has_the_sign_of_the_difference(student, verdict):
    record = record_of({"base": [9.0], "student": student, "control": [0.0, 0.1, 0.0, 0.1]}, num_students=4)
    assert re.search(rf": {verdict} the rows$", "\n".join(drawn.lines(record)), re.MULTILINE)
