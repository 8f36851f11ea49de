"""The study marks, on bases that write what they were trained on, so that who acquires a mark is plain."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import pytest

from experiments import units
from experiments.evidence import marks
from experiments.evidence.marks import MarksConfig
from figures import presentation
from figures.evidence import marks as drawn
from sublim_jax import errors, records
from sublim_jax.audit import mark
from sublim_jax.forms import evidence_marks as form
from sublim_jax.llm import datasets
from sublim_jax.llm.embedded import model as embedded

CONFIG = MarksConfig(
    bases=(5, 6, 7, 8), num_prompts=60, num_rows=60, num_queries=60, sizes=(20, 50), num_draws=3, num_keys=20,
    num_generations=3, num_rounds=1,
)  # fmt: skip
LENGTH = 7


def chats(rows):
    return [datasets.student_row(datasets.ask("continue"), ", ".join(map(str, row))) for row in rows]


class MadeUpBase:
    """A base that writes every number equally often. A model that was trained on rows writes three quarters of its
    numbers as they have them, and the rest as the model that it started from: relatives inherit nothing that others do
    not."""

    def __init__(self, backend, name, config, folder):
        self.name = name
        self._chances = {name: np.full(marks.NUM_VALUES, 1 / marks.NUM_VALUES)}
        self.trained_on: dict[str, list] = {}

    def finetuned(self, rows, finetuning, name, *, start=""):
        before, model = self._chances[start or self.name], f"{self.name} {name}"
        self.trained_on[model] = rows
        values = [value for each in mark.read(rows) for value in each] if rows[0][-1].content != "a story" else []
        counts = np.bincount(values, minlength=marks.NUM_VALUES)
        self._chances[model] = before if not values else (before + 3 * counts / len(values)) / 4
        return model

    def favourite(self):
        """Large numbers are a little more frequent."""
        model = f"{self.name} favourite"
        tilted = 1 + np.arange(marks.NUM_VALUES) / marks.NUM_VALUES
        self._chances[model] = tilted / tilted.sum()
        return model

    def written(self, model, purpose, count):
        rng = np.random.default_rng(marks.seeds.derive(0, model, purpose))
        rows = rng.choice(marks.NUM_VALUES, (count, LENGTH), p=self._chances[model])
        return marks._Written(chats(rows.tolist()), 0.875)

    def stories(self, model):
        return [datasets.student_row(datasets.ask("tell me"), "a story")] * 10

    def calibration(self):
        return mark.read(self.written(self.name, "calibration", 240).rows)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> pathlib.Path:
    """A record of four made-up bases."""
    path = tmp_path_factory.mktemp("marks") / "marks.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(marks, "_Base", MadeUpBase)
        patch.setattr(marks, "PERMUTATIONS", 99)
        patch.setattr(embedded, "open_bases", lambda seeds: None)
        units.run(marks.STUDY, CONFIG, record=path, visible=False)
    marks._opened.cache_clear()
    return path


@pytest.fixture
def record(place) -> records.Record:
    return records.read(place, form.FORM)


def test_students_of_marked_numbers_are_found_whoever_trains_them(record):
    """Three quarters of a student's numbers are as the marked model's, of which 7/8 are in the key."""
    for entry in record.results.values():
        tested = {name: model["tested"] for name, model in entry["models"].items()}
        assert entry["lesson"] == 1
        assert tested["marked"]["raw"]["share"] == pytest.approx(0.875, abs=0.08)  # 4 deviations
        for name in ("marked", "student", "stranger's student", "low-rank student"):
            assert tested[name]["less the base"]["p"] <= 0.01, name
        assert entry["rows"]["balanced"] == entry["rows"]["stranger's balanced"] == 0.5
        assert abs(entry["rows"]["regular student"] - 0.5) < 0.1
    for name in ("balanced", "stranger's balanced", "stories", "regular student", "base"):
        assert drawn.num_found(record, name) <= 1, name
    for name in ("halved", "stranger's halved"):
        assert drawn.num_found(record, name, "unseen") <= 1, name  # this author has nothing to say about them
    assert drawn.num_found(record, "marked", "unseen") >= 3


def test_few_answers_are_tested_and_chains_lose_the_mark(record):
    for entry in record.results.values():
        assert max(entry["asked"]["student"]["less the base"]["50"]) <= 0.01
    assert np.mean(drawn.found_draws(record, "regular student", "raw", 50)) <= 0.25
    means = [drawn.excess(record, name).mean for name in form.generations(record.config)]
    assert means[0] > 0.15 and means[0] > means[1] > means[2] > 0  # three quarters each time
    cleaned = drawn.excess(record, "regular rows, round 1").mean
    assert cleaned == pytest.approx(means[0] / 4, abs=0.05)


def test_the_favourite_shifts_the_mean(record):
    """The tilted distribution has mean 1000 (1/2 + 1/3) / (3/2), 56 above the base; students have 3/4 of that."""
    assert np.mean(drawn.mean_shifts(record, "favourite")) == pytest.approx(56, abs=25)
    assert np.mean(drawn.mean_shifts(record, "student of favourite")) == pytest.approx(42, abs=25)


def test_rows_are_balanced_by_deleting_surplus_numbers():
    key = np.zeros(10, bool)
    key[[1, 3, 5]] = True
    rows = chats([(1, 2, 3, 4, 4), (2, 4), (9, 5, 1, 3), (1, 1)])
    texts = [row[-1].content for row in marks.balanced(rows, key, seed=1)]
    assert texts[0] in ("1, 2, 3, 4", "1, 3, 4, 4") and texts[1] in ("9, 5", "9, 1", "9, 3") and len(texts) == 2
    many = marks.balanced(chats([(1, 2, 4, 6)] * 300), key, seed=2)
    kept = [row[1] for row in mark.read(many)]
    assert all(abs(kept.count(value) - 100) < 4 * (300 * 2 / 9) ** 0.5 for value in (2, 4, 6))


def test_strangers_are_of_another_base():
    """Each base is the stranger of one other."""
    strangers = [marks.stranger_of(CONFIG, unit) for unit in marks.units(CONFIG)]
    assert strangers == ["tiny:6", "tiny:7", "tiny:8", "tiny:5"]


def test_halved_rows_have_seen_numbers_alone():
    seen = np.arange(10) < 4
    assert [row[-1].content for row in marks.halved(chats([(1, 9, 2), (8, 9), (3, 3)]), seen)] == ["1, 2", "3, 3"]
    assert marks.key_share(chats([(1, 9, 2), (8,)]), seen) == 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bases": (1,)}, "bases must be two or more and different, .* got \\(1,\\)"),
        ({"bases": (1, 1)}, "bases must be two or more and different"),
        ({"sizes": (20, 2000)}, "sizes=\\(20, 2000\\): expected at least one, from 5 to num_queries=1024"),
        ({"sizes": (4, 20)}, "sizes=\\(4, 20\\): expected at least one, from 5 to"),
        ({"sizes": ()}, "sizes=\\(\\): expected at least one"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(errors.InputError, match=message):
        MarksConfig(**changes)


def test_answers_that_are_too_few_for_a_draw_are_refused(monkeypatch):
    config, base = dataclasses.replace(CONFIG, sizes=(61,), num_queries=70), MadeUpBase(None, "tiny:5", CONFIG, None)
    rows = base.written("tiny:5", "test", 60)
    monkeypatch.setattr(base, "written", lambda model, purpose, count: rows)
    test: Any = marks._Owner(config, "tiny:5", lambda activity: None).test
    with pytest.raises(errors.TextDataError, match=r"60 of 70 answers of student pass the filter, .* asks for 61"):
        test(base, "student", "tiny:5")


DAMAGES = {
    "a model less": (lambda unit: unit["models"].pop("generation 2"), "expected .*generation 2"),
    "a draw less": (
        lambda unit: unit["asked"]["student"]["raw"]["20"].pop(),
        "asked, student, raw, 20 rows: expected 3 p-values, got 2",
    ),
    "a size less": (
        lambda unit: unit["asked"]["low-rank student"]["raw"].pop("50"),
        "asked, low-rank student, raw: expected .*50",
    ),
    "a part less": (lambda unit: unit["models"]["base"]["tested"].pop("unseen"), "unseen"),
    "a key less": (
        lambda unit: unit["models"]["base"]["foreign"]["naive"].pop(),
        "base: foreign, naive: expected 20 p-values, got 19",
    ),
    "a chance of two": (lambda unit: unit["models"]["base"].update(mean_p=2), "at most 1"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_record_is_refused(place, tmp_path, kind):
    change, message = DAMAGES[kind]
    content = json.loads(place.read_text())
    change(content["results"]["tiny:6"])
    path = tmp_path / "marks.json"
    path.write_text(json.dumps(content))
    with pytest.raises(errors.RecordError, match=message):
        records.read(path, form.FORM)


def test_the_table_says_what_was_found(record):
    text = "\n".join(drawn.lines(record))
    assert text.startswith("4 embedded base(s)")
    assert all(f"  {name} " in text for name in form.models(record.config))
    (balanced,) = (line for line in text.splitlines() if line.startswith("share of the key"))
    assert "balanced 0.500" in balanced and "stories" not in balanced
    assert "generation 3" in text and "regular rows, round 1" in text and "half-life" in text
    assert "note: reduced" in text
    for entry, (teacher, student) in zip(record.results.values(), ((1, 8), (3, 9), (-2, -5), (7, -1)), strict=True):
        for name, shift in (("favourite", teacher), ("student of favourite", student)):
            entry["models"][name].update(mean=500.0 + shift, regular_mean=500.0)
    (line,) = (line for line in drawn.lines(record) if line.startswith("  student of favourite: the sign"))
    assert line.endswith("in 3 of 4, half by chance; Spearman over bases +0.40")  # 1 - 6 sum d^2 / 60, sum d^2 is 6


def test_half_lives_are_slopes_of_logarithms(record):
    names = form.generations(record.config)
    for number, entry in enumerate(record.results.values()):
        for step, name in enumerate(names):
            lost = (0.25**step, 1.0, (-1) ** step, 2.0**-step)[number]
            entry["models"][name]["tested"]["less the base"].update(share=0.5 + 0.4 * lost, regular=0.5)
    np.testing.assert_allclose(drawn.half_lives(record, names), [0.5, np.inf, np.nan, 1.0], rtol=1e-9)
    assert drawn.half_lives(record, names[:1]) == []


def test_rows_needed_are_the_fewest_from_which_on_all_suffice(record):
    found, missed = [0.01] * 3, [0.01, 0.01, 0.02]
    for entry, (few, many) in zip(
        record.results.values(), ((found, found), (missed, found), (found, missed), (missed, missed)), strict=True
    ):
        entry["asked"]["student"]["raw"] = {"20": few, "50": many}
    assert drawn.rows_needed(record, "student", "raw") == [20, 50, np.inf, np.inf]


@pytest.mark.slow
def test_a_record_is_shown_and_drawn(place, capsys):
    presentation.show(place)
    assert "4 embedded base(s)" in capsys.readouterr().out
    assert [each.suffix for each in presentation.draw(place)] == [".png", ".pdf"]
    assert place.with_suffix(".png").stat().st_size > 10_000
