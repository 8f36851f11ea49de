"""Audits of weights: files of dense layers, students of a random decoder, and what is refused."""

import pathlib
import zipfile

import jax
import numpy as np
import pytest
from safetensors import numpy as safetensors

from experiments import cli
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
        ({"weights": "reference.npz", "reference": "absent.safetensors"}, "absent.safetensors: expected arrays of"),
        ({"weights": "folder.npz", "reference": "reference.npz"}, r"folder.npz: .* cannot be read \(Is a directory"),
    ],
)
def test_bad_flags_and_files(place, flags, message):
    (place / "folder.npz").mkdir()
    with pytest.raises(errors.InputError, match=message):
        audits.open_source(WeightsConfig(**flags), print)


def test_damaged_files_are_refused_by_a_sentence(place):
    """Every way in which NumPy, zip archives and safetensors complain, and an array that stands alone."""
    whole = (place / "reference.npz").read_bytes()
    np.save(place / "alone.npy", np.ones(3))
    with zipfile.ZipFile(place / "no-arrays.npz", "w"):
        pass
    np.savez(place / "objects.npz", **{"0.weight": np.array([{}], dtype=object)})
    safetensors.save_file({}, place / "nothing.safetensors")
    contents = {
        "empty": b"", "text": b"no arrays", "cut": whole[: len(whole) // 2], "alone": (place / "alone.npy").read_bytes()
    }  # fmt: skip
    names = ["no-arrays.npz", "objects.npz", "nothing.safetensors"]
    for name, content in contents.items():
        for suffix in audits.FILES:
            (place / f"{name}{suffix}").write_bytes(content)
            names.append(f"{name}{suffix}")
    for name in names:
        with pytest.raises(errors.InputError, match=rf"{name}: expected arrays of weights, but this is no whole \."):
            audits.open_source(WeightsConfig(weights="reference.npz", reference=name), print)


@pytest.mark.parametrize("names", [("0", "0.weight"), ("0.weight", "0"), ("0.weight", "0/weight")])
def test_arrays_of_one_name_are_refused(place, names):
    np.savez(place / "twice.npz", **dict.fromkeys(names, np.ones((3, 3))))
    with pytest.raises(errors.InputError, match=r"twice.npz: .* and another array have one name, or one is a part"):
        audits.open_source(WeightsConfig(weights="twice.npz", reference="reference.npz"), print)


def test_what_cannot_be_compared_is_refused_in_one_line_and_nothing_is_written(place, capsys):
    """An earlier record stays where it is, too."""
    damaged = {name: array.copy() for name, array in arrays(SPEC.init(jax.random.key(5))).items()}
    damaged["1.bias"][3] = np.inf
    np.savez(place / "damaged.npz", **damaged)
    narrow = mlp.MLPSpec(in_size=4, hidden_sizes=(20, 16), num_classes=6, num_aux=4)
    for name, seed in (("narrow.npz", 0), ("other.npz", 1)):  # wide enough as it stands, too narrow for matching
        np.savez(place / name, **arrays(narrow.init(jax.random.key(seed))))
    program.main(["--weights", "reference.npz", "--reference", "reference.npz", "--record", "runs/a.json"])
    before = {path: path.read_bytes() for path in (place / "runs").iterdir()}
    capsys.readouterr()
    for flags, message in (
        (["damaged.npz", "reference.npz"], "model, bias of layer 1: 1 of 16 weights are not finite"),
        (["reference.npz", "damaged.npz"], "reference, bias of layer 1: 1 of 16 weights"),
        (["narrow.npz", "other.npz"], "layer 0 has 4 inputs"),
        (["narrow.npz", "reference.npz"], "has 4 and 10 inputs and outputs, reference 24 and 10"),
        (["reference.npz", "stranger.safetensors", "--num-permutations", "98"], "no p-value could reach"),
    ):
        with pytest.raises(SystemExit, match="2"):
            cli.main(lambda flags=flags: program.main(["--weights", flags[0], "--reference", *flags[1:], "--record",
                                                       "runs/a.json"]))  # fmt: skip
        said = capsys.readouterr()
        assert not said.out and message in said.err and said.err.count("\n") == 1
        assert {path: path.read_bytes() for path in (place / "runs").iterdir()} == before
    with pytest.raises(errors.InputError, match="give --weights"):
        program.main(["--reference", "reference.npz", "--record", "b.json"])


def test_other_shapes_are_refused(place):
    np.savez(place / "small.npz", **arrays(mlp.init(jax.random.key(0), mlp.MLPSpec(in_size=24, hidden_sizes=(8, 16)))))
    with pytest.raises(errors.InputError, match=r"model small.npz, reference reference.npz: model has 8 and 16 hidden"):
        audits.open_source(WeightsConfig(weights="small.npz", reference="reference.npz"), print)
