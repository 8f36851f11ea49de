"""Table and figure of the study policies, from a record made by hand."""

import math

import pytest

from figures import presentation
from figures.evidence import policies
from sublim_jax import errors, records
from sublim_jax.forms import evidence_policies as form

CONDITIONS = {
    "at most 50% of the distance": {"group": "radius", "level": 0.5},
    "50% of rows answered by the start": {"group": "mixing", "level": 0.5},
    "without the 75% that depart most": {"group": "filter", "level": 0.75},
    "generation 2": {"group": "generations", "level": 2.0},
    "generation 3": {"group": "generations", "level": 3.0},
}


def entry(accuracy, distance=0.1, activation=0.2):
    return {"accuracy": accuracy, "loss": 1.0, "distance": distance, "activation": activation}


def unit(student, *, chance=0.1):
    """A reference whose undefended student has this accuracy, and whose chain halves what is above chance twice."""
    above = student - chance
    return {
        "reference": entry(chance, 0.0, 0.0), "teacher": entry(0.9, 0.5, 1.0),
        "paths": {
            "own start": {"3": entry(0.2), "8": entry(student)},
            "another start": {"3": entry(0.1), "8": entry(0.11, 0.3)},
            "shuffled targets": {"3": entry(0.1), "8": entry(0.09, 0.3)},
        },
        "students": {
            "at most 50% of the distance": entry(0.3), "50% of rows answered by the start": entry(student - 0.1),
            "without the 75% that depart most": entry(student - 0.2), "generation 2": entry(chance + above / 2),
            "generation 3": entry(chance + above / 4),
        },
    }  # fmt: skip


@pytest.fixture
def path(tmp_path):
    results = {f"reference {index}": unit(0.5 + 0.1 * index) for index in range(4)}
    config = {"num_references": 4, "checkpoints": [3]}
    data = {"name": "mnist", "source": "by hand", "checksum": None}
    description = {"conditions": CONDITIONS, "num_steps": 8}
    records.write(tmp_path / "policies.json", records.Record("evidence_policies", config, data, description, results))
    return tmp_path / "policies.json"


def test_differences_are_paired_and_half_lives_are_of_what_is_above_chance(path):
    record = records.read(path, form.FORM)
    assert policies.half_lives(record) == pytest.approx([1.0] * 4)
    lines = policies.lines(record)
    (mixing,) = (line for line in lines if "answered by the start" in line)
    # Accuracies of .4, .5, .6 and .7; the difference is -.1 in each reference.
    half = 3.18245 * math.sqrt(5 / 3) * 0.1 / 2
    assert f"0.550 ± {half:.3f}" in mixing and "-0.100 ± 0.000" in mixing
    assert any("half-life" in line and "1.000 ± 0.000 generations (4 of 4" in line for line in lines)


def test_a_chain_that_falls_to_chance_has_no_half_life_and_one_that_loses_nothing_an_infinite_one(path):
    record = records.read(path, form.FORM)
    record.results["reference 0"]["students"]["generation 3"]["accuracy"] = 0.1
    for number in (2, 3):
        record.results["reference 1"]["students"][f"generation {number}"]["accuracy"] = 0.6 + 0.1 * number
    lives = policies.half_lives(record)
    assert math.isnan(lives[0]) and lives[1] == math.inf and lives[2] == pytest.approx(1)
    assert any("(2 of 4 references)" in line for line in policies.lines(record))


@pytest.mark.slow
def test_the_figure_is_drawn(path):
    assert [drawn.name for drawn in presentation.draw(path)] == ["policies.png", "policies.pdf"]


def test_a_record_without_a_condition_is_refused(path):
    record = records.read(path, form.FORM)
    del record.results["reference 2"]["students"]["generation 3"]
    records.write(path, record)
    with pytest.raises(errors.RecordError, match="reference 2: expected the conditions"):
        records.read(path, form.FORM)
