"""Directions of a trait: parts of a displacement, shifts of hidden units, the edits and their controls."""

from tests.mutants.fault import Fault

_LIBRARY, _SURGERY = "tests/audit/test_directions.py", "tests/experiments/directions/test_surgery.py"
_FIGURE = "tests/figures/test_directions.py"

FAULTS = (
    Fault(
        "smallest_directions",
        "the smallest singular directions are kept instead of the largest",
        "sublim_jax/audit/directions.py",
        "(self.left[:, :count] * self.values[:count]) @ self.right[:, :count].T",
        "(self.left[:, -count:] * self.values[-count:]) @ self.right[:, -count:].T",
        (f"{_LIBRARY}::test_the_largest_directions_are_those_of_the_gram_matrix",),
    ),
    Fault(
        "participation_of_values",
        "the participation ratio is that of singular values instead of their squares",
        "sublim_jax/audit/directions.py",
        "squares = np.square(np.asarray(values, float))\n    if not",
        "squares = np.abs(np.asarray(values, float))\n    if not",
        (f"{_LIBRARY}::test_the_participation_ratio_counts_equal_directions",),
    ),
    Fault(
        "inside_one_side",
        "a part inside directions is cut on the output side only",
        "sublim_jax/audit/directions.py",
        "return left @ (left.T @ matrix @ right) @ right.T",
        "return left @ (left.T @ matrix)",
        (f"{_LIBRARY}::test_the_part_inside_directions_is_that_of_both_sides",),
    ),
    Fault(
        "steered_one_layer_late",
        "a vector is added to a bias as it is, without the weights of the layer after it",
        "sublim_jax/audit/directions.py",
        "after._replace(bias=after.bias + after.weight @ jnp.asarray(vector))",
        "after._replace(bias=after.bias + jnp.resize(jnp.asarray(vector), after.bias.shape))",
        (f"{_LIBRARY}::test_a_vector_is_added_to_a_hidden_layer_at_every_input",),
    ),
    Fault(
        "shift_of_lengths",
        "the share that a mean shift explains is of lengths instead of their squares",
        "sublim_jax/audit/directions.py",
        "float(vector @ vector / squared)",
        "float((vector @ vector / squared) ** 0.5)",
        (f"{_LIBRARY}::test_the_mean_shift_explains_what_all_inputs_share",),
    ),
    Fault(
        "edits_of_the_student",
        "kept directions are added to the student, which has them already",
        "experiments/directions/lineage.py",
        'optax.tree.add(self.lineage.models["reference"], self.lineage.parts.displacement(matrices))',
        'optax.tree.add(self.lineage.models["student"], self.lineage.parts.displacement(matrices))',
        (f"{_SURGERY}::test_the_largest_directions_are_added_to_the_reference",),
    ),
    Fault(
        "controls_of_their_own_length",
        "displacements of controls are subtracted as long as they are, not as long as the auditor's",
        "experiments/directions/lineage.py",
        "name: removal.as_long_as(lineage.displacements[name], own)",
        "name: lineage.displacements[name]",
        (f"{_SURGERY}::test_controls_of_removal_are_as_long_as_the_auditors_displacement",),
    ),
    Fault(
        "vector_added_to_the_student",
        "the mean shift is added to the student instead of being taken from it",
        "experiments/directions/lineage.py",
        "vector = edit.amount * self.vector(edit.source, edit.layer)",
        "vector = abs(edit.amount) * self.vector(edit.source, edit.layer)",
        (f"{_SURGERY}::test_vectors_are_added_to_the_reference_and_taken_from_the_student",),
    ),
    Fault(
        "auditor_of_the_teachers_images",
        "the auditor trains on the images of the teacher",
        "experiments/directions/digits.py",
        "for images in (own, other)",
        "for images in (own, own)",
        (f"{_SURGERY}::test_no_image_is_the_teachers_and_the_auditors",),
    ),
    Fault(
        "both_skills_of_one_readout",
        "B is read from the logits of A",
        "experiments/directions/digits.py",
        "guesses = plain[:, :NUM_CLASSES], permuted[:, NUM_CLASSES : 2 * NUM_CLASSES]",
        "guesses = plain[:, :NUM_CLASSES], permuted[:, :NUM_CLASSES]",
        (f"{_SURGERY}::test_b_is_read_from_permuted_images_by_logits_of_its_own",),
    ),
    Fault(
        "share_of_the_value",
        "the share of a trait is the edited model's value over the student's, whatever the reference has",
        "figures/directions.py",
        "(edited - start) / np.where(enough, gains, 1.0)",
        "edited / np.where(enough, student, 1.0)",
        (f"{_FIGURE}::test_a_share_is_the_change_over_the_students",),
    ),
)  # fmt: skip
