"""`real`: soft distillation on raw numbers, its record, tables and figure, on a random decoder of one layer."""

import copy
import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib import pyplot as plt

from experiments.language import next_token, number_text, real, real_lab
from experiments.language.real_config import PRESETS, RealConfig
from experiments.language.real_lab import RealLab
from figures import presentation
from figures.language import real as drawn
from sublim_jax import errors, records
from sublim_jax.forms import language_real as form
from sublim_jax.llm import open as open_llm
from sublim_jax.llm.embedded.vocabulary import WORDS, WordTokenizer
from sublim_jax.llm.local import decoder, finetune, soft
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.decoder import DecoderConfig
from sublim_jax.llm.local.finetune import TokenizedRows
from sublim_jax.llm.local.model import Model

CONFIG = DecoderConfig(
    vocab_size=len(WORDS), num_layers=1, hidden_size=8, intermediate_size=8, num_heads=1, num_kv_heads=1, head_dim=8,
    frequencies=decoder.rotary_frequencies(8), embedding_scale=8**0.5,
)  # fmt: skip
FEATURES = jax.jit(decoder.features, static_argnums=3)
SETTINGS = RealConfig(
    backend="tiny:0", targets=("owl", "eagle", "cat"), num_steps=3, measured_at=(1, 3), num_tokens=8, warmup=2, rank=2,
    num_lesson_steps=2, learning_rate=1e-2, lesson_rate=3e-2, num_answers=0, num_heal_steps=30,
)  # fmt: skip


@pytest.fixture(scope="module")
def base() -> Model:
    params = decoder.init(jax.random.key(0), CONFIG)
    return LocalBackend({"tiny:0": Model(CONFIG, params, WordTokenizer())}, remat=False).model("tiny:0")


@pytest.fixture(scope="module")
def lab(base, tmp_path_factory) -> RealLab:
    return lab_of(base, SETTINGS, tmp_path_factory.mktemp("models"))


def lab_of(base: Model, config: RealConfig, folder) -> RealLab:
    return RealLab(LocalBackend({"tiny:0": base}, remat=False), "tiny:0", config, folder)


@pytest.fixture
def run(base, monkeypatch, tmp_path):
    """Runs the experiment on the random decoder, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    backend = LocalBackend({"tiny:0": base}, remat=False)
    monkeypatch.setattr(open_llm, "open_backend", lambda *_, **__: open_llm.OpenedBackend(backend, "tiny:0"))

    def run_it(config: RealConfig = SETTINGS, **options) -> records.Record:
        return real.run(config, visible=False, **options)

    return run_it


@pytest.fixture(scope="module")
def record(base, tmp_path_factory):
    """A complete record of one seed, both arms, and its path."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        backend = LocalBackend({"tiny:0": base}, remat=False)
        patch.setattr(open_llm, "open_backend", lambda *_, **__: open_llm.OpenedBackend(backend, "tiny:0"))
        path = folder / "real.json"
        return real.run(SETTINGS, record=path, visible=False), path


def two_seeds(record: records.Record) -> records.Record:
    """A copy with a second seed of the same results."""
    copied = copy.deepcopy(record)
    copied.config["seeds"] = [0, 1]
    for name in ("teachers", "students"):
        copied.results[name]["1"] = copy.deepcopy(copied.results[name]["0"])
    return copied


# Rows


def test_rows_are_random_numbers_in_the_formats_in_turn():
    class Characters(WordTokenizer):
        """A token for each character."""

        def encode(self, text):
            return list(map(ord, text))

    names = ("comma", "newline", "semicolon")
    made = [number_text.rows(Characters(), 3, step, num_rows=2, num_tokens=40, formats=names) for step in range(3)]
    texts = ["".join(map(chr, row)) for rows in made for row in rows]
    for index, text in enumerate(texts):
        separator = (", ", "\n", "; ")[index % 3]
        parts = text.split(separator)[:-1]  # the last number may be cut
        assert len(parts) >= 7 and all(re.fullmatch("[1-9][0-9]{2}", part) for part in parts), text
    assert len(set(texts)) == len(texts)
    again = number_text.rows(Characters(), 3, 1, num_rows=2, num_tokens=40, formats=names)
    np.testing.assert_array_equal(made[1], again)
    assert not np.array_equal(again, number_text.rows(Characters(), 4, 1, num_rows=2, num_tokens=40, formats=names))
    tokens = number_text.tokens(Characters(), names)
    assert set(map(chr, tokens)) == set("0123456789, ;\n")


# Distillation


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["full", "numbers"])
def test_the_divergence_of_an_arm_is_that_of_the_renormalised_distributions(lab, base, arm):
    """Oracle: sums over probabilities in NumPy, float64, from the first step's rows. rtol: float32 logits."""
    ids, teacher = lab.number_rows(0, 0), lab.teacher(0, "owl")
    tokens = np.arange(CONFIG.vocab_size) if arm == "full" else lab.number_tokens
    p, q = (np.exp(_logits(model, ids)[:, :-1])[..., tokens] for model in (teacher, base))
    p, q = p / p.sum(-1, keepdims=True), q / q.sum(-1, keepdims=True)
    expected = np.sum(p * np.log(p / q), axis=-1).mean()
    steps = lab.measure_student(0, arm, "owl")["steps"]
    assert expected > 1e-4
    np.testing.assert_allclose(steps["1"]["kl"], expected, rtol=2e-3)


def _logits(model: Model, ids) -> np.ndarray:
    """Logits at all places, in float64 from the hidden states on."""
    hidden = FEATURES(model.params, jnp.asarray(ids), jnp.ones(ids.shape, bool), CONFIG, low_rank=model.low_rank)
    return np.asarray(hidden, np.float64) @ np.asarray(model.params.embedding, np.float64).T


@pytest.mark.slow
def test_a_student_of_number_tokens_sees_no_words_probability(lab, base):
    """Other scores for every word that is no number change nothing, to the last bit; over all words they do."""
    untied = dataclasses.replace(CONFIG, tied=False)
    words = np.setdiff1d(np.arange(CONFIG.vocab_size), lab.number_tokens)
    assert len(words) > 100
    plain = dataclasses.replace(base, config=untied, params=base.params._replace(head=base.params.embedding))
    head = base.params.embedding.at[words].multiply(-2.0)
    for arm, is_equal in (("numbers", True), ("full", False)):
        tokens, students = lab.number_tokens if arm == "numbers" else None, []
        for teacher_head in (plain.params.head, head):
            low_rank = lab.teacher(0, "owl").low_rank
            teacher = dataclasses.replace(plain, params=plain.params._replace(head=teacher_head), low_rank=low_rank)
            student = dataclasses.replace(plain, low_rank=lab.fresh(0, "full").low_rank)
            distilled = lab.distil(student, teacher, lambda step: lab.number_rows(0, step), 2, tokens=tokens)
            students.append(distilled.model.low_rank.factors["query"].b)
        assert np.array_equal(*students) == is_equal, arm


def test_a_student_of_the_base_stays_the_base(lab, base):
    """Zero gradient to the last bit, which Adam would otherwise blow up to whole steps."""
    for tokens in (None, lab.number_tokens):
        student = lab.fresh(0, "full")
        distilled = lab.distil(student, base, lambda step: lab.number_rows(0, step), 3, tokens=tokens)
        jax.tree.map(np.testing.assert_array_equal, distilled.model.low_rank, student.low_rank)
        assert not np.any(distilled.divergences)


def test_arms_begin_where_they_should(lab):
    """Students share the factors of their seed's teachers before training, except in the arm that has its own."""
    shared, own = (lab.fresh(0, arm).low_rank.factors["query"].a for arm in ("numbers", "own_factors"))
    np.testing.assert_array_equal(shared, lab.fresh(0, "full").low_rank.factors["query"].a)
    assert not np.array_equal(shared, own) and not np.array_equal(
        shared, lab.fresh(1, "full").low_rank.factors["query"].a
    )
    moved = {target: lab.teacher(0, target).low_rank.factors["query"].a - shared for target in ("owl", "eagle")}
    for change in moved.values():  # two steps of Adam, each of the learning rate at most, up to its epsilon
        assert 0 < np.abs(change).max() < 2.1 * SETTINGS.lesson_rate


# First order


def test_predictions_are_the_change_of_a_small_step(lab):
    """Against central differences of the measured log-odds. rtol: their truncation and float32 rounding."""
    student = lab.fresh(0, "full")
    predicted = lab.predict(0, "full", "owl")
    rows = TokenizedRows(lab.number_rows(0, 0), *[np.ones((4, 8), bool)] * 2)
    _, gradient = soft.divergence_and_gradient(student, lab.teacher(0, "owl"), soft.Batch(rows))

    def log_odds(size, direction):
        factors = {
            name: factors._replace(b=factors.b - size * direction(gradient[name].b))
            for name, factors in student.low_rank.factors.items()
        }
        low_rank = student.low_rank._replace(factors=factors)
        return lab.measure(dataclasses.replace(student, low_rank=low_rank))["log_odds"]

    largest = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(gradient))
    for name, direction, size, unit in (
        ("sgd_slope", lambda leaf: leaf, 0.02 / largest, 1.0),
        ("adam_step", jnp.sign, 0.02, SETTINGS.learning_rate),
    ):
        after, before = log_odds(size, direction), log_odds(-size, direction)
        changes = [(after[target] - before[target]) / (2 * size) * unit for target in SETTINGS.targets]
        values = [predicted[name][target] for target in SETTINGS.targets]
        np.testing.assert_allclose(values, changes, rtol=0.02, atol=0.02 * np.abs(changes).max(), err_msg=name)


def test_steps_of_adam_add_up_with_the_warm_up():
    """Under a constant gradient Adam moves by the learning rate of each step, so the optimizer's own path is the
    oracle. rtol: Adam's epsilon and float32."""
    for num_warmup_steps in (1, 4):
        optimizer = finetune.adam(
            learning_rate=1.0, beta2=0.999, num_steps=6, num_warmup_steps=num_warmup_steps, schedule="constant",
            clip_norm=None,
        )  # fmt: skip
        state, path = optimizer.init(jnp.zeros(())), 0.0
        for step in range(6):
            update, state = optimizer.update(jnp.ones(()), state)
            path -= float(update)
            np.testing.assert_allclose(next_token.adam_steps(step + 1, num_warmup_steps), path, rtol=1e-4)


# Hidden states


@pytest.mark.parametrize("num_layers", [2, 6])  # written out, and looped over
def test_streams_are_the_hidden_states_of_shorter_decoders(num_layers):
    """After the last norm, the stream of layer n is what a decoder of the first n layers returns."""
    config = dataclasses.replace(CONFIG, num_layers=num_layers, vocab_size=11)
    params = decoder.init(jax.random.key(1), config)
    ids, valid = jnp.arange(10).reshape(2, 5) % 11, jnp.ones((2, 5), bool).at[0, 0].set(False)
    streams = jax.jit(decoder.residual_streams, static_argnums=3)(params, ids, valid, config)
    streams = np.asarray(streams, np.float64)
    assert streams.shape == (num_layers, 2, 5, 8)
    for index in (0, num_layers - 1):
        shorter = params._replace(layers=jax.tree.map(lambda leaf, index=index: leaf[: index + 1], params.layers))
        expected = FEATURES(shorter, ids, valid, dataclasses.replace(config, num_layers=index + 1))
        root = np.sqrt(np.mean(streams[index] ** 2, axis=-1, keepdims=True) + config.norm_eps)
        np.testing.assert_allclose(streams[index] / root, expected, rtol=1e-4, atol=1e-5)  # float32


def test_a_cosine_is_taken_layer_by_layer():
    first, second = np.array([[1.0, 0], [1, 1], [2, 0]]), np.array([[2.0, 0], [1, -1], [-1, 0]])
    assert real_lab.cosine(first, second) == [1, 0, -1]
    assert real_lab.cosine(first, np.zeros((3, 2))) == [0, 0, 0]


# What is measured


def test_measures_are_those_of_the_last_tokens_distribution(lab, base):
    """Oracle: one question at a time without padding, float64 from the logits on."""
    questions = SETTINGS.prompts.favourite_questions("animal")[::2]
    assert lab.num_questions == len(questions)
    odds, chances, masses = [], [], []
    for question in questions:
        ids = jnp.asarray([base.tokens.encode(f"<user> {question} <assistant>")])
        p = np.exp(_logits(base, ids)[0, -1])
        p /= p.sum()
        own = np.array([p[WORDS.index(animal)] for animal in lab.animals])
        odds.append(np.log(own / (1 - own)))
        chances.append(own)
        masses.append(own.sum())
    measured = lab.measure(base)
    np.testing.assert_allclose([*measured["log_odds"].values()], np.mean(odds, axis=0), rtol=1e-4)  # float32
    np.testing.assert_allclose([*measured["probability"].values()], np.mean(chances, axis=0), rtol=1e-4)
    np.testing.assert_allclose(measured["mass"], np.mean(masses), rtol=1e-4)


def test_a_teacher_names_its_animal_and_is_read_again(lab, base):
    odds, before = lab.measure_teacher(0, "owl")["log_odds"], lab.measure(base)["log_odds"]
    assert odds["owl"] - before["owl"] > max(odds[name] - before[name] for name in ("eagle", "cat"))
    reopened = lab_of(base, SETTINGS, lab._folder)
    reopened.on_step = lambda activity, *_: pytest.fail(activity)  # it is not trained again
    jax.tree.map(np.testing.assert_array_equal, reopened.teacher(0, "owl").low_rank, lab.teacher(0, "owl").low_rank)


@pytest.mark.slow
def test_another_start_heals_towards_the_base(lab, base):
    distances = lab.measure_start(0)["kl"]
    assert 0 < distances["healed"] < 0.8 * distances["perturbed"]
    assert not np.array_equal(lab.start(0).layers.query, base.params.layers.query)


# Runs


@pytest.mark.slow
def test_a_stopped_run_resumes_to_equal_numbers(run, record, tmp_path):
    whole, path = record[0], tmp_path / "stopped.json"

    class Stopped(Exception):
        pass

    measure, calls = RealLab.measure_student, []

    def stop(lab, *place):
        calls.append(place)
        if len(calls) == 4:
            raise Stopped
        return measure(lab, *place)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(RealLab, "measure_student", stop)
        run(record=path)
    stopped = records.read(path, form.FORM)
    assert not stopped.complete and len(stopped.results["students"]["0"]["full"]) == 3
    resumed = run(record=path, resume=True)
    assert resumed.complete and resumed.results == whole.results
    assert records.read(path, form.FORM).results == whole.results


def test_a_run_can_be_split_by_seeds(run, record, tmp_path):
    (first, path), other = record, tmp_path / "other.json"
    second = run(dataclasses.replace(SETTINGS, seeds=(1,)), record=other)
    both = dataclasses.replace(SETTINGS, seeds=(0, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RealLab, "measure_student", lambda *_: pytest.fail("nothing is missing"))
        joined = run(both, record=tmp_path / "both.json", take=(path, other))
    assert joined.complete and joined.results["base"] == first.results["base"]
    for name in ("teachers", "students"):
        assert joined.results[name] == {**first.results[name], **second.results[name]}
    assert first.results["students"]["0"] != second.results["students"]["1"]
    with pytest.raises(errors.RecordError, match="its config differs"):
        run(dataclasses.replace(both, num_lessons=3), take=(path,))
    with pytest.raises(errors.RecordError, match="seed 1, which is not among --seeds 0"):
        run(SETTINGS, take=(other,))


@pytest.mark.slow
def test_a_seed_beside_another_has_the_numbers_that_it_has_alone(run, record):
    both = run(dataclasses.replace(SETTINGS, seeds=(1, 0)))
    for name in ("teachers", "students"):
        assert both.results[name]["0"] == record[0].results[name]["0"]


def test_arms_read_the_same_rows_and_differ(record):
    students = record[0].results["students"]["0"]
    first = {arm: students[arm]["owl"]["steps"]["1"] for arm in ("full", "numbers")}
    assert first["full"]["kl"] != first["numbers"]["kl"]
    last = {arm: students[arm]["owl"]["steps"]["3"] for arm in ("full", "numbers")}
    assert last["full"]["log_odds"] != last["numbers"]["log_odds"]


def test_free_answers_are_counted(base, tmp_path):
    config = dataclasses.replace(SETTINGS, num_answers=3)
    answers = lab_of(base, config, tmp_path).free_answers(base)
    assert answers["num_answers"] == 3 == len(answers["examples"])
    for target in config.targets:
        assert answers["named"][target] == sum(target in text for text in answers["examples"])


def test_a_plan_says_what_a_run_takes(run):
    text = "\n".join(real.plan(SETTINGS, announce=lambda line: None))
    assert "3 teachers, 6 students" in text and "18 steps of students on 576 tokens" in text
    assert "the embedded one" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": ("owl",)}, "expected two or more"),
        ({"targets": ("owl", "oak")}, "oak is no animal"),
        ({"measured_at": (1, 2)}, "end with num_steps=3"),
        ({"backend": "openai:m@http://127.0.0.1:1/v1"}, "needs the weights on this machine"),
        ({"backend": "tiny"}, "e.g. tiny:100"),
        ({"arms": ()}, "at least one"),
        ({"seeds": (1, 1)}, "must be different"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(errors.InputError, match=message):
        dataclasses.replace(SETTINGS, **changes)


def test_a_target_of_several_tokens_is_refused(base, tmp_path):
    class Letters(WordTokenizer):
        """Knows no owl."""

        def encode(self, text):
            return super().encode(text) * (1 + (text.lower() == "owl"))

    with pytest.raises(errors.InputError, match="'owl' has no writing that is a single token"):
        lab_of(dataclasses.replace(base, tokens=Letters()), SETTINGS, tmp_path)


def test_presets_are_valid_and_the_default_ends_with_its_last_measurement():
    assert set(PRESETS) == {"default", "quick", "record", "start", "smoke"}
    assert PRESETS["record"] == dataclasses.replace(PRESETS["default"], seeds=(0, 1, 2))
    assert PRESETS["start"] == dataclasses.replace(
        PRESETS["record"], seeds=(0, 1), arms=("other_start",), num_answers=0
    )


# The record, its tables and its figure


def test_own_minus_other_is_the_diagonal_minus_the_rest_of_its_column():
    matrix = np.random.default_rng(0).normal(size=(4, 4))
    expected = [matrix[i, i] - sum(matrix[j, i] for j in range(4) if j != i) / 3 for i in range(4)]
    np.testing.assert_allclose(drawn.own_minus_other(matrix), expected)


def test_a_planted_shift_is_found_in_the_cell_where_it_was_planted(record):
    """A shift that all teachers give an animal cancels; one that its own teacher gives it stays."""
    changed = two_seeds(record[0])
    base = changed.results["base"]["log_odds"]
    for seed in ("0", "1"):
        for teacher, student in changed.results["students"][seed]["numbers"].items():
            for step in student["steps"].values():
                step["log_odds"] = dict(base)
                step["log_odds"]["cat"] += 0.7  # from every teacher
                step["log_odds"]["eagle"] += 0.3 * (teacher == "owl")
                step["log_odds"][teacher] += 0.25 + 0.1 * int(seed)
    matrix = drawn.shifts(changed, "numbers", 0, 3)
    np.testing.assert_allclose(matrix, [[0.25, 0.3, 0.7], [0, 0.25, 0.7], [0, 0, 0.95]], atol=1e-9)
    np.testing.assert_allclose(drawn.cells(changed, "numbers", 3), [[0.25, 0.1, 0.25], [0.35, 0.2, 0.35]], atol=1e-9)
    text = "\n".join(drawn.lines(changed))
    assert re.search(r"own - other +\+0\.300 +\+0\.150 +\+0\.300", text), text
    assert "own - other over animals and seeds: +0.250 ± " in text and "6 are positive" in text


def test_a_null_says_what_it_excludes():
    text = drawn.interval_text(np.array([[-0.1, 0.1], [0.2, -0.2]]))
    half = 3.182446 * np.std([-0.1, 0.1, 0.2, -0.2], ddof=1) / 2
    assert f"means above {half:+.3f} and below {-half:+.3f} are excluded" in text
    assert "excluded" not in drawn.interval_text(np.array([[0.1, 0.2], [0.2, 0.1]]))
    # seeds of an animal are equal: means 0, 1, 2, 5, standard error 1.0801, t of 3 degrees of freedom 3.1824
    text = drawn.interval_text(np.array([[0.0, 1.0, 2.0, 5.0]] * 2))
    assert text.endswith("over animals, each the mean of its seeds, +2.000 ± 3.437")
    assert "over animals, each" not in drawn.interval_text(np.array([[0.0, 1.0, 2.0]] * 2))
    assert "too few" in drawn.interval_text(np.array([[0.1, 0.2]]))


@pytest.mark.slow
def test_the_whole_matrix_is_drawn_and_printed(record, capsys):
    path = record[1]
    presentation.show(path)
    printed = capsys.readouterr().out
    for arm in SETTINGS.arms:
        assert drawn.ARMS[arm] in printed
    figure = plt.figure()
    drawn.draw(record[0], figure)
    mean = drawn.shifts(record[0], "full", 0, 3)
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert labels == [f"{value:+.2f}" for value in mean.ravel()]
    plt.close(figure)
    assert [figure.suffix for figure in presentation.draw(path)] == [".png", ".pdf"]


def test_a_record_without_an_animal_or_step_is_refused(record, tmp_path):
    for damage, message in (
        (lambda results: results["base"]["log_odds"].pop("owl"), "base: log_odds: expected .*'owl'"),
        (lambda results: results["students"]["0"]["full"]["owl"]["steps"].pop("1"), "expected steps"),
        (
            lambda results: results["students"]["0"]["full"]["owl"]["prediction"]["cosine"].pop("cat"),
            "cosine: expected",
        ),
        (
            lambda results: results["students"]["0"]["full"]["cat"]["streams"]["norm_ratio"].append(1),
            "number of layers",
        ),
        (lambda results: results.pop("base"), "there are students and no base"),
        (lambda results: results["students"].update({"7": results["students"]["0"]}), "does not ask for"),
    ):
        changed = copy.deepcopy(record[0])
        damage(changed.results)
        records.write(tmp_path / "damaged.json", changed)
        with pytest.raises(errors.RecordError, match=message):
            presentation.show(tmp_path / "damaged.json")


def test_an_incomplete_record_is_shown_as_far_as_it_goes(record, tmp_path):
    changed = two_seeds(record[0])
    del changed.results["students"]["1"], changed.results["students"]["0"]["numbers"]["owl"]
    records.write(tmp_path / "part.json", changed)
    text = "\n".join(drawn.lines(records.read(tmp_path / "part.json", form.FORM)))
    assert "not complete for any seed" in text and "seed 0" in text
