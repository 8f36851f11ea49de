"""Faults of several rooms that no test saw when they were first planted: each has a test of its own since then."""

from tests.mutants.fault import Fault

EPOCHS = (
    "tests/figures/test_values.py::"
    "test_an_epoch_is_one_of_the_students_and_reference_and_teacher_have_one_value"
)  # fmt: skip

FAULTS = (
    Fault(
        "readout_becomes_a_hidden_layer",
        "a deeper student takes the reference's readout for a hidden layer of its shape",
        "sublim_jax/models/init_sharing.py",
        "reference[index] if index < len(reference) - 1 else None",
        "reference[index] if index < len(reference) else None",
        (
            "tests/models/test_transplant.py::"
            "test_a_deeper_student_has_the_references_readout_at_its_end_only_also_where_it_would_fit_before",
        ),
    ),
    Fault(
        "modules_are_shown_bytes",
        "a Flax module is initialized on bytes, and trained on floats",
        "sublim_jax/models/adapters.py",
        "jnp.float32 if example.dtype == jnp.uint8 else example.dtype",
        "example.dtype",
        ("tests/test_user_functions.py::test_a_module_is_shown_bytes_as_floats",),
    ),
    Fault(
        "own_noise_of_bytes_unscaled",
        "bytes of a noise function reach the model as they are, and those of the data scaled",
        "sublim_jax/training/generations.py",
        "examples.as_inputs(noise_function(key, indices))",
        "noise_function(key, indices)",
        ("tests/test_user_functions.py::test_bytes_of_noise_reach_the_model_as_floats_as_bytes_of_data_do",),
    ),
    Fault(
        "gradient_of_true_names",
        "noise avoids the gradient of the true names of classes that the teacher knows by others",
        "sublim_jax/training/stages.py",
        "batch = inputs[:num_shown], _renamed(streams, labels, teacher)[:num_shown]",
        "batch = inputs[:num_shown], labels[:num_shown]",
        (
            "tests/training/test_orthogonal_start.py::"
            "test_noise_avoids_the_gradient_of_the_renamed_labels_of_the_first_batch",
        ),
    ),
    Fault(
        "pairs_by_the_first_alone",
        "a member that diverged in the second condition alone is not left out of a pair",
        "figures/values.py",
        "both = np.isfinite(first) & np.isfinite(second)",
        "both = np.isfinite(first)",
        ("tests/figures/test_values.py::test_a_pair_has_the_members_that_diverged_in_neither",),
    ),
    Fault(
        "teachers_have_epochs_of_students",
        "reference and teacher have no value at an epoch of the students",
        "figures/atlas/values.py",
        "if epoch is not None and condition not in NOT_STUDENTS:",
        "if epoch is not None:",
        (EPOCHS,),
    ),
    Fault(
        "gap_to_the_end",
        "the gap at an epoch is to the control at its end",
        "figures/atlas/values.py",
        '_value(member, "cross_model_aux", "accuracy", epoch)',
        '_value(member, "cross_model_aux", "accuracy", None)',
        (EPOCHS,),
    ),
    Fault(
        "pdf_in_the_way_is_seen_late",
        "a PDF of the user's in a figure's place is found after the run",
        "experiments/cli.py",
        'for suffix in (".png", ".pdf"):',
        'for suffix in (".png",):',
        (
            "tests/experiments/test_places_of_figures.py::"
            "test_a_file_of_the_users_where_a_figure_goes_is_refused_before_the_run[.pdf]",
        ),
    ),
    Fault(
        "divergence_forgotten_in_a_union",
        "of two joined results only the later one's divergence is kept",
        "experiments/atlas/store.py",
        'sorted({*old["diverged"], *new["diverged"]})',
        'sorted(new["diverged"])',
        ("tests/experiments/atlas/test_union.py::test_conditions_metrics_and_those_that_diverged_are_joined",),
    ),
    Fault(
        "seconds_of_the_last_chunk",
        "a record's seconds are those of the last chunk",
        "experiments/mnist_aux.py",
        "round(result.seconds.get(phase, 0.0) + seconds, 3)",
        "round(seconds, 3)",
        ("tests/experiments/test_seconds.py::test_seconds_of_a_phase_are_the_sum_over_chunks_and_runs",),
    ),
)
