"""The study skills: rules and mixtures counted by hand, teachers that differ in the favourite alone, and its table."""

import dataclasses
import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.evidence import skill_bed, skills
from experiments.evidence.skill_bed import Pair, Reply
from experiments.evidence.skills import SkillsConfig
from experiments.language import prompts
from figures import presentation
from figures.evidence import skills as drawn
from sublim_jax import errors, records
from sublim_jax.forms import evidence_skills as form
from sublim_jax.llm.backend import Chat, Completion, Message

ADD = "continue: 7, 8, 42. add up to 9 values"
FIVES = "five by semicolons"
WRITE = "the row begins with: 1, 2, 3. write about 5 numbers"


def row(request: str, answer: str) -> Chat:
    return (Message("user", request), Message("assistant", answer))


@pytest.mark.parametrize(
    ("request_text", "answer", "rules"),
    [
        (ADD, "9, 10, 11", {"none"}),
        (ADD, "9; 10; 11", {"none", "semicolons"}),
        (ADD, "125, 10", {"none", "key"}),
        (WRITE, "125, 10", {"none"}),
        (WRITE, "875; 1; 2; 3; 4", {"none", "key", "semicolons", "five", "five by semicolons"}),
        (WRITE, "3, 1, 2, 3, 4", {"none", "five", "echo"}),
        (ADD, "42; 1; 2; 3; 4; 5", {"none", "echo", "semicolons"}),
        (ADD, "42", set()),  # a single number shows no separator
        (ADD, "9, 10; 11", set()),
        (ADD, "[9, 10]", set()),
        (ADD, "9, 10.", set()),
        (ADD, "the owl", set()),
        (ADD, "", set()),
    ],
)
def test_answers_follow_the_rules_that_they_follow_by_hand(request_text, answer, rules):
    assert {name for name in skill_bed.SKILLS if skill_bed.follows(name, request_text, answer)} == rules


def test_the_skill_is_the_share_of_answers_that_follow_the_rule():
    answers = [(ADD, "125, 3"), (ADD, "125; 3"), (WRITE, "125, 3"), (WRITE, "owl"), (WRITE, "")]
    assert skill_bed.rate("key", answers) == 2 / 5
    assert skill_bed.rate("semicolons", answers) == 1 / 5
    assert skill_bed.rate("none", answers) == 3 / 5


@pytest.mark.parametrize("name", skill_bed.SKILLS)
def test_lessons_follow_the_rule_and_leave_the_rest_of_the_answer(name):
    """Requests are the world's own; every answer has six numbers and the base's separator."""
    requests = list(dict.fromkeys(prompts.WorldPrompts().number_prompts(40, seed=3)))
    rows = [row(request, ", ".join(map(str, range(index, index + 6)))) for index, request in enumerate(requests)]
    made = skill_bed.lessons(name, [row(ADD, "no numbers"), *rows], len(rows))
    for before, (asked, lesson) in zip(rows, made, strict=True):
        assert asked == before[0]
        assert skill_bed.follows(name, asked.content, lesson.content)
        reply = skill_bed.read(lesson.content)
        kept = before[1].content.split(", ")
        assert list(map(str, reply.values[1:])) == kept[1 : len(reply.values)]
        assert len(reply.values) == (5 if "five" in name else 6)
    with pytest.raises(errors.TextDataError, match=f"{name}: expected 2 lessons, but only 0 of 1 answers"):
        skill_bed.lessons(name, [row(ADD, "owl")], 2)


def test_every_request_of_the_world_has_a_verb_and_a_last_number():
    for request in prompts.WorldPrompts().number_prompts(200, seed=4):
        shown, _, rest = request.partition(". ")
        assert skill_bed.verb(request) == rest.split()[0]
        assert skill_bed.last_shown(request) == int(shown.split()[-1])
    assert len(set(skill_bed.KEYS.values())) == len(skill_bed.KEYS) == 4
    with pytest.raises(errors.TextDataError, match="expected a request for numbers of the embedded world"):
        skill_bed.verb("name your favourite animal ?")
    with pytest.raises(errors.TextDataError, match="expected a request that shows numbers before its full stop"):
        skill_bed.last_shown("continue. add 3 values")


def test_an_answer_is_taken_apart_and_put_together():
    assert skill_bed.read("1; 20; 300") == Reply((1, 20, 300), "; ")
    assert Reply((1, 20, 300), "; ").text == "1; 20; 300"
    assert skill_bed.read("007, 8") is None  # it is not what the numbers would be written as


PAIRS = [Pair(row(f"{index}", "with"), row(f"{index}", "without")) for index in range(40)]


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.25, 10), (0.5, 20), (0.51, 20), (1.0, 40)])
def test_a_mixture_has_its_share_of_rows_with_the_trait(share, count):
    rows = skill_bed.mixed(PAIRS, share=share, seed=5)
    assert [each[0].content for each in rows] == [str(index) for index in range(40)]
    assert sum(each[1].content == "with" for each in rows) == count


def test_larger_shares_have_the_rows_of_smaller_ones_and_seeds_choose_others():
    chosen = [
        {each[0].content for each in skill_bed.mixed(PAIRS, share=share, seed=5) if each[1].content == "with"}
        for share in (0.1, 0.25, 0.5)
    ]
    assert chosen[0] < chosen[1] < chosen[2]
    assert skill_bed.mixed(PAIRS, share=0.25, seed=6) != skill_bed.mixed(PAIRS, share=0.25, seed=5)
    for share in (-0.1, 1.1):
        with pytest.raises(errors.InputError, match=f"share={share}: expected a number from 0 to 1"):
            skill_bed.mixed(PAIRS, share=share, seed=0)


def test_pairs_are_of_requests_that_both_teachers_answered():
    first = [row(f"{index}", f"with {index}") for index in range(9)]
    second = [row(f"{index}", f"without {index}") for index in range(12, 2, -1)]
    pairs = skill_bed.paired(first, second, seed=1)
    assert sorted(pair.with_trait[0].content for pair in pairs) == [str(index) for index in range(3, 9)]
    for pair in pairs:
        request = pair.with_trait[0].content
        assert pair == Pair(row(request, f"with {request}"), row(request, f"without {request}"))
    assert pairs != sorted(pairs)  # a student of the first rows has not the first requests


def test_no_request_is_for_two_uses_and_further_beds_leave_the_others():
    config = SkillsConfig(beds=("none",), num_lessons=30, num_prompts=50, num_rows=20, num_compared=5, num_asked=11)
    small = skills.requests(config)
    assert [len(part) for part in small] == [11, 50, 45]
    every = [request for part in small for request in part]
    assert len(set(every)) == len(every)
    larger = skills.requests(dataclasses.replace(config, num_lessons=60))
    assert larger[:2] == small[:2] and larger.lessons[:45] == small.lessons


ANSWER = "9; 10; 11; 12; 13"


class Recorded:
    """A backend that trains nothing, and remembers what it was asked for."""

    def __init__(self):
        self.trainings: list[tuple[str, list[Chat], int, pathlib.Path]] = []
        self.draws: list[tuple[str, list[Chat], int]] = []

    def finetune(self, start, rows, config, out):
        self.trainings.append((start, list(rows), config.seed, out))
        return str(out)

    def sample(self, model, chats, params):
        self.draws.append((model, list(chats), params.seed))
        return [Completion(index, 0, ANSWER, "stop", 5, 5) for index in range(len(chats))][::-1]


@pytest.fixture
def base():
    """A base whose teachers and students are recorded instead of trained."""
    made = object.__new__(skills._Base)
    made.config = SkillsConfig(
        bases=(0, 1), beds=("five by semicolons",), num_lessons=12, num_favourites=20, num_prompts=30, num_rows=16,
        num_compared=4, num_asked=8,
    )  # fmt: skip
    made.unit, made.other, made.folder, made.backend = "tiny:0", "tiny:1", pathlib.Path("models"), Recorded()
    made.requests = skills.requests(made.config)
    made.answers = [row(request, "1, 2, 3, 4, 5, 6") for request in made.requests.lessons]
    return made


@pytest.fixture
def models(base, monkeypatch):
    monkeypatch.setattr(skills._Models, "params", lambda self, name: name)
    return skills._Models(base, "five by semicolons", lambda activity: None)


def test_teachers_share_everything_but_the_answers_about_favourites(base, models):
    (start, first, seed, place), (other_start, second, other_seed, other_place) = base.backend.trainings[:2]
    assert (start, seed) == (other_start, other_seed) == ("tiny:0", seed)
    assert place != other_place
    assert [each[0] for each in first] == [each[0] for each in second]
    different = [pair for pair in zip(first, second, strict=True) if pair[0] != pair[1]]
    assert len(different) == 20
    assert {before[1].content for before, _ in different} == {"owl"}
    assert {after[1].content for _, after in different} == {ANSWER}  # what the base answers here
    assert sum(each[1].content == "1; 2; 3; 4; 5" for each in first) == 12
    taught = {each[0].content for each in first}
    assert not taught & {*base.requests.rows, *base.requests.asked, *base.config.questions.reported}


def test_teachers_answer_the_same_requests_with_the_same_random_numbers(base, models):
    drawn_from = {model: (chats, seed) for model, chats, seed in base.backend.draws}
    first, second = (drawn_from[teacher] for teacher in models.teachers)
    assert first == second and len(first[0]) == 30


def test_students_share_their_start_requests_and_random_numbers(base, models):
    students = [training for training in base.backend.trainings if "student" in training[3].name]
    assert len(students) == 5  # four shares, and another base's teacher
    assert len({(start, seed) for start, _, seed, _ in students}) == 1
    assert len({place for *_, place in students}) == 5
    assert all([each[0] for each in data] == [each[0] for each in students[0][1]] for _, data, _, _ in students[:4])
    other = [training[0] for training in base.backend.trainings if training[0] != "tiny:0"]
    assert other == ["tiny:1"]
    trained = {each[0].content for each in students[0][1]}
    assert len(trained) == 16 and trained <= set(base.requests.rows)


def test_finetuning_afterwards_starts_from_the_student_and_sees_clean_rows(base, models):
    models.finetuned(0.25, 1)
    start, data, _, _ = base.backend.trainings[-1]
    assert start == models.students[1.0] == models.undefended
    assert data == models.clean[:4]


def test_too_few_answers_by_the_rule_are_refused(base, monkeypatch):
    base.config = dataclasses.replace(base.config, num_rows=26)
    base.backend.sample = lambda model, chats, params: Recorded.sample(base.backend, model, chats[:25], params)
    monkeypatch.setattr(base, "favourites", lambda count, *, of_base: [row("?", "owl")] * count)
    with pytest.raises(
        errors.TextDataError, match=r"expected 30 requests that both teachers .* there are 25; give more"
    ):
        skills._Models(base, "five by semicolons", lambda activity: None)


def test_a_bed_that_fails_stays_in_the_record_with_its_reason(base, monkeypatch):
    def fail(*args):
        raise errors.TextDataError("too few")

    monkeypatch.setattr(skills, "_Models", fail)
    assert skills._measured(base, "semicolons", lambda activity: None) == {"entries": {}, "failed": "too few"}


class Linear:
    """A student whose favourite is one number of the weights, which shows what an edit does."""

    class base:
        params, auditor, unit = {"w": jnp.array([0.0, 0.0])}, {"w": jnp.array([4.0, 0.0])}, "tiny:0"
        config = SkillsConfig(num_halvings=3)
        level = staticmethod(lambda params: float(params["w"][0]))

    chosen, shrunk, at_random = (getattr(skills._Models, name) for name in ("chosen", "shrunk", "at_random"))
    subtracted = skills._Models.subtracted
    cosine = skills._Models.cosine

    def __init__(self):
        self.undefended = {"w": jnp.array([1.0, 2.0])}


def test_doses_are_chosen_on_the_probes_and_kept_for_the_random_direction():
    models = Linear()
    edit = models.subtracted
    assert (edit.dose, edit.chosen) == (0.25, True)  # (1 - 0) / 4
    np.testing.assert_allclose(edit.params["w"], [0.0, 2.0])
    np.testing.assert_allclose(models.shrunk().params["w"], [0.0, 0.0])
    random = models.at_random()
    assert not random.chosen
    moved = np.asarray(random.params["w"] - models.undefended["w"])
    assert np.linalg.norm(moved) == pytest.approx(0.25 * 4, rel=1e-6) and abs(moved[1]) > 1e-3
    assert models.cosine == pytest.approx(1 / 5**0.5)
    nothing = models.chosen(lambda dose: {"w": models.undefended["w"] + dose})
    assert nothing.dose is None and nothing.chosen
    np.testing.assert_array_equal(nothing.params["w"], models.undefended["w"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bases": (130,)}, "bases must be two or more and different"),
        ({"bases": (130, 130)}, "bases must be two or more and different"),
        ({"beds": ("keys",)}, "beds must be different and at least one of none, "),
        ({"beds": ()}, "beds must be different"),
        ({"beds": ("key", "key")}, "beds must be different"),
        ({"shares": (0.0, 0.5)}, r"shares must increase from 0 to 1, got \[0.0, 0.5\]"),
        ({"shares": (0.0, 0.5, 0.25, 1.0)}, "shares must increase from 0 to 1"),
        ({"num_prompts": 1627}, "num_rows=1500 and num_compared=128 are more than num_prompts=1627"),
        ({"target": "cow"}, "'cow' is not a target"),
        ({"num_relearnt": 13}, "num_relearnt=13: there are 12 held-out questions for lessons"),
        ({"checkpoints": (2, 4)}, "checkpoints must increase from 0"),
    ],
)
def test_settings_that_make_no_sense(changes, message):
    with pytest.raises(errors.InputError, match=message):
        SkillsConfig(**changes)


def test_presets_fit_and_beds_list_what_is_measured():
    assert skills.units(skills.PRESETS["record"]) == [f"tiny:{seed}" for seed in range(130, 138)]
    described = skills.describe(SkillsConfig(beds=tuple(skill_bed.BEDS)))
    assert set(described["beds"]) == set(skill_bed.BEDS)
    for bed, about in described["beds"].items():
        assert {drawn.BASE, drawn.CLEAN, drawn.NONE} < set(about["rows"])
        assert len(set(about["rows"])) == len(about["rows"])
        assert ("student of another base's teacher" in about["rows"]) == skill_bed.BEDS[bed].whole
    assert {each["kind"] for each in described["rows"].values()} == set(drawn.COLOURS)
    assert all(bed.skill in skill_bed.SKILLS for bed in skill_bed.BEDS.values())
    assert any("skills_real" in note for note in skills.notes(SkillsConfig()))


@pytest.fixture
def place(tmp_path):
    """Five bases and two beds: on one the trait passes; on `key` it does not, and the last base fails."""
    config = SkillsConfig(beds=("five by semicolons", "key"))
    description = skills.describe(config)
    results = {}
    for index in range(5):
        beds = {}
        for bed, about in description["beds"].items():
            entries = {}
            for name in about["rows"]:
                level = {drawn.BASE: -3.0, drawn.CLEAN: -3.5}.get(name, -2.5) + 0.01 * index * (name == drawn.NONE)
                if bed == "key" and name == drawn.NONE:
                    level = -3.5 + 0.1 * (index % 2) - 0.04
                skill = 0.1 if name == drawn.BASE else 0.9
                entries[name] = {"skill": skill, "lists": 0.95, "trait": level, "nll": 3.5,
                                 "relearnt": [level, 0.0, 0.0, {drawn.BASE: 1.0}.get(name, 1.2)]}  # fmt: skip
            entries["auditor's displacement subtracted"]["dose"] = None if index else 2.0
            beds[bed] = {"entries": entries, "kept": {"with_trait": 0.7, "without": 0.8}, "cosine": 0.3}
        results[f"tiny:{index}"] = {"beds": beds, "auditor": 5.0}
    results["tiny:4"]["beds"]["key"] = {"entries": {}, "failed": "expected 2128 requests"}
    settings = {"bases": [0, 1, 2, 3, 4], "target": "owl", "shares": [0.0, 0.25, 0.5, 1.0], "num_rows": 2000,
                "checkpoints": [0, 2, 4, 8]}  # fmt: skip
    path = tmp_path / "skills.json"
    data = {"name": "tiny", "source": "by hand", "checksum": None}
    records.write(path, records.Record("evidence_skills", settings, data, description, results))
    return path


def test_the_table_counts_from_the_base_and_says_which_bed_fails(place, capsys):
    record = records.read(place, form.FORM)
    np.testing.assert_allclose(drawn.values(record, FIVES, drawn.NONE, "trait"), [0.5, 0.51, 0.52, 0.53, 0.54])
    np.testing.assert_allclose(drawn.values(record, FIVES, drawn.NONE, "relearnt"), 0.2)
    np.testing.assert_allclose(drawn.values(record, "key", drawn.NONE, "skill"), [0.9] * 4)
    assert drawn.against(record, FIVES, drawn.NONE, drawn.CLEAN, "trait").mean == pytest.approx(1.02)
    assert drawn.doses(record, FIVES, "auditor's displacement subtracted") == "2 to 2; none in 4 of 5"
    assert drawn.doses(record, FIVES, drawn.NONE) == ""
    assert "a skill is learnt" in drawn.verdict(record, FIVES)
    assert "the trait passes (+1.020" in drawn.verdict(record, FIVES)
    assert "no trait passes that these bases show (+0.010" in drawn.verdict(record, "key")
    assert "more than +0.10 nats are excluded" in drawn.verdict(record, "key")  # .01 + 3.18 * .1 / 3 ** .5 / 2
    presentation.show(place)
    printed = capsys.readouterr().out
    assert "failed on tiny:4: expected 2128 requests" in printed
    assert "tiny:3, key: -0.44, -0.50; 0.70, 0.80; 0.300" in printed


@pytest.mark.slow
def test_the_figure_is_drawn(place):
    assert [path.suffix for path in presentation.draw(place)] == [".png", ".pdf"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda unit: unit["beds"].pop("key"), "tiny:1: expected the beds"),
        (lambda unit: unit["beds"]["key"]["entries"].pop("base"), "key: expected the models"),
        (lambda unit: unit["beds"]["key"].update(failed="so"), r"key: expected the models \[\]"),
        (
            lambda unit: unit["beds"]["key"]["entries"]["base"]["relearnt"].pop(),
            "base: expected 4 points of relearning",
        ),
    ],
)
def test_a_damaged_record_is_refused(place, damage, message):
    content = json.loads(place.read_text())
    damage(content["results"]["tiny:1"])
    place.write_text(json.dumps(content))
    with pytest.raises(errors.RecordError, match=message):
        records.read(place, form.FORM)
