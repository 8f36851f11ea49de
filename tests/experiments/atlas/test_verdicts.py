"""Verdicts, effects and the page: arithmetic against a second way, and the committed page against the records."""

import itertools

import numpy as np
import pytest

from experiments.atlas import __main__ as atlas
from experiments.atlas import conflict, page, registry, results, unpublished, verdicts
from figures import atlas as figure
from sublim_jax.metrics import intervals

BASE = np.array([0.40, 0.50, 0.60, 0.45, 0.55])


def arm_of(*published):
    return registry.Arm("one", published=published)


def found_with(values):
    return {
        "one": {"members": {str(m): {"accuracy": {"student_aux": v}, "measures": {}} for m, v in enumerate(values)}}
    }


def judge(published, values, base=BASE):
    arm = arm_of(published)
    row = registry.Row(id="r", axis="loss", question="", arms=(arm,))
    return verdicts.judge(row, arm, published, found_with(values), base)


def test_a_value_within_the_interval_of_the_difference_agrees():
    ours = intervals.t_interval(BASE)
    limit = np.hypot(ours.half_width, 0.04)
    inside = registry.Published("Cloud", ours.mean + 0.99 * limit, half_width=0.04)
    outside = registry.Published("G", ours.mean + 1.01 * limit, half_width=0.04)
    assert judge(inside, BASE).word == "agrees"
    assert judge(outside, BASE).word == "not comparable"  # G's protocol is another
    missed = registry.Published("Cloud", ours.mean + 1.01 * limit, half_width=0.04)
    assert judge(missed, BASE).word == "differs"


def test_a_source_whose_own_base_is_as_far_off_agrees_relative_to_it():
    """J's base is .551. An arm that loses .3 with it loses .3 with us, though ours starts lower."""
    changed = BASE - 0.3 + np.array([0.004, -0.004, 0.002, -0.002, 0.0])
    base = BASE - 0.2
    published = registry.Published("J", 0.251, half_width=0.01)
    assert judge(published, changed - 0.2, base).word == "agrees relative to its base"
    assert judge(published, changed - 0.2, base + 0.2).word == "differs"


def test_what_was_not_run_or_cannot_be_compared_says_so():
    assert judge(registry.Published("J", 0.5), []).word == "not run"
    verdict = judge(registry.Published("J", 0.5, how="clipped"), BASE)
    assert (verdict.word, verdict.why) == ("not comparable", "clipped")
    assert judge(registry.Published("J", 0.5), [np.nan] * 5).word == "not run"


def test_members_that_are_needed_find_the_difference_with_the_asked_probability():
    """Simulated: the share of experiments whose interval leaves zero out; 4 standard errors of 4000 are .025."""
    spread, difference = 0.1, 0.03
    count = verdicts.members_needed(spread, difference)
    draws = np.random.default_rng(0).normal(difference, spread, (4000, count))
    z = draws.mean(axis=1) / (spread / count**0.5)
    assert np.mean(z > 1.96) == pytest.approx(0.8, abs=0.03)


def test_effects_are_those_of_a_regression_and_shares_add_up():
    row = unpublished.CONFLICT[0]
    signs = np.array([list(run.values()) for run in unpublished.design()], float)
    random = np.random.default_rng(0)
    truth = np.array([0.1, 0.05, -0.03, 0.0, 0.02, 0.0, -0.01])
    means = 0.5 + signs @ truth / 2 + 0.04 * signs[:, 0] * signs[:, 1]
    values = means[:, None] + 0.01 * random.standard_normal((16, 6))
    arms = {
        arm.label: {"members": {str(m): {"accuracy": {"student_aux": values[i, m]}, "measures": {}} for m in range(6)}}
        for i, arm in enumerate(row.arms)
    }
    found = {effect.name: effect for effect in conflict.effects(arms)}
    design = np.column_stack([np.ones(16), signs])
    solution = np.linalg.lstsq(design, values.mean(axis=1), rcond=None)[0]
    for name, coefficient in zip(unpublished.LEVELS, solution[1:], strict=True):
        assert found[name].change.mean == pytest.approx(2 * coefficient, abs=1e-12)
    assert 0.999 < sum(effect.share for effect in found.values()) <= 1  # one interaction of three is left
    (pair,) = (effect for name, effect in found.items() if "batch x epochs" in name)
    assert pair.change.mean == pytest.approx(0.08, abs=0.02)
    assert len(found) == 14


def test_interactions_of_two_factors_are_in_seven_groups_of_three():
    pairs = list(itertools.combinations(unpublished.LEVELS, 2))
    random = {arm.label: {"members": {"0": {"accuracy": {"student_aux": i / 16}, "measures": {}},
                                      "1": {"accuracy": {"student_aux": i / 17}, "measures": {}}}}
              for i, arm in enumerate(unpublished.CONFLICT[0].arms)}  # fmt: skip
    groups = [effect.name.split(", ") for effect in conflict.effects(random) if " x " in effect.name]
    assert sorted(map(len, groups)) == [3] * 7 and sum(map(len, groups)) == len(pairs)


def test_the_page_is_made_from_the_records():
    page.main(check=True)


def test_the_page_names_every_row():
    text = page.PAGE.read_text(encoding="utf-8")
    for row in atlas.ROWS["all"]:
        assert f"`{row.id}`" in text


def test_the_figures_draw_every_axis_that_has_a_record(tmp_path):
    found = results.read(results.FOLDER, atlas.ROWS["all"])
    row = next(row for row in atlas.ROWS["all"] if row.id in found and row.axis == "baseline")
    paths = figure.save_axis(row.axis, [row], found, tmp_path / "atlas")
    assert [path.name for path in paths] == ["atlas-baseline.png", "atlas-baseline.pdf"]
    assert figure.save_axis("conflict", [row], found, tmp_path / "atlas") == []
