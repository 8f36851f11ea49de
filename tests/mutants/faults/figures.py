"""Figures and tables of the other records."""

from tests.mutants.fault import Fault

FIRST_STEPS = (
    "tests/figures/test_theorem.py::test_how_often_the_loss_rises_is_drawn_for_either_teacher_with_wilson_intervals"
)
FIRST_STEPS_SAID = "tests/figures/test_theorem.py::test_the_summary_says_how_often_the_loss_rises_after_either_teacher"

FAULTS = (
    Fault(
        "members_ordered_by_name",
        "member 10 stands before member 2",
        "figures/values.py",
        'sorted(record.results["members"], key=int)',
        'sorted(record.results["members"])',
        ("tests/experiments/test_compare.py",),
    ),
    Fault(
        "table_differences_backwards",
        "the table's differences have the wrong sign",
        "figures/tables.py",
        "values.paired(accuracies[first], accuracies[second])",
        "values.paired(accuracies[second], accuracies[first])",
        (
            "tests/experiments/test_mnist_aux.py::"
            "test_the_table_gives_means_intervals_differences_and_leaves_nobody_out_in_silence",
        ),
    ),
    Fault(
        "last_members_paired",
        "a shorter record is paired with the last members of a longer one",
        "figures/compare.py",
        "for number in members}",
        "for number in list(record.results['members'])[-len(members) :]}",
        ("tests/experiments/test_compare.py",),
    ),
    Fault(
        "seed_and_data_must_differ",
        "records of other seeds are paired if their data are equal",
        "figures/compare.py",
        'first.config["seed"] != second.config["seed"] or',
        'first.config["seed"] != second.config["seed"] and',
        ("tests/experiments/test_compare.py",),
    ),
    Fault(
        "first_step_of_the_other_teacher",
        "bars of the teacher by descent show the teacher by the same optimizer",
        "figures/theorem/optimizers.py",
        '(-0.2, "descent_teacher",',
        '(-0.2, "same_teacher",',
        (FIRST_STEPS,),
    ),
    Fault(
        "first_step_bars_upside_down",
        "the lower arm of a Wilson interval is drawn upwards",
        "figures/theorem/optimizers.py",
        "np.abs(ends - rates)",
        "np.abs(ends - rates)[::-1]",
        (FIRST_STEPS,),
    ),
    Fault(
        "law_bars_upside_down",
        "the lower arm of a Wilson interval is drawn upwards",
        "figures/theorem/laws.py",
        "np.abs([[i.low for i in shares] - middle, [i.high for i in shares] - middle])",
        "np.abs([[i.high for i in shares] - middle, [i.low for i in shares] - middle])",
        ("tests/figures/test_theorem.py::test_probabilities_of_a_right_sign_have_wilson_intervals",),
    ),
    Fault(
        "summary_counts_falls_for_rises",
        "the summary says how often the teacher's loss falls",
        "figures/theorem/summary.py",
        "row['descent_teacher']) < 0",
        "row['descent_teacher']) > 0",
        (FIRST_STEPS_SAID,),
    ),
)
