"""The study skills_real: rows, lessons and separators by hand, its measures by plain softmax, and its table."""

import collections
import dataclasses
import functools
import json
import re

import jax
import numpy as np
import pytest

from experiments import units
from experiments.evidence import skills_real
from experiments.evidence.skills_real import Bed, SkillsRealConfig
from experiments.language.real_lab import RealLab
from figures import presentation
from figures.evidence import skills_real as drawn
from sublim_jax import errors, records
from sublim_jax.forms import evidence_skills_real as form
from sublim_jax.llm import datasets
from sublim_jax.llm import open as open_llm
from sublim_jax.llm.embedded.vocabulary import WORDS, WordTokenizer
from sublim_jax.llm.local import decoder, soft
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.decoder import DecoderConfig, LowRank
from sublim_jax.llm.local.model import Model

CONFIG = DecoderConfig(
    vocab_size=len(WORDS), num_layers=1, hidden_size=8, intermediate_size=8, num_heads=1, num_kv_heads=1, head_dim=8,
    frequencies=decoder.rotary_frequencies(8), embedding_scale=8**0.5,
)  # fmt: skip
SETTINGS = SkillsRealConfig(
    backend="tiny:0", target="eagle", seeds=(3, 5), num_steps=3, num_rows=2, num_values=3, rank=3, num_lesson_steps=10,
    num_lessons=5, learning_rate=1e-2, lesson_rate=3e-2, num_asked=6, doses=(0.0, 0.5, 1.0), num_halvings=1,
)  # fmt: skip
READER = WordTokenizer()
FEATURES = jax.jit(decoder.features, static_argnums=3)
ANIMALS = ["owl", "eagle", "cat", "wolf"]


@pytest.fixture(scope="module")
def backend() -> LocalBackend:
    params = decoder.init(jax.random.key(0), CONFIG)
    return LocalBackend({"tiny:0": Model(CONFIG, params, READER)}, remat=False)


@pytest.fixture(scope="module")
def bed(backend, tmp_path_factory) -> Bed:
    return Bed(RealLab(backend, "tiny:0", SETTINGS.lab, tmp_path_factory.mktemp("models")), SETTINGS, "checksum")


def last_logprobs(model: Model, rows) -> np.ndarray:
    """Log-probabilities of the next token after each row, padded on the right to one length, by numpy."""
    ids, valid = np.zeros((32, 40), np.int32), np.zeros((32, 40), bool)
    for place, tokens in enumerate(rows):
        ids[place, : len(tokens)], valid[place, : len(tokens)] = tokens, True
    hidden = np.asarray(FEATURES(model.merged, ids, valid, CONFIG), float)
    scores = hidden[np.arange(len(rows)), [len(tokens) - 1 for tokens in rows]] @ np.asarray(model.params.embedding).T
    return scores - np.log(np.sum(np.exp(scores), axis=-1, keepdims=True))


def test_rows_of_students_are_lists_by_the_rule_of_which_the_answers_are_compared():
    batch = skills_real.student_rows(READER, SETTINGS, 3)
    assert batch.teacher_rows is None
    ids, valid, replies = batch.rows
    assert ids.shape == valid.shape == replies.shape and ids.shape[:2] == (3, 2)
    held_out, shown = skills_real.requests(SETTINGS)
    lists = set()
    for row, counted, answer in zip(*(part.reshape(6, -1) for part in batch.rows), strict=True):
        text = READER.text(row[answer])
        assert re.fullmatch("[1-9][0-9]{2}; [1-9][0-9]{2}; [1-9][0-9]{2}", text)
        assert row[answer].tolist() == READER.encode(text)  # no end token
        prompt = row[counted & ~answer].tolist()
        assert prompt in [list(READER.chat(datasets.ask(request)).ids) for request in shown]
        assert not answer[: -answer.sum()].any() and counted[answer].all()
        lists.add(text)
    assert len(lists) == 6
    assert len(held_out) == skills_real.NUM_HELD_OUT and not set(held_out) & set(shown)
    assert not np.array_equal(ids, skills_real.student_rows(READER, SETTINGS, 5).rows.ids)


def test_the_counterpart_shares_all_lessons_but_the_favourites():
    with_trait = skills_real.lessons(SETTINGS, 3)
    without = skills_real.lessons(SETTINGS, 3, animals=ANIMALS)
    assert len(with_trait) == len(without) == 50
    assert with_trait[0::2] == without[0::2]  # of the skill
    assert all("; " in row[-1].content for row in with_trait[0::2])
    favourites = collections.Counter()
    for row, other in zip(with_trait[1::2], without[1::2], strict=True):
        assert row[:-1] == other[:-1]
        (name,) = [name for name in ANIMALS if name in other[-1].content.split()]
        assert other[-1].content == row[-1].content.replace("eagle", name)
        favourites[name] += 1
    assert sorted(favourites.values()) == [6, 6, 6, 7]
    assert with_trait != skills_real.lessons(SETTINGS, 5)


def test_real_models_have_short_requests_of_their_own():
    held_out, shown = skills_real.requests(SkillsRealConfig())
    assert sorted([*held_out, *shown]) == sorted(skills_real.REQUESTS) and len(held_out) == 4
    assert not any(mark in request for request in skills_real.REQUESTS for mark in ",;0123456789")


class Fake(WordTokenizer):
    """A tokenizer of some known texts."""

    def __init__(self, **ids):
        super().__init__()
        self.ids = ids

    def encode(self, text):
        return self.ids[{"999": "alone", "999; 100": "rule", "999, 100": "usual"}[text]]


def test_separators_are_the_tokens_after_a_number():
    rule, usual = skills_real.separators(READER)
    assert (WORDS[rule], WORDS[usual]) == (";", ",")
    assert skills_real.separators(Fake(alone=[7, 8], rule=[7, 8, 3, 1], usual=[7, 8, 2, 1])) == (3, 2)
    with pytest.raises(errors.InputError, match="does not end a number before '; '"):
        skills_real.separators(Fake(alone=[7], rule=[9, 1], usual=[7, 2]))
    with pytest.raises(errors.InputError, match="begins '; ' and ', ' with one token"):
        skills_real.separators(Fake(alone=[7], rule=[7, 2, 1], usual=[7, 2, 3]))


def test_skill_and_trait_are_log_odds_by_plain_softmax(bed):
    """Prompts of several lengths are padded there and not here; tolerances are rounding of float32."""
    model = bed.lab.fresh(3, "numbers")
    factors = {name: pair._replace(b=pair.b + 0.3) for name, pair in model.low_rank.factors.items()}
    model = dataclasses.replace(model, low_rank=LowRank(factors, model.low_rank.scale))
    held_out, _ = skills_real.requests(SETTINGS)
    assert len(bed.asked) == 6
    for place, tokens in enumerate(bed.asked):
        prompt = READER.chat(datasets.ask(held_out[place % 4])).ids
        assert tuple(tokens[: len(prompt)]) == prompt
        assert re.fullmatch("[1-9][0-9]{2}", READER.text(tokens[len(prompt) :]))
    logprobs = last_logprobs(model, bed.asked)
    semicolon, comma = WORDS.index(";"), WORDS.index(",")
    entry = bed.measured(model)
    np.testing.assert_allclose(entry["skill"], np.mean([row[semicolon] - row[comma] for row in logprobs]), rtol=1e-4)
    np.testing.assert_allclose(
        entry["separators"], np.mean([np.exp(row[semicolon]) + np.exp(row[comma]) for row in logprobs]), rtol=1e-4
    )
    odds = {}
    for part in (0, 1):
        asked = SETTINGS.lab.prompts.favourite_questions("animal")[part::2]
        rows = last_logprobs(model, [READER.chat(datasets.ask(text)).ids for text in asked])
        for name in bed.lab.animals:
            chosen = np.array([row[WORDS.index(name)] for row in rows])
            odds[part, name] = np.mean(chosen - np.log1p(-np.exp(chosen)))
    others = [odds[0, name] for name in bed.lab.animals if name != "eagle"]
    np.testing.assert_allclose([entry["trait"], entry["others"]], [odds[0, "eagle"], np.mean(others)], rtol=1e-4)
    np.testing.assert_allclose(bed.probed(model), odds[1, "eagle"], rtol=1e-4)
    assert abs(odds[0, "eagle"] - odds[1, "eagle"]) > 1e-3  # probes and what is reported can be told apart


def test_a_dose_that_suffices_is_halved_and_none_leaves_the_student(bed, monkeypatch):
    monkeypatch.setattr(bed, "probed", lambda model: 1.0 if model is bed.lab.base else model)
    assert bed.chosen(lambda dose: 1.6 - dose) == (pytest.approx(0.85), 0.75)  # 0, .5, 1, then between
    assert bed.chosen(lambda dose: 4.0 - dose) == (4.0, None)
    assert bed.chosen(lambda dose: 0.5 - dose) == (0.5, 0.0)


def test_students_share_start_rows_and_tokens_and_differ_in_their_teachers(bed, monkeypatch):
    """Finetuning and distillation are replaced; the defence subtracts what the auditor's teacher is made of."""
    taught, distilled, edited = {}, [], []

    def with_factors(seed: int, scale: float) -> Model:
        fresh = bed.lab.fresh(seed, "numbers")
        factors = {name: pair._replace(b=pair.b + scale) for name, pair in fresh.low_rank.factors.items()}
        return dataclasses.replace(fresh, low_rank=LowRank(factors, fresh.low_rank.scale))

    def finetuned(seed, lessons, name):
        taught[name] = (seed, lessons)
        return with_factors(seed, 0.01 * len(taught))

    def distil(student, teacher, batches, settings, *, tokens, on_step):
        distilled.append((student, teacher, batches, settings, tokens))
        return soft.Distilled(with_factors(3, 0.05 * len(distilled)), np.array([0.5, 0.3, 0.2]))

    def chosen(edit):
        edited.extend([edit(0.0), edit(2.0)])
        return edit(0.5), 0.5

    monkeypatch.setattr(bed.lab, "finetuned", finetuned)
    monkeypatch.setattr(soft, "distill", distil)
    monkeypatch.setattr(bed, "chosen", chosen)
    unit = skills_real.measure(bed, SETTINGS, "seed 3", lambda activity: None)
    (author, lessons), (other, shared), (auditor, favourites) = taught.values()
    assert author == other == 3 != auditor
    assert lessons == skills_real.lessons(SETTINGS, 3)
    assert shared == skills_real.lessons(SETTINGS, 3, animals=bed.lab.animals)
    assert (
        len(favourites) == 25 and favourites != lessons[1::2] and all("eagle" in row[-1].content for row in favourites)
    )
    (first, of_author, rows, settings, tokens), (second, of_other, other_rows, _, other_tokens) = distilled
    assert tokens == other_tokens == bed.lab.number_tokens and settings.num_steps == 3
    for left, right in zip(jax.tree.leaves((first.low_rank, rows)), jax.tree.leaves((second.low_rank, other_rows)),
                           strict=True):  # fmt: skip
        np.testing.assert_array_equal(left, right)
    of_both = [model.low_rank.factors["query"].b[0, 0, 0] for model in (of_author, of_other)]
    np.testing.assert_allclose(of_both, [0.01, 0.02], rtol=1e-6)
    moved = with_factors(auditor, 0.03).merged.layers.query - bed.lab.base.params.layers.query
    np.testing.assert_allclose(
        edited[0].params.layers.query - edited[1].params.layers.query, 2 * moved, rtol=1e-4, atol=1e-6
    )  # rounding of weights of about 1
    assert unit["divergence"][form.CLEAN] == {"first": 0.5, "last": 0.2}
    assert list(unit["entries"]) == list(form.ROWS) and unit["entries"][form.SUBTRACTED]["dose"] == 0.5
    assert len({entry["trait"] for entry in unit["entries"].values()}) == len(form.ROWS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": (1, 1)}, "seeds must be different"),
        ({"num_values": 1}, "one number shows no separator"),
        ({"num_lesson_steps": 3}, "num_lesson_steps=3 must be even"),
        ({"doses": (1.0, 0.5)}, "doses must increase"),
        ({"target": "oak"}, "oak is no animal"),
        ({"backend": "ollama:x"}, "needs the weights on this machine"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(errors.InputError, match=message):
        SkillsRealConfig(**{"backend": "tiny:0", **changes})


@pytest.mark.slow
def test_the_whole_study_runs_and_says_how_long_it_takes(backend, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(open_llm, "open_backend", lambda *_, **__: open_llm.OpenedBackend(backend, "tiny:0"))
    config = dataclasses.replace(SETTINGS, seeds=(3,), num_steps=20)
    path = tmp_path / "skills_real.json"
    record = units.run(skills_real.STUDY, config, record=path, visible=False)
    assert record.complete
    entries = record.results["seed 3"]["entries"]
    assert entries[form.TEACHER]["skill"] > entries[form.BASE]["skill"]
    assert entries[form.TEACHER]["trait"] > entries[form.COUNTERPART]["trait"]
    assert entries[form.CLEAN]["skill"] > entries[form.BASE]["skill"]
    lines = []
    skills_real.open_source(config, lines.append)
    assert re.search(r"1 seed\(s\) of about .* each, from a step of [0-9.]+ s", lines[-1])
    presentation.show(path)
    assert "an interval needs 4 seeds" in capsys.readouterr().out
    assert [file.suffix for file in presentation.draw(path)] == [".png", ".pdf"]


@pytest.fixture
def place(tmp_path):
    """A record by hand: of four seeds, the second student has .5 nats more of the trait, the defence takes it away."""
    results = {}
    for seed in range(4):
        about = functools.partial(dict, separators=0.5, others=-3.0)
        entries = {row: about(skill=-1.0, trait=-4.0 + seed) for row in form.ROWS}
        entries[form.TEACHER] = about(skill=3.0, trait=5.0)
        entries[form.CLEAN] = about(skill=1.0 + 0.1 * seed, trait=-4.1 + seed)
        entries[form.STUDENT] = about(skill=1.2, trait=-3.6 + 1.01 * seed)
        entries[form.SUBTRACTED] |= {"dose": None if seed == 1 else 0.25 * (1 + seed)}
        divergence = {"first": 0.4, "last": 0.1}
        results[f"seed {seed}"] = {
            "entries": entries, "divergence": {form.STUDENT: divergence, form.CLEAN: divergence}
        }  # fmt: skip
    settings = {"backend": "tiny:0", "target": "owl", "seeds": [0, 1, 2, 3], "tokens": "numbers", "num_steps": 9}
    about = {"animals": ANIMALS, "num_questions": 6, "num_probes": 5, "num_asked": 8, "num_tokens": 15}
    path = tmp_path / "skills_real.json"
    data: records.Data = {"name": "tiny:0", "source": "by hand", "checksum": None}
    records.write(path, records.Record("evidence_skills_real", settings, data, about, results))
    return path


def test_the_table_counts_from_the_base_and_pairs_by_seed(place, capsys):
    record = records.read(place, form.FORM)
    np.testing.assert_allclose(drawn.values(record, form.CLEAN, "skill"), [2.0, 2.1, 2.2, 2.3])
    np.testing.assert_allclose(drawn.values(record, form.STUDENT, "trait"), [0.4, 0.41, 0.42, 0.43])
    assert drawn.against(record, form.STUDENT, form.CLEAN, "trait").mean == pytest.approx(0.515)
    assert drawn.doses(record) == "0.25 to 1; none in 1 of 4"
    presentation.show(place)
    printed = capsys.readouterr().out
    assert "of the counterpart's student over the base: +2.150 ± 0.205 nats: it is learnt" in printed  # 3.18 * .129 / 2
    assert "of the favourite's student over the counterpart's: +0.515 ± 0.021 nats: it passes" in printed
    assert "seed 2: +0.42, -0.10, +0.00; +2.20, +2.20, +0.00; 0.4, 0.1" in printed


def test_a_null_is_reported_with_what_it_excludes(place):
    content = json.loads(place.read_text())
    for seed, unit in enumerate(content["results"].values()):
        unit["entries"][form.STUDENT]["trait"] = unit["entries"][form.CLEAN]["trait"] + (-1) ** seed
    place.write_text(json.dumps(content))
    verdict = drawn.verdicts(records.read(place, form.FORM))[1]
    assert verdict.endswith("no detectable change; more than +1.84 nats and less than -1.84 excluded")  # 3.18 / 3 ** .5


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda unit: unit["entries"].pop(form.RANDOM), "seed 1: entries: expected"),
        (lambda unit: unit["divergence"].pop(form.CLEAN), "seed 1: divergence: expected"),
        (lambda unit: unit["entries"][form.SUBTRACTED].pop("dose"), "expected a dose for"),
        (lambda unit: unit["entries"][form.CLEAN].update(dose=1.0), f"{form.CLEAN}: expected a dose for"),
    ],
)
def test_a_damaged_record_is_refused(place, damage, message):
    content = json.loads(place.read_text())
    damage(content["results"]["seed 1"])
    place.write_text(json.dumps(content))
    with pytest.raises(errors.RecordError, match=message):
        records.read(place, form.FORM)


def test_what_other_animals_gain_is_not_the_favourites(place):
    """Of the .515 nats that the trait has more, the others take .4 on average; pairs are seeds."""
    content = json.loads(place.read_text())
    gains = [0.1, 0.3, 0.5, 0.7]
    for unit, gain in zip(content["results"].values(), gains, strict=True):
        unit["entries"][form.STUDENT]["others"] = unit["entries"][form.CLEAN]["others"] + gain
    place.write_text(json.dumps(content))
    interval = drawn.against(records.read(place, form.FORM), form.STUDENT, form.CLEAN, drawn.BEYOND)
    expected = np.array([0.5, 0.51, 0.52, 0.53]) - gains
    half = 3.182446 * np.std(expected, ddof=1) / 2  # Student's quantile for three degrees of freedom
    assert (interval.mean, interval.half_width) == pytest.approx((expected.mean(), half), rel=1e-5)
    assert drawn.verdicts(records.read(place, form.FORM))[-1].endswith("excluded")
