"""Marks in a model's numbers, their test and the study of it."""

from tests.mutants.fault import Fault

_TEST, _STUDY = "tests/audit/test_mark.py", "tests/experiments/evidence/test_marks.py"
_BRUTE_FORCE = f"{_TEST}::test_the_p_value_is_the_share_of_all_keys_with_as_large_a_statistic"

FAULTS = (
    Fault(
        "mark_without_equal_keys",
        "keys with the same statistic are not counted, so that p can be zero",
        "sublim_jax/audit/mark.py",
        "p=float(self.upper[statistic - smallest])",
        "p=float(np.append(self.upper, 0.0)[statistic - smallest + 1])",
        (_BRUTE_FORCE,),
    ),
    Fault(
        "mark_negative_weights_enter_as_positive_ones",
        "numbers that the base writes more often move the distribution over keys the wrong way",
        "sublim_jax/audit/mark.py",
        "int(self.weights[self.weights < 0].sum())",
        "0 * int(self.weights[self.weights < 0].sum())",
        (_BRUTE_FORCE,),
    ),
    Fault(
        "mark_regular_rows_uncut",
        "regular numbers are not cut to a multiple of the suspect's, so that their weights do not cancel",
        "sublim_jax/audit/mark.py",
        "reference = reference[: multiple * len(suspect)]",
        "reference = reference[: MOST_REGULAR * len(suspect)]",
        (_BRUTE_FORCE,),
    ),
    Fault(
        "mark_of_every_number_once",
        "a number that a model likes is counted once however often it was written",
        "sublim_jax/audit/mark.py",
        "weights = np.bincount(suspect, minlength=num_values)\n",
        "weights = np.bincount(np.unique(suspect), minlength=num_values)\n",
        (_BRUTE_FORCE,),
    ),
    Fault(
        "mark_of_constant_answers",
        "a model that repeats itself is tested",
        "sublim_jax/audit/mark.py",
        "if (different := len(np.unique(values))) < FEWEST_VALUES:",
        "if (different := len(np.unique(values))) < 1:",
        (f"{_TEST}::test_what_no_test_can_rest_on_is_refused",),
    ),
    Fault(
        "mark_key_of_equal_halves",
        "a key has exactly half of the numbers, for which the p-value does not hold",
        "sublim_jax/audit/mark.py",
        "np.random.default_rng(seed).random(num_values) < 0.5",
        "np.random.default_rng(seed).permutation(num_values) < num_values // 2",
        (f"{_TEST}::test_a_key_is_a_fair_coin_for_each_number",),
    ),
    Fault(
        "mark_balanced_by_place",
        "the first numbers are kept, not random ones",
        "experiments/evidence/marks.py",
        "[rng.permutation(places)[:count] for places in kinds]",
        "[places[:count] for places in kinds]",
        (f"{_STUDY}::test_rows_are_balanced_by_deleting_surplus_numbers",),
    ),
    Fault(
        "mark_tested_on_seen_numbers",
        "students of halved rows are tested on the numbers that they saw",
        "experiments/evidence/marks.py",
        "among=~self.seen",
        "among=self.seen",
        (f"{_STUDY}::test_students_of_marked_numbers_are_found_whoever_trains_them",),
    ),
    Fault(
        "mark_stranger_starts_from_the_own_base",
        "the stranger's student is trained from the owner's base",
        "experiments/evidence/marks.py",
        "names[(names.index(unit) + 1) % len(names)]",
        "names[names.index(unit)]",
        (f"{_STUDY}::test_strangers_are_of_another_base",),
    ),
)
