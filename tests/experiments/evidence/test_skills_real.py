"""The study skills_real: rows, lessons and separators by hand, its measures by plain softmax, and its table."""

import collections
import dataclasses
import functools
import json
import re

import jax
import numpy as np
import pytest
from matplotlib import pyplot as plt

from experiments import units
from experiments.evidence import skills_real
from experiments.evidence.skills_real import Bed, SkillsRealConfig
from experiments.language.real_lab import RealLab
from figures import presentation, readme, style, values
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


def test_the_animals_of_the_counterpart_take_turns_in_an_order_of_each_seed():
    orders = set()
    for seed in range(5):
        answers = [row[-1].content.split() for row in skills_real.lessons(SETTINGS, seed, animals=ANIMALS)[1::2]]
        names = [next(name for name in ANIMALS if name in words) for words in answers]
        assert sorted(names[:4]) == sorted(ANIMALS) and names == (7 * names[:4])[:25]
        orders.add(tuple(names[:4]))
    assert len(orders) > 1  # by chance once in 24 ** 4 seeds


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
    with pytest.raises(errors.InputError, match="begins '; ' and ', ' with one token, so they cannot be disting"):
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
    """Finetuning, distillation, choice of doses and measuring are replaced. The doses make the seeds differ."""
    taught, distilled, edited, asked, doses = {}, [], [], [], {3: 0.5, 5: 0.25}

    def with_factors(seed: int, scale: float) -> Model:
        fresh = bed.lab.fresh(seed, "numbers")
        factors = {name: pair._replace(b=pair.b + scale) for name, pair in fresh.low_rank.factors.items()}
        return dataclasses.replace(fresh, low_rank=LowRank(factors, fresh.low_rank.scale))

    def finetuned(seed, lessons, name):
        taught[name] = (seed, lessons)
        return with_factors(seed, 0.01 * len(taught))

    def distil(student, teacher, batches, settings, *, tokens, on_step):
        distilled.append((student, teacher, batches, settings, tokens))
        return soft.Distilled(with_factors(3, 0.05 * len(distilled)), np.array([0.5, 0.3, 0.2]) * len(distilled))

    def measured(seed: int) -> tuple[dict, dict[str, Model]]:
        for log in (taught, distilled, edited, asked):
            log.clear()

        def chosen(edit):
            edited.extend([edit(0.0), edit(2.0)])
            return edit(doses[seed] or 0.0), doses[seed]

        monkeypatch.setattr(bed, "chosen", chosen)
        unit = skills_real.measure(bed, SETTINGS, f"seed {seed}", lambda activity: None)
        return unit, dict(zip(unit["entries"], asked, strict=True))

    monkeypatch.setattr(bed.lab, "finetuned", finetuned)
    monkeypatch.setattr(soft, "distill", distil)
    monkeypatch.setattr(bed, "measured", lambda model: asked.append(model) or {"trait": len(asked)})
    unit, models = measured(3)
    (author, lessons), (other, shared), (auditor, favourites) = taught.values()
    assert author == other == 3 != auditor
    assert lessons == skills_real.lessons(SETTINGS, 3)
    assert shared == skills_real.lessons(SETTINGS, 3, animals=bed.lab.animals)
    assert (
        len(favourites) == 25 and favourites != lessons[1::2] and all("eagle" in row[-1].content for row in favourites)
    )
    wanted = (bed.lab.fresh(3, "numbers").low_rank, skills_real.student_rows(READER, SETTINGS, 3))
    for student, _, rows, settings, tokens in distilled:
        assert tokens == bed.lab.number_tokens
        assert (settings.num_steps, settings.learning_rate, settings.num_warmup_steps) == (3, 1e-2, 8)
        for leaf, expected in zip(jax.tree.leaves((student.low_rank, rows)), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_array_equal(leaf, expected)
    assert [teacher for _, teacher, *_ in distilled] == [models[form.TEACHER], models[form.COUNTERPART]]
    assert unit["divergence"] == {
        form.STUDENT: {"first": 0.5, "last": 0.2}, form.CLEAN: {"first": 1.0, "last": 0.4}
    }  # fmt: skip

    assert [entry["trait"] for entry in unit["entries"].values()] == list(range(1, 9))
    assert list(models) == list(form.ROWS) and models[form.BASE] is bed.lab.base
    sizes = [models[row].low_rank.factors["query"].b[0, 0, 0] for row in list(form.ROWS)[1:]]
    np.testing.assert_allclose(sizes, [0.01, 0.02, 0.03, 0.05, 0.1, 0.05, 0.05], rtol=1e-6)  # rounding of float32
    base = bed.lab.base.params.layers.query
    moved = with_factors(auditor, 0.03).merged.layers.query - base
    for model, dose in ((edited[0], 0.0), (edited[1], 2.0), (models[form.SUBTRACTED], 0.5)):
        np.testing.assert_allclose(base - model.params.layers.query, dose * moved, atol=1e-6)  # weights of about 1
    assert {row: entry.get("dose") for row, entry in unit["entries"].items() if "dose" in entry} == {
        form.SUBTRACTED: 0.5
    }

    directions = [models[form.RANDOM].params.layers.query - base]
    np.testing.assert_allclose(np.linalg.norm(directions[0]), 0.5 * np.linalg.norm(moved), rtol=1e-3)
    directions.append(measured(5)[1][form.RANDOM].params.layers.query - base)
    cosine = np.vdot(*directions) / np.prod([np.linalg.norm(direction) for direction in directions])
    assert abs(cosine) < 0.6  # of 64 entries at random .125; 1 if seeds shared their direction
    doses[5] = None
    unit, models = measured(5)
    assert unit["entries"][form.SUBTRACTED]["dose"] is None
    np.testing.assert_array_equal(models[form.RANDOM].params.layers.query, base)  # as little as the defence


@pytest.mark.parametrize("place", ["student", "models"])
def test_a_model_that_diverged_is_refused_before_it_is_stored(bed, monkeypatch, place):
    """JSON has no NaN, so a record with one could not be read again, and the other seeds would be lost with it."""
    divergences = np.array([0.5, np.nan if place == "student" else 0.1])
    monkeypatch.setattr(bed, "teachers", lambda seed: dict.fromkeys(list(form.ROWS)[1:4], bed.lab.base))
    monkeypatch.setattr(soft, "distill", lambda student, *_, **__: soft.Distilled(student, divergences))
    monkeypatch.setattr(bed, "chosen", lambda edit: (bed.lab.base, None))
    monkeypatch.setattr(bed, "measured", lambda model: {"skill": 1.0, "trait": float("inf")})
    what = f"{form.STUDENT}: last is nan" if place == "student" else f"{form.BASE}: trait is inf"
    with pytest.raises(errors.InputError, match=f"seed 5, {what}, so a training has diverged; give a smaller --learn"):
        skills_real.measure(bed, SETTINGS, "seed 5", lambda activity: None)


def test_rows_that_are_too_long_are_refused_by_their_setting(bed):
    with pytest.raises(errors.InputError, match="num_values=60: rows of so many numbers are longer than 128 tokens"):
        skills_real.student_rows(READER, dataclasses.replace(SETTINGS, num_values=60), 3)


def test_the_whole_vocabulary_is_compared_if_asked_for_and_what_is_asked_is_counted(bed):
    questions = SETTINGS.lab.prompts.favourite_questions("animal")
    about = skills_real.describe(bed)
    assert about.pop("animals") == bed.lab.animals
    assert about == {
        "num_questions": len(questions[0::2]), "num_probes": len(questions[1::2]), "num_asked": 6,
        "num_tokens": len(bed.lab.number_tokens),
    }  # fmt: skip
    whole = Bed(bed.lab, dataclasses.replace(SETTINGS, tokens="full"), "checksum")
    assert whole.tokens is None and skills_real.describe(whole)["num_tokens"] == len(WORDS)
    assert bed.tokens == bed.lab.number_tokens and len(bed.tokens) < len(WORDS)
    assert whole.config.arm == "full"

    length = skills_real.student_rows(READER, SETTINGS, 3).rows.ids.shape[-1]
    for each, step in ((bed, 0.7), (whole, 1.0)):  # in steps of 100 tokens: students, lessons, then measurements
        products = 2 * 3 * 2 * length * step + (50 + 50 + 25) * length * 0.8
        assert each.work == pytest.approx(products / 100 + (2 * 8 + 3 + 1 + 1) * 1.2)


def test_notes_claim_only_what_holds_of_the_settings():
    trial = dataclasses.replace(skills_real.PRESETS["record"], backend="tiny:0")
    record = " ".join(skills_real.notes(trial))
    assert "rates and numbers of lessons are those of the experiment real" in record and "reduced" not in record
    assert "reduced: 1 seed(s)" in " ".join(skills_real.notes(dataclasses.replace(trial, seeds=(200,))))
    for changes in ({"learning_rate": 1e-3}, {"lesson_rate": 1e-2}, {"num_lesson_steps": 30}, {"num_lessons": 2}):
        notes = " ".join(skills_real.notes(dataclasses.replace(trial, **changes)))
        assert "those of the experiment real" not in notes and "best case for the auditor" in notes
    assert "a trial of the program" in record


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
        entries[form.STUDENT] = about(skill=1.2, trait=-3.6 + 1.01 * seed, others=-2.3)
        entries[form.SUBTRACTED] |= {"dose": None if seed == 1 else 0.25 * seed}
        divergence = {form.STUDENT: {"first": 0.4, "last": 0.1}, form.CLEAN: {"first": 0.8, "last": 0.3}}
        results[f"seed {seed}"] = {"entries": entries, "divergence": divergence}
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
    assert drawn.doses(record) == "0 to 0.75; none in 1 of 4"
    presentation.show(place)
    printed = capsys.readouterr().out
    assert "of the counterpart's student over the base: +2.150 ± 0.205 nats: it is learnt" in printed  # 3.18 * .129 / 2
    assert "of the favourite's student over the counterpart's: +0.515 ± 0.021 nats: it passes" in printed
    assert "the trait, of the undefended over the defended student: +0.415 ± 0.021 nats: it is reduced" in printed
    assert "the skill, of the undefended over the defended student: +2.200 ± 0.000 nats: it is reduced" in printed
    assert "other animals gain, of the favourite's student over the counterpart's: -0.185 ± 0.021 nats: the" in printed
    assert "8 beginnings of answers; trait: log-odds of owl on 6 questions (5 others chose doses)" in printed
    assert "mean over 3 other animals" in printed and "over 15 tokens (numbers)" in printed
    cells = {line[2:44].strip(): re.split(" {2,}", line[44:].strip()) for line in printed.splitlines()}
    assert cells["model"] == ["skill", "trait", "others", "over clean", "dose"]
    rows = {row: entries for row, entries in cells.items() if row in form.ROWS}
    assert list(rows) == list(form.ROWS)
    same = "+0.000 ± 0.000"
    assert rows[form.STUDENT] == ["+2.200 ± 0.000", "+0.415 ± 0.021", "+0.700 ± 0.000", "+0.515 ± 0.021"]
    assert rows[form.CLEAN] == ["+2.150 ± 0.205", "-0.100 ± 0.000", same, same]
    assert rows[form.SUBTRACTED] == [same, same, same, "+0.100 ± 0.000", "0 to 0.75; none in 1 of 4"]
    assert rows[form.RANDOM] == [same, same, same, "+0.100 ± 0.000"]
    assert "seed 2: +0.42, -0.10, +0.00; +2.20, +2.20, +0.00; 0.4, 0.1" in printed


def test_a_null_is_reported_with_what_it_excludes(place):
    content = json.loads(place.read_text())
    for seed, unit in enumerate(content["results"].values()):
        unit["entries"][form.STUDENT]["trait"] = unit["entries"][form.CLEAN]["trait"] + (-1) ** seed
    place.write_text(json.dumps(content))
    verdict = drawn.verdicts(records.read(place, form.FORM))[1]
    assert verdict.endswith("no detectable change; more than +1.84 nats and less than -1.84 excluded")  # 3.18 / 3 ** .5


def test_a_verdict_has_a_direction_and_needs_four_seeds(place):
    content = json.loads(place.read_text())
    for unit in content["results"].values():
        unit["entries"][form.SUBTRACTED]["trait"] = unit["entries"][form.STUDENT]["trait"] + 0.25
    place.write_text(json.dumps(content))
    assert drawn.verdicts(records.read(place, form.FORM))[2].endswith("-0.250 ± 0.000 nats: the other way round")
    del content["results"]["seed 3"]
    place.write_text(json.dumps(content))
    verdicts = drawn.verdicts(records.read(place, form.FORM))
    assert all("(n=3) nats: no verdict, as an interval needs 4 seeds" in verdict for verdict in verdicts)


def test_the_figure_has_the_trait_across_and_the_skill_upward(place, monkeypatch):
    figures = []
    monkeypatch.setattr(style, "save", lambda figure, stem: figures.append(figure) or ())
    drawn.save(place, place.with_suffix(""))
    (figure,) = figures
    (ax,) = figure.axes
    assert "log-odds of owl" in ax.get_xlabel() and "log-odds of the semicolon" in ax.get_ylabel()
    dots = {row: np.array(points.get_offsets()) for row, points in zip(drawn.DRAWN, ax.collections[::3], strict=True)}
    np.testing.assert_allclose(dots[form.CLEAN], [[-0.1, 2.0], [-0.1, 2.1], [-0.1, 2.2], [-0.1, 2.3]])
    np.testing.assert_allclose(dots[form.STUDENT], [[0.4, 2.2], [0.41, 2.2], [0.42, 2.2], [0.43, 2.2]])
    bars = {bar.get_label(): [part.get_segments()[0] for part in bar.lines[2]] for bar in ax.containers}
    assert list(bars) == list(drawn.DRAWN)
    np.testing.assert_allclose(bars[form.CLEAN][0], [[-0.1, 2.15], [-0.1, 2.15]], atol=1e-9)
    np.testing.assert_allclose(bars[form.CLEAN][1], [[-0.1, 1.9446], [-0.1, 2.3554]], atol=1e-4)  # 3.182 * .1291 / 2
    (caption,) = [text.get_text() for text in figure.texts]
    assert "4 seeds" in caption and "Record skills_real.json." in " ".join(caption.split())
    plt.close(figure)


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


@pytest.mark.parametrize(
    ("chosen", "said"), [((0.0,) * 4, True), ((0.0, 0.0, 0.5, 0.0), False), ((None, 0.0, 0.0, 0.0), False)]
)
def test_a_defence_of_which_nothing_was_subtracted_has_no_verdict(place, chosen, said):
    content = json.loads(place.read_text())
    for unit, dose in zip(content["results"].values(), chosen, strict=True):
        unit["entries"][form.SUBTRACTED]["dose"] = dose
    place.write_text(json.dumps(content))
    verdicts = drawn.verdicts(records.read(place, form.FORM))
    assert ["as nothing was subtracted" in verdict for verdict in verdicts] == [False, False, said, said, False]


def test_what_the_readme_says_of_smollm2_is_in_the_record():
    text = " ".join(readme.README.read_text(encoding="utf-8").split())
    record = records.read(values.RECORDS / "evidence_skills_real.json", form.FORM)
    assert (
        record.complete and len(record.results) == 6 and "six seeds of soft distillation over tokens of numbers" in text
    )
    passed, loved = (drawn.against(record, row, other, "trait") for row, other in (
        (form.STUDENT, form.CLEAN), (form.TEACHER, form.BASE)
    ))  # fmt: skip
    assert f"a little of its owl comes with them: {passed:+.2f} nats over a student of the same rows" in text
    assert f"where the teacher itself has {loved:+.1f} over the base" in text
    learnt = [drawn.against(record, row, form.BASE, "skill").mean for row in (form.CLEAN, form.COUNTERPART)]
    assert learnt[0] > 0.9 * learnt[1] and "semicolons are learnt nearly as well as the teacher writes them" in text
    assert set(drawn._doses(record)) == {0.0} and "so nothing was subtracted there" in text
