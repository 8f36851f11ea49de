"""Verdicts, effects and the page: numbers against a second computation, the committed page against the records."""

import itertools

import numpy as np
import pytest
from scipy import stats

from experiments.atlas import catalogue
from experiments.atlas.rows import factorial as factorial_rows
from experiments.atlas.rows.types import Arm, Published, Row
from figures.atlas import draw, effects, factorial, findings, page, values, verdicts
from sublim_jax import records
from sublim_jax.metrics import intervals
from tests.experiments.atlas import described

BASE = np.array([0.40, 0.50, 0.60, 0.45, 0.55])


FACTORIAL = described.row_of(factorial_rows.UNPUBLISHED[0])


def arm_of(*published):
    return Arm("one", published=published)


def judged(row: Row, arms, base):
    """The verdict on the only published number of a row."""
    read = described.row_of(row)
    (published,) = read.arms[0].published
    source = described.atlas_of({}).sources[published.source]
    return verdicts.judge(read, read.arms[0], published, source, arms, base)


def found_with(values):
    return {"one": {"members": {str(m): {"accuracy": {"student_aux": v}, "metrics": {}} for m, v in enumerate(values)}}}


def judge(published, values, base=BASE):
    row = Row(id="r", axis="loss", question="", arms=(arm_of(published),))
    return judged(row, found_with(values), base)


@pytest.mark.slow
def test_a_value_within_the_interval_of_the_difference_agrees():
    ours = intervals.t_interval(BASE)
    limit = np.hypot(ours.half_width, 0.04)
    inside = Published("cloud", ours.mean + 0.99 * limit, half_width=0.04)
    outside = Published("jlov7", ours.mean + 1.01 * limit, half_width=0.04)
    assert judge(inside, BASE).word == "agrees"
    assert judge(outside, BASE).word == "not comparable"  # G's protocol is another
    missed = Published("cloud", ours.mean + 1.01 * limit, half_width=0.04)
    assert judge(missed, BASE).word == "differs"


def test_too_few_members_for_an_interval_have_no_verdict():
    """Neither an equal value nor a distant one is compared: without an interval everything would agree."""
    for value in (0.5, 0.9):
        verdict = judge(Published("cloud", value, half_width=0.04), BASE[:3])
        assert (verdict.word, verdict.why) == ("not comparable", "3 members have no interval")
    assert judge(Published("cloud", 0.4875, half_width=0.04), BASE[:4]).word == "agrees"


def test_members_come_in_the_order_of_their_numbers():
    """From the eleventh member on, numeric and alphabetic order differ; a record has the order of its text."""
    arms = found_with([number / 100 for number in range(12)])
    arms["one"]["members"] = dict(reversed(arms["one"]["members"].items()))
    np.testing.assert_array_equal(values.arm_values(arms, values.Arm("one")), np.arange(12) / 100)


def test_a_source_whose_own_base_is_as_far_off_agrees_relative_to_it():
    """The base of jasshone is .55. Its arm loses .3 and ours loses .3, although ours starts lower."""
    changed = BASE - 0.3 + np.array([0.004, -0.004, 0.002, -0.002, 0.0])
    base = BASE - 0.2
    published = Published("jasshone", 0.251, half_width=0.01)
    assert judge(published, changed - 0.2, base).word == "agrees relative to its base"
    assert judge(published, changed - 0.2, base + 0.2).word == "differs"


def test_a_relative_change_may_be_off_by_the_root_of_two_times_their_interval():
    """Ours lose exactly .3, so the margin is that of the source: .01 for each of two means. Its base is .551."""
    base = BASE - 0.2
    for off, word in ((0.0139, "agrees relative to its base"), (0.0144, "differs")):
        published = Published("divyat09", 0.551 - 0.3 + off, half_width=0.01)
        assert judge(published, base - 0.3, base).word == word


@pytest.fixture(scope="module")
def committed():
    """The committed records of the atlas."""
    return values.read(values.FOLDER)


def test_only_the_trait_of_a_student_is_read_relative_to_a_base(committed):
    """The base of barathvelmu is a validation accuracy, so its test values are not compared with it."""
    seen = []

    def spy(row, arm, published, source, arms, base):
        seen.append((published, len(base)))
        return verdicts.Verdict(row, arm, published, None, "not run")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verdicts, "judge", spy)
        verdicts.judge_all(committed)
    for published, count in seen:
        scored = "validation_accuracy" if published.source == "barathvelmu" else "accuracy"
        assert (count > 0) == (published.measure == scored), published
    published = Published("jasshone", 0.251, "student_all", half_width=0.01)
    members = {str(m): {"accuracy": {"student_all": v}, "metrics": {}} for m, v in enumerate(BASE - 0.5)}
    row = Row(id="r", axis="loss", question="", arms=(arm_of(published),))
    assert judged(row, {"one": {"members": members}}, BASE - 0.2).word == "differs"


def test_what_was_not_run_or_cannot_be_compared_says_so():
    assert judge(Published("jasshone", 0.5), []).word == "not run"
    verdict = judge(Published("jasshone", 0.5, why_not_comparable="clipped"), BASE)
    assert (verdict.word, verdict.why) == ("not comparable", "clipped")
    assert judge(Published("jasshone", 0.5), [np.nan] * 5).word == "not run"


def test_members_that_are_needed_find_the_difference_with_the_asked_probability():
    """Share of simulated experiments whose interval excludes zero; 4 standard errors of 4000 are .025."""
    spread, difference = 0.1, 0.03
    count = verdicts.members_needed(spread, difference)
    draws = np.random.default_rng(0).normal(difference, spread, (4000, count))
    z = draws.mean(axis=1) / (spread / count**0.5)
    assert np.mean(z > 1.96) == pytest.approx(0.8, abs=0.03)


def test_effects_are_those_of_a_regression_and_shares_add_up():
    row = factorial_rows.UNPUBLISHED[0]
    signs = np.array([list(run.values()) for run in factorial_rows.design()], float)
    random = np.random.default_rng(0)
    truth = np.array([0.1, 0.05, -0.03, 0.0, 0.02, 0.0, -0.01])
    means = 0.5 + signs @ truth / 2 + 0.04 * signs[:, 0] * signs[:, 1]
    values = means[:, None] + 0.01 * random.standard_normal((16, 6))
    arms = {
        arm.label: {"members": {str(m): {"accuracy": {"student_aux": values[i, m]}, "metrics": {}} for m in range(6)}}
        for i, arm in enumerate(row.arms)
    }
    found = {effect.name: effect for effect in factorial.estimate(FACTORIAL, arms)}
    design = np.column_stack([np.ones(16), signs])
    solution = np.linalg.lstsq(design, values.mean(axis=1), rcond=None)[0]
    for name, coefficient in zip(factorial_rows.LEVELS, solution[1:], strict=True):
        assert found[name].change.mean == pytest.approx(2 * coefficient, abs=1e-12)
    assert 0.999 < sum(effect.share for effect in found.values()) <= 1  # one interaction of three is left
    (pair,) = (effect for name, effect in found.items() if "batch x epochs" in name)
    assert pair.change.mean == pytest.approx(0.08, abs=0.02)
    assert len(found) == 14


def test_interactions_of_two_factors_are_in_seven_groups_of_three():
    pairs = list(itertools.combinations(factorial_rows.LEVELS, 2))
    random = {arm.label: {"members": {"0": {"accuracy": {"student_aux": i / 16}, "metrics": {}},
                                      "1": {"accuracy": {"student_aux": i / 17}, "metrics": {}}}}
              for i, arm in enumerate(factorial_rows.UNPUBLISHED[0].arms)}  # fmt: skip
    groups = [effect.name.split(", ") for effect in factorial.estimate(FACTORIAL, random) if " x " in effect.name]
    assert sorted(map(len, groups)) == [3] * 7 and sum(map(len, groups)) == len(pairs)


def test_shares_have_an_interval_over_members():
    """The share is one for a factor that explains everything; for noise its interval nearly contains zero."""
    signs = np.array(list(itertools.product((-1, 1), repeat=3)))
    members = np.random.default_rng(0).normal(0, 0.01, (8, 12))
    found = {e.name: e for e in effects.estimate(signs, 0.5 + 0.1 * signs[:, :1] + members, ["a", "b", "c"])}
    assert found["a"].share_low > 0.98 and found["a"].share <= found["a"].share_high <= 1
    assert found["b"].share_low < 0.001 and found["b"].share_low <= found["b"].share_high < 0.02
    assert found["a"].change.mean == pytest.approx(0.2, abs=0.01)


def with_factorial(accuracy, num_members=4, *, noise=0.003) -> dict[str, records.Record]:
    """A record of the factorial whose accuracy is a function of the signs by factor."""
    random = np.random.default_rng(1)
    row = factorial_rows.UNPUBLISHED[0]
    found = records.Record.begin("atlas", {"num_members": num_members}, {"name": "m", "source": "", "checksum": None})
    found.complete = True
    found.results["arms"] = {
        arm.label: {"members": {str(m): {"accuracy": {"student_aux": accuracy(run) + noise * random.normal()},
                                         "metrics": {}} for m in range(num_members)}}
        for arm, run in zip(row.arms, factorial_rows.design(), strict=True)
    }  # fmt: skip
    return {row.id: found}


def test_the_answer_says_whether_the_expectation_held():
    def expected(run):
        return 0.5 + 0.1 * (run["batch"] + run["epochs"] + run["rate"]) + 0.04 * run["aux"] + 0.02 * run["teacher"]

    def other(run):
        return 0.5 + 0.15 * run["init"] - 0.1 * run["loss"] - 0.05 * run["teacher"] + 0.01 * run["rate"]

    text = factorial.text(described.atlas_of(with_factorial(expected)))
    assert "Expected and not found: nothing" in text and "Expected and found: batch, epochs and rate" in text
    text = factorial.text(described.atlas_of(with_factorial(other)))
    assert "Expected and found: nothing" in text and "a teacher trained for fewer epochs helps" in text
    assert "fan-in normal -> He +0.300" in text or "fan-in normal -> He +0.29" in text


def test_a_member_that_diverged_is_left_out_of_all_effects():
    found = with_factorial(lambda run: 0.5 + 0.1 * run["rate"])
    arms = found["factorial"].results["arms"]
    next(iter(arms.values()))["members"]["2"]["accuracy"]["student_aux"] = None
    assert "n = 3 members; 1 of 4 members diverged" in factorial.text(described.atlas_of(found))


def test_holm_rejects_what_its_steps_allow():
    assert findings.holm([0.01, 0.04, 0.03, 0.005]) == 2  # .005 <= .05/4, .01 <= .05/3, .03 > .05/2
    assert findings.holm([0.02, 0.9, 0.01, 0.005]) == 3  # .02 <= .05/2, though not .05/4
    assert findings.holm([0.04]) == 1 and findings.holm([0.06]) == 0 and findings.holm([]) == 0


def test_a_comparison_is_a_t_test_and_its_verb_follows_the_interval():
    changes = np.array([0.02, 0.05, -0.01, 0.04])
    assert findings.p_value(changes) == pytest.approx(stats.ttest_rel(changes, 0 * changes)[1])
    assert findings.p_value(np.zeros(3)) == 1 and findings.p_value(np.full(3, 0.1)) == 0
    assert findings.describe(intervals.t_interval(changes)).startswith("makes no detectable difference")
    assert findings.describe(intervals.t_interval(changes + 0.1)).startswith("raises accuracy (")
    assert findings.describe(intervals.t_interval(-changes / 100 - 0.005)).startswith(
        "lowers accuracy by less than 0.01"
    )


def test_a_finding_waits_for_its_rows_and_does_not_hide_a_wrong_name():
    reader = findings.RecordReader(described.atlas_of({}))
    with pytest.raises(findings.NotRunError):
        reader.mean("figure-10", "base")
    with pytest.raises(KeyError):
        reader.mean("figure-10", "bose")
    assert len(findings.ALL) == 11 and "11 more wait" in findings.text(described.atlas_of({}))


def test_heads_or_hidden_layers_is_settled_by_the_members():
    """The finding follows made-up members in the factorials of both protocols."""

    def record(row_id, heads, hidden):
        row = next(row for row in catalogue.ROWS["published"] if row.id == row_id)
        random = np.random.default_rng(2)
        made = records.Record.begin("atlas", {"num_members": 5}, {"name": "m", "source": "", "checksum": None})
        made.results["arms"] = {
            arm.label: {"members": {str(m): {"metrics": {}, "accuracy": {"student_aux": float(
                0.1 + heads * ("CA" in arm.label) + hidden * ("12" in arm.label) + 0.002 * random.normal())}}
                for m in range(5)}}
            for arm in row.arms
        }  # fmt: skip
        return made

    found = {"share-parts": record("share-parts", 0.05, 0.3), "share-parts-brockers":
             record("share-parts-brockers", 0.4, 0.1)}  # fmt: skip
    text = findings._parts(findings.RecordReader(described.atlas_of(found)))
    first, second = text.split("In the protocol of Brockers et al.")
    assert "the hidden layers carry more than the heads" in first
    assert "the heads carry more than the hidden layers" in second and "auxiliary head +0.2" in second


def test_a_network_transmits_if_its_gap_excludes_zero_and_else_the_gap_that_is_excluded_is_said():
    changes = 0.01 * np.array([-1.5, -0.5, 0.5, 1.5])  # a 95 % interval of 3.18 x .0129 / 2 = .0205
    better = {"LeNet, strides": 0.2, "mean pooling": 0.1, "heads": 0.05}
    names = ("convolution-pooling", "convolution-residual", "convolution-parts")
    rows = [row for row in catalogue.ROWS["unpublished"] if row.id in names]
    made = {}
    for row in rows:
        made[row.id] = records.Record.begin("atlas", {"num_members": 4}, {"name": "m", "source": "", "checksum": None})
        made[row.id].results["arms"] = {
            arm.label: {"members": {str(m): {"metrics": {}, "accuracy": {
                "student_aux": 0.1 + better.get(arm.label, 0.0) + float(change), "cross_model_aux": 0.1}}
                for m, change in enumerate(changes)}}
            for arm in row.arms
        }  # fmt: skip
    text = findings._convolutions(findings.RecordReader(described.atlas_of(made)))
    assert "excludes zero for LeNet, strides; residual network, mean pooling, and does not for MLP of the paper" in text
    assert "MLP of the paper (a gap above 0.021 is excluded)" in text
    assert "LeNet, strides 0.300 ± 0.021, gap +0.200 ± 0.021" in text
    assert "residual network, mean pooling 0.200 ± 0.021, gap +0.100 ± 0.021" in text
    arms = {row.id: len(row.arms) for row in rows}
    assert text.count("is excluded") == arms["convolution-pooling"] + arms["convolution-residual"] - 2
    assert "nothing 0.100 ± 0.021; heads 0.150 ± 0.021, +0.050 ± 0.000; convolutions 0.100" in text


def test_a_row_without_a_record_is_said_to_be_not_run_yet():
    atlas = described.atlas_of({})
    for name in ("fashion-mnist", "mlp-to-convolution"):
        lines = page._lines_of(atlas.row(name), [], atlas)
        assert lines and all(line.endswith("| not run yet |") for line in lines)
    assert all("Not run yet." in page.unpublished(atlas).split(f"**`{name}`**")[1][:700] for name in ("kmnist",))


def test_the_best_on_validation_images_is_read_on_test_images():
    arms = [Arm(name, group="g") for name in ("a", "b")]
    row = Row(id="r", axis="loss", question="", arms=arms)
    scores = {"a": (0.9, 0.2), "b": (0.3, 0.8)}  # on validation and on test images
    found = {
        name: {"members": {str(m): {"accuracy": {"student_aux": test}, "metrics": {"validation_accuracy":
               {"student_aux": held_out}}} for m in range(3)}}
        for name, (held_out, test) in scores.items()
    }  # fmt: skip
    (line, _) = page._chosen(described.row_of(row), found)
    assert line.startswith("Chosen on validation images, read on test images: a: 0.200")


def with_likeness(accuracy, likeness):
    """Arms of a record with these accuracies and likenesses, by arm and member."""
    return {
        name: {"members": {str(m): {"accuracy": {"student_aux": a}, "metrics": {"hidden_cosine": {"student_aux": b},
               "cka": {"student_aux": -b}}} for m, (a, b) in enumerate(zip(*pair, strict=True))}}
        for name, pair in zip("ab", zip(accuracy, likeness, strict=True), strict=True)
    }  # fmt: skip


def test_likeness_and_accuracy_are_correlated_over_all_runs_and_within_an_arm():
    row = Row(id="r", axis="loss", question="", arms=[Arm("a"), Arm("b")], about="likeness")
    likeness = np.array([[0.1, 0.2, 0.3, 0.4], [0.6, 0.7, 0.8, 0.9]])
    accuracy = np.array([[0.4, 0.3, 0.2, 0.1], [0.9, 0.8, 0.7, 0.6]])  # falls within an arm, rises between them
    (line,) = page._likeness(described.row_of(row), with_likeness(accuracy, likeness))
    r = np.corrcoef(likeness.ravel(), accuracy.ravel())[0, 1]
    assert (
        f"cosine {r:.2f} [" in line
        and f"CKA {-r:.2f} [" in line
        and "on average -1.00 among runs of equal length; CKA" in line
    )


def test_spreads_are_compared_by_levenes_test():
    row = Row(id="r", axis="loss", question="", arms=[Arm("a"), Arm("b")], about="standard deviations")
    values = np.array([[0.1, 0.9, 0.2, 0.8], [0.5, 0.51, 0.49, 0.5]])
    (line, _) = page._standard_deviations(described.row_of(row), with_likeness(values, values))
    assert f"a {np.std(values[0], ddof=1):.3f}, b 0.008" in line
    assert f"p = {float(stats.levene(*values)[1]):.2g}." in line


def test_the_page_is_made_from_the_records():
    page.main(check=True)


def test_the_page_says_where_members_had_other_operands():
    def record(**precisions):
        made = records.Record.begin("atlas", {}, {})
        members = {member: {"precision": precision} for member, precision in precisions.items()}
        made.results = {"arms": {"one": {"setting": "s", "members": members}}}
        return made

    mixed = record(a="float32", b="bfloat16", c="float32")
    both = described.atlas_of({"r": mixed, "again": mixed})
    assert "1 and 2 of the members" in page.operands(both)  # one setting counts once
    assert page.operands(described.atlas_of({"r": record(a="float32", b="float32")})) == ""


def test_the_page_says_what_the_published_rows_took():
    """A setting of several rows counts once, and compilation counts for every row."""

    def record(compiled, **seconds):
        made = records.Record.begin("atlas", {}, {})
        made.results = {"arms": {name: {"setting": name, "seconds": 60.0 * s} for name, s in seconds.items()}}
        made.seconds, made.complete = {"compile": 60.0 * compiled}, True
        return made

    published, unpublished = (catalogue.ROWS[which][0].id for which in ("published", "unpublished"))
    made = {published: record(2, a=10, shared=5), unpublished: record(3, shared=5, b=40)}
    text = page.costs(described.atlas_of(made))
    assert "2 rows have records: 3 different settings, 55 minutes of training and 5 of compilation" in text
    assert "The 1 rows with published numbers took 15 and 2 of these minutes." in text


def test_the_page_names_every_row():
    text = page.PAGE.read_text(encoding="utf-8")
    for row in catalogue.ROWS["all"]:
        assert f"`{row.id}`" in text


@pytest.mark.slow
def test_the_figures_draw_every_axis_that_has_a_record(tmp_path):
    atlas = values.read(values.FOLDER)
    row = next(row for row in atlas.rows if row.id in atlas.records and row.axis == "baseline")
    atlas = atlas._replace(rows=(row,))
    paths = draw.save_axis(row.axis, atlas, tmp_path / "atlas")
    assert [path.name for path in paths] == ["atlas-baseline.png", "atlas-baseline.pdf"]
    assert draw.save_axis("conflict", atlas, tmp_path / "atlas") == []
