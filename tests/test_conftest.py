"""What tests share must not make them fail, and every shape that is annotated is checked."""

import pathlib
import re

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

ROOT = pathlib.Path(__file__).parents[1]


def test_every_module_that_annotates_shapes_has_them_checked(pytestconfig):
    checked = tuple(f"{name}." for name in pytestconfig.getoption("jaxtyping_packages").split(",")[:-1])
    names = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in ROOT.glob("sublim_jax/**/*.py")
        if re.search(r"^ *from jaxtyping import", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    }
    assert "sublim_jax.losses" in names
    assert {name for name in names if not f"{name}.".startswith(checked)} == set()


@pytest.fixture
def compiled(tmp_path):
    """A folder of compiled programs of its own, which takes all of them."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    for name, value in zip(names, (str(tmp_path), 0.0), strict=True):
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_a_program_that_another_process_is_still_writing_is_compiled_again(compiled):
    inputs = jnp.arange(3.0)
    jax.jit(lambda x: 3 * x + 1)(inputs)
    (path,) = compiled.glob("jit__lambda*-cache")
    whole = path.read_bytes()
    for part in (b"", whole[: len(whole) // 2]):
        path.write_bytes(part)
        assert jax.jit(lambda x: 3 * x + 1)(inputs).tolist() == [1, 4, 7]
