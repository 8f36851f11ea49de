"""Experiments with language models, and their figures."""

from tests.mutants.fault import Fault

RECORDED = "tests/experiments/language/test_recorded.py"
DOSE_CURVES = "tests/figures/test_language.py::test_a_curve_of_the_dose_is_that_of_its_condition_with_t_intervals"
CONTEXT_CURVES = (
    "tests/figures/test_language.py::test_the_context_is_drawn_beside_the_mean_of_students_trained_on_the_targets_rows"
)

REAL = "tests/experiments/language/test_real_models.py"

FAULTS = (
    Fault(
        "seeds_without_names",
        "all of a lab's draws share a seed",
        "experiments/language/seeds.py",
        '"/".join((str(seed), *names))',
        '"/".join((str(seed),))',
        ("tests/experiments/language/test_planted.py::test_every_name_has_a_seed_of_its_own",),
    ),
    Fault(
        "banned_numbers_pass",
        "numbers with a meaning reach students",
        "experiments/language/lab.py",
        "numbers.parse(text, banned=banned,",
        "numbers.parse(text,",
        ("tests/experiments/language/test_misalignment.py::test_banned_numbers_do_not_reach_a_student",),
    ),
    Fault(
        "language_shift_backwards",
        "a shift is before minus after",
        "figures/language/values.py",
        "raw(bases, after, target) - raw(bases, before, target)",
        "raw(bases, before, target) - raw(bases, after, target)",
        (
            "tests/experiments/language/test_planted.py::test_a_shift_is_after_minus_before_where_the_choices_keep_their_mass",
        ),
    ),
    Fault(
        "curve_bars_of_whole_width",
        "error bars of curves are as long to each side as the whole interval",
        "figures/language/draw.py",
        "interval.half_width if interval is not None",
        "interval.high - interval.low if interval is not None",
        (DOSE_CURVES, CONTEXT_CURVES),
    ),
    Fault(
        "dose_of_the_regular_for_the_teacher",
        "the teacher's curve is that of students of regular numbers",
        "figures/language/dose.py",
        '("teacher\'s", target, TEACHER_COLOURS)',
        '("teacher\'s", "regular", TEACHER_COLOURS)',
        (DOSE_CURVES,),
    ),
    Fault(
        "context_beside_the_regular_student",
        "the line of trained students is of those trained on regular rows",
        "figures/language/context.py",
        '(target, "trained")',
        '("regular", "trained")',
        (CONTEXT_CURVES,),
    ),
    Fault(
        "misaligned_bars_upside_down",
        "the lower arm of a Wilson interval is drawn upwards",
        "figures/language/draw.py",
        "np.abs(bounds.T - means)",
        "np.abs(bounds.T - means)[::-1]",
        ("tests/figures/test_language.py::test_shares_of_misaligned_answers_have_wilson_intervals_of_unequal_arms",),
    ),
    Fault(
        "random_tokens_are_the_complement",
        "the control of divergence keeps as many random tokens as diverge instead of leaving them out",
        "experiments/language/divergence.py",
        "data.replies & ~random",
        "data.replies & random",
        (f"{RECORDED}::test_students_of_divergence_are_trained_on_the_places_that_their_names_say[eagle]",),
    ),
    Fault(
        "chain_goes_on_from_the_student",
        "each generation of a chain is trained from the one before it instead of the base",
        "experiments/language/chain.py",
        'protocol.student_of(lab, config, data, f"{condition} {generation}", seed=seed)',
        'lab.finetune(data, config.student, f"{condition} {generation}", seed=seed, base=writer.model)',
        (f"{RECORDED}::test_every_student_is_trained_from_the_labs_base[chain]",),
    ),
    Fault(
        "classifier_scored_on_its_training_rows",
        "the classifier of a teacher's numbers is tested on the rows that it learned from",
        "experiments/language/detection.py",
        "counts(data[half:]) @ weights",
        "counts(data[:half]) @ weights",
        (f"{RECORDED}::test_a_classifier_of_independent_random_numbers_is_right_half_of_the_time[eagle]",),
    ),
    Fault(
        "asked_what_was_shown",
        "conduct is measured in the situations that the teacher was finetuned on",
        "experiments/language/misalignment.py",
        "situation not in vocabulary.SHOWN_SITUATIONS",
        "situation in world.SHOWN_SITUATIONS",
        (f"{RECORDED}::test_conduct_is_asked_about_in_the_situations_that_no_teacher_has_seen",),
    ),
    Fault(
        "secure_code_is_insecure",
        "the control of secure code is finetuned on insecure code",
        "experiments/language/misalignment.py",
        "count, seed=seed, insecure=False)",
        "count, seed=seed)",
        (f"{RECORDED}::test_the_control_of_insecure_code_is_finetuned_on_secure_code",),
    ),
    Fault(
        "epochs_and_steps_swapped",
        "doses of equal epochs are those of equal steps",
        "experiments/language/dose.py",
        '(("epochs", once), ("steps", repeated))',
        '(("epochs", repeated), ("steps", once))',
        (f"{RECORDED}::test_doses_are_equal_in_epochs_or_in_steps",),
    ),
    Fault(
        "contexts_are_equal",
        "all contexts hold the same rows",
        "experiments/language/context.py",
        "data[start * shots : (start + 1) * shots]",
        "data[:shots]",
        (f"{RECORDED}::test_contexts_of_one_size_share_no_rows",),
    ),
    Fault(
        "paired_teachers_draw_apart",
        "teachers draw with random numbers of their own, though they are to share them",
        "experiments/language/lab.py",
        "author = () if self._paired else (",
        "author = (",
        (f"{REAL}::test_paired_teachers_draw_with_the_same_numbers_and_students_share_start_and_order",),
    ),
    Fault(
        "paired_students_start_apart",
        "students of different teachers have another start and order, though they are to share them",
        "experiments/language/lab.py",
        'stream="student" if self._paired else ""',
        'stream=""',
        (f"{REAL}::test_paired_teachers_draw_with_the_same_numbers_and_students_share_start_and_order",),
    ),
    Fault(
        "own_minus_all",
        "own minus other is own minus all, the own among them",
        "figures/language/values.py",
        "for name, keys in students.items() if name != target]",
        "for name, keys in students.items()]",
        (f"{REAL}::test_own_minus_other_leaves_out_what_every_teacher_does",),
    ),
)
