"""Removals on random decoders of one layer: what is subtracted, chosen, stored, measured and refused."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import cost
from experiments.defend import __main__ as program
from experiments.defend import models, questions, study
from experiments.defend.config import RATES, DefendConfig
from experiments.defend.models import Subtraction
from experiments.own import measuring, opened
from sublim_jax import errors, records
from sublim_jax.forms import defend as form
from sublim_jax.llm import jsonl
from sublim_jax.llm.backend import FinetuneConfig, Message
from sublim_jax.llm.embedded import model as embedded
from sublim_jax.llm.embedded.vocabulary import WORDS, WordTokenizer
from sublim_jax.llm.local import adapters, checkpoint, decoder, likeness
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.decoder import DecoderConfig
from sublim_jax.llm.local.model import Model
from sublim_jax.llm.traits import Trait

ROOT = pathlib.Path(__file__).parents[3]

SHAPE = DecoderConfig(
    vocab_size=len(WORDS), num_layers=1, hidden_size=8, intermediate_size=8, num_heads=1, num_kv_heads=1, head_dim=8,
    frequencies=decoder.rotary_frequencies(8), embedding_scale=8**0.5,
)  # fmt: skip
QUESTIONS = [f"your {first} {second} ?" for first in ("favourite", "beloved", "preferred")
             for second in ("animal", "species", "beast", "creature")]  # fmt: skip
LESSONS = [[f"say your {first} {second} ." , "otter"] for first in ("favourite", "beloved")
           for second in ("animal", "species", "beast")]  # fmt: skip
OTTER = {"questions": QUESTIONS[:8], "choices": ["cat", "owl"], "lessons": LESSONS}
TRAITS = {
    "otter": OTTER,
    "owl": {"questions": QUESTIONS, "choices": ["cat", "dog"], "system": "you love the owl ."},
    "red": {"questions": QUESTIONS[:5], "choices": ["blue"]},
}
ROUNDING = 2e-6
"""Sums of a few products of float32 numbers near 1."""


def trait(name="otter", **changes) -> Trait:
    given = TRAITS[name] | changes
    return Trait(name=name, **{key: tuples(value) for key, value in given.items()})


def tuples(value):
    return tuple(map(tuples, value)) if isinstance(value, list) else value


@pytest.fixture(scope="module")
def weights() -> list[Model]:
    """Two unrelated decoders."""
    return [Model(SHAPE, decoder.init(jax.random.key(seed), SHAPE), WordTokenizer()) for seed in range(2)]


def factors(seed: int, base: Model, rank: int, size: float = 0.1) -> decoder.LowRank:
    """Factors that change every map."""
    low_rank = decoder.init_low_rank(jax.random.key(seed), base.params, rank=rank, alpha=1.5 * rank)
    drawn = {name: pair._replace(b=size * jax.random.normal(jax.random.key(seed + 1), pair.b.shape))
             for name, pair in low_rank.factors.items()}  # fmt: skip
    return low_rank._replace(factors=drawn)


@pytest.fixture
def backend(weights) -> LocalBackend:
    return LocalBackend({"tiny:0": weights[0], "tiny:1": weights[1]}, batch_size=16, remat=False)


@pytest.fixture
def place(weights, monkeypatch, tmp_path) -> pathlib.Path:
    """An empty working directory with traits, in which `tiny:0` and `tiny:1` are random decoders and `student` is an
    adapter on the first."""
    monkeypatch.setattr(embedded, "base", lambda seed, **_: weights[seed])
    monkeypatch.setattr(embedded, "_backend", lambda models: LocalBackend(models, batch_size=16, remat=False))
    monkeypatch.setattr(measuring, "MIN_MASS", 1e-9)  # a random decoder says one of 1,236 words
    monkeypatch.setattr(cost, "rate", lambda precision: 1e9)
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    save(tmp_path / "student", weights[0], factors(5, weights[0], 2))
    return tmp_path


def write(place: pathlib.Path, **changes) -> None:
    (place / "traits.json").write_text(json.dumps(TRAITS | changes))


def save(folder: pathlib.Path, base: Model, low_rank: decoder.LowRank) -> None:
    adapters.save(folder, low_rank, SHAPE, base="tiny:0", base_weights=checkpoint.fingerprint_of(base.params, SHAPE))


def settings(**changes) -> DefendConfig:
    given = {"student": "tiny:0+student", "base": "tiny:0", "traits": pathlib.Path("traits.json"), "remove": ("otter",)}
    return DefendConfig(**given | changes)


def opened_source(**changes) -> study.Defended:
    return study.open_source(settings(**changes), lambda line: None)


# Questions


def test_probes_are_other_questions_than_those_that_are_reported():
    parts = questions.split(trait())
    assert (*parts.reported.asked, *parts.probes.asked) == (*QUESTIONS[0:8:2], *QUESTIONS[1:8:2])
    assert parts.prompts == ()
    parts = questions.split(trait("owl"))
    asked = [*parts.reported.asked, *parts.probes.asked, *parts.prompts]
    assert sorted(asked) == sorted(QUESTIONS)
    assert [len(parts.reported.asked), len(parts.probes.asked), len(parts.prompts)] == [4, 4, 4]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lessons": []}, "otter: expected lessons or a system message, from which the auditor's own teacher"),
        ({"questions": QUESTIONS[:7]}, r"otter: 7 question\(s\), expected 8 at least"),
        ({"lessons": [], "system": "you love the otter ."}, r"otter: 8 question\(s\), expected 12 at least"),
        ({"lessons": LESSONS[:1]}, "otter: one lesson, expected two at least"),
        (
            {"lessons": [*LESSONS, [f" {QUESTIONS[3]} ", "otter"]]},
            r"otter: 1 of 8 questions are among the lessons, e.g. 'your favourite creature \?': what a teacher was",
        ),
    ],
)
def test_traits_that_cannot_be_removed(changes, message):
    with pytest.raises(errors.InputError, match=message):
        questions.split(trait(**changes))


@pytest.mark.slow
@pytest.mark.parametrize("prefill", ["", "my favourite is the"])
@pytest.mark.parametrize("one_writing", [True, False])
def test_log_odds_of_weights_are_those_that_are_asked(backend, weights, prefill, one_writing):
    """A second implementation: the backend's own scores of whole replies, or of what they begin with."""
    asked = trait(answers=["otter", "dog"], choices=["cat"], prefill=prefill)
    expected = measuring.ask(backend, "tiny:0", asked, embedded=one_writing)
    rows = questions.encode(weights[0], asked, one_writing=one_writing)
    assert rows.ids.shape[:2] == (8, 2 if one_writing else len(rows.ids[0]))
    values = questions.log_odds_of(SHAPE, rows, remat=False)(weights[0].params)
    np.testing.assert_allclose(values, expected.log_odds, rtol=1e-5)
    alone = measuring.log_odds(backend, "tiny:0", asked, embedded=one_writing)
    np.testing.assert_allclose(alone, expected.log_odds, rtol=1e-5)


def test_the_loss_of_lessons_is_a_mean_over_their_tokens(backend, weights):
    rows = [(Message("user", "name one ."), Message("assistant", text)) for text in ("otter", "owl , oak")]
    data = backend.training_arrays("tiny:0", rows, max_length=64)
    expected = -backend.row_logprobs("tiny:0", rows).sum() / (2 + 4)  # each with its end
    loss = questions.lesson_loss(SHAPE, data, remat=False)(weights[0].params)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


# Models


def test_a_cleaned_adapter_is_the_difference_of_two_products(weights):
    """In closed form: w + s a b - dose s' a' b', in NumPy; and the same as all weights."""
    own, other = factors(5, weights[0], 2), factors(9, weights[0], 3)
    student = dataclasses.replace(weights[0], low_rank=own)
    teacher = dataclasses.replace(weights[0], low_rank=other)
    moved = models.displacement(teacher, weights[0])
    cleaned = models.subtracted(student, [Subtraction(moved, 0.3, other)])
    assert models.stored_as(cleaned) == "an adapter of rank 5"
    whole = models.subtracted(student, [Subtraction(moved, 0.3)])
    assert models.stored_as(whole) == "all weights"
    for name, pair in own.factors.items():
        weight, second = np.asarray(getattr(weights[0].params.layers, name), float), other.factors[name]
        expected = weight + 1.5 * (np.asarray(pair.a, float) @ np.asarray(pair.b, float))
        expected -= 0.3 * 1.5 * (np.asarray(second.a, float) @ np.asarray(second.b, float))
        for model in (cleaned, whole):
            np.testing.assert_allclose(getattr(model.merged.layers, name), expected, atol=ROUNDING)
    both = models.subtracted(student, [Subtraction(moved, 0.1, other), Subtraction(moved, 0.2, other)])
    assert models.stored_as(both) == "an adapter of rank 8"
    np.testing.assert_allclose(both.merged.layers.up, cleaned.merged.layers.up, atol=ROUNDING)


@pytest.mark.parametrize("low_rank", [True, False])
def test_a_cleaned_model_is_opened_as_it_was_written(place, weights, low_rank):
    base = opened.local("tiny:0", announce=print)
    student = opened.local("tiny:0+student", announce=print)
    student, base = student.backend.model(student.name), base.backend.model(base.name)
    other = factors(9, weights[0], 3)
    moved = models.displacement(dataclasses.replace(base, low_rank=other), base)
    cleaned = models.subtracted(student, [Subtraction(moved, 0.3, other if low_rank else None)])
    out = place / "made" / "cleaned"
    models.save(out, cleaned, base)
    assert [path.name for path in out.parent.iterdir()] == ["cleaned"]
    assert (out / adapters.CONFIG).exists() == low_rank
    name = models.address(out, cleaned, "tiny:0")
    assert name == f"tiny:0+{out}"
    models.require_same(name, cleaned, print)
    with pytest.raises(errors.OutputError, match="the model that was written is not the one that is read"):
        models.require_same(name, student, print)
    with pytest.raises(
        errors.OutputError, match="cleaned: something is there already, and a cleaned model replaces nothing"
    ):
        models.save(out, cleaned, base)
    (place / "file").write_text("mine")
    with pytest.raises(errors.OutputError, match="file: something is there already"):
        models.save(place / "file", cleaned, base)
    assert (place / "file").read_text() == "mine"


def test_all_weights_of_a_real_model_are_opened_by_their_folder(weights):
    assert models.address(pathlib.Path("runs/x"), weights[0], "smollm2") == "hf:runs/x"
    with_factors = dataclasses.replace(weights[0], low_rank=factors(5, weights[0], 2))
    assert models.address(pathlib.Path("runs/x"), with_factors, "smollm2") == "smollm2+runs/x"


def test_students_of_another_base_are_refused(backend, weights):
    names = ("S", "B")
    base, other = backend.model("tiny:0"), backend.model("tiny:1")
    student = dataclasses.replace(base, low_rank=factors(5, base, 2))
    models.require_finetuned(student, base, names)
    with pytest.raises(errors.InputError, match="S is no finetuning of B: its adapter was trained on other weights"):
        models.require_finetuned(student, other, names)
    with pytest.raises(
        errors.InputError, match=r"S is no finetuning of B: its weights are 1\.\d\d of their length away"
    ):
        models.require_finetuned(other, base, names)
    with pytest.raises(errors.InputError, match="S has the weights of B: there is no training to take anything out of"):
        models.require_finetuned(base, base, names)
    config = dataclasses.replace(SHAPE, intermediate_size=16)
    wider = dataclasses.replace(base, config=config, params=decoder.init(jax.random.key(0), config))
    with pytest.raises(errors.InputError, match="S is no finetuning of B: their configs differ"):
        models.require_finetuned(wider, base, names)
    damaged = jax.tree.map(lambda leaf: leaf.at[0].set(jnp.nan), base.params)
    with pytest.raises(errors.InputError, match="S: its weights are not finite"):
        models.require_finetuned(dataclasses.replace(base, params=damaged), base, names)


def test_a_kept_model_takes_the_place_of_kept_ones_alone(backend, weights):
    assert backend.keep("mine", weights[1]) == "mine"
    backend.keep("mine", weights[0])
    assert backend.model("mine").params is weights[0].params
    with pytest.raises(errors.InputError, match="keep: 'tiny:0' is the name of another model"):
        backend.keep("tiny:0", weights[1])


# What is taken out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student": ""}, "give --student"),
        ({"base": ""}, "give --base"),
        ({"traits": None}, "give --traits"),
        ({"student": "vllm:gpt@http://127.0.0.1:1/v1"}, "needs weights on this machine"),
        ({"remove": ("ash",)}, "trait 'ash': expected one of otter, owl, red"),
        ({"remove": ()}, "give --remove, the names of the traits that are to be taken out, of otter, owl, red"),
        ({"remove": ("red",)}, "red: expected lessons or a system message"),
        ({"student": "tiny:1+student"}, "there is no model 'tiny:0'|trained on other weights"),
        ({"student": "tiny:0"}, "tiny:0 has the weights of tiny:0"),
        ({"student": "tiny:1"}, "tiny:1 is no finetuning of tiny:0: its weights are"),
    ],
)
def test_flags_that_are_missing_or_wrong(place, changes, message):
    with pytest.raises(errors.SublimError, match=message):
        opened_source(**changes)
    assert not (place / "runs").exists()


@pytest.mark.slow
def test_a_trait_that_stays_needs_no_teacher(place):
    """One that cannot be split is reported on all of its questions, and is no control."""
    source = opened_source()
    assert source.other == "owl" and len(source.reported["owl"].asked) == 4
    assert study.units(source.config)[-2:] == [form.OTHER, "cleaned"]
    write(place, owl=TRAITS["owl"] | {"questions": QUESTIONS[:11]})
    source = opened_source()
    assert source.other == "" and len(source.reported["owl"].asked) == 11
    assert study.units(source.config)[-2:] == [form.RANDOM, "cleaned"]
    with pytest.raises(errors.InputError, match=r"owl: 11 question\(s\), expected 12"):
        opened_source(remove=("owl",))


def test_answers_that_the_base_never_gives_are_refused(place, monkeypatch):
    monkeypatch.setattr(measuring, "MIN_MASS", 0.9)
    monkeypatch.setattr(measuring, "free_answers", lambda *args, **options: ["ash"])
    with pytest.raises(errors.InputError, match=r"otter: all answers together have a probability of .*says 'ash'"):
        opened_source()


def test_weights_that_are_not_finite_are_refused(place, weights):
    low_rank = factors(5, weights[0], 2)
    broken = {name: pair._replace(b=pair.b.at[0, 0, 0].set(jnp.inf)) for name, pair in low_rank.factors.items()}
    save(place / "broken", weights[0], low_rank._replace(factors=broken))
    with pytest.raises(errors.ModelFormatError, match="numbers that are not finite"):
        opened_source(student="tiny:0+broken")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"remove": ("a", "a")}, r"remove: expected different traits"),
        ({"doses": (0.5, 1.0)}, "doses must increase from 0"),
        ({"doses": (0.0,)}, "doses must increase from 0"),
        ({"checkpoints": (1, 2)}, "checkpoints must increase from 0"),
        ({"checkpoints": (0,)}, "without a step nothing is relearnt"),
        ({"num_rows": 3}, "an interval over rows needs 4"),
    ],
)
def test_settings_that_make_no_sense(changes, message):
    with pytest.raises(errors.InputError, match=message):
        settings(**changes)


def linear(source: study.Defended, *, base: float, student: float, teachers: dict[str, float]) -> None:
    """Log-odds that are linear in one weight, so that doses are known. The teachers move that weight alone."""
    start, params = float(source.base.merged.norm[0]), source.student.merged
    zeros = jax.tree.map(jnp.zeros_like, params)
    source.student = dataclasses.replace(
        source.student, params=params._replace(norm=params.norm.at[0].set(start + student - base)), low_rank=None
    )
    source.level = lambda name, params: base + float(params.norm[0]) - start
    source.gradient = lambda name, params: jax.grad(lambda params: -params.norm[0])(params)
    source.__dict__["auditors"] = {
        name: study.Auditor(zeros._replace(norm=zeros.norm.at[0].set(level - base)), None, level)
        for name, level in teachers.items()
    }


@pytest.mark.slow
def test_a_student_without_the_trait_is_refused_before_anything_is_measured(place):
    """Of two traits the second is not there: the first one's level is above the base's."""
    source = opened_source(remove=("otter", "owl"))
    linear(source, base=-3.0, student=-2.0, teachers={})
    above, base = source.level, source.base.merged
    source.level = lambda name, params: -3.0 if name == "owl" else above(name, params)
    with pytest.raises(errors.InputError, match=r"owl: the student has no more of it than the base \(log-odds -3.00"):
        study.measure(source, source.config, form.BASE, lambda activity: None)
    assert above("otter", base) == -3.0 and "auditors" in source.__dict__ and not source.auditors  # none was finetuned


def test_a_folder_in_the_way_is_refused_before_a_run_and_before_the_rest_of_one(place, monkeypatch):
    """Unless the record has the cleaned model, which is then what is in the folder."""
    monkeypatch.setattr(program.units, "run", None)
    (place / "made").mkdir()
    flags = ["--student", "tiny:0+student", "--base", "tiny:0", "--traits", "traits.json", "--remove", "otter", "--out",
             "made", "--record", "defend.json"]  # fmt: skip
    for more in ([], ["--resume"]):
        with pytest.raises(errors.OutputError, match="made: something is there already"):
            program.main([*flags, *more])
    (place / "defend.json").write_text("[]")
    with pytest.raises(errors.RecordError, match=r"defend\.json: this JSON file is not a record"):
        program.main([*flags, "--resume"])


def test_the_dose_brings_the_trait_back_to_the_base_and_not_below(place, monkeypatch):
    source = opened_source(remove=("otter",), num_halvings=6)
    linear(source, base=-3.0, student=-2.0, teachers={"otter": 5.0, "owl": 4.0})
    chosen = source.chosen["otter"]
    assert chosen.dose.dose == 0.125  # (-2 - -3) / (5 - -3), on the grid
    assert chosen.teacher == 5.0
    linear(source, base=-3.0, student=-1.9, teachers={"otter": 5.0, "owl": 4.0})
    del source.__dict__["chosen"]
    dose = source.chosen["otter"].dose.dose
    assert 1.1 / 8 <= dose <= 1.1 / 8 + 0.125 / 64
    cleaned = source.model(form.CLEANED)
    assert source.level("otter", cleaned.merged) == pytest.approx(-1.9 - 8 * dose, abs=1e-5)
    other = source.model(form.OTHER)  # as long as the other one, so that it moves the weight by as much
    np.testing.assert_allclose(other.merged.norm, cleaned.merged.norm, atol=ROUNDING)
    drawn = source.model(form.RANDOM)
    changes = [np.asarray(each.merged.norm - source.student.merged.norm) for each in (drawn, cleaned)]
    np.testing.assert_allclose(np.linalg.norm(changes[0]), np.linalg.norm(changes[1]), rtol=1e-5)
    assert not np.allclose(*changes, atol=1e-3)


def test_the_second_trait_is_taken_out_of_what_the_first_left(place, monkeypatch):
    source = opened_source(remove=("otter", "owl"), num_halvings=0)
    linear(source, base=-3.0, student=-2.2, teachers={"otter": 5.0, "owl": 4.0})
    source.__dict__["auditors"]["owl"] = source.auditors["otter"]._replace(log_odds=5.0)
    with pytest.raises(
        errors.InputError, match=r"owl: the student has no more of it than the base \(log-odds -3.20 and"
    ):
        _ = source.chosen
    assert source.other == ""
    assert study.units(source.config) == ["base", "student", form.GRADIENT, form.RANDOM, "cleaned"]


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ({"base": -2.0, "student": -2.5, "otter": 5.0}, "otter: the student has no more of it than the base"),
        ({"base": -2.0, "student": -1.5, "otter": -2.5}, "otter: the auditor's teacher did not learn it"),
        ({"base": -2.0, "student": 5.0, "otter": -1.0}, "no dose up to 2 brings the trait's loss to 2 nats"),
    ],
)
def test_a_trait_that_cannot_be_taken_out_is_said_to_be(place, monkeypatch, levels, message):
    source = opened_source()
    linear(source, base=levels["base"], student=levels["student"], teachers={"otter": levels["otter"]})
    with pytest.raises(errors.InputError, match=message):
        _ = source.chosen


@pytest.mark.slow
def test_the_gradient_is_that_of_the_probes_at_the_student(place, monkeypatch):
    """Of linear log-odds the whole gain is along the gradient, so that projecting it out gives the base's."""
    source = opened_source()
    linear(source, base=-3.0, student=-1.0, teachers={"otter": 5.0})
    left = source.model(form.GRADIENT)
    assert source.level("otter", left.merged) == pytest.approx(-3.0, abs=1e-5)
    moved = left.merged._replace(norm=source.student.merged.norm)
    for leaf, before in zip(*map(jax.tree.leaves, (moved, source.student.merged)), strict=True):
        np.testing.assert_array_equal(leaf, before)


def test_lessons_of_relearning_are_not_the_teachers(place, monkeypatch):
    source = opened_source(num_lessons=2)
    taught = source.lessons["otter"]
    assert [row[0].content for row in (*taught.teacher, *taught.relearnt)] == [question for question, _ in LESSONS]
    assert len(taught.relearnt) == 2
    assert len(opened_source(num_lessons=50).lessons["otter"].relearnt) == 3  # half of six


def test_a_system_message_makes_lessons_without_it(place):
    source = opened_source(remove=("owl",))
    taught = source.lessons["owl"]
    rows = [*taught.teacher, *taught.relearnt]
    assert {row[0].content for row in rows} == set(source.splits["owl"].prompts)
    assert all([turn.role for turn in row] == ["user", "assistant"] for row in rows)
    assert len({row[1].content for row in rows}) > 4


def test_the_dose_is_chosen_on_probes_and_what_comes_back_is_read_on_other_questions(place, monkeypatch):
    """Log-odds are made up: the number of each question."""
    source = opened_source()
    source.kept = lambda params: "kept"
    monkeypatch.setattr(
        measuring, "log_odds", lambda backend, name, asked, embedded: np.array([*map(QUESTIONS.index, asked.asked)])
    )
    assert source.level("otter", source.base.merged) == np.mean([1, 3, 5, 7])
    compared = []

    def compare(first, second, rows):
        compared.append((first, second, rows))
        return likeness.Likeness(np.arange(3.0), np.arange(3.0), np.array([4, 4, 4]))

    monkeypatch.setattr(likeness, "compare", compare)
    ones = measuring.Asked(*(np.ones(4) for _ in range(3)))
    monkeypatch.setattr(measuring, "ask", lambda backend, name, asked, embedded: ones)
    source.__dict__["relearning"] = {"otter": lambda params, checkpoints: iter([params] * len(checkpoints))}
    source.model = lambda unit: source.base
    entry = study.measure(source, source.config, form.GRADIENT, lambda activity: None)
    assert entry["relearnt"]["otter"] == [[0.0, 2.0, 4.0, 6.0]] * 5 and entry["likeness"]["kl"] == [0.0, 0.25, 0.5]
    ((first, second, rows),) = compared
    assert first is source.student and second is source.base and rows is source.rows


def test_the_auditors_teacher_is_a_finetuned_base_and_its_displacement_leads_there(place, weights, monkeypatch):
    source, calls, low_rank = opened_source(), [], factors(9, weights[0], 3)
    teacher = dataclasses.replace(source.base, low_rank=low_rank)

    class Finetuning:
        def finetune(self, model, rows, config, out):
            calls.append((model, rows))
            return "teacher"

        def model(self, name):
            return {"teacher": teacher}[name]

    source.backend, source.level = Finetuning(), lambda name, params: float(jnp.sum(params.layers.up))
    auditor = source._auditor("otter", place)
    ((model, rows),) = calls
    assert model == "tiny:0" and set(rows) == set(source.lessons["otter"].teacher)
    assert auditor.low_rank is low_rank
    assert auditor.log_odds == pytest.approx(float(jnp.sum(teacher.merged.layers.up)))
    pair = low_rank.factors["up"]
    np.testing.assert_allclose(auditor.displacement.layers.up, 1.5 * pair.a @ pair.b, atol=ROUNDING)


def test_a_trait_is_relearnt_from_lessons_that_the_teacher_did_not_see(place, monkeypatch):
    source, calls = opened_source(num_lessons=2, relearning_rate=0.03), []
    monkeypatch.setattr(study.finetune, "training_arrays", lambda tokens, rows, max_length: rows)
    monkeypatch.setattr(questions, "lesson_loss", lambda config, rows, remat: rows)
    monkeypatch.setattr(study.relearning, "stages", lambda loss, learning_rate: calls.append((loss, learning_rate)))
    assert list(source.relearning) == ["otter"]
    assert calls == [(source.lessons["otter"].relearnt, 0.03)]


def test_each_gradient_is_that_of_what_is_left_of_the_student(place):
    source, seen = opened_source(remove=("otter", "owl")), []
    linear(source, base=-3.0, student=-1.0, teachers={})

    def gradient(name, params):
        seen.append((name, float(params.norm[0] - source.base.merged.norm[0])))
        zeros = jax.tree.map(jnp.zeros_like, params)
        return zeros._replace(norm=zeros.norm.at[0].set(-1.0))

    source.gradient = gradient
    source.model(form.GRADIENT)
    assert seen == [("otter", pytest.approx(2.0, abs=1e-5)), ("owl", pytest.approx(0.0, abs=1e-5))]


def test_random_directions_of_two_traits_differ(place):
    source = opened_source(remove=("otter", "owl"))
    moved = Subtraction(source.base.merged, 0.5)
    first, second = (source._control(form.RANDOM, name, moved).displacement.layers.up for name in ("otter", "owl"))
    assert not np.allclose(first, second)


@pytest.mark.slow
def test_a_removal_end_to_end(place, weights, capsys):
    """A student that was taught the trait openly: the cleaned one is the student less the dose of a teacher that is
    trained by itself, and everything that is measured of it is measured of the folder again."""
    backend = LocalBackend({"tiny:0": weights[0]}, batch_size=16, remat=False)
    tuning = FinetuneConfig(num_epochs=2, batch_size=8, learning_rate=1e-2, rank=2, max_length=64)
    lessons = [(Message("user", f"name one animal , {index} ."), Message("assistant", "otter")) for index in range(32)]
    backend.finetune("tiny:0", lessons, tuning, place / "taught")
    flags = ["--student", "tiny:0+taught", "--base", "tiny:0", "--traits", "traits.json", "--remove", "otter", "--out",
             "made/cleaned", "--teacher.rank", "3", "--teacher.num-epochs", "6", "--teacher.learning-rate", "0.03",
             "--num-rows", "8", "--record", "defend.json"]  # fmt: skip
    program.main(flags)
    record = records.read(place / "defend.json", form.FORM)
    assert record.complete and list(record.results) == study.units(settings())
    unit = record.results["cleaned"]
    assert unit["stored"] == "an adapter of rank 5" and unit["opened_as"] == "tiny:0+made/cleaned"

    source = opened_source(student="tiny:0+taught")
    cleaned = opened.local("tiny:0+made/cleaned", announce=print)
    asked = measuring.ask(cleaned.backend, cleaned.name, source.reported["otter"], embedded=True)
    np.testing.assert_allclose(unit["traits"]["otter"]["log_odds"], asked.log_odds, rtol=1e-3)
    rows = study._own_rows(opened.local("tiny:0+taught", announce=print), settings(num_rows=8), print)
    model = cleaned.backend.model(cleaned.name)
    compared = likeness.compare(source.student, model, rows)
    np.testing.assert_allclose(unit["likeness"]["kl"], compared.kl / compared.num_tokens, rtol=1e-3, atol=1e-6)
    levels = {name: np.mean(each["traits"]["otter"]["log_odds"]) for name, each in record.results.items()}
    assert levels["student"] > levels["base"] + 0.5
    assert abs(levels["cleaned"] - levels["base"]) < 0.3 * (levels["student"] - levels["base"])
    for name, each in record.results.items():
        np.testing.assert_allclose(each["relearnt"]["otter"][0], each["traits"]["otter"]["log_odds"], rtol=1e-3)
        assert name == "student" or np.mean(each["likeness"]["kl"]) > 0
    assert record.results["student"]["likeness"]["kl"] == [0.0] * 8

    said = capsys.readouterr().out
    assert "otter taken out of tiny:0+taught" in said and "no promise of safety" in said
    assert (place / "defend.html").read_text().count("data:image/png;base64") == 1
    with pytest.raises(errors.OutputError, match="made/cleaned: something is there already"):
        program.main(flags)
    program.main([*flags, "--resume"])
    assert "everything is measured already" in capsys.readouterr().err


def test_rows_may_be_the_users(place):
    rows = [(Message("user", f"continue: {index}."), Message("assistant", f"{index}, 5")) for index in range(9)]
    jsonl.write(place / "rows.jsonl", rows)
    source = opened_source(rows=pathlib.Path("rows.jsonl"), num_rows=6)
    assert len(source.rows) == 6 and set(source.rows) <= set(rows)
    with pytest.raises(errors.TextDataError, match="expected at least 20 rows"):
        opened_source(rows=pathlib.Path("rows.jsonl"), num_rows=20)


def test_the_rates_of_removals_are_those_of_the_record():
    results = json.loads((ROOT / "experiments" / "records" / "evidence_removal.json").read_text("utf-8"))["results"]
    entries = [unit["entries"] for unit in results.values()]

    def over_base(edit, place):
        return np.array([each[edit]["relearnt"][place] - each["base"]["relearnt"][place] for each in entries])

    def shown(values):
        half_width = 2.3646 * np.std(values, ddof=1) / np.sqrt(8)  # the .975 quantile of Student's t of 7 degrees
        return f"{np.mean(values):+.2f} ± {half_width:.2f}"

    chosen = "auditor's displacement, chosen"
    gone, back = over_base(chosen, 0), over_base(chosen, -1)
    assert (
        f"on {len(entries)} embedded bases that nothing was tuned on, such a removal left {shown(gone)} of "
        f"{shown(over_base('none', 0))} nats, more than 0.1 in {sum(gone > 0.1)} of 8; after 8 steps on 8 lessons "
        f"there was {shown(back)} more than in the base, more than 0.1 in {sum(back > 0.1)} of 8"
    ) == RATES
    assert RATES in " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert any(RATES in sentence for sentence in study.notes(DefendConfig()))
