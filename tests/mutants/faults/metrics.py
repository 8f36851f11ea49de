"""Accuracies, intervals and representations."""

from tests.mutants.fault import Fault

FAULTS = (
    Fault(
        "deviation_of_n",
        "standard deviation of n degrees of freedom",
        "sublim_jax/metrics/intervals.py",
        "np.std(values, ddof=1)",
        "np.std(values)",
        ("tests/metrics/test_intervals.py::test_the_t_interval_is_scipys",),
    ),
    Fault(
        "one_sided_interval",
        "90 % intervals for 95 %",
        "sublim_jax/metrics/intervals.py",
        "stats.t.ppf((1 + confidence) / 2, count - 1)",
        "stats.t.ppf(confidence, count - 1)",
        ("tests/metrics/test_intervals.py::test_the_t_interval_is_scipys",),
    ),
    Fault(
        "pairs_sorted",
        "the smallest of both are paired, not the members",
        "sublim_jax/metrics/intervals.py",
        "t_interval(first - second, confidence",
        "t_interval(np.sort(first) - np.sort(second), confidence",
        ("tests/metrics/test_intervals.py::test_the_paired_difference_is_that_of_scipys_paired_test",),
    ),
    Fault(
        "wilson_off_centre",
        "Wilson's centre is shifted twice as far",
        "sublim_jax/metrics/intervals.py",
        "(rate + z**2 / (2 * trials))",
        "(rate + z**2 / trials)",
        ("tests/metrics/test_intervals.py::test_wilsons_bounds_are_the_rates_that_the_score_test_just_accepts",),
    ),
    Fault(
        "cka_centred_by_example",
        "CKA centres features of an example, not over examples",
        "sublim_jax/metrics/representation.py",
        "features - jnp.mean(features, axis=0, keepdims=True) for features in",
        "features - jnp.mean(features, axis=1, keepdims=True) for features in",
        ("tests/metrics/test_representation.py::test_cka_is_the_cosine_of_the_centred_gram_matrices",),
    ),
    Fault(
        "probe_sees_the_test_mean",
        "the probe centres test features by their own mean",
        "sublim_jax/metrics/representation.py",
        "jnp.matmul(test_features - mean",
        "jnp.matmul(test_features - jnp.mean(test_features, axis=0, keepdims=True)",
        ("tests/metrics/test_representation.py::test_the_probe_is_least_squares_with_an_intercept",),
    ),
    Fault(
        "cosine_of_one_length",
        "the cosine of updates is divided by the length of one of them",
        "sublim_jax/metrics/alignment.py",
        "/ (norm(left) * norm(right))",
        "/ norm(left)",
        ("tests/metrics/test_alignment.py::test_inner_product_norm_and_cosine_are_those_of_the_flat_vectors",),
    ),
)
