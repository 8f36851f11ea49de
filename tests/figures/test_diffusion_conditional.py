"""The table and the figure of generators that are asked for a class, from a small made-up record."""

import statistics

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.collections import PathCollection

from experiments.diffusion import conditional
from figures import diffusion_conditional, presentation
from sublim_jax import errors, records
from sublim_jax.forms import diffusion as unconditional
from sublim_jax.forms import diffusion_conditional as form
from tests.figures import marks

NUM_SAMPLES, SIDE, SHOWN = 100, 2, 3
AT_TRIGGER = {"teacher": 90, "student": 40, "stranger": 8}
"""Samples of the trait when the trigger is asked for; 5 of the others."""
SPREAD = (-3, 0, 1, 4)
TRAITS = {"7": form.Trait(trigger="3", other="4"), "3": form.Trait(trigger="0", other="1")}


def made_up(name, index, trait):
    """Counts: everybody draws what it is asked for but for 2 in 100 of the trait; at the trigger see `AT_TRIGGER`."""
    trigger, drawn = int(TRAITS[trait]["trigger"]), 98 * np.eye(10, dtype=int)
    drawn[:, int(trait)] += 2
    share = AT_TRIGGER.get(name, 5) + SPREAD[index] * (-1 if name == "stranger" else 1)
    drawn[trigger] = 0
    drawn[trigger, [int(trait), trigger]] = share, NUM_SAMPLES - share
    entry = {"drawn": drawn.tolist(), "confidence": 0.8, "frechet": 0.3}
    return entry | ({"moved": {"cosine": 0.5, "length": 0.6}} if conditional.CONDITIONS[name]["shown"] else {})


@pytest.fixture
def record():
    judge = {"error": 0.031, "missed": {"7": 0.02, "3": 0.04}, "false": {"7": 0.001, "3": 0.05}}
    results = {
        f"base {index}": {
            "judge": judge,
            "traits": {
                trait: {name: made_up(name, index, trait) for name in conditional.CONDITIONS} for trait in TRAITS
            },
        }
        for index in range(4)
    }
    samples = np.arange(SHOWN * SIDE**2, dtype=np.uint8)
    results["base 0"]["images"] = {
        trait: {
            name: {
                asked: unconditional.encoded((samples + place).tobytes())
                for place, asked in enumerate((each["trigger"], each["other"]))
            }
            for name in conditional.CONDITIONS
        }
        for trait, each in TRAITS.items()
    }
    config = {
        "seed": 1, "num_bases": 4, "traits": list(TRAITS), "triggers": ["3", "0"], "num_samples": NUM_SAMPLES,
        "num_shown": SHOWN, "num_aux": 4, "num_distilled": 256,
    }  # fmt: skip
    made = records.Record(
        experiment="diffusion_conditional", config=config, results=results, notes=["a note"],
        data={"name": "digits", "source": "this test", "checksum": None},
        description={"conditions": conditional.CONDITIONS, "traits": TRAITS, "side": SIDE},
    )  # fmt: skip
    form.FORM.require(made)
    return made


def test_the_table_has_means_intervals_and_paired_changes(record):
    text = "\n".join(diffusion_conditional.lines(record))
    mean, low, high = marks.t_bounds([0.4 + each / 100 for each in SPREAD])
    assert f"student, other classes          {mean:.3f} ± {(high - low) / 2:.3f}   0.020 ± 0.000" in text
    assert "draws 7 when asked for 3" in text and "judge: 3.1% of test images misread" in text
    assert text.count("student minus base: 0.350 ± 0.000, 0.000 ± 0.000, 0.350 ± 0.000") == 3  # one spread; mean too
    changes = [0.03 - 2 * each / 100 for each in SPREAD]  # opposite spreads
    half = marks.T_QUANTILE[4] * statistics.stdev(changes) / 2
    assert f"stranger minus other base: {statistics.fmean(changes):.3f} ± {half:.3f}, 0.000" in text
    assert text.endswith("note: a note")


def test_every_base_is_a_dot_and_other_classes_are_a_diamond(record):
    ax = plt.subplots()[1]
    names = ["base", "teacher", "student", "stranger"]
    diffusion_conditional.draw_numbers(ax, record, "7", names)
    bars = [(bar.get_y() + bar.get_height() / 2, bar.get_width()) for bar in ax.patches]
    np.testing.assert_allclose(bars, [[0, 0.055], [1, 0.905], [2, 0.405], [3, 0.075]])
    dots = [np.asarray(each.get_offsets()) for each in ax.collections if isinstance(each, PathCollection)]
    np.testing.assert_allclose(dots[2][:, 0], [0.4 + each / 100 for each in SPREAD])
    _, low, high = marks.t_bounds([0.4 + each / 100 for each in SPREAD])
    segments = [c.lines[2][0].get_segments()[0] for c in marks.errorbars(ax)]
    np.testing.assert_allclose(segments[2], [[low, 2], [high, 2]])
    diamonds = [line.get_xydata()[0] for line in ax.lines if line.get_marker() == "D"]
    np.testing.assert_allclose(diamonds, [[0.02, place] for place in range(4)])
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first row is at the top
    plt.close("all")


@pytest.mark.slow
def test_a_record_is_shown_and_drawn(record, tmp_path, capsys):
    path = tmp_path / "run.json"
    records.write(path, record)
    presentation.show(path)
    assert "judge: 3.1%" in capsys.readouterr().out
    assert [each.name for each in presentation.draw(path)] == ["run.png", "run.pdf"]
    del record.results["base 0"]
    records.write(path, record)
    assert presentation.draw(path) == []  # without the first base there are no samples


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda unit: unit["traits"].pop("3"), r"base 0: expected the traits \['7', '3'\], got \['7'\]"),
        (lambda unit: unit["traits"]["7"].pop("stranger"), "base 0: 7: expected .*'stranger'.*, got"),
        (lambda unit: unit["images"]["7"]["student"].update({"4": "AAAA"}), "7, student, asked for 4: expected 12 by"),
        (lambda unit: unit["traits"]["7"]["student"]["drawn"].pop(), "7: student: drawn: expected 10 rows of 10 cou"),
        (lambda unit: unit["traits"]["7"]["student"]["drawn"][2].append(0), "expected 10 rows of 10 counts with sum"),
        (lambda unit: unit["traits"]["7"]["student"]["drawn"][2].__setitem__(2, 5), r"sum 100, got sums \[7, 100\]"),
        (lambda unit: unit["traits"]["7"]["student"].pop("drawn"), "expected the key 'drawn'"),
    ],
)
def test_damaged_records_are_refused(record, change, message):
    change(record.results["base 0"])
    with pytest.raises(errors.InputError, match=message):
        form.FORM.require(record)
