"""Audit tools about rows: their scores, their base, their trait."""

from tests.mutants.fault import Fault

SOFTMAX = "tests/llm/local/test_surprise.py::test_scores_are_those_of_the_softmax_of_each_token"
BY_HAND = (
    "tests/audit/test_author.py::test_a_surprise_is_the_distance_of_likelihood_and_entropy_from_what_own_rows_have"
)
BEST_LENS = "tests/audit/test_lens.py::test_regular_rows_have_uniform_p_values_under_the_best_of_several_lenses"

AUDIT = "tests/experiments/audit/test_audit.py"

FAULTS = (
    Fault(
        "departure_by_the_variance",
        "S is divided by a variance, not by a standard deviation",
        "sublim_jax/audit/author.py",
        "lambda sums: sums[:, 0] / np.sqrt(sums[:, 1])",
        "lambda sums: sums[:, 0] / sums[:, 1]",
        ("tests/audit/test_author.py::test_rows_of_a_finetuned_copy_depart_in_either_direction",),
    ),
    Fault(
        "rows_that_gain_less_carry_something",
        "the p-value of lenses is two-sided",
        "sublim_jax/audit/lens.py",
        "null.upper, len(every[0])",
        "null.two_sided, len(every[0])",
        ("tests/audit/test_lens.py::test_rows_that_gain_less_than_regular_ones_carry_nothing",),
    ),
    Fault(
        "candidates_calibrated_on_the_bases_rows",
        "every candidate is calibrated on the base's rows",
        "experiments/audit/rows.py",
        "calibration[candidate] = surprise.score(other.backend.model(other.name), _apart(own, rows))",
        "calibration[candidate] = of_null",
        (f"{AUDIT}::test_authorship_is_calibrated_by_the_rows_of_each_candidate",),
    ),
    Fault(
        "rows_and_null_exchanged",
        "the null rows are tested, and the rows calibrate",
        "experiments/audit/rows.py",
        "author.finetuned_away(of_rows, of_null)",
        "author.finetuned_away(of_null, of_rows)",
        (f"{AUDIT}::test_authorship_is_calibrated_by_the_rows_of_each_candidate",),
    ),
    Fault(
        "longer_pilots_on_a_longer_null",
        "a pilot on more null rows than rows takes more steps",
        "experiments/audit/rows.py",
        "self.config.num_pilot_rows(min(len(self.rows), len(self.null)))",
        "self.config.num_pilot_rows(len(self.null))",
        (f"{AUDIT}::test_pilots_on_rows_and_on_a_longer_or_shorter_null_have_as_many_steps",),
    ),
    Fault(
        "candidates_with_a_finite_weight",
        "a candidate is refused only if all of its tensors have numbers that are not finite",
        "experiments/audit/rows.py",
        "if not all(bool(jnp.isfinite(leaf).all())",
        "if not any(bool(jnp.isfinite(leaf).all())",
        (f"{AUDIT}::test_candidates_that_cannot_score_the_rows_are_refused_before_anything_is_written",),
    ),
    Fault(
        "any_null_is_the_bases_own",
        "the report says of any null that the base wrote it",
        "figures/audit.py",
        'own = record.config["null"] == "auto"',
        "own = True",
        (f"{AUDIT}::test_the_report_speaks_of_an_author_only_as_far_as_the_null_is_the_bases_own",),
    ),
    Fault(
        "scores_of_the_places_after",
        "a token is scored by the hidden state at its own place",
        "sublim_jax/llm/local/surprise.py",
        "low_rank=low_rank)[:, -places - 1 : -1]",
        "low_rank=low_rank)[:, -places:]",
        (SOFTMAX,),
    ),
    Fault(
        "entropy_in_bits",
        "entropies are in bits, log-probabilities in nats",
        "sublim_jax/llm/local/surprise.py",
        "entropies = -jnp.sum(probabilities * logprobs, axis=-1)",
        "entropies = -jnp.sum(probabilities * logprobs, axis=-1) / jnp.log(2.0)",
        (SOFTMAX,),
    ),
    Fault(
        "entropy_of_prompts_too",
        "tokens of the prompt count as the completion's",
        "sublim_jax/llm/local/surprise.py",
        "jnp.where(replies[None, :, -places:], of_places, 0.0)",
        "jnp.where(valid[None, :, -places:], of_places, 0.0)",
        (SOFTMAX,),
    ),
    Fault(
        "surprise_without_calibration",
        "the filter's part of the surprise stays in",
        "sublim_jax/audit/author.py",
        "expected = 0.0 if calibration is None else excesses(calibration).mean()",
        "expected = 0.0",
        (BY_HAND,),
    ),
    Fault(
        "copies_row_by_row",
        "every row may be of another copy of a base",
        "sublim_jax/audit/author.py",
        "np.max([scores.logprobs[draws].sum(axis=1) for scores in family], axis=0)",
        "np.max([scores.logprobs[draws] for scores in family], axis=0).sum(axis=1)",
        ("tests/audit/test_author.py::test_the_likeliest_of_a_family_is_chosen_for_a_draw_and_not_for_each_row",),
    ),
    Fault(
        "departures_from_zero",
        "a p-value counts from 0, where regular rows would be without a filter",
        "sublim_jax/audit/rows.py",
        "distances = np.abs(values - values.mean())",
        "distances = np.abs(values)",
        ("tests/audit/test_author.py::test_a_permutation_p_value_is_the_share_of_all_choices_of_rows",),
    ),
    Fault(
        "permutations_among_regular_rows_alone",
        "the rows are no part of the pool that choices are drawn from",
        "sublim_jax/audit/rows.py",
        "rng.choice(len(pool), len(rows), replace=False, shuffle=False)",
        "len(rows) + rng.choice(len(calibration), len(rows), replace=False, shuffle=False)",
        ("tests/audit/test_author.py::test_a_permutation_p_value_is_the_share_of_all_choices_of_rows",),
    ),
    Fault(
        "best_of_lenses_without_allowance",
        "the null distribution is that of the first lens alone",
        "sublim_jax/audit/lens.py",
        "lambda sums: sums.max(axis=1)",
        "lambda sums: np.append(sums[:1].max(axis=1), sums[1:, 0])",
        (BEST_LENS,),
    ),
    Fault(
        "calibrated_on_the_rows_themselves",
        "calibration rows may be among the rows",
        "sublim_jax/audit/rows.py",
        "np.isin(rows.row_ids, calibration.row_ids).sum()",
        "np.isin(rows.row_ids[:0], calibration.row_ids).sum()",
        ("tests/audit/test_author.py::test_what_no_verdict_can_rest_on_is_refused",),
    ),
)
