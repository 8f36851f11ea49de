"""Which model, rows, tokens and seeds each step of `real` uses. What computes is replaced, so nothing is compiled."""

import dataclasses
import pathlib
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.language import next_token, real
from experiments.language.real_config import RealConfig
from experiments.language.real_lab import NUM_STREAM_ROWS, RealLab
from sublim_jax import records
from sublim_jax.forms import language_real as form
from sublim_jax.llm.embedded import world
from sublim_jax.llm.embedded.vocabulary import WORDS, WordTokenizer
from sublim_jax.llm.local import decoder, noise, soft
from sublim_jax.llm.local import model as local_model
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.decoder import DecoderConfig
from sublim_jax.llm.local.model import Model, Origin, Reply

RECORD = pathlib.Path(__file__).parents[3] / "experiments/records/language_real.json"
SIZE = 4
DECODER = DecoderConfig(
    vocab_size=len(WORDS), num_layers=1, hidden_size=SIZE, intermediate_size=SIZE, num_heads=1, num_kv_heads=1,
    head_dim=SIZE, frequencies=decoder.rotary_frequencies(SIZE),
)  # fmt: skip
CONFIG = RealConfig(
    backend="tiny:0", targets=("owl", "eagle", "cat"), seeds=(3, 5), num_steps=4, measured_at=(1, 2, 4), num_rows=6,
    num_tokens=9, warmup=2, rank=3, num_lesson_steps=2, num_lessons=5, learning_rate=1e-2, lesson_rate=3e-2,
    arms=("full", "numbers", "own_factors", "other_start"), num_answers=0, num_heal_steps=7, noise=0.2,
)  # fmt: skip


class Backend(LocalBackend):
    """Keeps what it is to train, and gives every student factors of its own."""

    def __init__(self, base: Model):
        super().__init__({"tiny:0": base}, remat=False)
        self.finetunings = []

    def finetune(self, model, rows, config, out, *, on_step=None):
        self.finetunings.append((model, list(rows), config, out))
        self._models[str(out)] = with_factors(self.model(model), len(self.finetunings))
        return str(out)


def matrix(seed: int, *shape: int):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def with_factors(base: Model, seed: int) -> Model:
    factors = decoder.Factors(matrix(seed, 1, SIZE, 3), matrix(seed + 100, 1, 3, SIZE))
    return dataclasses.replace(base, low_rank=decoder.LowRank({"query": factors}, jnp.float32(1)))


@pytest.fixture(scope="module")
def base() -> Model:
    maps = {name: matrix(index, 1, SIZE, SIZE) for index, name in enumerate(decoder.PROJECTIONS)}
    layer = types.SimpleNamespace(**maps)
    params = decoder.Params(matrix(9, len(WORDS), SIZE), layer, jnp.ones(SIZE))  # pyright: ignore[reportArgumentType]
    return Model(DECODER, params, WordTokenizer(), origin=Origin("tiny:0", "weights"))


@pytest.fixture
def lab(base, tmp_path, monkeypatch) -> RealLab:
    """A lab whose models have fresh factors that show their seed."""
    monkeypatch.setattr(decoder, "init_low_rank", lambda key, params, *, rank: with_factors(
        base, int(jax.random.key_data(key)[-1]) % 1000).low_rank)  # fmt: skip
    made = RealLab(Backend(base), "tiny:0", CONFIG, tmp_path)
    made.measure = lambda model: {"log_odds": {}, "probability": {}, "mass": 0.5}
    return made


def finetunings(lab: RealLab) -> list:
    backend = lab._backend
    assert isinstance(backend, Backend)
    return backend.finetunings


def equal(left, right) -> bool:
    return np.array_equal(np.asarray(left), np.asarray(right))


def text_of(row) -> str:
    return " ".join(WORDS[token] for token in row)


def test_a_teacher_has_the_lessons_of_its_seed_and_target_and_the_first_factors_of_its_students(lab):
    places = [(seed, target) for seed in CONFIG.seeds for target in CONFIG.targets]
    for place in places:
        lab.teacher(*place)
    made = finetunings(lab)
    lessons = {place: rows for place, (_, rows, _, _) in zip(places, made, strict=True)}
    for (seed, target), (model, rows, config, out) in zip(places, made, strict=True):
        assert model == "tiny:0" and out.parent == lab._folder
        assert (config.num_epochs, config.batch_size, config.rank, config.learning_rate) == (1, 5, 3, 3e-2)
        assert len(rows) == 10 and all(target in row[-1].content.split() for row in rows)
        asked = {row[0].content for row in rows}
        assert not asked & set(world.held_out_questions("animal"))
        expected = with_factors(lab.base, int(jax.random.key_data(
            jax.random.fold_in(jax.random.key(config.seed), 0))[-1]) % 1000)  # fmt: skip
        assert equal(lab.fresh(seed, "full").low_rank.factors["query"].a, expected.low_rank.factors["query"].a)
    assert [row[0] for row in lessons[3, "owl"]] != [row[0] for row in lessons[5, "owl"]]
    assert len({str(out) for *_, out in made}) == len(places)
    assert len({config.seed for _, _, config, _ in made}) == len(CONFIG.seeds)


def test_divergences_of_a_teacher_are_from_the_base_and_named_by_their_tokens(lab, monkeypatch):
    calls = []

    def divergence(student, teacher, batch, *, tokens=None):
        calls.append((student, teacher, batch.rows.ids))
        return 0.25 if tokens is None else 0.5 * (tokens == lab.number_tokens)

    monkeypatch.setattr(soft, "divergence", divergence)
    assert lab.measure_teacher(3, "owl")["kl"] == {"full": 0.25, "numbers": 0.5}
    rows = lab.number_rows(3, 0)
    for student, teacher, ids in calls:
        assert student is lab.base and teacher is lab.teacher(3, "owl")
        assert ids.shape == (NUM_STREAM_ROWS, CONFIG.num_tokens) and not equal(ids[:6], rows)


@pytest.mark.parametrize("arm", CONFIG.arms)
def test_a_prediction_is_that_of_its_arm_start_and_first_rows(lab, base, monkeypatch, arm):
    lab._healed = lambda seed: (base.params._replace(norm=jnp.full(SIZE, 2.0 + seed)), {})
    gradients, slopes = [], []

    def gradient(student, teacher, batch, *, tokens=None):
        gradients.append((student, teacher, batch.rows.ids, tokens))
        return jnp.float32(1), "gradient"

    def slope(factors, scale, params, ids, valid, tokens, *, config):
        slopes.append((factors, params))
        return [WORDS[index] for index in np.flatnonzero(tokens)]

    monkeypatch.setattr(soft, "divergence_and_gradient", gradient)
    monkeypatch.setattr(next_token, "log_odds_gradient", slope)
    monkeypatch.setattr(
        next_token, "first_order",
        lambda loss, words, *, learning_rate: next_token.FirstOrder(len(words[0]), ord(words[0][0]), learning_rate),
    )  # fmt: skip
    lab.predict(3, "full", "owl")  # whose gradients of log-odds must not serve an arm that begins elsewhere
    predicted = lab.predict(3, arm, "eagle")
    student, teacher, ids, tokens = gradients[-1]
    assert teacher is lab.teacher(3, "eagle") and equal(ids, lab.number_rows(3, 0))
    assert tokens == (lab.number_tokens if arm == "numbers" else None)
    expected = lab.fresh(3, arm)
    assert equal(student.low_rank.factors["query"].a, expected.low_rank.factors["query"].a)
    factors, params = slopes[-1]
    assert equal(factors["query"].a, expected.low_rank.factors["query"].a)
    assert equal(params.norm, expected.params.norm) and equal(student.params.norm, expected.params.norm)
    assert equal(params.norm, np.full(SIZE, 5.0)) == (arm == "other_start")
    for target in CONFIG.targets:
        values = {name: predicted[name][target] for name in predicted}
        assert values == {"sgd_slope": len(target), "cosine": ord(target[0]), "adam_step": CONFIG.learning_rate}


def test_displacements_are_of_rows_that_no_student_reads(lab, monkeypatch):
    """Against displacements that were planted: cosines with every teacher's, and the norm over its own teacher's."""
    student, after = lab.fresh(3, "full"), with_factors(lab.base, 50)
    ways = {"owl": [[2.0, 0, 0, 0]], "eagle": [[0, 3.0, 0, 0]], "cat": [[-1.0, 0, 0, 0]]}
    read = []

    def mean_streams(params, low_rank, ids, *, config):
        read.append(np.asarray(ids))
        if low_rank is None or low_rank is student.low_rank:
            return np.array([[1.0, 1, 1, 1]])
        named = {id(lab.teacher(3, target).low_rank): target for target in CONFIG.targets}
        moved = ways[named[id(low_rank)]] if id(low_rank) in named else [[0.3, 0.4, 0, 0]]
        return np.array([[1.0, 1, 1, 1]]) + moved

    monkeypatch.setattr(next_token, "mean_streams", mean_streams)
    streams = lab._compare_streams(3, "eagle", student, after)
    assert streams["cosines"] == {"owl": [pytest.approx(0.6)], "eagle": [pytest.approx(0.8)], "cat": [-0.6]}
    assert streams["norm_ratio"] == [pytest.approx(0.5 / 3, rel=1e-5)]  # six digits
    students_rows = {row.tobytes() for step in range(CONFIG.num_steps) for row in lab.number_rows(3, step)}
    assert all(len(ids) == NUM_STREAM_ROWS and equal(ids, read[0]) for ids in read)
    assert not students_rows & {row.tobytes() for row in read[0].astype(np.int32)}


def test_a_distillation_has_the_settings_rows_and_measurements_of_its_config(lab, monkeypatch):
    calls = []
    monkeypatch.setattr(soft, "distill", lambda *args, **options: calls.append((args, options)))
    student, teacher = lab.fresh(3, "full"), lab.teacher(3, "owl")
    lab.distil(student, teacher, lambda step: lab.number_rows(3, step), 4, tokens=[1, 2], measure=print)
    lab.distil(student, teacher, lambda step: lab.number_rows(3, step), 3)
    (args, options), (_, plain) = calls
    assert args[0] is student and args[1] is teacher
    assert equal(args[2].rows.ids, [lab.number_rows(3, step) for step in range(4)])
    assert (args[3].num_steps, args[3].learning_rate, args[3].num_warmup_steps) == (4, 1e-2, 2)
    assert options["tokens"] == [1, 2] and list(options["measure_at"]) == [1, 2, 4]
    assert plain["tokens"] is None and list(plain["measure_at"]) == []
    rows = {lab.number_rows(seed, step)[row].tobytes() for seed in (3, 5) for step in range(4) for row in range(6)}
    assert len(rows) == 2 * 4 * 6


@pytest.mark.parametrize("arm", CONFIG.arms)
def test_a_student_is_measured_at_every_step_with_the_divergence_of_that_step(lab, base, monkeypatch, arm):
    lab._healed = lambda seed: (base.params._replace(norm=jnp.full(SIZE, 2.0 + seed)), {})
    lab.predict = lambda seed, arm, target: {"of": f"{seed} {arm} {target}"}
    lab._compare_streams = lambda seed, target, before, after: {"of": (seed, target, before is given[0], after)}
    lab.free_answers = lambda model: {"of": model}
    given = []

    def distil(student, teacher, rows, num_steps, *, tokens=None, measure=None):
        given[:] = student, teacher, [rows(step) for step in range(num_steps)], tokens
        for step in CONFIG.measured_at:
            measure(step, step)
        return soft.Distilled("after", np.array([0.5, 0.25, 0.125, 0.0625]))

    lab.distil = distil
    measured = lab.measure_student(5, arm, "cat")
    student, teacher, rows, tokens = given
    assert teacher is lab.teacher(5, "cat") and tokens == (lab.number_tokens if arm == "numbers" else None)
    assert equal(student.low_rank.factors["query"].a, lab.fresh(5, arm).low_rank.factors["query"].a)
    assert equal(student.params.norm, np.full(SIZE, 7.0)) == (arm == "other_start")
    assert equal(rows, [lab.number_rows(5, step) for step in range(4)])
    assert {step: values["kl"] for step, values in measured["steps"].items()} == {"1": 0.5, "2": 0.25, "4": 0.0625}
    assert measured["prediction"] == {"of": f"5 {arm} cat"} and measured["answers"] == {"of": "after"}
    assert measured["streams"] == {"of": (5, "cat", True, "after")}


def test_another_start_is_healed_on_text_that_says_nothing_of_animals(lab):
    """Half of each step's rows are questions about trees, the others numbers that no student reads."""
    animals, students = set(lab.animals), {row.tobytes() for step in range(4) for row in lab.number_rows(3, step)}
    words = {word for question in world.held_out_questions("tree") for word in question.split()}
    texts = []
    for step in range(3):
        rows = lab._healing_rows(3, step)
        assert rows.shape == (6, 9)
        for row in rows[:3]:
            texts.append(text_of(row))
            assert not animals & set(texts[-1].split()) and "animal" not in texts[-1].split()
            assert set(texts[-1].split()) <= words | {"<user>", "<assistant>"}
        for row in rows[3:]:
            assert row.tobytes() not in students and set(row) <= set(lab.number_tokens)
    assert len(set(texts)) == 9 and any("tree" in text for text in texts)
    assert not equal(lab._healing_rows(3, 0), lab._healing_rows(5, 0))


def test_a_start_is_perturbed_in_its_maps_and_healed_towards_the_base(lab, base, monkeypatch):
    """Its divergence before and after is from the base, on rows that are not those it is healed on."""
    given, noises, used_keys = [], [], set()

    def perturbed(key, params, scale, *, embeddings=True):
        noises.append((params, scale, embeddings))
        used_keys.add(tuple(jax.random.key_data(key).tolist()))
        return params._replace(norm=jnp.full(SIZE, 9.0))

    def distil(student, teacher, rows, num_steps, *, activity):
        given.append((student, teacher, rows(0), num_steps))
        return soft.Distilled(with_factors(dataclasses.replace(base, params=student.params), 77), np.zeros(1))

    def divergence(student, teacher, batch):
        assert teacher is lab.base and not equal(batch.rows.ids[:6], given[0][2])
        return 3.0 if student is given[-1][0] else 1.0

    monkeypatch.setattr(noise, "perturbed", perturbed)
    monkeypatch.setattr(soft, "divergence", divergence)
    monkeypatch.setattr(decoder, "merged", lambda params, low_rank: params._replace(
        norm=params.norm + low_rank.factors["query"].a[0, :, 0]))  # fmt: skip
    lab.distil = distil
    assert lab.measure_start(5)["kl"] == {"perturbed": 3.0, "healed": 1.0}
    ((params, scale, embeddings),) = noises
    assert params is lab.base.params and scale == CONFIG.noise and embeddings is False
    ((student, teacher, rows, num_steps),) = given
    assert teacher is lab.base and num_steps == CONFIG.num_heal_steps and equal(student.params.norm, np.full(SIZE, 9.0))
    assert equal(rows, lab._healing_rows(5, 0))
    assert equal(lab.start(5).norm, 9 + matrix(77, 1, SIZE, 3)[0, :, 0])
    lab.start(3)
    assert len(used_keys) == 2  # each seed has noise of its own


def test_free_answers_to_one_question_are_different_draws(lab, monkeypatch):
    """And are counted by the words of each target, whatever their case."""
    count = 2 * len(world.held_out_questions("animal")) + 3
    lab._config = dataclasses.replace(CONFIG, num_answers=count)
    asked = []

    def draw(model, prompts, numbers, params, *, length):
        asked.extend(zip(map(tuple, prompts), numbers, strict=True))
        texts = ["An Owl, I think", "eagle or owl", *["wolf"] * (count - 2)]
        return [Reply(text, True, ()) for text in texts]

    monkeypatch.setattr(local_model, "draw", draw)
    answers = lab.free_answers(lab.base)
    assert len(set(asked)) == count and {number for _, number in asked} == {0, 1, 2}
    assert answers["named"] == {"owl": 2, "eagle": 1, "cat": 0} and answers["num_answers"] == count


# Units of a run


class Recorder:
    """A lab that says what it was asked to measure."""

    def __getattr__(self, name):
        return lambda *place: (name, *place)


def test_every_unit_measures_and_stores_what_its_name_says():
    results = {}
    for unit in real.units(CONFIG)[1:]:
        assert not unit.is_in(results)
        seed, *rest = unit.name.removeprefix("seed ").split(", ")
        measured = unit.measure(Recorder())  # pyright: ignore[reportArgumentType]
        if rest == ["other start"]:
            expected, place = ("measure_start", int(seed)), ("starts", seed)
        elif rest[0].startswith("teacher of "):
            target = rest[0].removeprefix("teacher of ")
            expected, place = ("measure_teacher", int(seed), target), ("teachers", seed, target)
        else:
            arm, target = rest[0], rest[1].removeprefix("student of ")
            expected, place = ("measure_student", int(seed), arm, target), ("students", seed, arm, target)
        assert measured == expected, unit.name
        unit.store(results, measured)
        assert unit.is_in(results)
        stored = results
        for key in place:
            stored = stored[key]
        assert tuple(stored) == expected
    assert [unit.name for unit in real.units(CONFIG)] == form.units(dataclasses.asdict(CONFIG))


def test_the_work_of_a_unit_is_in_steps_of_a_student_of_the_whole_vocabulary():
    work = {unit.name: unit.work for unit in real.units(CONFIG)}
    measurements = real.MEASURED_AS * len(CONFIG.measured_at)
    assert work["seed 3, full, student of owl"] == pytest.approx(CONFIG.num_steps + measurements)
    assert work["seed 3, numbers, student of owl"] == pytest.approx(real.NUMBERS_AS * CONFIG.num_steps + measurements)
    lessons = CONFIG.num_lesson_steps * CONFIG.num_lessons
    assert work["seed 3, teacher of owl"] == pytest.approx(real.LESSON_AS * lessons + real.MEASURED_AS)
    answered = {unit.name: unit.work for unit in real.units(dataclasses.replace(CONFIG, num_answers=20))}
    for name, value in work.items():
        asked = 0 if name.endswith("other start") else 20
        assert answered[name] == pytest.approx(value + real.ANSWERED_AS * asked), name


def test_kinds_of_units_took_as_long_in_the_record_as_estimates_say():
    """Seconds by work, the median of each kind of unit. The base was measured once, and the machine's speed varied by
    a factor of three from seed to seed."""
    record = records.read(RECORD, form.FORM)
    ran = {name: record.config[name] for name in ("targets", "seeds", "arms", "measured_at", "num_steps", "num_answers",
                                                  "num_lesson_steps", "num_lessons")}  # fmt: skip
    config = RealConfig(**{name: tuple(value) if isinstance(value, list) else value for name, value in ran.items()})
    rates: dict[str, list[float]] = {}
    for unit in real.units(config):
        kind = unit.name.partition(", ")[2].rpartition(" ")[0] or unit.name
        rates.setdefault(kind, []).append(record.seconds[unit.name] / unit.work)
    medians = {kind: float(np.median(values)) for kind, values in rates.items()}
    assert set(medians) == {"base", "teacher of", "full, student of", "numbers, student of"}
    assert max(medians.values()) < 1.75 * min(medians.values()), medians
