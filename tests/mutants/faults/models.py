"""Networks and how they begin."""

from tests.mutants.fault import Fault

FAULTS = (
    Fault(
        "ntk_by_the_other_fan",
        "NTK weights are divided by the root of fan out",
        "sublim_jax/models/mlp.py",
        "sums * layer.weight.shape[1] ** -0.5",
        "sums * layer.weight.shape[0] ** -0.5",
        ("tests/models/test_mlp.py::test_the_ntk_parametrization_stores_weights_larger_and_computes_the_same",),
    ),
    Fault(
        "bias_drawn_as_weights",
        "biases repeat the numbers of their layer's weights",
        "sublim_jax/models/mlp.py",
        "bias = jax.random.uniform(bias_key,",
        "bias = jax.random.uniform(weight_key,",
        ("tests/models/test_mlp.py::test_weights_and_biases_are_drawn_apart",),
    ),
    Fault(
        "share_of_the_other",
        "a share is the other start's",
        "sublim_jax/models/init_sharing.py",
        "w * a + (1 - w) * b",
        "w * b + (1 - w) * a",
        ("tests/models/test_init_sharing.py::test_in_between_the_start_lies_on_the_line",),
    ),
    Fault(
        "neurons_half_permuted",
        "the next layer reads neurons in the old order",
        "sublim_jax/models/init_sharing.py",
        "layer.weight if incoming is None else layer.weight[:, incoming]",
        "layer.weight",
        ("tests/models/test_init_sharing.py::test_permuted_neurons_compute_the_same_function_elsewhere",),
    ),
    Fault(
        "first_auxiliary_logit_lost",
        "auxiliary logits begin one too late",
        "sublim_jax/models/heads.py",
        '"aux": slice(num_classes, None)',
        '"aux": slice(num_classes + 1, None)',
        ("tests/training/test_distill.py::test_the_slices_of_this_file_are_those_of_the_logits",),
    ),
)
