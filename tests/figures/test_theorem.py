"""Every figure of the theorem is drawn from the committed records, with a caption."""

import shutil

import pytest

from experiments.theorem import config
from figures import theorem
from sublim_jax import records
from sublim_jax.forms import theorem as form

needs_record = pytest.mark.skipif(
    not theorem.RECORD.exists(), reason="run python -m experiments.theorem --record experiments/records/theorem.json"
)


@needs_record
@pytest.mark.slow
def test_all_figures_are_drawn_from_the_committed_record(tmp_path):
    paths = theorem.save_all(theorem.RECORD, tmp_path / "theorem")
    assert {path.name for path in paths} == {f"theorem-{n}.{s}" for n in theorem.FIGURES for s in ("png", "pdf")}
    assert all(path.stat().st_size > 5000 for path in paths)


@needs_record
def test_figures_of_parts_that_were_not_run_are_left_out(tmp_path):
    record = records.read(theorem.RECORD)
    record.results = {"filters": record.results["filters"]}
    records.write(tmp_path / "record.json", record)
    paths = theorem.save_all(tmp_path / "record.json", tmp_path / "part")
    assert [path.name for path in paths] == ["part-filters.png", "part-filters.pdf"]


@needs_record
def test_equal_records_give_equal_files(tmp_path):
    record = records.read(theorem.RECORD)
    record.results = {"many_steps": record.results["many_steps"]}
    records.write(tmp_path / "record.json", record)
    first, second = (theorem.save_all(tmp_path / "record.json", tmp_path / name / "f")[0] for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_the_kill_matrix_is_drawn(tmp_path):
    data = {"name": "drawn networks", "source": "the seeds", "checksum": None}
    record = records.Record.begin(form.MUTANTS.experiment, {"num_problems": 4}, data)
    record.results = {
        "properties": ["sign", "slope"],
        "mutants": [
            {"name": "none", "what": "the library as it is", "kills": {"sign": 0.0, "slope": 0.0}},
            {"name": "halved", "what": "half of it", "kills": {"sign": 0.0, "slope": 1.0}},
        ],
        "missed_by_the_sign_alone": ["halved"],
        "survivors": [],
    }
    records.write(tmp_path / "matrix.json", record)
    paths = theorem.save_mutants(tmp_path / "matrix.json", tmp_path / "theorem")
    assert [path.name for path in paths] == ["theorem-mutants.png", "theorem-mutants.pdf"]


def test_every_figure_needs_parts_that_exist_and_every_part_is_drawn():
    needed = {part for parts, _, _ in theorem.FIGURES.values() for part in parts}
    assert needed <= set(config.PARTS) and set(config.PARTS) - needed == {"kinks"}


@needs_record
def test_a_record_in_another_place_is_drawn_beside_its_stem(tmp_path):
    shutil.copy(theorem.RECORD, tmp_path / "other.json")
    record = records.read(tmp_path / "other.json")
    record.results = {"kinks": record.results["kinks"]}
    records.write(tmp_path / "other.json", record)
    assert theorem.save_all(tmp_path / "other.json", tmp_path / "x") == []
