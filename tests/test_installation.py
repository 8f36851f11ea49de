"""A wheel holds the library alone, commands of a clone work in any folder, `make` installs what its targets need."""

import ast
import importlib.metadata
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable

import pytest

import sublim_jax
from tests import examples

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BUILT_FROM = ("LICENSE", "README.md", "pyproject.toml", "sublim_jax", "experiments", "figures")
Run = Callable[..., subprocess.CompletedProcess]


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> pathlib.Path:
    """A copy of this clone, because building leaves files behind."""
    folder = tmp_path_factory.mktemp("clone").resolve()
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, small_cache) -> Run:
    """Run a program to its end in a folder, with small synthetic digits and nothing of this clone on Python's path."""
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "SUBLIM_DATA_DIR")}
    variables |= {"JAX_PLATFORMS": "cpu", "SUBLIM_CACHE_DIR": str(small_cache)}
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def run(*command: object, folder: pathlib.Path = elsewhere, status: int = 0) -> subprocess.CompletedProcess:
        done = subprocess.run(
            list(map(str, command)), cwd=folder, env=variables, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done

    return run


def build(kind: str, clone: pathlib.Path, folder: pathlib.Path, run: Run) -> pathlib.Path:
    """A wheel, or an editable one, built as pip does it but with the setuptools that is installed here."""
    folder.mkdir()
    run(sys.executable, "-c", f"from setuptools import build_meta as b; b.build_{kind}({str(folder)!r})", folder=clone)
    (path,) = folder.glob("*.whl")
    return path


def installed(wheel: pathlib.Path, folder: pathlib.Path, run: Run) -> pathlib.Path:
    """The folder of programs of a fresh environment that has the wheel; its dependencies are those installed here."""
    run(sys.executable, "-m", "venv", folder)
    programs = folder / "bin"
    run(programs / "python", "-m", "pip", "install", "--no-deps", "--no-index", "--disable-pip-version-check", wheel)
    (packages,) = folder.glob("lib/python*/site-packages")
    here = [entry for entry in sys.path if entry.endswith("-packages")]
    (packages / "dependencies.pth").write_text("\n".join(here), encoding="utf-8")
    return programs


@pytest.fixture(scope="module")
def wheel(clone, tmp_path_factory, run) -> pathlib.Path:
    return build("wheel", clone, tmp_path_factory.mktemp("built") / "wheel", run)


@pytest.fixture(scope="module")
def wheel_programs(wheel, tmp_path_factory, run) -> pathlib.Path:
    return installed(wheel, tmp_path_factory.mktemp("with_wheel") / "venv", run)


@pytest.fixture(scope="module")
def clone_programs(clone, tmp_path_factory, run) -> pathlib.Path:
    editable = build("editable", clone, tmp_path_factory.mktemp("built") / "editable", run)
    return installed(editable, tmp_path_factory.mktemp("with_clone") / "venv", run)


def test_a_wheel_holds_the_library_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        information = {name for name in names if name.startswith(f"sublim_jax-{PROJECT['version']}.dist-info/")}
        (license_name,) = (name for name in information if name.endswith("/LICENSE"))
        assert archive.read(license_name) == (ROOT / "LICENSE").read_bytes()
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "sublim_jax").rglob("*.py")}
    assert names - information == sources | {"sublim_jax/py.typed"}


@pytest.mark.slow
def test_the_ten_lines_run_with_an_installed_wheel(wheel_programs, tmp_path, run):
    """With two members and little noise."""
    script = tmp_path / "mine.py"
    script.write_text(
        "import importlib.util, sublim_jax\n"
        "print(sublim_jax.__file__)\n"
        "print([name for name in ('experiments', 'figures', 'tests') if importlib.util.find_spec(name)])\n"
        + examples.small(examples.EXAMPLES[0]),
        encoding="utf-8",
    )
    place, ours, *lines = run(wheel_programs / "python", script, folder=tmp_path).stdout.splitlines()
    assert pathlib.Path(place).is_relative_to(wheel_programs.parent) and ours == "[]"
    assert any(line.startswith("cross_model_aux") and line.endswith("(n=2)") for line in lines)


@pytest.mark.slow
def test_the_console_command(wheel_programs, tmp_path, run):
    command = wheel_programs / "sublim-jax"
    assert run(command, "--version").stdout == f"sublim-jax {PROJECT['version']}\n"
    for name in ("serve", "store"):
        assert f"sublim-jax {name} " in run(command, "--help").stdout
        assert run(command, name, "--help").stdout.startswith(f"usage: sublim-jax {name} ")
    run(command, "paint", status=2)
    missing = run(command, "store", "export", tmp_path / "a.sqlite", tmp_path / "a.jsonl", status=2)
    assert missing.stderr == f"error: {tmp_path / 'a.sqlite'}: there is no store. Check the path.\n"


@pytest.mark.slow
def test_the_server_without_its_extra_says_what_to_install(wheel_programs, run):
    code = (
        "import sys\n"
        "sys.modules['starlette'] = None\n"
        "sys.argv = ['sublim-jax', 'serve', '--model', 'tiny:100']\n"
        "from importlib import metadata\n"
        "(script,) = metadata.entry_points(group='console_scripts', name='sublim-jax')\n"
        "script.load()()\n"
    )
    assert run(wheel_programs / "python", "-c", code, status=2).stderr == (
        "error: the server needs starlette, which is not installed: pip install 'sublim-jax[serve]'\n"
    )


SMALL = (
    "--dataset", "synthetic-digits", "--num-members", "2", "--model.hidden-sizes", "8", "--num-noise-images", "256",
    "--conditions", "student_aux",
)  # fmt: skip


@pytest.mark.slow
def test_an_experiment_of_a_clone_runs_in_any_folder(clone, clone_programs, tmp_path, run):
    """Its record goes to that folder, and does not say where it was made."""
    python = clone_programs / "python"
    printed = run(python, "-m", "experiments.mnist_aux", "--preset", "smoke", *SMALL, folder=tmp_path).stdout
    assert "\nrecord: runs/mnist_aux-smoke.json\nfigure: runs/mnist_aux-smoke.png\n" in printed
    record = (tmp_path / "runs/mnist_aux-smoke.json").read_text(encoding="utf-8")
    for folder in (clone, tmp_path, ROOT):
        assert str(folder) not in record
    assert not (clone / "runs").exists()
    drawn = run(python, "-m", "figures.mnist_aux", "runs/mnist_aux-smoke.json", "--output", "mine", folder=tmp_path)
    assert drawn.stdout == "mine.png\nmine.pdf\n" and (tmp_path / "mine.png").exists()


READING = (
    ("figures.readme", "--check"),
    ("figures.atlas.page", "--check"),
    ("experiments.language.page", "--check"),
    ("experiments.evidence.page", "--check"),
    ("experiments.atlas", "--describe"),
    ("figures.mnist_aux",),
)


@pytest.mark.slow
def test_commands_read_and_write_the_clone_from_any_folder(clone, clone_programs, tmp_path, run):
    """One process runs them all, so that JAX is imported once."""
    (tmp_path / "elsewhere").mkdir()
    script = tmp_path / "all.py"
    script.write_text(
        "import runpy, sys\n"
        f"for module, *flags in {READING}:\n"
        "    sys.argv = [module, *flags]\n"
        "    runpy.run_module(module, run_name='__main__', alter_sys=True)\n",
        encoding="utf-8",
    )
    image = clone / "figures/images/mnist_aux.png"
    image.unlink()
    *_, first, second = run(clone_programs / "python", script, folder=tmp_path / "elsewhere").stdout.splitlines()
    assert [first, second] == [str(image), str(image.with_suffix(".pdf"))] and image.exists()
    assert not list((tmp_path / "elsewhere").iterdir())
    drawn = run(clone_programs / "python", "-m", "figures.mnist_aux", folder=clone)
    assert drawn.stdout == "figures/images/mnist_aux.png\nfigures/images/mnist_aux.pdf\n"
    for record in (ROOT / "experiments/records/atlas").glob("*.json"):
        assert (clone / record.relative_to(ROOT)).read_bytes() == record.read_bytes()


def test_versions_agree():
    assert sublim_jax.__version__ == PROJECT["version"] == importlib.metadata.version("sublim-jax")


@pytest.mark.parametrize(
    ("target", "extras"), [("mnist", ""), ("figures", ""), ("test", "[dev]"), ("lint", "[dev]"), ("mutants", "[dev]")]
)
def test_what_a_target_of_the_makefile_installs(target, extras, tmp_path):
    done = subprocess.run(
        ["make", "-n", target, f"VENV={tmp_path / 'venv'}", f"PYTHON={sys.executable}"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert [line.split()[-1] for line in done.stdout.splitlines() if "pip install" in line] == [f"'.{extras}'"]


def named(lines: list[str]) -> set[str]:
    """Names of the distributions that requirements name."""
    return {re.split(r"[\[<>=, ]", line)[0].lower().replace("-", "_") for line in lines}


BASE = named(PROJECT["dependencies"])
EXTRAS = {name for lines in PROJECT["optional-dependencies"].values() for name in named(lines)}
COME_WITH = {"requests": "tensorflow_datasets", "pydantic_core": "pydantic"}
FOR_OTHERS = {"array_record", "importlib_resources"}
"""Not imported by us, but by TensorFlow Datasets."""


def imported() -> set[str]:
    """Distributions of the modules that a file of ours imports, wherever the statement stands."""
    names = set()
    for path in (path for folder in ("sublim_jax", "experiments", "figures") for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    names -= sys.stdlib_module_names | {"sublim_jax", "experiments", "figures", "tests"}
    distributions = importlib.metadata.packages_distributions()
    return {distributions.get(name, [name])[0].lower().replace("-", "_") for name in names}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported():
    names = imported()
    assert {COME_WITH.get(name, name) for name in names} <= BASE | EXTRAS
    assert BASE - names == FOR_OTHERS
