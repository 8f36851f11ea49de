"""The page for a reader with ten minutes says of the records what the records say."""

import pathlib
import re

from sublim_jax import records

ROOT = pathlib.Path(__file__).parents[2]
RECORDS = ROOT / "experiments/records"
PAGE = ROOT / "proofs/README.md"


def test_of_the_planted_faults():
    found = records.read(RECORDS / "theorem-mutants.json")
    planted, missed = len(found.results["mutants"]) - 1, len(found.results["missed_by_the_sign_alone"])
    assert found.complete and not found.results["survivors"]
    text = " ".join(PAGE.read_text().split())
    assert f"of {planted} planted faults a test of the sign alone lets {missed} through" in text


def test_of_the_time_the_experiment_takes():
    found = records.read(RECORDS / "theorem.json")
    assert found.complete and 120 < sum(found.seconds.values()) < 210
    assert "three minutes on two cores" in " ".join(PAGE.read_text().split())


def test_the_tests_that_the_pages_cite_exist():
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    defined = set(re.findall(r"def (test_\w+)\(", tests))
    cited = {
        name for page in (PAGE, ROOT / "proofs/theorem.md") for name in re.findall(r"`(test_\w+)", page.read_text())
    }
    modules = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    assert len(cited) > 20 and cited <= defined | modules
