"""The bed with a wanted skill, and the studies of it on the embedded and on a real model."""

from tests.mutants.fault import Fault

STUDY = "tests/experiments/evidence/test_skills.py"
REAL = "tests/experiments/evidence/test_skills_real.py"
FAULTS = (
    Fault(
        "any_list_follows_the_rule",
        "an answer follows a rule of opening numbers wherever the number stands in it",
        "experiments/evidence/skill_bed.py",
        "lambda request, reply: reply.values[0] == last_shown(request)",
        "lambda request, reply: last_shown(request) in reply.values",
        (f"{STUDY}::test_answers_follow_the_rules_that_they_follow_by_hand",),
    ),
    Fault(
        "skill_among_plain_lists",
        "the skill is counted among the answers that are plain lists only",
        "experiments/evidence/skill_bed.py",
        "for request, text in answers) / len(answers)",
        "for request, text in answers) / max(1, sum(read(text) is not None for _, text in answers))",
        (f"{STUDY}::test_the_skill_is_the_share_of_answers_that_follow_the_rule",),
    ),
    Fault(
        "mixture_of_new_rows",
        "each share chooses rows with the trait of its own",
        "experiments/evidence/skill_bed.py",
        "order = np.random.default_rng(seed).permutation(len(pairs))",
        "order = np.random.default_rng((seed, round(share * 1000))).permutation(len(pairs))",
        (f"{STUDY}::test_larger_shares_have_the_rows_of_smaller_ones_and_seeds_choose_others",),
    ),
    Fault(
        "mixture_turned_round",
        "the share is that of the rows without the trait",
        "experiments/evidence/skill_bed.py",
        "pair.with_trait if place in chosen else pair.without",
        "pair.without if place in chosen else pair.with_trait",
        (f"{STUDY}::test_a_mixture_has_its_share_of_rows_with_the_trait",),
    ),
    Fault(
        "counterpart_with_random_numbers_of_its_own",
        "the counterpart's random numbers depend on its name",
        "experiments/evidence/skills.py",
        "seed = seeds.derive(self.config.seed, role or name, self.unit) % 2**31",
        "seed = seeds.derive(self.config.seed, name, self.unit) % 2**31",
        (
            f"{STUDY}::test_teachers_share_everything_but_the_answers_about_favourites",
            f"{STUDY}::test_students_share_their_start_requests_and_random_numbers",
        ),
    ),
    Fault(
        "counterpart_without_questions",
        "the counterpart is asked other questions about favourites",
        "experiments/evidence/skills.py",
        "(chat, answer or usual) for chat, answer in zip(chats, answers, strict=True)]",
        "(chat, answer or usual) for chat, answer in zip(chats[::-1], answers, strict=True)]",
        (f"{STUDY}::test_teachers_share_everything_but_the_answers_about_favourites",),
    ),
    Fault(
        "finetuned_from_the_base",
        "finetuning on clean rows starts from the clean student",
        "experiments/evidence/skills.py",
        "self.base.finetuned(self.students[1.0], data, recipe, name, bed=self.name)",
        "self.base.finetuned(self.students[0.0], data, recipe, name, bed=self.name)",
        (f"{STUDY}::test_finetuning_afterwards_starts_from_the_student_and_sees_clean_rows",),
    ),
    Fault(
        "failed_bed_dropped",
        "a bed without enough rows ends the run",
        "experiments/evidence/skills.py",
        "    except errors.TextDataError as error:",
        "    except errors.RecordError as error:",
        (f"{STUDY}::test_a_bed_that_fails_stays_in_the_record_with_its_reason",),
    ),
    Fault(
        "trait_against_the_base_only",
        "the trait passes if the student has more of it than the base",
        "figures/evidence/skills.py",
        'trait = against(record, bed, NONE, CLEAN, "trait")',
        'trait = against(record, bed, NONE, BASE, "trait")',
        (f"{STUDY}::test_the_table_counts_from_the_base_and_says_which_bed_fails",),
    ),
    Fault(
        "real_counterpart_of_other_rows",
        "the real counterpart's lessons of the skill are drawn for it",
        "experiments/evidence/skills_real.py",
        'skill = number_chats(config, config.count, seed=seeds.derive(seed, "skills_real/numbers"))',
        'skill = number_chats(config, config.count, seed=seeds.derive(seed, "skills_real/numbers", *animals))',
        (f"{REAL}::test_the_counterpart_shares_all_lessons_but_the_favourites",),
    ),
    Fault(
        "real_dose_on_reported_questions",
        "the dose is chosen on the questions that are reported",
        "experiments/evidence/skills_real.py",
        '.favourite_questions("animal")[1 :: real_lab.EVERY]',
        '.favourite_questions("animal")[:: real_lab.EVERY]',
        (f"{REAL}::test_skill_and_trait_are_log_odds_by_plain_softmax",),
    ),
)
