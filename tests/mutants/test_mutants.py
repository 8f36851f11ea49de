"""Each planted fault is seen by a test that is named for it. That none sees the source as it is, the suite shows.

pytest tests/mutants -m mutants
"""

import importlib
import pathlib
from collections.abc import Callable, Iterator

import pytest
import tyro

from sublim_jax import records
from tests.mutants import faults, matrix, planting
from tests.mutants.faults import FAULTS

UNHARMED = planting.unharmed([test for fault in FAULTS for test in fault.tests])
RECORD = planting.ROOT / "experiments/records/mutants.json"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_still_fits_the_code_and_its_tests_exist(fault):
    """Code that was moved or rewritten takes its fault along: look for what it was and plant it there."""
    compile(planting.edited(fault), fault.file, "exec")
    for test in fault.tests:
        file, _, name = test.partition("::")
        source = (planting.ROOT / file).read_text(encoding="utf-8")
        assert name.partition("[")[0].rpartition("::")[2] in source, test


def test_there_are_enough_faults_and_each_has_a_name_of_its_own():
    names = [fault.name for fault in FAULTS]
    assert len(names) == len(set(names)) >= 40
    assert len({(fault.file, fault.old, fault.new) for fault in FAULTS}) == len(names)
    for path in pathlib.Path(faults.__file__).parent.glob("[!_]*.py"):
        assert set(importlib.import_module(f"tests.mutants.faults.{path.stem}").FAULTS) <= set(FAULTS), path.stem
    rooms = {pathlib.PurePath(fault.file).parent.as_posix() for fault in FAULTS}
    assert rooms >= {f"sublim_jax/{room}" for room in ("training", "data", "metrics", "llm")} | {"experiments"}


def test_the_committed_matrix_has_every_fault_and_no_survivor_without_a_reason():
    record = records.read(RECORD, matrix.FORM)
    rows = {row["name"]: row for row in record.results["mutants"]}
    assert record.complete and rows.keys() == {fault.name for fault in FAULTS} | UNHARMED.keys(), (
        "make the matrix again"
    )
    assert not [file for file in UNHARMED if rows[file]["failed"]]
    for fault in FAULTS:
        assert rows[fault.name]["asked"] == list(fault.tests) and bool(rows[fault.name]["failed"]) != bool(
            fault.survives
        )


@pytest.fixture(scope="session")
def verdict_of(request) -> Iterator[Callable[[str], planting.Verdict]]:
    """What the tests say of one of the selected faults, waiting until it is there."""
    chosen = {item.callspec.params["name"] for item in request.session.items if "name" in item.fixturenames}
    coming = planting.verdicts({fault.name: (fault, fault.tests) for fault in FAULTS if fault.name in chosen})
    arrived: dict[str, planting.Verdict] = {}

    def waited_for(name: str) -> planting.Verdict:
        while name not in arrived:
            verdict = next(coming)
            arrived[verdict.name] = verdict
        return arrived[name]

    yield waited_for
    coming.close()


@pytest.mark.slow
@pytest.mark.mutants
@pytest.mark.parametrize("name", [fault.name for fault in FAULTS])
def test_a_planted_fault_is_killed(name, verdict_of):
    verdict, fault = verdict_of(name), next(fault for fault in FAULTS if fault.name == name)
    assert not verdict.broken, f"no test could run: {verdict.output}"
    if fault.survives:
        assert not verdict.failed, f"it is killed now by {verdict.failed}; take its reason for surviving out"
    else:
        assert verdict.failed, f"{fault.name} ({fault.what}) survived {', '.join(fault.tests)}"


@pytest.mark.parametrize("module", ["tests.mutants.matrix", "tests.theory.mutants.matrix"])
@pytest.mark.parametrize(("flags", "code"), [(["--help"], 0), (["--rate", "1"], 2), ([], 2)])
def test_a_flag_is_not_taken_for_the_path_of_a_record(module, flags, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        tyro.cli(importlib.import_module(module).main, args=flags)
    assert end.value.code == code and not list(tmp_path.iterdir())
