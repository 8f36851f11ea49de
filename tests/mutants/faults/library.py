"""What all rooms of the library stand on: losses, keys, compiled programs, old records."""

from tests.mutants.fault import ORACLE, Fault

FAULTS = (
    Fault(
        "temperature_squared_dropped",
        "the KL shrinks with the temperature",
        "sublim_jax/losses.py",
        "return temperature**2 * weighted_mean(jnp.sum(jnp.exp(log_p)",
        "return weighted_mean(jnp.sum(jnp.exp(log_p)",
        ("tests/test_losses.py::test_a_temperature_divides_both_logits_and_multiplies_the_loss_by_its_square",),
    ),
    Fault(
        "jeffreys_is_a_sum",
        "Jeffreys' divergence without its half",
        "sublim_jax/losses.py",
        "per_example = 0.5 * jnp.sum",
        "per_example = jnp.sum",
        (f"{ORACLE}[jeffreys]",),
    ),
    Fault(
        "reverse_kl_forwards",
        "the reverse KL is the KL",
        "sublim_jax/losses.py",
        "return distillation_kl(teacher_logits, student_logits, temperature",
        "return distillation_kl(student_logits, teacher_logits, temperature",
        ("tests/test_losses.py::test_reverse_kl_exchanges_the_roles",),
    ),
    Fault(
        "streams_by_their_beginning",
        "streams whose names begin alike share a key",
        "sublim_jax/keys.py",
        "return jax.random.fold_in(key, zlib.crc32(role.encode()))",
        "return jax.random.fold_in(key, zlib.crc32(role[:8].encode()))",
        ("tests/test_keys.py::test_streams_whose_names_begin_or_end_alike_differ",),
    ),
    Fault(
        "one_folder_for_all_processors",
        "compiled programs of one processor are loaded on another",
        "sublim_jax/compilation.py",
        "-{provenance.instruction_set()}",
        "",
        ("tests/test_compilation.py::test_processors_of_different_kinds_have_different_folders",),
    ),
    Fault(
        "metrics_in_the_hash",
        "results of an earlier schema are filed under what was measured too",
        "sublim_jax/migration.py",
        'if name not in ("conditions", "metrics")',
        'if name != "conditions"',
        ("tests/test_migration.py::test_conditions_and_metrics_are_no_part_of_the_hash",),
    ),
    Fault(
        "network_of_students_whole",
        "settings that students share with their teacher enter the hash",
        "sublim_jax/migration.py",
        "if own != teacher.get(key)",
        "if key != 'init_scale'",
        ("tests/test_migration.py::test_a_setting_is_filed_under_its_present_hash",),
    ),
)
