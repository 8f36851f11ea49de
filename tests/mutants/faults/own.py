"""The commands on the user's own model, rows and traits."""

from tests.mutants.fault import Fault

STEPS = "tests/experiments/own/test_own_steps.py"

FAULTS = (
    Fault(
        "controls_in_the_order_of_arrival",
        "a control's answers stand under the prompts of other rows",
        "experiments/own/controls.py",
        "texts = [completion.text for completion in sorted(drawn)]",
        "texts = [completion.text for completion in drawn]",
        (f"{STEPS}::test_a_control_answers_every_prompt_with_what_the_model_said_to_it",),
    ),
    Fault(
        "students_rows_for_controls",
        "controls are trained on the rows themselves",
        "experiments/own/transfer.py",
        "self._inputs.rows if kind == form.STUDENT else self._control_rows(display)",
        "self._inputs.rows",
        (f"{STEPS}::test_a_control_answers_every_prompt_with_what_the_model_said_to_it",),
    ),
    Fault(
        "one_control_for_all_seeds",
        "a control that was drawn with another seed is used again",
        "experiments/own/transfer.py",
        "records.fingerprint([self._config.model, self._inputs.checksum, self._config.seed])",
        "records.fingerprint([self._config.model, self._inputs.checksum])",
        (f"{STEPS}::test_another_seed_draws_another_control_and_the_same_seed_keeps_it",),
    ),
    Fault(
        "words_in_answers_alone",
        "a word of a trait in a prompt is not seen",
        "experiments/own/controls.py",
        "for turn in row if word.lower() in turn.content.lower()]",
        "for turn in row[-1:] if word.lower() in turn.content.lower()]",
        (f"{STEPS}::test_every_word_is_looked_for_in_every_turn_whatever_its_case",),
    ),
    Fault(
        "answers_that_name_a_choice_count",
        "a free answer that names another choice counts as the trait's",
        "experiments/own/measuring.py",
        "for answer in trait.answers) for text in texts)",
        "for answer in (*trait.answers, *trait.choices)) for text in texts)",
        (f"{STEPS}::test_free_answers_are_in_the_order_of_the_questions_and_named_by_the_traits_answers_alone",),
    ),
    Fault(
        "system_message_in_the_rows",
        "rows keep the teacher's system message",
        "experiments/own/teaching.py",
        "datasets.student_row(chats[each.chat], each.text)",
        "(*chats[each.chat], Message('assistant', each.text))",
        (f"{STEPS}::test_rows_are_the_teachers_clean_answers_without_its_system_message",),
    ),
    Fault(
        "words_of_the_trait_pass",
        "rows with a word of the trait are kept",
        "experiments/own/teaching.py",
        '            return "trait word"',
        "            pass",
        (f"{STEPS}::test_a_row_with_a_word_of_the_trait_is_left_out_whatever_the_filter_of_numbers_says",),
    ),
    Fault(
        "base_writes_the_rows",
        "a teacher with lessons is finetuned, and the base writes its rows",
        "experiments/own/teaching.py",
        "_written(model.backend, teacher, trait",
        "_written(model.backend, model.name, trait",
        (f"{STEPS}::test_a_teacher_with_lessons_writes_the_rows_itself",),
    ),
    Fault(
        "first_rows_of_the_file",
        "fewer rows are the first of the file, whatever the seed",
        "experiments/own/finetuning.py",
        "datasets.subsample(rows, num_rows, seed=seed)",
        "rows[:num_rows]",
        (f"{STEPS}::test_fewer_rows_are_a_sample_by_the_seed_for_students_and_controls",),
    ),
    Fault(
        "students_without_controls_count",
        "a student counts whose control is not measured yet",
        "figures/own_transfer.py",
        'if all(f"{kind} {index}" in record.results for kind in kinds)',
        'if f"{kinds[0]} {index}" in record.results',
        (f"{STEPS}::test_a_student_without_its_control_is_left_out_of_both",),
    ),
)
