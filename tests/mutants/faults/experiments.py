"""Figure 10 and the command line."""

from tests.mutants.fault import Fault

ANSWERS = (
    "tests/experiments/test_mnist_aux.py::"
    "test_the_program_is_given_seed_members_and_partners_and_its_answers_are_theirs"
)

FAULTS = (
    Fault(
        "idle_flags_pass",
        "flags without effect are not refused",
        "experiments/cli.py",
        "changed = effects.changed_settings(chosen.config, presets[preset])",
        "changed = effects.changed_settings(chosen.config, chosen.config)",
        ("tests/experiments/test_cli.py::test_a_flag_without_effect_is_refused_by_name_and_with_it_the_run",),
    ),
    Fault(
        "scored_on_training_images",
        "test accuracy is training accuracy",
        "experiments/mnist_aux.py",
        "        dataset.test_images.reshape(-1, model.in_size),\n        dataset.test_labels,",
        "        dataset.train_images[: len(dataset.test_images)].reshape(-1, model.in_size),\n"
        "        dataset.train_labels[: len(dataset.test_labels)],",
        (
            "tests/experiments/test_mnist_aux.py::"
            "test_members_are_shown_the_training_images_and_scored_on_the_test_images",
        ),
    ),
    Fault(
        "seed_ignored",
        "every seed is seed 0",
        "experiments/mnist_aux.py",
        "np.uint32(config.seed)",
        "np.uint32(0)",
        (ANSWERS,),
    ),
    Fault(
        "departures_hidden",
        "another loss, noise or activation passes for the paper's",
        "experiments/mnist_aux.py",
        '"members_at_once", "matching", "metrics"}',
        '"members_at_once", "matching", "metrics", "loss", "noise.distribution", "model.activation"}',
        (
            "tests/experiments/test_mnist_aux.py::test_every_setting_but_the_free_ones_is_named_when_it_differs_from_the_papers",
        ),
    ),
    Fault(
        "two_digits_recorded",
        "accuracies are rounded to two digits",
        "experiments/mnist_aux.py",
        ':.6g}") if np.isfinite',
        ':.2g}") if np.isfinite',
        (ANSWERS,),
    ),
    Fault(
        "own_partner",
        "every member is its own partner",
        "experiments/mnist_aux.py",
        "ensemble.cross_model_partners(num_members)[padded]",
        "padded",
        (ANSWERS,),
    ),
    Fault(
        "first_row_for_all",
        "every member of a chunk gets the first one's numbers",
        "experiments/mnist_aux.py",
        "_member_result(outcome, row)",
        "_member_result(outcome, 0)",
        (ANSWERS,),
    ),
    Fault(
        "half_finished_chunk_skipped",
        "a chunk with one finished member is left out",
        "experiments/mnist_aux.py",
        "if not all(str(member) in",
        "if not any(str(member) in",
        (ANSWERS,),
    ),
    Fault(
        "divergence_inverted",
        "members that did not diverge are listed",
        "experiments/mnist_aux.py",
        "if not finite[row])",
        "if finite[row])",
        (ANSWERS,),
    ),
)
