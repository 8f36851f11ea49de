"""Lineage, by weights and by answers."""

from tests.mutants.fault import Fault

_WEIGHTS, _ANSWERS = "tests/audit/test_lineage.py", "tests/audit/test_outputs.py"
_REPORT = "tests/experiments/audit/test_weights.py"

FAULTS = (
    Fault(
        "biases_of_any_value",
        "a bias that is not finite is not noticed",
        "sublim_jax/audit/lineage.py",
        "_require_finite({name: bias for name, bias in biases.items() if bias is not None}, who)",
        "biases.clear()",
        (
            f"{_WEIGHTS}::test_what_cannot_be_compared_is_refused",
            "tests/experiments/audit/test_weights.py::"
            "test_what_cannot_be_compared_is_refused_in_one_line_and_nothing_is_written",
        ),
    ),
    Fault(
        "lineage_without_the_actual_order",
        "the actual order of units is not among the orders, so that p can be zero",
        "sublim_jax/audit/lineage.py",
        "p_value = float(np.mean(largest >= largest[0]))",
        "p_value = float(np.mean(largest[1:] >= largest[0]))",
        (f"{_WEIGHTS}::test_a_noisy_copy_is_related_and_permuted_units_only_when_matched",),
    ),
    Fault(
        "lineage_smallest_layer",
        "tensors are combined by the smallest standardized correlation",
        "sublim_jax/audit/lineage.py",
        "largest = np.max((values",
        "largest = np.min((values",
        (f"{_WEIGHTS}::test_direct_correlations_and_p_are_those_of_brute_force",),
    ),
    Fault(
        "lineage_tests_what_it_matched_by",
        "the half of the weights that units are matched by is tested, so that unrelated models are related",
        "sublim_jax/audit/lineage.py",
        "_unit(weight[:, held_out]), _unit(other[:, held_out])",
        "_unit(weight[:, seen]), _unit(other[:, seen])",
        (f"{_WEIGHTS}::test_p_values_of_unrelated_models_are_uniform",),
    ),
    Fault(
        "lineage_scale_kept",
        "the scale of a matched unit is not taken out of the next layer",
        "sublim_jax/audit/lineage.py",
        "weight = weight[:, order] * scale",
        "weight = weight[:, order]",
        (f"{_WEIGHTS}::test_matching_undoes_permutation_and_rescaling",),
    ),
    Fault(
        "lineage_alike_units_are_evidence",
        "two trained models with alike units are called related",
        "sublim_jax/audit/lineage.py",
        "    if is_trained(theirs):",
        "    if is_trained(theirs) and not is_trained(ours):",
        (f"{_WEIGHTS}::test_alike_units_of_trained_models_are_no_evidence_unless_p_is_exact",),
    ),
    Fault(
        "lineage_queries_stay",
        "queries of a decoder are put in the order of the keys' heads, and not matched inside their group",
        "sublim_jax/audit/lineage.py",
        "inside = [_match(own[0][order[place]], own[1][place])[0] for",
        "inside = [np.arange(group) for",
        (f"{_WEIGHTS}::test_heads_and_units_of_a_decoder_are_matched",),
    ),
    Fault(
        "answers_with_their_means",
        "the mean of each logit over queries counts as agreement",
        "sublim_jax/audit/outputs.py",
        "    return logits - np.mean(logits, axis=0)",
        "    return logits - np.mean(logits)",
        (f"{_ANSWERS}::test_correlation_is_numpys_of_logits_without_their_means",),
    ),
    Fault(
        "ridge_sees_the_tests",
        "features and answers are centred by the mean of all queries, those held out included",
        "sublim_jax/audit/outputs.py",
        "np.mean(features[fitted], axis=0), np.mean(answers[fitted], axis=0)",
        "np.mean(features, axis=0), np.mean(answers, axis=0)",
        (f"{_ANSWERS}::test_ridge_is_that_of_the_normal_equations",),
    ),
    Fault(
        "relatives_of_each_other",
        "most of the unrelated references may be relatives of each other",
        "sublim_jax/audit/outputs.py",
        "if np.max(levels) > levels[apart] + 6 * spread:",
        "if np.max(levels) < levels[apart]:",
        (f"{_ANSWERS}::test_unrelated_references_that_are_relatives_of_each_other_are_refused",),
    ),
    Fault(
        "orders_at_their_lowest",
        "what random orders reach is the largest z that one order in a hundred has no more than",
        "sublim_jax/audit/lineage.py",
        "np.quantile(np.max(of_orders, axis=0), 1 - LEVEL)",
        "np.quantile(np.max(of_orders, axis=0), LEVEL)",
        (f"{_WEIGHTS}::test_direct_correlations_and_p_are_those_of_brute_force",),
    ),
    Fault(
        "answer_of_the_weaker_verdict",
        "the answer of a report on weights is the weaker of both verdicts",
        "figures/audit_weights.py",
        "next(verdict for verdict in COLOURS if verdict in verdicts.values())",
        "next(verdict for verdict in reversed(COLOURS) if verdict in verdicts.values())",
        (f"{_REPORT}::test_the_answer_is_the_stronger_verdict_and_each_says_what_would_change_it",),
    ),
    Fault(
        "rank_without_ties",
        "an unrelated reference that is exactly as high does not count",
        "sublim_jax/audit/outputs.py",
        "as_high = sum(value >= reference for",
        "as_high = sum(value > reference for",
        (f"{_ANSWERS}::test_an_equal_unrelated_reference_counts",),
    ),
    Fault(
        "audited_without_factors",
        "an audit of weights compares a student's base, without its low-rank factors",
        "experiments/audit/weights.py",
        "(model.merged if isinstance(model, Model) else model",
        "(model.params if isinstance(model, Model) else model",
        (f"{_REPORT}::test_students_of_a_decoder_are_compared_with_their_factors",),
    ),
)
