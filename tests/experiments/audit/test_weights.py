"""Audits of weights: files of dense layers, students of a random decoder, and what is refused."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import numpy as safetensors

from experiments.audit import __main__ as program
from experiments.audit import weights as audits
from experiments.audit.weights import WeightsConfig
from sublim_jax import errors, records
from sublim_jax.audit import lineage
from sublim_jax.forms import audit_weights as form
from sublim_jax.models import init_sharing, mlp

SPEC = mlp.MLPSpec(in_size=24, hidden_sizes=(20, 16), num_classes=6, num_aux=4)


def arrays(params: mlp.Params) -> dict[str, np.ndarray]:
    return {
        f"{index}.{name}": np.asarray(leaf)
        for index, layer in enumerate(params)
        for name, leaf in layer._asdict().items()
    }


@pytest.fixture
def place(monkeypatch, tmp_path) -> pathlib.Path:
    """A folder with a reference, a permuted descendant of it, and a stranger."""
    monkeypatch.chdir(tmp_path)
    reference, stranger = (SPEC.init(jax.random.key(seed)) for seed in range(2))
    moved = jax.tree.map(lambda leaf, drawn: leaf + 0.2 * drawn, reference, SPEC.init(jax.random.key(3)))
    np.savez(tmp_path / "reference.npz", **arrays(reference))
    np.savez(tmp_path / "descendant.npz", **arrays(init_sharing.permute_neurons(jax.random.key(4), moved)))
    safetensors.save_file(arrays(stranger), tmp_path / "stranger.safetensors")
    return tmp_path


def test_a_permuted_descendant_is_recognized_and_a_stranger_is_not(place, capsys):
    program.main(["--weights", "descendant.npz", "--reference", "reference.npz", "--record", "a.json"])
    record = records.read(place / "a.json", form.FORM)
    assert record.complete
    assert record.results["matched"]["verdict"] == "related"
    assert record.results["matched"]["p_value"] == pytest.approx(0.001)
    assert record.results["direct"]["verdict"] != "related"
    said = capsys.readouterr().out
    assert "is descendant.npz a relative of reference.npz?" in said
    assert "matched: related; p = 0.001" in said
    program.main(["--weights=stranger.safetensors", "--reference=reference.npz", "--record=b.json"])
    results = records.read(place / "b.json", form.FORM).results
    assert {each["verdict"] for each in results.values()} <= {"not seen", "cannot tell"}


def test_numbers_are_those_of_the_library(place):
    source = audits.open_source(WeightsConfig(weights="descendant.npz", reference="reference.npz"), print)
    measured = audits.measure(source, source.config, "matched", lambda activity: None)
    layers = (
        [source.model[str(i)]["weight"] for i in range(3)],
        [source.reference[str(i)]["weight"] for i in range(3)],
    )
    expected = lineage.related(jax.random.fold_in(jax.random.key(0), 1), *layers)
    assert measured["z"] == pytest.approx(expected.z)
    assert measured["p_value"] == expected.p_value


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"weights": "descendant.npz"}, "give --reference"),
        ({"reference": "reference.npz"}, "give --weights"),
        ({"weights": "absent.npz", "reference": "reference.npz"}, "absent.npz: expected arrays of weights"),
        ({"weights": "text.npz", "reference": "reference.npz"}, "text.npz: expected arrays of weights"),
    ],
)
def test_bad_flags_and_files(place, flags, message):
    (place / "text.npz").write_text("no arrays")
    with pytest.raises(errors.InputError, match=message):
        audits.open_source(WeightsConfig(**flags), print)


def test_other_shapes_are_refused(place):
    np.savez(place / "small.npz", **arrays(mlp.init(jax.random.key(0), mlp.MLPSpec(in_size=24, hidden_sizes=(8, 16)))))
    source = audits.open_source(WeightsConfig(weights="small.npz", reference="reference.npz"), print)
    with pytest.raises(errors.InputError, match="hidden units"):
        audits.measure(source, source.config, "direct", lambda activity: None)
    np.savez(
        place / "bad.npz", **{name: array * jnp.nan for name, array in arrays(SPEC.init(jax.random.key(0))).items()}
    )
    source = audits.open_source(WeightsConfig(weights="bad.npz", reference="reference.npz"), print)
    with pytest.raises(errors.InputError, match="finite"):
        audits.measure(source, source.config, "direct", lambda activity: None)
