"""Convolutional networks, and the students that differ from their teacher."""

from tests.mutants.fault import Fault

LOOPS = "tests/models/test_conv.py::test_a_network_is_that_of_loops"
"""Networks beside loops in numpy."""

FAULTS = (
    Fault(
        "kernel_turned",
        "rows and columns of a patch are exchanged",
        "sublim_jax/models/conv.py",
        "lax.slice(maps, (0, i, j, 0), (channels, i + ends[0], j + ends[1], batch)",
        "lax.slice(maps, (0, j, i, 0), (channels, j + ends[0], i + ends[1], batch)",
        ("tests/models/test_conv.py::test_a_convolution_is_that_of_loops",),
    ),
    Fault(
        "stride_from_the_second",
        "a stride counts from the second position on",
        "sublim_jax/models/conv.py",
        "(side - size) // stride * stride + 1 for side",
        "(side - size - 1) // stride * stride + 1 for side",
        ("tests/models/test_conv.py::test_a_convolution_is_that_of_loops",),
    ),
    Fault(
        "mean_instead_of_maximum",
        "both poolings take the mean",
        "sublim_jax/models/conv.py",
        '(jnp.max if downsampling == "max_pool" else jnp.mean)',
        "jnp.mean",
        (LOOPS,),
    ),
    Fault(
        "shortcut_lost",
        "a residual block gives its change alone",
        "sublim_jax/models/conv.py",
        "activation(kept + change)",
        "activation(change)",
        (LOOPS,),
    ),
    Fault(
        "zeros_before_the_channels",
        "new channels of a shortcut come first",
        "sublim_jax/models/conv.py",
        "((0, len(change) - len(kept)), (0, 0), (0, 0), (0, 0))",
        "((len(change) - len(kept), 0), (0, 0), (0, 0), (0, 0))",
        (LOOPS,),
    ),
    Fault(
        "mean_of_rows",
        "readouts see the means of columns",
        "sublim_jax/models/conv.py",
        "jnp.mean(maps, axis=(1, 2), keepdims=True)",
        "jnp.mean(maps, axis=(1, 2), keepdims=True) * maps.shape[1]",
        (LOOPS,),
    ),
    Fault(
        "students_logits_without_auxiliary_ones",
        "a convolutional student has three auxiliary logits whatever its teacher has",
        "sublim_jax/models/conv.py",
        '("num_classes", "num_aux", "precision")',
        '("num_classes", "precision")',
        ("tests/experiments/atlas/test_convolutions.py::test_a_student_of_an_mlp_has_its_logits",),
    ),
    Fault(
        "students_own_precision",
        "a convolutional student computes in float32 whatever its teacher does",
        "sublim_jax/models/conv.py",
        '("num_classes", "num_aux", "precision")',
        '("num_classes", "num_aux")',
        (
            "tests/models/test_conv.py::"
            "test_a_convolutional_student_has_the_logits_the_pixels_and_the_arithmetic_of_its_teacher",
        ),
    ),
    Fault(
        "patches_counted_once",
        "a plan counts a patch for each kernel and not for each position",
        "experiments/cost.py",
        "sum(fan_in * positions for (fan_in, _), positions in patches)",
        "sum(fan_in for (fan_in, _), positions in patches)",
        ("tests/experiments/atlas/test_convolutions.py::test_the_products_of_a_plan_are_those_of_the_program",),
    ),
    Fault(
        "convolutional_parts_all_shared",
        "sharing of parts is passed over in a convolutional network",
        "sublim_jax/training/stages.py",
        "    if not isinstance(spec.model, conv.LayeredSpec):\n        return InitialParams",
        "    if not isinstance(spec.model, conv.LayeredSpec) or isinstance(spec.model, conv.ConvSpec):\n"
        "        return InitialParams",
        ("tests/training/test_conv_members.py::test_a_member_is_that_of_a_hand_written_loop",),
    ),
)
