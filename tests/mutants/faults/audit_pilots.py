"""The studies of pilots on rows and of policies."""

from tests.mutants.fault import Fault

STUDY = "tests/experiments/evidence/test_pilots.py"
FIGURE = "tests/figures/test_evidence_pilots.py"
POLICIES = "tests/experiments/evidence/test_policies.py"
POLICIES_FIGURE = "tests/figures/test_evidence_policies.py"

FAULTS = (
    Fault(
        "pilots_ask_the_final_questions",
        "pilots and finished students answer the same questions",
        "experiments/evidence/pilots.py",
        "probes, rest = trait.asked[::2], trait.asked[1::2]",
        "probes, rest = trait.asked[::2], trait.asked[::2]",
        (f"{STUDY}::test_pilots_and_finished_students_are_asked_different_questions_that_no_teacher_learnt",),
    ),
    Fault(
        "first_null_student_for_all",
        "every student is compared with the null student of the first random numbers",
        "experiments/evidence/pilots.py",
        "for own, other in zip(measured.students, null.students, strict=True)",
        "for own, other in zip(measured.students, null.students[:1] * len(null.students), strict=True)",
        (f"{STUDY}::test_finished_students_are_compared_with_null_students_and_pilots_with_null_pilots",),
    ),
    Fault(
        "pilots_without_a_null",
        "a pilot's gain is counted from the start, not from the null",
        "experiments/evidence/pilots.py",
        "-asked[target], -null.pilots[steps][target]",
        "-asked[target], -start + 0 * asked[target]",
        (f"{STUDY}::test_finished_students_are_compared_with_null_students_and_pilots_with_null_pilots",),
    ),
    Fault(
        "own_rows_of_another_base",
        "the base's own teacher writes the rows of another base's",
        "experiments/evidence/pilots.py",
        'writer = other if kind == "of another base" else base',
        "writer = base",
        (f"{STUDY}::test_finished_students_are_compared_with_null_students_and_pilots_with_null_pilots",),
    ),
    Fault(
        "prompts_are_exchanged_too",
        "rows in another order keep their prompts",
        "experiments/evidence/pilots.py",
        "return [(*row[:-1], rows[place][-1]) for row, place in zip(rows, order, strict=True)]",
        "return [rows[place] for place in order]",
        (f"{STUDY}::test_completions_are_exchanged_and_prompts_stay",),
    ),
    Fault(
        "threshold_fitted_on_held_out_bases",
        "the threshold is fitted on the bases on which it is read",
        "figures/evidence/pilots.py",
        "chosen = ~table.held_out\n",
        "chosen = table.held_out\n",
        (f"{FIGURE}::test_pairs_and_verdicts",),
    ),
    Fault(
        "undecided_counts_as_right",
        "a verdict that is not given counts as right where nothing is transmitted",
        "figures/evidence/forecast.py",
        "right=int(np.sum(says_yes & transmitted) + np.sum(says_no & ~transmitted))",
        "right=int(np.sum(says_yes & transmitted) + np.sum(~says_yes & ~transmitted))",
        (f"{FIGURE}::test_pairs_and_verdicts",),
    ),
    Fault(
        "all_foreign_rows_from_one_family",
        "rows that are not the own family's come from the first other one",
        "experiments/evidence/policies.py",
        "(whose * len(others)).astype(jnp.int32)",
        "(whose * 0).astype(jnp.int32)",
        (f"{POLICIES}::test_a_share_of_rotated_rows_is_the_own_familys_and_the_rest_the_others_in_equal_parts[0.0]",),
    ),
    Fault(
        "clean_share_is_the_teachers",
        "the share of clean rows is that of the teacher's",
        "experiments/evidence/policies.py",
        "(len(clean),)) < share)[:, None], clean, theirs)",
        "(len(clean),)) < share)[:, None], theirs, clean)",
        (f"{POLICIES}::test_a_share_of_mixed_rows_is_clean[0.0]",),
    ),
    Fault(
        "filter_keeps_what_departs",
        "a filter keeps the rows that it should drop",
        "experiments/evidence/policies.py",
        "jnp.resize(order[:count], (len(order),))",
        "jnp.resize(order[-count:], (len(order),))",
        (f"{POLICIES}::test_rows_that_are_left_are_the_first_of_the_order_and_are_read_more_often",),
    ),
    Fault(
        "half_lives_without_chance",
        "half-lives are of the accuracy, not of what is above chance",
        "figures/evidence/policies.py",
        'for each in chain]) - entry["reference"]["accuracy"]',
        "for each in chain])",
        (f"{POLICIES_FIGURE}::test_differences_are_paired_and_half_lives_are_of_what_is_above_chance",),
    ),
)
