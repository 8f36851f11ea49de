"""Does it work with other Pythons and other releases of its dependencies? `make matrix` runs every session.

    make matrix                                      all of it: an hour or two on two cores
    make matrix ARGS="-s 'tests-3.12(newest)'"       one session
    make matrix ARGS="-- tests/models -x"            what stands after -- goes to pytest

`constraints`: the versions of constraints.txt; `newest`: what the index serves today; `lowest`: the lower bounds of
pyproject.toml, on the oldest Python. Each Python must be on the PATH; a session without its Python is skipped with a
warning. Tests marked slow are left out.
"""

import nox

nox.options.default_venv_backend = "uv"
nox.options.error_on_missing_interpreters = False

PYTHONS = ("3.11", "3.12", "3.13")
RESOLUTIONS = {
    "constraints": ("--constraint", "constraints.txt"),
    "newest": ("--upgrade",),
    "lowest": ("--resolution", "lowest-direct"),
}


def check(session: nox.Session, versions: str) -> None:
    """Install with these versions, say which they are, and run the tests."""
    session.install(*RESOLUTIONS[versions], "-e", ".[dev]")
    session.run("uv", "pip", "list", "--quiet", external=True)
    spread = ("-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder")
    session.run("python", "-m", "pytest", *spread, *session.posargs)


@nox.session(python=PYTHONS)
@nox.parametrize("versions", ["constraints", "newest"], ids=["constraints", "newest"])
def tests(session: nox.Session, versions: str) -> None:
    """The tests as `make test` runs them."""
    check(session, versions)


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """The tests with every lower bound of pyproject.toml."""
    check(session, "lowest")
