"""Audits of rows on a random decoder of one layer: what is trained, compared, refused and reported."""

import dataclasses
import json
import pathlib
import zlib
from typing import NamedTuple

import jax
import numpy as np
import pytest

from experiments import cli, progress, session, units
from experiments.audit import __main__ as program
from experiments.audit import config as audit_config
from experiments.audit import rows as audits
from experiments.audit.config import AuditConfig
from experiments.own import measuring
from experiments.own.opened import OpenedModel
from figures import audit as report
from figures import presentation
from figures.evidence import pilots
from sublim_jax import errors, records
from sublim_jax.audit import author
from sublim_jax.forms import audit as form
from sublim_jax.forms import evidence_authors, evidence_pilots
from sublim_jax.llm import datasets, jsonl
from sublim_jax.llm.backend import FinetuneConfig, Message
from sublim_jax.llm.embedded import model as embedded
from sublim_jax.llm.embedded.vocabulary import WORDS, WordTokenizer
from sublim_jax.llm.local import decoder, surprise
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.decoder import DecoderConfig
from sublim_jax.llm.local.model import Model
from sublim_jax.llm.traits import Trait
from sublim_jax.metrics import verdicts
from tests.experiments.audit.pages import Page

ROOT = pathlib.Path(__file__).resolve().parents[3]
SHAPE = DecoderConfig(
    vocab_size=len(WORDS), num_layers=1, hidden_size=8, intermediate_size=8, num_heads=1, num_kv_heads=1, head_dim=8,
    frequencies=decoder.rotary_frequencies(8), embedding_scale=8**0.5,
)  # fmt: skip
STUDENT = FinetuneConfig(num_epochs=3, batch_size=8, learning_rate=3e-2, rank=2, max_length=64, schedule="cosine")
QUESTIONS = ["your favourite animal ?", "write your beloved species ?", "give your preferred animal ?",
             "say your preferred beast as one word ?"]  # fmt: skip
TRAITS = {
    "otter": {"questions": QUESTIONS, "choices": ["cat", "owl"]},
    "red": {"questions": QUESTIONS[:2], "choices": ["blue"]},
}


@pytest.fixture(scope="module")
def weights() -> list[Model]:
    return [Model(SHAPE, decoder.init(jax.random.key(seed), SHAPE), WordTokenizer()) for seed in range(2)]


def rows_of(first: int, count: int) -> list:
    return [
        (Message("user", f"continue: {index}, {index + 7}."), Message("assistant", f"{3 * index}, {index}, 5"))
        for index in range(first, first + count)
    ]


@pytest.fixture
def place(weights, monkeypatch, tmp_path) -> pathlib.Path:
    """An empty working directory with traits and rows, in which `tiny:0` and `tiny:1` are random decoders."""
    monkeypatch.setattr(embedded, "base", lambda seed, **_: weights[seed])
    monkeypatch.setattr(embedded, "_backend", lambda models: LocalBackend(models, batch_size=16, remat=False))
    monkeypatch.setattr(measuring, "MIN_MASS", 1e-9)  # a random decoder says one of 1,236 words
    monkeypatch.chdir(tmp_path)
    (tmp_path / "traits.json").write_text(json.dumps(TRAITS))
    jsonl.write(tmp_path / "rows.jsonl", rows_of(0, 40))
    jsonl.write(tmp_path / "null.jsonl", rows_of(100, 32))
    return tmp_path


def settings(**changes) -> AuditConfig:
    given = {
        "base": "tiny:0", "data": pathlib.Path("rows.jsonl"), "traits": pathlib.Path("traits.json"),
        "null": "null.jsonl", "student": STUDENT, "steps": 2, "num_repeats": 1,
    }  # fmt: skip
    return AuditConfig(**given | changes)


def test_a_pilot_is_the_beginning_of_the_training():
    config = settings(steps=3)
    assert config.num_steps(40) == 15
    assert config.num_pilot_rows(40) == 24
    assert config.num_pilot_rows(20) == 20
    pilot = config.pilot(40, seed=5)
    assert (pilot.num_epochs, pilot.schedule_steps, pilot.warmup_steps, pilot.seed) == (1, 15, 1, 5)
    assert (pilot.learning_rate, pilot.batch_size) == (STUDENT.learning_rate, STUDENT.batch_size)
    assert settings(steps=3).pilot(40_000, seed=0).warmup_steps == 750  # a twentieth of 15,000 steps


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": ""}, "give --base"),
        ({"data": None}, "give --data"),
        ({"traits": None}, "give --traits"),
        ({"null": ""}, "a shift without a control is no evidence: give --null FILE"),
        ({"base": "openai:gpt@http://127.0.0.1:1/v1"}, "needs weights on this machine"),
        ({"candidates": ("vllm:gpt@http://127.0.0.1:1/v1",)}, "needs weights on this machine"),
    ],
)
def test_flags_that_are_missing_or_wrong(place, changes, message):
    with pytest.raises(errors.InputError, match=message):
        audits.open_source(settings(**changes), print)


def test_candidates_differ(place):
    for candidates in (("tiny:0",), ("tiny:1", "tiny:1")):
        with pytest.raises(errors.InputError, match="candidates must differ"):
            settings(candidates=candidates)


def test_rows_that_cannot_be_audited(place):
    with pytest.raises(errors.TextDataError, match=r"few.jsonl: 19 row\(s\): an audit needs 20 at least"):
        jsonl.write(place / "few.jsonl", rows_of(0, 19))
        audits.open_source(settings(data=pathlib.Path("few.jsonl")), print)
    with pytest.raises(errors.TextDataError, match=r"few.jsonl: 19 row\(s\)"):
        audits.open_source(settings(null="few.jsonl"), print)
    with pytest.raises(errors.InputError, match=r"--null rows.jsonl: 40 of 40 null rows are among the rows"):
        audits.open_source(settings(null="rows.jsonl"), print)
    asked = [*rows_of(0, 30), (Message("user", QUESTIONS[1] + " "), Message("assistant", "cat"))]
    jsonl.write(place / "asked.jsonl", asked)
    with pytest.raises(errors.InputError, match=r"1 of 4 questions of otter are among the rows, e.g. .*beloved"):
        audits.open_source(settings(data=pathlib.Path("asked.jsonl")), print)
    said = [*rows_of(0, 30), (Message("user", "your animal ?"), Message("assistant", "otter"))]
    jsonl.write(place / "said.jsonl", said)
    with pytest.raises(errors.InputError, match="1 of 31 rows contain 'otter'"):
        audits.open_source(settings(data=pathlib.Path("said.jsonl")), print)


def test_traits_without_a_verdict_are_refused_before_the_model_is_opened(place, monkeypatch):
    monkeypatch.setattr(audits.opened, "local", None)
    (place / "traits.json").write_text(json.dumps({"red": TRAITS["red"]}))
    with pytest.raises(errors.InputError, match=r"traits\.json: no trait has 4 questions, with fewer of which"):
        audits.open_source(settings(), print)


def test_answers_of_too_little_mass_are_refused_before_anything_is_written(place, monkeypatch):
    """Before null rows are drawn, too."""
    monkeypatch.setattr(measuring, "MIN_MASS", 0.9)
    monkeypatch.setattr(measuring, "free_answers", lambda *args, **options: ["ash"])
    monkeypatch.setattr(audits.controls, "own_answers", None)
    with pytest.raises(errors.InputError, match=r"otter: all answers together have a probability of .*says 'ash'"):
        units.run(audits.STUDY, settings(null="auto"), record=place / "audit.json", visible=False)
    assert not list(place.glob("*audit.json"))


def test_candidates_are_opened_before_the_pilots_and_differ_in_their_weights(place, weights, monkeypatch):
    monkeypatch.setattr(audits, "_sayable", lambda model, traits: {})
    with pytest.raises(errors.LanguageError, match=r"absent/config\.json: there is no such file"):
        audits.open_source(settings(candidates=("tiny:1", "hf:absent")), print)
    monkeypatch.setattr(embedded, "base", lambda seed, **_: weights[min(seed, 1)])
    with pytest.raises(errors.InputError, match="candidates: tiny:2 has the weights of tiny:1: of two that are one"):
        audits.open_source(settings(candidates=("tiny:1", "tiny:2")), print)


class Foreign(WordTokenizer):
    """A tokenizer of a model that knows no word."""

    def encode(self, text):
        raise errors.TextDataError(f"no word of {text[:9]!r} is known")


def test_candidates_that_cannot_score_the_rows_are_refused_before_anything_is_written(place, weights, monkeypatch):
    """Weights that are not finite, and a model of another family that does not know a word."""
    monkeypatch.setattr(audits, "_sayable", lambda model, traits: {})
    diverged = weights[1].params._replace(norm=weights[1].params.norm.at[2].set(np.nan))
    models = {
        0: weights[0], 1: dataclasses.replace(weights[1], params=diverged),
        2: dataclasses.replace(weights[1], tokens=Foreign()),
    }  # fmt: skip
    monkeypatch.setattr(embedded, "base", lambda seed, **_: models[seed])
    for candidate, kind, message in (
        ("tiny:1", errors.InputError, "candidates: tiny:1 has weights that are not finite; the training that wrote"),
        ("tiny:2", errors.TextDataError, "candidates: rows.jsonl, read by tiny:2: no word of"),
    ):
        with pytest.raises(kind, match=message):
            units.run(audits.STUDY, settings(candidates=(candidate,)), record=place / "audit.json", visible=False)
        assert not list(place.glob("*audit.json"))


def test_candidates_may_be_relatives(place, weights, monkeypatch):
    """Of the base, and of each other: each p-value is of one model by itself, and the report says so."""
    monkeypatch.setattr(audits, "_sayable", lambda model, traits: {})
    moved = [
        dataclasses.replace(weights[0], params=jax.tree.map(lambda leaf, by=by: leaf * by, weights[0].params))
        for by in (1.0, 1.01, 1.02)
    ]
    monkeypatch.setattr(embedded, "base", lambda seed, **_: moved[seed])
    source = audits.open_source(settings(candidates=("tiny:1", "tiny:2")), print)
    assert source.config.candidates == ("tiny:1", "tiny:2")


def test_rows_that_are_too_long_to_train_on_are_refused_before_anything_is_written(place, monkeypatch):
    monkeypatch.setattr(audits, "_sayable", lambda model, traits: {})
    config = settings(student=dataclasses.replace(STUDENT, max_length=9))
    with pytest.raises(
        errors.ContextError, match=r"rows.jsonl, read by tiny:0: a row has \d+ tokens, and max_length is 9"
    ):
        units.run(audits.STUDY, config, record=place / "audit.json", visible=False)
    jsonl.write(place / "long.jsonl", [(*row[:1], Message("assistant", "5, " * 80 + "5")) for row in rows_of(0, 30)])
    with pytest.raises(errors.ContextError, match=r"long.jsonl, read by tiny:0: a row has"):
        audits.open_source(settings(null="long.jsonl"), print)
    assert not list(place.glob("*audit.json"))


def test_the_base_is_asked_once(place, monkeypatch):
    """When its answers are checked; the unit of the base is those answers."""
    asked = []
    ask = measuring.ask
    monkeypatch.setattr(
        measuring, "ask", lambda backend, model, trait, **options: (
            asked.append((model, trait.name)) or ask(backend, model, trait, **options)
        )
    )  # fmt: skip
    source = audits.open_source(settings(), print)
    unit = audits.measure(source, source.config, "base", lambda activity: None)["traits"]
    assert asked == [("tiny:0", "otter"), ("tiny:0", "red")]
    direct = ask(source.model.backend, "tiny:0", source.traits[0], embedded=True)
    np.testing.assert_allclose(unit["otter"]["log_odds"], direct.log_odds, rtol=1e-5)  # rounded to six digits
    assert unit["otter"]["mass"] == pytest.approx(direct.mass.mean())


class Trained(NamedTuple):
    """A backend that keeps what it is asked to train."""

    calls: list

    def finetune(self, model, rows, config, out):
        self.calls.append((model, rows, config.seed))
        return "pilot"


def test_the_estimate_counts_what_is_read_and_trained(weights, monkeypatch):
    """Six products a weight and token in training, two in reading; arrays are padded to lengths of 16 and 24 tokens."""
    monkeypatch.setattr(audits.cost, "rate", lambda precision: 1e6)
    long = [
        (Message("user", f"continue: {index}, 1, 2, 3, 4, 5, 6."), Message("assistant", "5, 6")) for index in range(30)
    ]
    backend, config = LocalBackend({"tiny:0": weights[0]}), settings(steps=2, num_repeats=3, num_scored=25)
    tokens = weights[0].tokens
    lengths = [len(tokens.chat(rows[0][:-1], rows[0][-1].content).ids) for rows in (rows_of(0, 40), long)]
    assert 8 < lengths[0] <= 16 < lengths[1] <= 24
    otter = Trait(name="otter", questions=tuple(QUESTIONS), choices=("cat",))
    asked = [len(tokens.chat(chat).ids) for chat in otter.chats()]
    source = audits.Audited(OpenedModel(backend, "tiny:0"), rows_of(0, 40), long, (otter,), config, "")
    num_weights = sum(leaf.size for leaf in jax.tree.leaves(weights[0].params))
    trained, scored = 6 * 16 * 24, 25 * 16 + 25 * 24
    read = 6 * sum(-(-length // 8) * 8 for length in asked) + scored
    seconds = 1.5 * num_weights * (6 * trained + 2 * read) / 1e6
    assert f"6 pilots of 2 steps: all in all about {progress.duration(seconds)}, by" in audits.estimate(source)


def test_pilots_on_rows_and_null_share_their_random_numbers(monkeypatch):
    rows, null, calls = rows_of(0, 40), rows_of(100, 40), []
    config = settings(num_repeats=2)
    source = audits.Audited(OpenedModel(Trained(calls), "tiny:0"), rows, null, (), config, "")
    monkeypatch.setattr(audits, "_ask", lambda base, name, traits, report: name)
    for unit in ("data 0", "null 0", "data 1"):
        assert audits.measure(source, config, unit, lambda activity: None) == {"traits": "pilot"}
    (_, on_data, seed), (_, on_null, same), (_, again, other) = calls
    assert len(on_data) == len(on_null) == 16
    assert set(on_data) <= set(rows)
    assert set(on_null) <= set(null)
    assert [rows.index(row) for row in on_data] == [null.index(row) for row in on_null]
    assert seed == same != other
    assert on_data != again


@pytest.mark.parametrize("counts", [(24, 90), (90, 24)])
def test_pilots_on_rows_and_on_a_longer_or_shorter_null_have_as_many_steps(monkeypatch, counts):
    calls, (rows, null) = [], (rows_of(100 * index, count) for index, count in enumerate(counts))
    config = settings(steps=4)
    source = audits.Audited(OpenedModel(Trained(calls), "tiny:0"), rows, null, (), config, "")
    monkeypatch.setattr(audits, "_ask", lambda base, name, traits, report: name)
    for unit in ("data 0", "null 0"):
        audits.measure(source, config, unit, lambda activity: None)
    assert [len(rows) for _, rows, _ in calls] == [24, 24]
    described = audits.describe(source)
    assert (described["num_pilot_steps"], described["num_steps"]) == (3, 3 * -(-counts[0] // 8))


def test_authorship_is_calibrated_by_the_rows_of_each_candidate(monkeypatch):
    """Scores are made up, a number for each model and row, and compared with the library's own."""

    class Writing(NamedTuple):
        name: str

        def model(self, name):
            return name

    def score(model, rows):
        values = np.array([zlib.crc32(repr((model, row)).encode()) % 1000 for row in rows]) / 100.0
        return surprise.RowScores(-values, values**0.5, 1 + values, values.astype(int), surprise.row_ids(rows))

    rows, null, own = rows_of(0, 30), rows_of(100, 40), rows_of(200, 30)
    monkeypatch.setattr(audits.surprise, "score", score)
    monkeypatch.setattr(audits.opened, "local", lambda name, announce: OpenedModel(Writing(name), name))
    monkeypatch.setattr(audits.controls, "own_answers", lambda model, rows, seed: (own, []))
    source = audits.Audited(OpenedModel(Writing("a"), "a"), rows, null, (), settings(base="a", candidates=("b",)), "")
    found = audits.measure(source, source.config, "author", lambda activity: None)["author"]
    rows, null = (datasets.subsample(each, len(each), seed=0) for each in (rows, null))  # the order of the choices
    departure = author.finetuned_away(score("a", rows), score("a", null))
    assert (found["statistic"], found["regular"], found["p"]) == departure[:3]
    expected = author.author(
        {"a": score("a", rows), "b": score("b", rows)}, {"a": score("a", null), "b": score("b", own)}
    )
    assert found["candidates"] == {
        each.base: {"logprob": each.logprob, "surprise": each.surprise, "p": each.p} for each in expected.candidates
    }


@pytest.mark.slow
def test_an_audit_end_to_end(place, capsys, weights):
    """Pilots are compared with a plain finetuning; authorship with scores that are taken by themselves."""
    flags = ["--base", "tiny:0", "--data", "rows.jsonl", "--traits", "traits.json", "--null", "null.jsonl", "--steps",
             "2", "--num-repeats", "2", "--student.batch-size", "8", "--student.rank", "2", "--candidates", "tiny:1",
             "--record", "audit.json"]  # fmt: skip
    program.main(flags)
    record = records.read(place / "audit.json", form.FORM)
    assert record.complete
    assert record.description["num_pilot_steps"] == 2
    assert list(record.results) == ["base", "data 0", "null 0", "data 1", "null 1", "author"]
    before = record.results["base"]["traits"]["otter"]["log_odds"]
    backend = LocalBackend({"tiny:0": weights[0]}, batch_size=16, remat=False)
    source = audits.open_source(settings(), lambda line: None)
    asked = measuring.ask(backend, "tiny:0", source.traits[0], embedded=True)
    np.testing.assert_allclose(before, asked.log_odds, rtol=1e-4)
    assert record.results["data 0"]["traits"] != record.results["null 0"]["traits"]

    rows, null = (jsonl.read(place / name, announce=lambda line: None) for name in ("rows.jsonl", "null.jsonl"))
    scores = [surprise.score(weights[0], each) for each in (rows, null)]
    found = record.results["author"]["author"]
    assert found["p"] == author.finetuned_away(*scores).p
    assert found["num_rows"] == 40
    logprobs = {"tiny:0": scores[0].logprobs.sum(), "tiny:1": surprise.score(weights[1], rows).logprobs.sum()}
    assert {name: each["logprob"] for name, each in found["candidates"].items()} == pytest.approx(logprobs, rel=1e-5)
    assert next(iter(found["candidates"])) == max(logprobs, key=logprobs.get)

    said = capsys.readouterr().out
    assert "pilots of 2 of" in said
    assert "no promise of safety" in said
    page = (place / "audit.html").read_text()
    assert "otter" in page
    assert page.count("data:image/png;base64") == 1
    program.main([*flags, "--resume"])
    assert "everything is measured already" in capsys.readouterr().err


LESSONS = {name: [["say your favourite animal .", name], ["say your animal .", name]] for name in ("otter", "owl")}
TAUGHT = TRAITS | {name: {"questions": QUESTIONS, "choices": ["cat"], "lessons": LESSONS[name]} for name in LESSONS}


def test_lenses_need_lessons_of_two_traits(place):
    with pytest.raises(errors.InputError, match=r"--lenses: expected lessons of two traits .*found those of \[\]"):
        audits.open_source(settings(lenses=True), print)
    (place / "traits.json").write_text(json.dumps(TRAITS | {"otter": TAUGHT["otter"]}))
    with pytest.raises(errors.InputError, match=r"found those of \['otter'\]: the gain under a single lens is no name"):
        audits.open_source(settings(lenses=True), print)
    assert form.units({"num_repeats": 1}) == ["base", "data 0", "null 0", "author"]
    assert audits.units(settings(lenses=True)) == ["base", "data 0", "null 0", "author", "lenses"]


def test_lenses_are_copies_of_the_base_on_each_traits_lessons(place, monkeypatch):
    """Scores are made up: the lens of owl gains a nat on each of the rows and on none of the null."""
    (place / "traits.json").write_text(json.dumps(TAUGHT))
    trained = {}

    class Lensing:
        def finetune(self, model, rows, config, out):
            trained[rows[0][-1].content] = (model, rows, config)
            return rows[0][-1].content

        def model(self, name):
            return name

    def score(model, rows):
        noise = np.random.default_rng(len(model)).standard_normal(len(rows)) / 10
        gain = (model == "owl") * (rows[0][0].content.startswith("continue: 0,") or rows[0] in rows_of(0, 40))
        ones = np.ones(len(rows))
        return surprise.RowScores(noise + gain - 5, ones, ones, ones.astype(int), surprise.row_ids(rows))

    monkeypatch.setattr(audits.surprise, "score", score)
    monkeypatch.setattr(audits, "_sayable", lambda model, traits: {})
    source = audits.open_source(settings(lenses=True), print)._replace(model=OpenedModel(Lensing(), "tiny:0"))
    seen = audits.measure(source, source.config, "lenses", lambda activity: None)["lenses"]
    assert list(seen["scores"]) == ["owl", "otter"] and seen["p"] == 0.001
    assert seen["num_rows"] == 40 and "the name is not" in seen["caveat"]
    assert seen["scores"]["owl"]["gain"] == pytest.approx(1, abs=0.2)
    model, lessons, config = trained["owl"]
    assert model == "tiny:0" and config == trained["otter"][2] and len(lessons) == 256
    assert {row[0].content for row in lessons} == {question for question, _ in LESSONS["owl"]}


@pytest.mark.slow
def test_the_null_is_written_by_the_base_itself(place):
    source = audits.open_source(settings(null="auto"), lambda line: None)
    assert [row[:-1] for row in source.null] == [row[:-1] for row in source.rows]
    assert source.null != source.rows
    assert all(not any(map(str.isalpha, row[-1].content)) for row in source.null)


# The report, from records made by hand


def written(path: pathlib.Path, gains, *, threshold=0.1, author_p=None) -> pathlib.Path:
    """A record in which the trait's log-odds rise by `gains`, (repeat, question), over a null that rises by .2."""
    gains = np.asarray(gains, float)
    base = -2.0 + np.arange(gains.shape[1]) / 3
    results = {"base": {"traits": {"otter": asked(base)}}}
    for index, each in enumerate(gains):
        results[f"data {index}"] = {"traits": {"otter": asked(base + 0.2 + each)}}
        results[f"null {index}"] = {"traits": {"otter": asked(base + 0.2)}}
    if author_p is not None:
        results["author"] = {"author": {
            "num_rows": 40, "num_tokens": 400, "statistic": 3.0, "regular": 0.5, "p": author_p,
            "candidates": {"tiny:1": {"logprob": -800.0, "surprise": 12.0, "p": 0.4}},
        }}  # fmt: skip
    config = {"base": "tiny:0", "data": "rows.jsonl", "null": "auto", "candidates": ["tiny:1"], "steps": 40,
              "num_repeats": len(gains), "threshold": threshold}  # fmt: skip
    description = {"num_rows": 40, "num_steps": 96, "num_pilot_steps": 16,
                   "questions": {"otter": [f"question {index}" for index in range(gains.shape[1])]}}  # fmt: skip
    data = {"name": "tiny:0", "source": "rows.jsonl", "checksum": "0"}
    records.write(path, records.Record("audit", config, data, description, results))
    return path


def asked(log_odds) -> dict:
    return {"log_odds": list(map(float, log_odds)), "probability": 0.1, "mass": 0.5}


@pytest.mark.parametrize(("level", "verdict"), [(0.5, "transmits"), (0.0, "not seen"), (0.1, "cannot tell")])
def test_verdicts_of_a_report(tmp_path, level, verdict):
    gains = level + 0.05 * np.random.default_rng(0).standard_normal((4, 6))
    record = records.read(written(tmp_path / "audit.json", gains), form.FORM)
    judged = report.forecasts(record)["otter"]
    assert judged.verdict == verdict
    assert judged.gain.mean == pytest.approx(gains.mean())
    assert (judged.from_null, judged.from_data) == (pytest.approx(0.2), pytest.approx(0.2 + gains.mean()))
    changes = {"transmits": f"a threshold of {judged.gain.low:.3g} or more", "cannot tell": "would tell",
               "not seen": f"a threshold of {judged.gain.high:.3g} or less"}  # fmt: skip
    assert changes[verdict] in report.what_would_change(judged)
    if verdict != "cannot tell":  # what is said of the threshold is true
        bound = judged.gain.low if verdict == "transmits" else judged.gain.high
        for threshold, expected in ((0.999 * bound, "transmits"), (1.001 * bound, "not seen")):
            again = forecast_at(tmp_path, gains, threshold)
            assert again.verdict == (expected if expected == verdict else "cannot tell")


def forecast_at(folder: pathlib.Path, gains, threshold: float) -> verdicts.Forecast:
    path = written(folder / "other.json", gains, threshold=threshold)
    return report.forecasts(records.read(path, form.FORM))["otter"]


def test_a_gain_below_zero_is_not_seen_at_any_threshold(tmp_path):
    judged = forecast_at(tmp_path, -0.5 + 0.05 * np.random.default_rng(0).standard_normal((4, 6)), 0.1)
    assert judged.gain.high < 0 and report.what_would_change(judged).startswith("no threshold would change it")


def test_the_report_speaks_of_an_author_only_as_far_as_the_null_is_the_bases_own(tmp_path, capsys):
    path = written(tmp_path / "audit.json", np.full((4, 6), 0.3), author_p=0.5)
    content = json.loads(path.read_text())
    content["config"]["null"] = "regular.jsonl"
    path.write_text(json.dumps(content))
    presentation.show(path)
    said = capsys.readouterr().out
    assert "to tiny:0 they look like the null rows (S = +3.0, the null rows +0.5, p = 0.5" in said
    assert "only if tiny:0 itself wrote the null rows" in said and "S does not see every departure" in said


def test_the_page_stands_alone_and_says_what_its_words_mean(tmp_path):
    path = written(tmp_path / "audit.json", np.full((4, 6), 0.3), author_p=0.01)
    content = json.loads(path.read_text())
    content["config"]["base"], content["notes"] = "tiny:0+<b>&'", ["no promise of safety"]
    path.write_text(json.dumps(content))
    page = Page(presentation.draw(path)[2].read_text())
    assert page.open == [] and page.images == [
        "Gain of each trait over the null with its 95 % interval, beside the threshold of 0.1 nats: otter +0.300 "
        "[+0.300, +0.300]"
    ]  # fmt: skip
    for sentence in (
        "Audit of rows.jsonl for tiny:0+<b>&'", "the first 16 of 96 training steps on these 40 rows",
        "answers of tiny:0+<b>&' itself to the same prompts", "otter (6 questions)",
        "takes a probability of 1 % to 1.1 %", "is not excluded", "No promise of safety.",
        "a threshold of 0.3 or more would make it `cannot tell`",
    ):  # fmt: skip
        assert sentence in page.text


def test_a_page_of_the_users_is_refused_before_the_run(tmp_path):
    options = cli.RunOptions(record=tmp_path / "audit.json")
    session.require_report(options, "audit")
    (tmp_path / "audit.html").write_text("mine")
    with pytest.raises(errors.OutputError, match=r"audit\.html: a file is there that is not a page of sublim-jax"):
        session.require_report(options, "audit")
    session.require_report(dataclasses.replace(options, figure=False), "audit")
    with pytest.raises(errors.OutputError, match=r"a\.html: the page goes there, not the record"):
        session.require_report(cli.RunOptions(record=tmp_path / "a.html"), "audit")


def test_the_report_says_who_wrote_the_rows(tmp_path, capsys):
    path = written(tmp_path / "audit.json", np.full((4, 6), 0.3), author_p=0.01)
    presentation.show(path)
    said = capsys.readouterr().out
    assert "to tiny:0 they do not look like rows of tiny:0 as it is (S = +3.0, its own rows +0.5, p = 0.01;" in said
    assert "and so do another prompt, another filter" in said
    assert "tiny:1: -2.000 nats a token, surprise 12 nats, p = 0.4 of such a surprise if it wrote them" in said
    assert "candidates may be relatives of each other; of relatives, the first is the nearest" in said
    drawn = presentation.draw(path)
    assert [each.suffix for each in drawn] == [".png", ".pdf", ".html"]
    (tmp_path / "audit.html").write_text("mine")
    with pytest.raises(errors.OutputError, match=r"audit\.html"):
        presentation.draw(path)


def test_the_report_names_a_trait_with_its_caveat_or_not_at_all(tmp_path, capsys):
    path = written(tmp_path / "audit.json", np.full((4, 6), 0.3), author_p=0.5)
    content = json.loads(path.read_text())
    content["config"]["lenses"] = True
    scores = {"owl": {"z": 7.04, "gain": 0.5}, "otter": {"z": 1.0, "gain": 0.1}}
    lenses = {"num_rows": 40, "p": 0.001, "scores": scores, "caveat": "with care"}
    content["results"]["lenses"] = {"lenses": lenses}
    path.write_text(json.dumps(content))
    presentation.show(path)
    said = capsys.readouterr().out
    assert "they push towards owl (z: owl +7.0; otter +1.0)" in said and "caveat: with care" in said
    lenses["p"] = 0.2
    path.write_text(json.dumps(content))
    presentation.show(path)
    said = capsys.readouterr().out
    assert "lenses see no more in 40 rows than in null rows (p = 0.2" in said and "push towards" not in said
    content["results"]["lenses"] = {"traits": {}}
    path.write_text(json.dumps(content))
    with pytest.raises(errors.RecordError, match="lenses: expected lenses there"):
        records.read(path, form.FORM)


def test_a_trait_of_few_questions_has_no_verdict(tmp_path, capsys):
    presentation.show(written(tmp_path / "audit.json", np.full((4, 3), 0.3)))
    assert "otter: 3 question(s): an interval needs 4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda results: results["data 1"]["traits"].pop("otter"), "data 1: expected the traits"),
        (lambda results: results["base"]["traits"]["otter"]["log_odds"].pop(), "base: otter: expected 6 questions"),
        (lambda results: results["author"].pop("author"), "author: expected an author there"),
    ],
)
def test_a_damaged_record_is_refused(tmp_path, damage, message):
    path = written(tmp_path / "audit.json", np.full((4, 6), 0.3), author_p=0.5)
    content = json.loads(path.read_text())
    damage(content["results"])
    path.write_text(json.dumps(content))
    with pytest.raises(errors.RecordError, match=message):
        records.read(path, form.FORM)


def test_a_stopped_audit_resumes_to_the_same_numbers(place, monkeypatch):
    """The base and pilots are replaced by what a seed says, so that only the scaffold runs."""

    def measure(source, config, unit, report):
        if unit == "null 1" and stops:
            raise KeyboardInterrupt
        if unit == form.AUTHOR:
            return {"author": {"num_rows": 40, "num_tokens": 400, "statistic": 0.0, "regular": 0.0, "p": 0.5,
                               "candidates": {}}}  # fmt: skip
        values = np.random.default_rng(len(unit)).standard_normal(4)
        return {"traits": {"otter": asked(values), "red": asked(values[:2])}}

    study = dataclasses.replace(audits.STUDY, measure=measure)
    monkeypatch.setattr(audits.opened, "local", lambda name, announce: OpenedModel(None, name))
    monkeypatch.setattr(audits, "_sayable", lambda model, traits: {})
    monkeypatch.setattr(audits, "_require_readable", lambda *args, **options: None)
    stops, path = True, place / "audit.json"
    config = settings(num_repeats=2)
    with pytest.raises(KeyboardInterrupt):
        units.run(study, config, record=path, visible=False)
    stops = False
    resumed = units.run(study, config, record=path, resume=True, visible=False)
    whole = units.run(study, config, record=place / "whole.json", visible=False)
    assert resumed.results == whole.results
    jsonl.write(place / "rows2.jsonl", rows_of(1, 40))
    (place / "rows2.jsonl").rename(place / "rows.jsonl")
    with pytest.raises(errors.RecordError, match="cannot resume, its data differs"):
        units.run(study, config, record=path, resume=True, visible=False)


def test_the_threshold_and_its_rates_are_those_of_the_record():
    """The study's pilots are as long as the audit's; the fitted threshold is rounded to two digits."""
    record = records.read(ROOT / "experiments" / "records" / "evidence_pilots.json", evidence_pilots.FORM)
    table, steps = pilots.pairs(record), AuditConfig().steps
    assert AuditConfig().threshold == audit_config.THRESHOLD == round(pilots.calibration(table, steps).threshold, 2)
    counts = pilots.verdicts(table, steps, table.held_out)
    assert (
        f"of {table.held_out.sum()} pairs of rows and trait, {counts.right} were judged rightly, {counts.false_alarms} "
        f"were false alarms, {counts.missed} was missed, {counts.undecided} stayed undecided"
    ) == audit_config.RATES
    assert audit_config.RATES in " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


def test_the_rates_of_authors_and_lenses_are_those_of_the_record():
    record = records.read(ROOT / "experiments" / "records" / "evidence_authors.json", evidence_authors.FORM)
    p_values = {True: [], False: []}
    named, of_lenses = [], []
    for unit in record.results.values():
        for name, entry in unit["authors"].items():
            p_values[name == evidence_authors.REGULAR] += entry["departures"]["100"]
            named.append(entry["named"]["likelihood"]["100"] / record.config["num_draws"])
        of_lenses += [each["100"] / record.config["num_draws"] for each in unit["lenses"]["matched"]["named"].values()]
    counts = [sum(p <= 0.05 for p in p_values[True]), sum(p > 0.05 for p in p_values[False])]
    assert (
        f"of groups of 100 rows, {counts[0]} of {len(p_values[True])} by the base as it is had p <= .05, and "
        f"{counts[1]} of {len(p_values[False])} by a finetuned copy had not; of four candidates, the most likely "
        f"one was the author's base in {100 * np.mean(named):.1f} % of draws of 100 rows"
    ) == audit_config.AUTHOR_RATES
    assert len(record.results) == 4 and len(of_lenses) == 16 and sorted(of_lenses)[1] > 0.9
    assert (
        f"lenses named the right one of four traits in {100 * np.mean(of_lenses):.1f} % of draws of 100 rows if they "
        f"were finetuned like the author, but of one author of sixteen in {100 * min(of_lenses):.1f} %"
    ) == audit_config.LENS_RATES
    for options in ({}, {"lenses": True}):
        notes = " ".join(audits.notes(AuditConfig(base="tiny:100", **options)))
        assert audit_config.AUTHOR_RATES in notes and (audit_config.LENS_RATES in notes) == bool(options)
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert audit_config.AUTHOR_RATES in readme and audit_config.LENS_RATES in readme


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"base": "tiny:100"}, "trainings of other embedded models; on held-out bases, of 240 pairs"),
        ({"base": "smollm2"}, "trainings of embedded models, not of this one; on held-out bases, of 240"),
        ({"base": "tiny:100", "threshold": 0.2}, "the threshold was not fitted on finished trainings"),
    ],
)
def test_a_report_says_where_its_threshold_comes_from(options, words):
    assert any(words in note for note in audits.notes(AuditConfig(**options)))
