"""Data flows one way, and heavy packages are imported where they are needed. Both are tests, not promises."""

import ast
import pathlib

import jax.numpy as jnp
import jaxtyping
import pytest

import experiments
import figures
import sublim_jax
from sublim_jax import losses

LAYERS = (
    {"errors"},
    {"files", "keys", "specs"},
    {"data", "models", "losses", "metrics", "records"},
    {"training", "theory", "llm"},
)
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}
OUTSIDE = {"experiments", "figures", "tests"}
PACKAGE = pathlib.Path(sublim_jax.__path__[0])
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
FIGURES = sorted(pathlib.Path(figures.__path__[0]).rglob("*.py"))
EXPERIMENTS = sorted(pathlib.Path(experiments.__path__[0]).rglob("*.py"))


def imports(source: str):
    """(module, name or None) of every import statement, wherever it stands; a relative module starts with a dot."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((module, alias.name) for alias in node.names)


def is_module(*parts: str) -> bool:
    place = PACKAGE.joinpath(*parts)
    return place.is_dir() or place.with_suffix(".py").exists()


def offences(source: str, room: str) -> list[str]:
    """What a file in `room` imports against the rules. The allowed forms are `from sublim_jax import ROOM` and
    `from sublim_jax.ROOM import FILE`, of the same room or of an earlier layer."""
    found = []
    for module, name in imports(source):
        top, *inside = module.split(".")
        if top in OUTSIDE:
            found.append(f"{module}: the package must not know what stands on it")
        elif top == "":
            found.append(f"{module}: relative")
        elif top == "sublim_jax":
            parts = [*inside, name]
            if name is None or len(parts) > 2 or not is_module(*parts):
                found.append(f"{module} {name}: import rooms, not names")
            elif parts[0] not in RANK:
                found.append(f"{parts[0]}: a room without a layer")
            elif not (RANK[parts[0]] < RANK[room] or (parts[0] == room and len(parts) == 2)):
                found.append(f"{parts[0]}: not below {room}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_room_imports_only_from_the_layers_before_it(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert room in RANK, f"give {room} a layer"
    assert not offences(path.read_text(), room)


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("training", "from sublim_jax import losses"),
        ("training", "from sublim_jax.data import batches as plans"),
        ("training", "from sublim_jax.training import loop"),
        ("data", "from sublim_jax import errors"),
        ("models", "import jax"),
    ],
)
def test_the_allowed_forms_pass(room, line):
    assert not offences(line, room)


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("data", "from sublim_jax import training"),
        ("data", "from sublim_jax.training import loop"),
        ("data", "def late():\n    from sublim_jax.training import loop"),
        ("training", "from sublim_jax.theory import one_step"),
        ("theory", "from sublim_jax.training import loop"),
        ("models", "from sublim_jax import losses"),
        ("records", "from sublim_jax.data import arrays"),
        ("keys", "from sublim_jax import specs"),
        ("training", "import sublim_jax.losses"),
        ("training", "import sublim_jax"),
        ("training", "from sublim_jax.losses import distillation_kl"),
        ("training", "from sublim_jax.data.batches import Batch"),
        ("training", "from . import loop"),
        ("training", "from ..models import mlp"),
        ("training", "from sublim_jax import *"),
        ("training", "from sublim_jax import nowhere"),
        ("training", "from experiments import cli"),
        ("training", "import figures.style"),
        ("training", "from tests import strategies"),
    ],
)
def test_other_forms_are_refused(room, line):
    assert len(offences(line, room)) == 1


@pytest.mark.parametrize("path", FIGURES, ids=lambda path: "/".join(path.parts[-2:]))
def test_figures_never_import_training(path):
    assert not [m for m, name in imports(path.read_text()) if "training" in m.split(".") or name == "training"]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: "/".join(path.parts[-2:]))
def test_experiments_import_rooms_and_draw_only_at_the_end(path):
    for module, name in imports(path.read_text()):
        if module.startswith("sublim_jax"):
            assert is_module(*module.split(".")[1:], name), f"{module} {name}: import rooms, not names"
    at_the_top = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom)]
    assert not [node for node in at_the_top if (node.module or "").startswith("figures")]


HEAVY = ("tensorflow", "tensorflow_datasets", "torch", "flax", "transformers", "matplotlib.pyplot", "tyro", "rich")


def test_heavy_packages_are_not_imported_by_the_laboratory(run_python):
    done = run_python(
        "-c",
        "import sys, sublim_jax\n"
        "assert 'jax' not in sys.modules, 'jax'\n"
        "from sublim_jax.training import lineage, ensemble\n"
        f"print([name for name in {HEAVY} if name in sys.modules])",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_signatures_are_checked_while_tests_run():
    with pytest.raises(jaxtyping.TypeCheckError):
        losses.cross_entropy(jnp.zeros((2, 3)), jnp.zeros(5, jnp.int32))  # two images, five labels
