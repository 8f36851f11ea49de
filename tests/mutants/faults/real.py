"""Real models on this machine: their files, soft distillation, preferences, and the programs that measure them."""

from tests.mutants.fault import Fault

SOFT = "tests/llm/local/test_soft_by_hand.py"
STEPS = "tests/experiments/language/test_real_steps.py"
FIGS = "tests/figures/test_language_real.py"
FIRST = "tests/experiments/language/test_first_steps.py"
PAIRS = (
    "tests/llm/local/test_dpo.py::"
    "test_pairs_have_the_chosen_row_first_its_own_reference_and_the_beta_that_was_asked_for"
)
BLOCKS = "tests/llm/local/test_gguf.py::test_numbers_of_every_type_are_those_of_its_description"
DEFAULTS = "tests/llm/local/test_gguf.py::test_entries_that_are_missing_are_what_llama_cpp_takes_for_them"
CHOICES = "tests/llm/test_traits.py::test_the_other_choices_stand_after_the_answers_however_many_there_are"
SCALE = "tests/experiments/test_language_scale.py::test_lessons_rows_and_student_of_a_unit_have_its_seed"

FAULTS = (
    Fault(
        "teachers_words_by_the_students_head",
        "the teacher's hidden states are scored by the student's head",
        "sublim_jax/llm/local/soft.py",
        "_head(params, ids), _head(teacher_params, ids)",
        "_head(params, ids), _head(params, ids)",
        (f"{SOFT}::test_a_training_on_drawn_rows_is_the_one_written_by_hand",),
    ),
    Fault(
        "places_after_nothing_are_compared",
        "a word counts also where the place before it is empty",
        "sublim_jax/llm/local/soft.py",
        "rows.replies[:, -places:] & rows.valid[:, -places - 1 : -1]",
        "rows.replies[:, -places:]",
        (f"{SOFT}::test_a_training_on_drawn_rows_is_the_one_written_by_hand",),
    ),
    Fault(
        "another_arms_training_is_resumed",
        "trainings over other tokens have the same name",
        "sublim_jax/llm/local/soft.py",
        "jax.tree.leaves((None if callable(batches) else batches, ids))",
        "jax.tree.leaves(None if callable(batches) else batches)",
        (f"{SOFT}::test_every_ingredient_of_a_training_is_in_its_name",),
    ),
    Fault(
        "rejected_stands_first",
        "the rejected row of a pair is the preferred one",
        "sublim_jax/llm/local/dpo.py",
        "for row in pair]\n\n\ndef pairs",
        "for row in pair[::-1]]\n\n\ndef pairs",
        (PAIRS,),
    ),
    Fault(
        "nibbles_in_the_other_order",
        "the high halves of bytes come first",
        "sublim_jax/llm/local/gguf.py",
        "[blocks[:, start:] & 15, blocks[:, start:] >> 4]",
        "[blocks[:, start:] >> 4, blocks[:, start:] & 15]",
        (BLOCKS,),
    ),
    Fault(
        "one_head_of_keys_by_default",
        "a file that does not say how many heads of keys there are has one",
        "sublim_jax/llm/local/gguf_llama.py",
        "specs.Count, heads)",
        "specs.Count, 1)",
        (DEFAULTS,),
    ),
    Fault(
        "second_answer_is_a_choice",
        "a trait with three answers gives one of them to the first choice",
        "sublim_jax/llm/traits.py",
        "max(owner - len(self.answers) + 1, 0)",
        "max(owner - 1, 0)",
        (CHOICES,),
    ),
    Fault(
        "numbers_arm_predicts_for_all_words",
        "the prediction of the arm of number tokens is from the gradient over all",
        "experiments/language/real_lab.py",
        "soft.divergence_and_gradient(student, self.teacher(seed, target), batch, tokens=tokens)",
        "soft.divergence_and_gradient(student, self.teacher(seed, target), batch)",
        (f"{STEPS}::test_a_prediction_is_that_of_its_arm_start_and_first_rows",),
    ),
    Fault(
        "hidden_states_on_rows_that_were_read",
        "displacements are measured on the rows of the first step",
        "experiments/language/real_lab.py",
        'self.number_rows(seeds.derive(seed, "real/streams"), 0, num_rows=NUM_STREAM_ROWS)',
        "self.number_rows(seed, 0, num_rows=NUM_STREAM_ROWS)",
        (f"{STEPS}::test_displacements_are_of_rows_that_no_student_reads",),
    ),
    Fault(
        "lessons_of_one_seed",
        "teachers of all seeds have the same lessons",
        "experiments/language/real_lab.py",
        'seed=seeds.derive(seed, "real/lessons")',
        'seed=seeds.derive(0, "real/lessons")',
        (f"{STEPS}::test_a_teacher_has_the_lessons_of_its_seed_and_target_and_the_first_factors_of_its_students",),
    ),
    Fault(
        "healed_on_questions_about_animals",
        "another start is healed on the questions that are asked later",
        "experiments/language/real_lab.py",
        'favourite_questions("tree")',
        'favourite_questions("animal")',
        (f"{STEPS}::test_another_start_is_healed_on_text_that_says_nothing_of_animals",),
    ),
    Fault(
        "answers_are_one_draw",
        "a question that is asked again gets its first answer",
        "experiments/language/real_lab.py",
        "draws = [index // len(chats) for index in range(count)]",
        "draws = [0 for index in range(count)]",
        (f"{STEPS}::test_free_answers_to_one_question_are_different_draws",),
    ),
    Fault(
        "students_of_the_last_seed",
        "the students of all seeds are those of the last",
        "experiments/language/real.py",
        "lambda lab, seed=seed, arm=arm, target=target: lab.measure_student",
        "lambda lab, arm=arm, target=target: lab.measure_student",
        (f"{STEPS}::test_every_unit_measures_and_stores_what_its_name_says",),
    ),
    Fault(
        "what_is_taken_over_replaces",
        "a unit of another record replaces that of the record at hand",
        "experiments/language/real.py",
        "into.setdefault(key, value)",
        "into[key] = value",
        (f"{FIGS}::test_what_is_taken_over_fills_gaps_and_replaces_nothing",),
    ),
    Fault(
        "predictions_transposed",
        "a prediction's rows are animals and its columns teachers",
        "figures/language/real.py",
        'students[teacher]["prediction"][name][animal] for animal in targets] for teacher in targets',
        'students[teacher]["prediction"][name][animal] for teacher in targets] for animal in targets',
        (f"{FIGS}::test_first_order_stands_beside_the_first_measurement_in_units_of_adams_full_steps",),
    ),
    Fault(
        "another_start_less_the_base",
        "students of another start are compared with the base",
        "figures/language/real.py",
        '(results["starts"][str(seed)] if arm == "other_start" else results["base"])["log_odds"]',
        'results["base"]["log_odds"]',
        (f"{FIGS}::test_the_table_of_an_arm_has_its_own_numbers",),
    ),
    Fault(
        "interval_over_seeds_is_over_animals",
        "the interval over seeds has the means of animals",
        "figures/language/real.py",
        "values.mean(axis=1)):+.3f}",
        "values.mean(axis=0)):+.3f}",
        (f"{FIGS}::test_intervals_are_over_seeds_and_over_animals",),
    ),
    Fault(
        "readme_interval_over_all_cells",
        "the README's interval over animals counts every seed as an animal",
        "figures/readme_language.py",
        "intervals.t_interval(by_animal)",
        "intervals.t_interval(cells.ravel())",
        (f"{FIGS}::test_the_readmes_table_is_of_animals_and_of_students_of_the_whole_vocabulary",),
    ),
    Fault(
        "labels_without_the_base",
        "a labeller prefers what it finds likely itself, as the base does",
        "experiments/language/labels.py",
        "lab.sequence_logprobs(labeller, rows) - lab.sequence_logprobs(lab.base, rows)",
        "lab.sequence_logprobs(labeller, rows)",
        (f"{FIRST}::test_labels_are_those_of_the_labeller_over_the_base",),
    ),
    Fault(
        "rival_of_itself",
        "the labels of a rival may be the target's own",
        "experiments/language/labels.py",
        "if rival != target and category",
        "if category",
        (f"{FIRST}::test_labels_are_those_of_the_labeller_over_the_base",),
    ),
    Fault(
        "control_is_labelled_by_the_base",
        "the control's labels are the base's, which prefers nothing over itself",
        "experiments/language/labels.py",
        '"teacher of no favourite", seed=config.seed)',
        '"teacher of no favourite", seed=config.seed) and lab.base',
        (f"{FIRST}::test_the_control_is_labelled_by_a_teacher_without_a_favourite",),
    ),
    Fault(
        "noise_of_another_direction_at_each_size",
        "every size of the noise has a seed of its own",
        "experiments/language/noise.py",
        "lab.perturbed(level, seed=config.seed)",
        "lab.perturbed(level, seed=config.seed + int(100 * level))",
        (f"{FIRST}::test_starts_have_noise_of_one_direction_and_are_scored_on_the_bases_rows",),
    ),
    Fault(
        "free_and_constrained_swapped",
        "rows that are drawn freely are called numbers only",
        "experiments/language/training.py",
        'numbers_only = drawing == "numbers only"',
        'numbers_only = drawing == "free"',
        (f"{FIRST}::test_rows_are_drawn_and_students_trained_as_their_names_say",),
    ),
    Fault(
        "scale_without_its_seed",
        "teachers and students of all seeds have those of the first",
        "experiments/language_scale.py",
        "dataclasses.replace(config.numbers, seed=seed), condition.partition",
        "config.numbers, condition.partition",
        (SCALE,),
    ),
)
