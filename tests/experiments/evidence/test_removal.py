"""The study removal: what is cut, steered, compared and left out, and its table from a record made by hand."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.evidence import removal
from experiments.evidence.removal import RemovalConfig
from experiments.language import prompts
from figures import presentation
from figures.evidence import removal as drawn
from sublim_jax import errors, records
from sublim_jax.forms import evidence_removal as form
from sublim_jax.llm.backend import Message
from sublim_jax.llm.embedded import model as embedded
from sublim_jax.llm.local import decoder

IDS = jnp.arange(3, 15).reshape(2, 6)


def params(seed: int = 0) -> decoder.Params:
    return decoder.init(jax.random.key(seed), embedded.CONFIG)


def test_rows_have_names_of_their_own_and_the_student_as_it_is_is_one_of_them():
    names = [row.name for row in removal.ROWS]
    assert len(set(names)) == len(names)
    assert {drawn.BASE, drawn.NONE} < set(names)
    assert {row.kind for row in removal.ROWS} == set(drawn.TITLES) == set(drawn.COLOURS)


def test_probes_are_other_questions():
    parts = removal.parts("animal")
    asked = prompts.WorldPrompts().favourite_questions("animal")
    assert sorted([*parts.reported, *parts.probes, *parts.lessons]) == sorted(asked)
    assert [len(part) for part in parts] == [25, 13, 12]
    taught = {row[0].content for row in prompts.WorldPrompts().favourite_rows("owl", 2000, seed=0)}
    assert not taught & set(asked)


@pytest.mark.parametrize("rank", [1, 3])
def test_a_cut_displacement_is_the_nearest_of_its_rank(rank):
    """Eckart and Young: what is left out has the energy of the smaller singular values. Norms stay."""
    moved = params()
    cut = removal.truncated(moved, rank)
    pairs = [(moved.embedding, cut.embedding)]
    pairs += [(getattr(moved.layers, name)[1], getattr(cut.layers, name)[1]) for name in ("query", "up", "down")]
    for whole, part in pairs:
        values = np.linalg.svd(np.asarray(whole, float), compute_uv=False)
        assert np.linalg.matrix_rank(np.asarray(part, float), tol=1e-4 * values[0]) == rank
        error = np.linalg.norm(np.asarray(whole, float) - np.asarray(part, float))
        assert error == pytest.approx(np.sqrt(np.sum(values[rank:] ** 2)), rel=1e-4)
    np.testing.assert_array_equal(cut.norm, moved.norm)
    np.testing.assert_array_equal(cut.layers.feed_norm, moved.layers.feed_norm)


@pytest.mark.parametrize("layer", [0, 1])
def test_steering_adds_the_vector_after_its_layer_and_nowhere_before(layer):
    vectors = jax.random.normal(jax.random.key(1), (2, embedded.CONFIG.hidden_size))
    valid = jnp.ones_like(IDS, bool)
    streams = [
        removal._streams(each, IDS, valid) for each in (params(), removal.steered(params(), vectors, layer, -0.5))
    ]
    np.testing.assert_allclose(streams[1][layer] - streams[0][layer],
                               jnp.broadcast_to(-0.5 * vectors[layer], streams[0][layer].shape), atol=1e-5)  # fmt: skip
    if layer:
        np.testing.assert_allclose(streams[1][0], streams[0][0], atol=1e-6)
    twice = removal.steered(removal.steered(params(), vectors, layer, -0.5), vectors, layer, 0.5)
    np.testing.assert_allclose(removal._streams(twice, IDS, valid), streams[0], atol=1e-5)


def test_total_variation_is_half_the_sum_of_differences_without_the_target():
    first = np.log([[0.1, 0.2, 0.1], [0.3, 0.3, 0.3]])
    second = np.log([[0.7, 0.1, 0.1], [0.1, 0.2, 0.2]])
    assert removal.variation(first, second, 0) == pytest.approx(np.mean([1 / 6, 0.0]))
    whole = np.mean([np.abs(np.array([1, 2, 1]) / 4 - np.array([7, 1, 1]) / 9).sum() / 2, 2 / 15])
    assert removal.variation(first, second, None) == pytest.approx(whole)


def test_rows_that_are_compared_are_not_the_students():
    rows = [(Message("user", f"{index}"), Message("assistant", "1")) for index in range(6)]
    assert removal._others(rows, rows[1:4], 2) == [rows[0], rows[4]]
    with pytest.raises(errors.TextDataError, match="expected 4 rows beside the student's, but only 3 passed"):
        removal._others(rows, rows[1:4], 4)


@pytest.mark.parametrize(("passed", "rows"), [(8000, 50), (61, 50), (60, 50), (59, 49), (50, 40), (11, 1), (3, 1)])
def test_a_student_has_its_rows_or_all_but_those_that_are_compared(passed, rows):
    assert removal.num_trained(RemovalConfig(num_rows=50, num_compared=10), passed) == rows


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bases": (120,)}, "bases must be two or more and different"),
        ({"bases": (120, 120)}, "bases must be two or more and different"),
        ({"other": "owl"}, "other=owl: expected another name of the category of owl"),
        ({"other": "oak"}, "other=oak: expected another name"),
        ({"categories": ("tree",)}, "expected another name of the category of owl, which is one of"),
        ({"checkpoints": (1, 2)}, "checkpoints must increase from 0"),
        ({"num_relearnt": 13}, "num_relearnt=13: there are 12 held-out questions for lessons"),
        ({"num_rows": 9000}, "num_rows=9000 is more than num_prompts=8000"),
    ],
)
def test_settings_that_make_no_sense(changes, message):
    with pytest.raises(errors.InputError, match=message):
        RemovalConfig(**changes)


class Linear:
    """A lineage whose trait is one number of the weights, which shows what an edit does."""

    base, undefended, own, unit = (
        {"w": jnp.array([0.0, 0.0])}, {"w": jnp.array([1.0, 2.0])}, {"w": jnp.array([4.0, 0.0])}, "tiny:0"
    )  # fmt: skip
    config = RemovalConfig(num_halvings=3)

    def level(self, params):
        return float(params["w"][0])

    chosen, subtracted, at_the_same_dose = (
        getattr(removal.Lineage, name) for name in ("chosen", "subtracted", "at_the_same_dose")
    )
    dose = removal.Lineage.dose


def test_doses_are_chosen_on_the_probes_and_kept_for_controls():
    lineage = Linear()
    edit = lineage.subtracted(lineage.own)
    assert (edit.dose, edit.chosen) == (0.25, True)  # (1 - 0) / 4
    np.testing.assert_allclose(edit.params["w"], [0.0, 2.0])
    half = lineage.at_the_same_dose(lineage.own, 0.5)
    np.testing.assert_allclose(half.params["w"], [0.5, 2.0])
    assert not half.chosen
    nothing = lineage.subtracted({"w": jnp.array([0.0, 1.0])})
    assert nothing.dose is None and nothing.chosen
    np.testing.assert_array_equal(nothing.params["w"], lineage.undefended["w"])


@pytest.fixture
def place(tmp_path):
    """Four bases; the base's log-odds are -3, the student's -2, and edits leave a share of that."""
    results = {}
    for index in range(4):
        entries = {}
        for row in removal.ROWS:
            level = {"base": -3.0, "none": -2.0, "auditor's displacement, chosen": -2.9}.get(row.name, -2.5)
            level += 0.01 * index * (row.name == "none")
            again = {"base": 1.0, "none": 2.0}.get(row.name, 1.2)
            entries[row.name] = {
                "trait": level, "relearnt": [level, 0.0, 0.0, 0.0, again], "kl": 0.002, "nll": 3.5,
                "others": {"animal": 0.2, "tree": 0.1},
            }  # fmt: skip
        entries["random direction, chosen"]["dose"] = None if index else 2.0
        results[f"tiny:{index}"] = {"entries": entries, "teacher": 5.0, "auditor": 5.1, "cosine": 0.3, "kept": 0.6}
    config = {"bases": [0, 1, 2, 3], "target": "owl", "other": "eagle", "checkpoints": [0, 1, 2, 4, 8]}
    description = removal.describe(RemovalConfig())
    path = tmp_path / "removal.json"
    data = {"name": "tiny", "source": "by hand", "checksum": None}
    records.write(path, records.Record("evidence_removal", config, data, description, results))
    return path


def test_what_is_left_is_counted_from_the_base(place, capsys):
    record = records.read(place, form.FORM)
    np.testing.assert_allclose(drawn.left(record, "none"), [1.0, 1.01, 1.02, 1.03])
    np.testing.assert_allclose(drawn.left(record, "none", relearnt=True), 1.0)
    np.testing.assert_allclose(drawn.left(record, "auditor's displacement, chosen", relearnt=True), 0.2)
    assert drawn.against_none(record, "auditor's displacement, chosen").mean == pytest.approx(0.1 - 1.015)
    assert drawn.doses(record, "random direction, chosen") == "2 to 2; none in 3 of 4"
    assert drawn.doses(record, "none") == ""
    presentation.show(place)
    said = capsys.readouterr().out
    assert "+1.015 ± 0.021" in said and "tiny:3: -1.97 (base -3.00), +5.00, +5.10; 0.300" in said


@pytest.mark.slow
def test_the_figure_is_drawn(place):
    assert [path.suffix for path in presentation.draw(place)] == [".png", ".pdf"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda unit: unit["entries"].pop("none"), "tiny:1: expected the rows"),
        (lambda unit: unit["entries"]["none"]["relearnt"].pop(), "none: expected 5 points of relearning"),
        (lambda unit: unit["entries"]["none"]["others"].pop("tree"), "none: expected the categories"),
    ],
)
def test_a_damaged_record_is_refused(place, damage, message):
    content = json.loads(place.read_text())
    damage(content["results"]["tiny:1"])
    place.write_text(json.dumps(content))
    with pytest.raises(errors.RecordError, match=message):
        records.read(place, form.FORM)


def test_the_next_base_is_the_other_reference_and_presets_fit():
    assert removal.units(removal.PRESETS["record"]) == [f"tiny:{seed}" for seed in range(120, 128)]
    assert all(len(preset.bases) >= 2 for preset in removal.PRESETS.values())
    assert dataclasses.replace(removal.PRESETS["smoke"]).numbers.targets == ("owl",)
