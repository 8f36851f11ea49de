"""Data flows one way, and heavy packages are imported where they are needed. Both are tests, not promises."""

import ast
import pathlib
import re

import jax.numpy as jnp
import jaxtyping
import pytest

import experiments
import figures
import sublim_jax
from sublim_jax import losses

LAYERS = (
    {"errors"},
    {"files", "keys", "specs", "commands", "conditions", "provenance"},
    {"migration"},
    {"data", "models", "losses", "metrics", "records"},
    {"forms", "compilation"},
    {"training", "theory", "llm"},
    {"audit"},
    {"__main__"},
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


def is_importable(inside: list[str], name: str) -> bool:
    """Whether this is a module, or a type of a module, which is known by its spelling."""
    is_type = re.fullmatch("[A-Z]+[a-z][A-Za-z]*", name) is not None
    return is_module(*inside, name) or (is_type and PACKAGE.joinpath(*inside).with_suffix(".py").exists())


def offences(source: str, room: str) -> list[str]:
    """What a file in `room` imports against the rules. The allowed forms are `from sublim_jax import ROOM`,
    `from sublim_jax.ROOM import FILE` and `from sublim_jax.ROOM.FILE import Type`, of the same room or of an earlier
    layer, where a room may have rooms inside."""
    found = []
    for module, name in imports(source):
        top, *inside = module.split(".")
        if top in OUTSIDE:
            found.append(f"{module}: the package must not know what stands on it")
        elif top == "":
            found.append(f"{module}: relative")
        elif top == "sublim_jax":
            parts = [*inside, name]
            if name is None or not is_importable(inside, name):
                found.append(f"{module} {name}: import rooms and types, not names")
            elif parts[0] not in RANK:
                found.append(f"{parts[0]}: a room without a layer")
            elif not (RANK[parts[0]] < RANK[room] or (parts[0] == room and len(parts) >= 2)):
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
        ("llm", "from sublim_jax.llm.server import schema"),
        ("llm", "from sublim_jax.llm.server.api_error import APIError"),
        ("training", "from sublim_jax.data.batches import Batch"),
        ("training", "from sublim_jax.training.config import MemberConfig"),
        ("training", "from sublim_jax.conditions import Condition"),
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
        ("training", "from sublim_jax.data.batches import shuffled"),
        ("training", "from sublim_jax.data.batches import N"),
        ("training", "from sublim_jax.data import Batch"),
        ("data", "from sublim_jax.training.loop import Phase"),
        ("llm", "from sublim_jax.llm.server.fields import read"),
        ("llm", "from sublim_jax.llm.server.schema import MAX_TOP"),
        ("data", "from sublim_jax.llm.server import schema"),
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


# The three folders together: records are written by experiments, read by figures, and both stand on sublim_jax.

FOLDERS = ("sublim_jax", "figures", "experiments")
"""From the lowest. A module imports its own folder and those before it."""
READABLE = {
    "migration",
    "errors",
    "files",
    "specs",
    "records",
    "provenance",
    "commands",
    "conditions",
    "forms",
    "metrics",
}
"""Rooms of sublim_jax that figures may stand on: what a record is, and statistics."""
PRESENTS = "experiments.session"
"""The only module of experiments that imports figures, inside its functions."""


def modules(root: pathlib.Path) -> dict[str, str]:
    """Source of every module of the three folders, by its name; a package goes by its own."""
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path.read_text("utf-8")
        for folder in FOLDERS
        for path in sorted((root / folder).rglob("*.py"))
    }


def arrows(sources: dict[str, str]) -> dict[str, set[str]]:
    """The modules that each module imports, wherever the statement stands."""
    graph: dict[str, set[str]] = {}
    for name, source in sources.items():
        graph[name] = set()
        for module, attribute in imports(source):
            target = f"{module}.{attribute}" if f"{module}.{attribute}" in sources else module
            if target in sources and target != name:
                graph[name].add(target)
    return graph


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    """All that a module imports, through whole chains."""
    seen, waiting = set(), [start]
    while waiting:
        for target in graph[waiting.pop()] - seen:
            seen.add(target)
            waiting.append(target)
    return seen


def circles(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import themselves through a chain, and folders that import each other."""
    inside = [name for name in graph if name in reachable(graph, name)]
    tops = {(name.partition(".")[0], target.partition(".")[0]) for name, targets in graph.items() for target in targets}
    return [*inside, *(f"{a} and {b}" for a, b in tops if a < b and (b, a) in tops)]


def upward(graph: dict[str, set[str]]) -> list[str]:
    """Arrows to a higher folder, into a command, from figures to what makes records, and to figures from anything of
    experiments but the end of a run."""
    wrong = []
    for name, targets in graph.items():
        for target in targets:
            (here, *_), (there, *inside) = name.split("."), target.split(".")
            if FOLDERS.index(there) > FOLDERS.index(here):
                wrong.append(f"{name} -> {target}: upward")
            elif inside[-1:] == ["__main__"]:
                wrong.append(f"{name} -> {target}: a command is no library")
            elif (here, there) == ("experiments", "figures") and name != PRESENTS:
                wrong.append(f"{name} -> {target}: only {PRESENTS} meets figures")
            elif (here, there) == ("figures", "sublim_jax") and inside and inside[0] not in READABLE:
                wrong.append(f"{name} -> {target}: figures read records")
    return wrong


def test_no_module_imports_upward_and_none_itself():
    graph = arrows(modules(PACKAGE.parent))
    assert len(graph) > 120
    assert not upward(graph) and not circles(graph)


def test_figures_stand_on_records_through_whole_chains():
    graph = arrows(modules(PACKAGE.parent))
    for name in graph:
        if name.startswith("figures"):
            rooms = {target.split(".")[1] for target in reachable(graph, name) if target.startswith("sublim_jax.")}
            assert rooms <= READABLE | {"keys"}, name


def test_rooms_inside_a_room_have_a_direction_too():
    """`llm/local`, `llm/openai` and the files beside them, each taken as one."""
    graph = arrows(modules(PACKAGE.parent))
    short = {name: ".".join(name.split(".")[:3]) for name in graph}
    inside: dict[str, set[str]] = {short[name]: set() for name in graph if name.startswith("sublim_jax.llm.")}
    for name in graph:
        if short[name] in inside:
            inside[short[name]] |= {short[target] for target in graph[name] if short[target] in inside} - {short[name]}
    assert {"sublim_jax.llm.local", "sublim_jax.llm.openai", "sublim_jax.llm.datasets"} <= set(inside)
    assert inside["sublim_jax.llm.local"] and not circles(inside)


HOUSE = {  # a small one without faults
    "sublim_jax.records": "",
    "sublim_jax.training.loop": "from sublim_jax import records",
    "figures.values": "from sublim_jax import records",
    "figures.page": "from figures import values",
    "experiments.session": "def present():\n    from figures import page",
    "experiments.run": "from experiments import session\nfrom sublim_jax.training import loop",
    "experiments.__main__": "from experiments import run",
}


@pytest.mark.parametrize(
    ("module", "line", "expected"),
    [
        ("figures.values", "from experiments import run", {"upward", "circle"}),
        ("figures.values", "def late():\n    from experiments.session import present", {"upward", "circle"}),
        ("sublim_jax.records", "import figures.page", {"upward", "circle"}),
        ("figures.page", "from experiments import __main__ as atlas", {"upward", "circle"}),
        ("experiments.session", "from experiments import __main__", {"upward", "circle"}),
        ("experiments.run", "from figures import page", {"upward"}),
        ("figures.values", "from sublim_jax.training import loop", {"upward"}),
        ("sublim_jax.records", "def late():\n    from sublim_jax.training import loop", {"circle"}),
        ("figures.values", "from figures import page", {"circle"}),
        ("figures.values", "import json", set()),
        ("experiments.run", "from sublim_jax import records", set()),
    ],
)
def test_circles_and_upward_arrows_are_seen(module, line, expected):
    graph = arrows(HOUSE | {module: f"{HOUSE[module]}\n{line}"})
    seen = {name for name, offences in (("upward", upward(graph)), ("circle", circles(graph))) if offences}
    assert seen == expected


def test_drawing_loads_nothing_that_trains_or_writes_records(run_python):
    """Every module of figures, in one fresh process, whatever is imported on the way."""
    names = [name for name in arrows(modules(PACKAGE.parent)) if name.startswith("figures")]
    assert {"figures.readme", "figures.compare", "figures.atlas.page", "figures.theorem"} <= set(names)
    done = run_python(
        "-c",
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        "    for loaded in sys.modules:\n"
        "        if f'{loaded}.'.startswith(('experiments.', 'sublim_jax.training.', 'sublim_jax.llm.')):\n"
        "            sys.exit(f'{name} loads {loaded}')\n",
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: "/".join(path.parts[-2:]))
def test_experiments_import_rooms_and_draw_only_at_the_end(path):
    for module, name in imports(path.read_text()):
        if module.startswith("sublim_jax"):
            assert is_importable(module.split(".")[1:], name), f"{module} {name}: import rooms and types, not names"
    at_the_top = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom)]
    assert not [node for node in at_the_top if (node.module or "").startswith("figures")]


WRITES = {
    ("Path", "write_text"), ("Path", "write_bytes"), ("Path", "touch"), ("Path", "rename"), ("Path", "unlink"),
    ("Path", "rmdir"), ("Path", "symlink_to"), ("Path", "hardlink_to"), ("os", "rename"), ("os", "replace"),
    ("os", "remove"), ("os", "unlink"), ("os", "rmdir"), ("os", "truncate"), ("os", "open"), ("shutil", "rmtree"),
    ("shutil", "move"), ("shutil", "copy"), ("shutil", "copyfile"), ("shutil", "copytree"), ("np", "save"),
    ("np", "savez"), ("np", "savez_compressed"), ("np", "savetxt"), ("json", "dump"), ("safetensors", "save_file"),
    ("sqlite3", "connect"),
}  # fmt: skip
"""Calls that put something on the disk, move or delete it: by module, or by method whatever it is called on."""
METHODS = {name for module, name in WRITES if module == "Path"} | {"savefig"}
MAY_WRITE = {
    "sublim_jax/files.py": "the leaf",
    "sublim_jax/compilation.py": "programs in JAX's folder that a killed process left in pieces",
    "experiments/accelerator.py": "a summary and logs, in the folder given to it, by the standard library alone",
    "sublim_jax/llm/server/jobs.py": "removes what an earlier version left half-trained in the server's own folder",
    "sublim_jax/llm/server/uploads.py": "deletes an uploaded file when its owner asks for it",
    "sublim_jax/llm/store.py": "SQLite commits rows, under a lock of files.Lock, to what files.writing made",
    "experiments/speed.py": "images for another process, in a folder of tempfile",
}


def written(source: str) -> list[str]:
    """Calls that write past `files`."""
    tree, found = ast.parse(source), []
    inside = [  # what is written to the temporary path of `files.writing` is written by `files`
        range(node.lineno, (node.end_lineno or node.lineno) + 1)
        for node in ast.walk(tree)
        if isinstance(node, ast.With)
        and any(ast.unparse(item.context_expr).startswith("files.writing(") for item in node.items)
    ]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or any(node.lineno in span for span in inside):
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        on = function.value.id if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) else ""
        modes = [a.value for a in (*node.args, *(k.value for k in node.keywords)) if isinstance(a, ast.Constant)]
        opens = name == "open" and any(isinstance(m, str) and set(m) & set("wax+") and len(m) < 4 for m in modes)
        replaces = name == "replace" and on not in ("dataclasses", "os") and len(node.args) == 1 and not node.keywords
        if opens or replaces or (on, name) in WRITES or name in METHODS:
            found.append(f"line {node.lineno}: {ast.unparse(node)[:60]}")
    return found


@pytest.mark.parametrize("path", [*SOURCES, *EXPERIMENTS, *FIGURES], ids=lambda path: "/".join(path.parts[-3:]))
def test_files_are_written_moved_and_deleted_in_one_place(path):
    """So that one set of rules, and one set of tests, covers all that commands do to a disk. Folders of `tempfile` are
    nobody's."""
    where = path.relative_to(PACKAGE.parent).as_posix()
    calls = written(path.read_text(encoding="utf-8"))
    assert bool(calls) == (where in MAY_WRITE), calls


@pytest.mark.parametrize(
    "line",
    [
        "path.write_text('a')", "path.write_bytes(b'a')", "open(path, 'w')", "open(path, mode='ab')", "path.open('x')",
        "os.replace(a, b)", "path.rename(other)", "temporary.replace(path)", "path.unlink(missing_ok=True)",
        "shutil.rmtree(folder)", "np.savez(path, a=a)", "safetensors.save_file(tensors, path)", "figure.savefig(path)",
        "json.dump(content, file)", "path.touch()", "path.open('r+')",
    ],
)  # fmt: skip
def test_ways_to_write_are_seen(line):
    assert written(line)


@pytest.mark.parametrize(
    "line",
    [
        "open(path)", "open(path, 'rb')", "path.open('rb')", "path.read_text()", "text.replace('a', 'b')",
        "dataclasses.replace(config, a=1)", "files.write(path, 'a')", "json.dumps(content)", "path.open()",
        "with files.writing(path) as temporary:\n    figure.savefig(temporary)",
    ],
)  # fmt: skip
def test_other_calls_are_not_taken_for_writing(line):
    assert not written(line)


HEAVY = ("tensorflow", "tensorflow_datasets", "torch", "flax", "transformers", "matplotlib.pyplot", "tyro", "rich")


def test_heavy_packages_are_not_imported_by_the_laboratory(run_python):
    done = run_python(
        "-c",
        "import sys, sublim_jax\n"
        "assert 'jax' not in sys.modules, 'jax'\n"
        "from sublim_jax.training import stages, ensemble\n"
        f"print([name for name in {HEAVY} if name in sys.modules])",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_the_front_door_has_every_name_it_says():
    assert len(sublim_jax.__all__) == len(set(sublim_jax.__all__)) == len(sublim_jax._HOMES) + 1
    for name in sublim_jax.__all__:
        assert getattr(sublim_jax, name) is not None
    assert dir(sublim_jax) == sorted(sublim_jax.__all__) and (PACKAGE / "py.typed").exists()
    with pytest.raises(AttributeError, match=r"no attribute 'run'; it has .*run_members"):
        sublim_jax.run  # noqa: B018
    with pytest.raises(AttributeError, match="has no attribute 'nowhere'"):
        sublim_jax.theory.nowhere  # noqa: B018


def test_signatures_are_checked_while_tests_run():
    with pytest.raises(jaxtyping.TypeCheckError):
        losses.cross_entropy(jnp.zeros((2, 3)), jnp.zeros(5, jnp.int32))  # two images, five labels
