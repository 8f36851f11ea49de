"""Tables and figure of `real` and its part of the README, on a record of random numbers, beside sums written out."""

import copy
import itertools
import re
from collections.abc import Iterator

import numpy as np
import pytest
from matplotlib import pyplot as plt

from experiments.language import page, real
from figures import readme, readme_language, values
from figures.language import real as drawn
from sublim_jax import errors, records
from sublim_jax.forms import language_real as form
from sublim_jax.metrics import intervals

TARGETS, SEEDS, STEPS, LAYERS = ["owl", "cat", "fox", "bee"], [0, 3, 4, 6], [2, 5], 4
ANIMALS = ["hen", *TARGETS[::-1]]
ARMS = ["full", "numbers", "other_start"]
ADAM_STEPS = {"2": 1.5, "5": 4.25}
LAST = str(STEPS[-1])


def made(seed: int = 0, *, num_seeds: int = 4) -> records.Record:
    """A complete record in which no two numbers are equal."""
    rng = np.random.default_rng(seed)
    seeds = SEEDS[:num_seeds]

    def of(names, low=-2.0, high=2.0):
        return {name: float(rng.uniform(low, high)) for name in names}

    def measured():
        return {"log_odds": of(ANIMALS), "probability": of(ANIMALS, 0, 0.2), "mass": float(rng.uniform())}

    def answers():
        count = int(rng.integers(20, 90))
        return {"named": {name: int(rng.integers(count)) for name in TARGETS}, "num_answers": count, "examples": []}

    def student():
        return {
            "steps": {str(step): {**measured(), "kl": float(rng.uniform())} for step in STEPS},
            "prediction": {name: of(TARGETS) for name in ("sgd_slope", "cosine", "adam_step")},
            "streams": {
                "cosines": {name: rng.uniform(-1, 1, LAYERS).tolist() for name in TARGETS},
                "norm_ratio": rng.uniform(0, 1, LAYERS).tolist(),
            },
            "answers": answers(),
        }

    results = {
        "base": {**measured(), "answers": answers()},
        "teachers": {
            str(seed): {name: {**measured(), "kl": of(("full", "numbers")), "answers": answers()} for name in TARGETS}
            for seed in seeds
        },
        "starts": {str(seed): {**measured(), "kl": of(("perturbed", "healed"))} for seed in seeds},
        "students": {str(seed): {arm: {name: student() for name in TARGETS} for arm in ARMS} for seed in seeds},
    }
    config = {
        "backend": "m", "targets": TARGETS, "seeds": seeds, "arms": ARMS, "measured_at": STEPS, "num_rows": 3,
        "num_tokens": 10,
    }  # fmt: skip
    description = {
        "animals": ANIMALS, "prefill": "It is the", "num_questions": 7, "num_number_tokens": 12,
        "adam_steps": ADAM_STEPS,
    }  # fmt: skip
    data: records.Data = {"name": "m", "source": "", "checksum": "c"}
    record = records.Record("language_real", config, data, description, results)
    form.FORM.require(record)
    return record


def own_minus_other(record: records.Record, arm: str, value_of) -> np.ndarray:
    """Own minus other by seed and animal, one difference at a time.

    Args:
        value_of: of a seed, a student and an animal.
    """
    students, cells = record.results["students"], []
    for seed in map(str, record.config["seeds"]):
        for animal in TARGETS:
            others = [value_of(seed, students[seed][arm][name], animal) for name in TARGETS if name != animal]
            cells.append(value_of(seed, students[seed][arm][animal], animal) - sum(others) / 3)
    return np.array(cells).reshape(-1, len(TARGETS))


def shift_at(record: records.Record, arm: str, step: str):
    def value_of(seed, student, animal):
        start = record.results["starts"][seed] if arm == "other_start" else record.results["base"]
        return student["steps"][step]["log_odds"][animal] - start["log_odds"][animal]

    return value_of


def table_of(record: records.Record, arm: str) -> str:
    """The part of the text about one arm."""
    text = "\n".join(drawn.lines(record))
    part = text.partition(drawn.ARMS[arm])[2]
    return part.partition("\n\n")[0]


@pytest.mark.parametrize("arm", ARMS)
def test_the_table_of_an_arm_has_its_own_numbers(arm):
    record = made()
    text = table_of(record, arm)
    expected = own_minus_other(record, arm, shift_at(record, arm, LAST))
    np.testing.assert_allclose(drawn.cells(record, arm, LAST), expected)
    rows = {line.split("  ")[0]: line.split()[-4:] for line in text.splitlines()}
    assert rows["own - other"] == [f"{value:+.3f}" for value in expected.mean(axis=0)]
    for seed, row in zip(SEEDS, expected, strict=True):
        assert re.search(rf"  seed {seed} +" + " +".join(re.escape(f"{value:+.3f}") for value in row), text)
    students = [record.results["students"][str(seed)][arm] for seed in SEEDS]
    own = [np.mean([each[name]["steps"][LAST]["probability"][name] for each in students]) for name in TARGETS]
    assert rows["P, own student"] == [f"{value:.4f}" for value in own]
    assert rows["P in the base"] == [f"{record.results['base']['probability'][name]:.4f}" for name in TARGETS]
    for name in TARGETS:
        ends = [each[name]["steps"][LAST] for each in students]
        mean = [np.mean([end["log_odds"][animal] for end in ends]) for animal in TARGETS]
        starts = record.results["starts"] if arm == "other_start" else {"": record.results["base"]}
        before = [np.mean([start["log_odds"][animal] for start in starts.values()]) for animal in TARGETS]
        numbers = [f"{after - start:+.3f}" for after, start in zip(mean, before, strict=True)]
        numbers += [f"{np.mean([end['mass'] for end in ends]):.3f}", f"{np.mean([end['kl'] for end in ends]):.4f}"]
        (line,) = (line for line in text.splitlines() if line.split()[:1] == [name])
        assert line.split()[1:] == numbers


@pytest.mark.parametrize("arm", ARMS)
def test_first_order_stands_beside_the_first_measurement_in_units_of_adams_full_steps(arm):
    record = made()
    predicted = own_minus_other(record, arm, lambda seed, student, animal: student["prediction"]["adam_step"][animal])
    slopes = own_minus_other(record, arm, lambda seed, student, animal: student["prediction"]["sgd_slope"][animal])
    measured = own_minus_other(record, arm, shift_at(record, arm, "2"))
    assert (
        f"after 2 steps (1.50 of Adam's full ones): predicted {1.5 * predicted.mean():+.3f}, measured "
        f"{measured.mean():+.3f}, equal sign in {np.sum(predicted * measured > 0)} of 16; SGD slope positive in "
        f"{np.sum(slopes > 0)} of 16"
    ) in table_of(record, arm)
    assert np.sum(predicted * measured > 0) != 8  # else the other signs would be as many


@pytest.mark.parametrize("arm", ARMS)
def test_cosines_of_the_own_teacher_are_those_of_the_students_own(arm):
    record = made()
    own, other = [], []
    for seed, student, teacher in itertools.product(map(str, SEEDS), TARGETS, TARGETS):
        cosines = record.results["students"][seed][arm][student]["streams"]["cosines"][teacher]
        (own if student == teacher else other).append(cosines)
    (line,) = (line for line in table_of(record, arm).splitlines() if line.startswith("hidden states"))
    assert re.findall(r"[+-]\d\.\d\d", line) == [
        f"{value:+.2f}" for value in (np.mean(own), np.mean(other), np.mean(np.array(own)[:, 2:]),
                                      np.mean(np.array(other)[:, 2:]))
    ]  # fmt: skip


def test_intervals_are_over_seeds_and_over_animals():
    cells = np.array([[1.0, 2, 3, 10], [2, 2, 3, 11], [0, 3, 3, 12], [1, 1, 3, 15]])
    text = drawn.interval_text(cells)
    seeds, animals = (f"{intervals.t_interval(cells.mean(axis=axis)):+.3f}" for axis in (1, 0))
    assert seeds != animals and f"; over seeds {seeds};" in text
    assert text.endswith(f"; over animals, each the mean of its seeds, {animals}") and "n=16" in text


def test_rates_of_free_answers_are_pooled_over_targets_and_seeds():
    record = made()
    results = record.results
    base = results["base"]["answers"]
    counts = {"base": (sum(base["named"].values()), 4 * base["num_answers"])}
    groups = {"teachers": results["teachers"].values()}
    groups |= {f"students, {arm}": [arms[arm] for arms in results["students"].values()] for arm in ARMS}
    for name, seeds in groups.items():
        own = [(models[target]["answers"], target) for models in seeds for target in TARGETS]
        counts[name] = sum(a["named"][t] for a, t in own), sum(a["num_answers"] for a, _ in own)
    (line,) = (line for line in drawn.lines(record) if line.startswith("free answers"))
    for name, (named, total) in counts.items():
        rate = intervals.wilson(named, total)
        shown = re.search(rf"{name} ([\d.]+)\D+([\d.]+)\D+([\d.]+)", line)
        assert shown, line
        scale = 100 if float(shown[1]) > 1 else 1
        found = [float(number) / scale for number in shown.groups()]
        np.testing.assert_allclose(found, [named / total, rate.low, rate.high], atol=6e-3)


@pytest.mark.parametrize("arm", ["full", "other_start"])
def test_a_finished_student_is_compared_with_the_start_of_its_arm(arm):
    record = made()
    (line,) = drawn.unit_lines(record, f"seed 4, {arm}, student of fox")
    steps = record.results["students"]["4"][arm]["fox"]["steps"]
    start = (record.results["starts"]["4"] if arm == "other_start" else record.results["base"])["log_odds"]
    assert line == (
        f"seed 4, {arm}, student of fox, change of log-odds after 2, 5 steps: "
        + "; ".join(
            f"{animal} " + " ".join(f"{steps[step]['log_odds'][animal] - start[animal]:+.3f}" for step in ("2", "5"))
            for animal in TARGETS
        )
    )
    assert drawn.unit_lines(record, "seed 4, teacher of fox") == drawn.unit_lines(record, "base") == []


def test_every_curve_of_the_figure_is_of_what_its_label_says():
    record = made()
    figure = plt.figure()
    drawn.draw(record, figure)
    for (matrix, dose, layers), arm in zip(np.reshape(figure.axes, (len(ARMS), 3)), ARMS, strict=True):
        cells = [own_minus_other(record, arm, shift_at(record, arm, str(step))) for step in STEPS]
        curves = [line for line in dose.get_lines() if len(line.get_xdata()) == 3]
        for index, line in enumerate(curves[:16]):
            animal, seed = divmod(index, len(SEEDS))
            np.testing.assert_allclose(line.get_ydata(), [0, *(each[seed, animal] for each in cells)], err_msg=arm)
            assert (line.get_label() == TARGETS[animal]) == (seed == 0)
        np.testing.assert_allclose(curves[16].get_ydata(), [0, *(each.mean() for each in cells)])
        np.testing.assert_allclose(curves[16].get_xdata(), [0, 2, 5])
        shown = {line.get_label(): line for line in layers.get_lines()}
        own, other = np.mean([drawn.stream_cosines(record, arm, seed) for seed in SEEDS], axis=0)
        np.testing.assert_allclose(shown["own teacher"].get_ydata(), own)
        np.testing.assert_allclose(shown["other teachers"].get_ydata(), other)
        np.testing.assert_array_equal(shown["own teacher"].get_xdata(), [1, 2, 3, 4])
        for (row, column), text in zip(np.ndindex(4, 4), matrix.texts, strict=True):
            assert text.get_position() == (column, row) and (text.get_weight() == "bold") == (row == column)
        assert matrix.get_xlabel() == "log-odds of" and [t.get_text() for t in matrix.get_yticklabels()] == TARGETS
    plt.close(figure)


def test_the_readmes_table_is_of_animals_and_of_students_of_the_whole_vocabulary(monkeypatch, tmp_path):
    record, start = made(), made(5)
    monkeypatch.setattr(values, "RECORDS", tmp_path)
    records.write(tmp_path / "language_real.json", record)
    records.write(tmp_path / "language_real-start.json", start)
    head, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in
                      readme_language.language_real().strip().splitlines())  # fmt: skip
    assert head[1:] == [*TARGETS, "mean over animals"]
    assert len(rows) == len(ARMS) + 2
    for arm, each, row in zip([*ARMS, "other_start"], [record] * len(ARMS) + [start], rows, strict=False):
        by_animal = own_minus_other(each, arm, shift_at(each, arm, LAST)).mean(axis=0)
        assert row[0] == drawn.ARMS[arm] and row[1:5] == [f"{value:+.2f}" for value in by_animal]
        assert row[5] == f"{intervals.t_interval(by_animal):+.2f}"
    students = [record.results["students"][str(seed)]["full"] for seed in SEEDS]
    for name, cell in zip(TARGETS, rows[-1][1:5], strict=True):
        mean = np.mean([each[name]["steps"][LAST]["probability"][name] for each in students])
        assert cell == f"{record.results['base']['probability'][name]:.4f} to {mean:.4f}"


# Records that are put together


@pytest.fixture
def parts(tmp_path) -> Iterator:
    """A record of the first two seeds, and one of the others in a file, of the same base."""
    whole = made()
    halves = []
    for seeds in (SEEDS[:2], SEEDS[2:]):
        half = copy.deepcopy(whole)
        half.config["seeds"] = seeds
        for name in ("teachers", "starts", "students"):
            half.results[name] = {str(seed): half.results[name][str(seed)] for seed in seeds}
        half.seconds = {"base": 1.0 * seeds[0], "wall": 50.0, **{f"seed {seed}": 7.0 + seed for seed in seeds}}
        half.notes = ["the same", f"of {seeds[0]}"]
        halves.append(half)
    records.write(tmp_path / "other.json", halves[1])
    halves[0].config["seeds"] = SEEDS
    del halves[0].seconds["wall"]
    return whole, halves[0], tmp_path / "other.json"


def test_what_is_taken_over_fills_gaps_and_replaces_nothing(parts):
    whole, half, path = parts
    kept = copy.deepcopy(half.results["students"]["0"])
    here = made(1).results  # measured on another machine, say
    half.results["students"]["4"] = {"full": {"owl": here["students"]["4"]["full"]["owl"]}}
    half.results["base"], half.seconds["seed 4"] = here["base"], 0.5
    real._take_over(path, half)
    assert half.results["base"] == made(1).results["base"] and half.results["students"]["0"] == kept
    expected = copy.deepcopy(whole.results["students"])
    expected["4"]["full"]["owl"] = made(1).results["students"]["4"]["full"]["owl"]
    assert half.results["students"] == expected
    assert {name: half.results[name] for name in ("teachers", "starts")} == {
        name: whole.results[name] for name in ("teachers", "starts")
    }
    # The time of the other's whole run is not that of this one, and what is measured here keeps its own.
    assert half.seconds == {"base": 0.0, "seed 0": 7.0, "seed 3": 10.0, "seed 4": 0.5, "seed 6": 13.0}
    assert half.notes == ["the same", "of 0", "of 4"]


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [("config", "num_rows", 4), ("data", "checksum", "another"), ("description", "num_questions", 8)],
)
def test_a_record_of_another_model_or_of_other_settings_is_not_taken_over(parts, name, key, value):
    _, half, path = parts
    getattr(half, name)[key] = value
    with pytest.raises(errors.RecordError, match=rf"other\.json: its {name} differs from this run's"):
        real._take_over(path, half)


def test_another_start_is_compared_with_the_models_own_seed_by_seed():
    record, other = made(), made(seed=8)
    expected = own_minus_other(record, "other_start", shift_at(record, "other_start", LAST)) - own_minus_other(
        other, "full", shift_at(other, "full", LAST)
    )
    np.testing.assert_allclose(drawn.beside(record, "other_start", other, "full"), expected, atol=1e-12)
    del other.results["students"][str(SEEDS[1])]["full"][TARGETS[0]]
    left = [index for index in range(len(SEEDS)) if index != 1]
    np.testing.assert_allclose(drawn.beside(record, "other_start", other, "full"), expected[left], atol=1e-12)
    other.config["num_tokens"] = 11
    with pytest.raises(errors.RecordError, match="num_tokens=10 and 11 have no students that can be compared"):
        drawn.beside(record, "other_start", other, "full")
    elsewhere = made()
    elsewhere.config["seeds"] = [77]
    with pytest.raises(errors.RecordError, match="without a common seed"):
        drawn.beside(record, "other_start", elsewhere, "full")
    for name, value in (("learning_rate", 3e-4), ("rank", 8), ("num_lesson_steps", 5)):
        changed = copy.deepcopy(record)
        changed.config[name] = value
        with pytest.raises(errors.RecordError, match=f"with {name}=None and {value} have no students"):
            drawn.beside(record, "other_start", changed, "full")
    stranger = copy.deepcopy(record)
    stranger.data["checksum"] = "another"
    with pytest.raises(errors.RecordError, match="whose data have checksum c and another have no students"):
        drawn.beside(record, "other_start", stranger, "full")
    for name, value in (("arms", ["full"]), ("num_answers", 0), ("noise", 0.2), ("num_heal_steps", 1)):
        stranger = copy.deepcopy(record)
        stranger.config[name] = value
        assert drawn.beside(record, "other_start", stranger, "full").shape == (len(SEEDS), len(TARGETS))


def test_the_page_has_students_from_another_start_beside_those_from_the_model_itself(tmp_path):
    paths, made_here = [tmp_path / "language_real-start.json", tmp_path / "main.json"], [made(), made(seed=8)]
    made_here[0].config["arms"] = ["other_start"]
    for students in made_here[0].results["students"].values():
        del students["full"], students["numbers"]
    differences = own_minus_other(made_here[0], "other_start", shift_at(made_here[0], "other_start", LAST))
    differences -= own_minus_other(made_here[1], "full", shift_at(made_here[1], "full", LAST))
    assert page.start_section(*paths).endswith("**Not run yet.**")
    records.write(paths[1], made_here[1])
    student = made_here[0].results["students"][str(SEEDS[2])]["other_start"].pop(TARGETS[0])
    records.write(paths[0], made_here[0])
    assert page.start_section(*paths).endswith("**Not run yet.**")
    made_here[0].results["students"][str(SEEDS[2])]["other_start"][TARGETS[0]] = student
    records.write(paths[0], made_here[0])
    text = page.start_section(*paths)
    assert f"that start from the model itself: {intervals.t_interval(differences.ravel()):+.3f}" in text
    assert all(line in text for line in drawn.lines(made_here[0])) and "Not run" not in text
    assert text.endswith("[Record](../records/language_real-start.json).")


def test_what_the_readme_says_of_another_start_is_in_the_records():
    """Own minus other of every seed and animal, from the records' own log-odds."""
    text = " ".join(readme.README.read_text(encoding="utf-8").split())
    start, main = (records.read(values.RECORDS / f"language_real{name}.json", form.FORM) for name in ("-start", ""))
    assert start.complete and start.config["seeds"] == [0, 1]

    def own_minus_other_of(record, arm: str, before, seed: str, animal: str) -> float:
        shifts = {
            teacher: student["steps"]["60"]["log_odds"][animal] - before["log_odds"][animal]
            for teacher, student in record.results["students"][seed][arm].items()
        }
        return shifts.pop(animal) - float(np.mean(list(shifts.values())))

    cases = list(itertools.product("01", start.config["targets"]))
    here = [own_minus_other_of(start, "other_start", start.results["starts"][case[0]], *case) for case in cases]
    there = [own_minus_other_of(main, "full", main.results["base"], *case) for case in cases]
    less = np.array(here) - np.array(there)
    assert len(cases) == 8 and less.max() < 0 < min(here)
    cases_less, animals_less = (intervals.t_interval(-each) for each in (less, less.reshape(2, 4).mean(axis=0)))
    sentence = f"in each of eight cases, by {cases_less:.2f} (± {animals_less.half_width:.2f} over the four animals)"
    assert sentence in text
    assert "but one above zero in all eight" in text
