"""The study authors, on bases whose scores are made up, so that who wrote what is plain."""

import dataclasses
import json
import pathlib
import zlib

import numpy as np
import pytest

from experiments import units
from experiments.evidence import authors
from experiments.evidence.authors import AuthorsConfig
from figures import presentation
from figures.evidence import authors as drawn
from sublim_jax import errors, records
from sublim_jax.audit.lens import Lensed
from sublim_jax.forms import evidence_authors as form
from sublim_jax.llm.backend import Message
from sublim_jax.llm.embedded import model as embedded
from sublim_jax.llm.local import surprise
from sublim_jax.llm.local.surprise import RowScores

CONFIG = AuthorsConfig(
    bases=(5, 6, 7, 8), targets=("owl", "oak"), num_rows=50, num_prompts=80, sizes=(1, 20), num_draws=30,
    num_permutations=99,
)  # fmt: skip


def noise(text: str) -> float:
    """A normal number that depends on a text alone."""
    return float(np.random.default_rng(zlib.crc32(text.encode())).normal())


class MadeUpBase:
    """A base whose models are known by their names, e.g. `tiny:5+owl` for a teacher and `tiny:5~oak` for a lens.

    Rows are 2 nats less likely under another base, teachers' rows 1 nat less likely under any base, and 3 nats likelier
    under their own lens. Weak lenses add noise of .1 nats alone. Rows differ by 1 nat.
    """

    def __init__(self, backend, name, config, folder):
        self.name, self.config = name, config

    def teacher(self, target):
        return self.name if target == form.REGULAR else f"{self.name}+{target}"

    def lens(self, target, recipe):
        return f"{self.name}~{target}" if recipe == "matched" else f"{self.name}~weak {target}"

    def probability(self, model, target):
        return 0.9

    def written(self, model, purpose):
        rows = [(Message("user", f"{purpose} {index}"), Message("assistant", model)) for index in range(50)]
        return authors._Written(rows, 0.625)

    def score(self, model, rows):
        name = model.partition("~")[0]
        logprobs = np.full(len(rows), -10.0)
        for index, row in enumerate(rows):
            base, _, trait = row[-1].content.partition("+")
            logprobs[index] += noise(repr(row)) + 0.1 * ("~" in model) * noise(f"{model} {row}")
            logprobs[index] -= 2 * (base != name) + bool(trait)
            logprobs[index] += 3 * (bool(trait) and model == f"{base}~{trait}")
        count = np.ones(len(rows), int)
        return RowScores(logprobs, np.full(len(rows), 10.0), np.ones(len(rows)), count, surprise.row_ids(rows))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> pathlib.Path:
    """A record of four made-up bases."""
    path = tmp_path_factory.mktemp("authors") / "authors.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(authors, "_Base", MadeUpBase)
        patch.setattr(embedded, "open_bases", lambda seeds: None)
        units.run(authors.STUDY, CONFIG, record=path, visible=False)
    authors._opened.cache_clear()
    return path


@pytest.fixture
def record(place) -> records.Record:
    return records.read(place, form.FORM)


def test_authors_finetuning_and_traits_are_found_where_they_are(record):
    assert record.complete and list(record.results) == ["tiny:5", "tiny:6", "tiny:7", "tiny:8"]
    for name, unit in record.results.items():
        assert set(unit["authors"]) == {"regular", "owl", "oak"}
        for author, entry in unit["authors"].items():
            for statistic in ("likelihood with copies", "likelihood with other copies", "likelihood"):
                assert entry["named"][statistic]["20"] == 30  # 2 nats a row against noise of 1
            assert (entry["num_rows"], entry["kept"]) == (50, 0.625)
            verdict = entry["verdict"]
            assert (verdict["named"], verdict["least_surprised"], verdict["num_rows"]) == (name, name, 50)
            assert verdict["p"][name] == pytest.approx(verdict["away"], abs=0.1)  # equal variances: S is the sum
            if author != "regular":
                assert verdict["away"] == verdict["carries"] == 0.01 and verdict["trait"] == author
                assert entry["away"]["20"] > 0.95 > entry["away"]["1"] > 0.5
        matched, few = unit["lenses"]["matched"], unit["lenses"]["few steps"]
        assert matched["named"] == {"owl": {"1": 30, "20": 30}, "oak": {"1": 30, "20": 30}}
        assert matched["carries"]["owl"]["20"] == 1.0
        assert sum(few["named"][target]["1"] for target in ("owl", "oak")) < 50  # of 60, by noise
        departures = {author: entry["departures"] for author, entry in unit["authors"].items()}
        assert all(each.keys() == {"20"} and len(each["20"]) == 2 for each in departures.values())
        assert max(departures["owl"]["20"] + departures["oak"]["20"]) < 0.1 < max(departures["regular"]["20"])


def test_a_strong_teacher_is_named_by_its_own_copy_alone():
    """The rows are likelier under base b. The copy of a on owl comes nearer; that on oak does not."""
    ids, count = np.arange(20, dtype=np.uint64), np.ones(20, int)
    far, near, copy = (
        RowScores(np.full(20, level), np.full(20, level), np.ones(20), count, ids) for level in (-5.0, -4.0, -3.0)
    )
    copies = {"a": {"owl": copy, "oak": far}, "b": {"owl": far, "oak": far}}
    draws = {20: np.arange(20)[None], 3: np.array([[1, 2, 3], [4, 5, 6]])}
    own = {"a": far, "b": far}
    counts = authors._count_named("a", "owl", {"a": far, "b": near}, copies, own, draws)
    assert counts["likelihood with copies"] == {"20": 1, "3": 2}
    assert counts["likelihood with other copies"] == counts["likelihood"] == {"20": 0, "3": 0}
    assert counts["surprise"] == {"20": 1, "3": 2}  # the excess is that of its own rows
    assert counts["raw surprise"] == {"20": 0, "3": 0}


def test_an_area_is_the_share_of_pairs_in_which_the_first_is_larger():
    first, second = np.array([3.0, 1.0, 2.0]), np.array([1.0, 0.0])
    pairs = [float(a > b) + 0.5 * (a == b) for a in first for b in second]
    assert authors._area(first, second) == round(np.mean(pairs), 4) == 0.9167


def test_traits_are_named_by_standardised_gains():
    """The lens of oak gains more on every row, regular ones too."""
    ids, count = np.arange(40, dtype=np.uint64), np.ones(40, int)

    def under(logprobs):
        return RowScores(np.asarray(logprobs, float), np.zeros(40), np.ones(40), count, ids)

    noise = np.random.default_rng(0).normal(size=40)
    regular = Lensed(under(0 * noise), {"owl": under(noise), "oak": under(9 + noise)})
    owl = Lensed(under(0 * noise), {"owl": under(3 + noise), "oak": under(9 + noise)})
    draws = {name: {5: np.arange(40).reshape(8, 5)} for name in ("regular", "owl", "oak")}
    measured = authors._measure_lenses({"regular": regular, "owl": owl, "oak": regular}, regular, draws)
    assert measured["named"]["owl"] == {"5": 8} and measured["carries"]["owl"]["5"] == 1.0
    assert measured["carries"]["oak"]["5"] == 0.5


def test_draws_are_without_replacement_and_the_same_again():
    draws, again = (authors._draws(CONFIG, "tiny:5/owl", 50) for _ in range(2))
    assert draws[20].shape == (30, 20) and all(len(set(draw)) == 20 for draw in draws[20])
    assert np.array_equal(draws[20], again[20]) and draws[1].max() > 20
    assert not np.array_equal(draws[20], authors._draws(CONFIG, "tiny:6/owl", 50)[20])


def test_lenses_differ_from_the_teacher_in_one_thing():
    matched, slower, shorter = (AuthorsConfig().lens(recipe) for recipe in form.RECIPES)
    assert matched == (AuthorsConfig().teacher, 2000)
    assert slower == (dataclasses.replace(matched[0], learning_rate=matched[0].learning_rate / 3), 2000)
    assert shorter == (dataclasses.replace(matched[0], num_epochs=1), 640)
    recipes = authors.describe(AuthorsConfig())["recipes"]
    assert recipes == {
        "matched": "96 steps at 0.003", "a third of the rate": "96 steps at 0.001", "few steps": "10 steps at 0.003"
    }  # fmt: skip


def test_settings_without_a_comparison_are_refused():
    for changes, message in (
        ({"bases": (1,)}, r"bases must be two or more and different, got \(1,\)"),
        ({"targets": ("owl", "owl")}, "targets must be two or more and different"),
        ({"sizes": ()}, "expected at least one, of at most num_rows=400"),
        ({"sizes": (401,)}, "since draws are without replacement"),
    ):
        with pytest.raises(errors.InputError, match=message):
            AuthorsConfig(**changes)  # pyright: ignore[reportArgumentType]


def test_the_table_and_the_figure_are_drawn_from_the_record(record, place, capsys):
    presentation.show(place)
    text = capsys.readouterr().out
    assert "right base of 4\n  likelihood, bases and copies: 1: " in text and "WRONG" not in text
    assert "20: 1.000 [1.00, 1.00] (0.989, 1.000) worst 1.00" in text  # Wilson of 360 of 360
    assert (
        "groups of 20 rows with p <= .05: 1.000 of 16 by teachers; 0." in text
        and "tiny:7 oak: tiny:7, tiny:7; own base as it is" in text
    )
    assert [path.name for path in presentation.draw(place)] == ["authors.png", "authors.pdf"]
    right = [unit["lenses"]["few steps"]["named"] for unit in record.results.values()]
    expected = [(each["owl"]["20"] + each["oak"]["20"]) / 60 for each in right]
    np.testing.assert_allclose(drawn.by_base(record, drawn.traits(record, "few steps"), 20), expected)
    assert drawn.uniformity(np.linspace(0.05, 0.95, 10)) > 0.9 and drawn.uniformity(np.full(10, 0.01)) < 1e-9


def test_a_damaged_record_is_refused(place, tmp_path):
    path, content = tmp_path / "authors.json", json.loads(place.read_text())
    content["results"]["tiny:5"]["authors"]["owl"]["named"]["surprise"]["20"] = 31
    path.write_text(json.dumps(content))
    with pytest.raises(errors.RecordError, match="tiny:5: expected at most 30 right draws"):
        records.read(path, form.FORM)
    content["results"]["tiny:5"]["authors"].pop("owl")
    path.write_text(json.dumps(content))
    with pytest.raises(errors.RecordError, match=r"tiny:5: authors: expected .*, got"):
        records.read(path, form.FORM)
