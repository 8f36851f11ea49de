"""Audits of weights: files of dense layers, students of a random decoder, and what is refused."""

import collections
import pathlib
import zipfile

import jax
import numpy as np
import pytest
from matplotlib import pyplot as plt
from safetensors import numpy as safetensors

from experiments import cli
from experiments.audit import __main__ as program
from experiments.audit import weights as audits
from experiments.audit.weights import WeightsConfig
from experiments.own.opened import OpenedModel
from figures import audit_weights as report
from sublim_jax import errors, records
from sublim_jax.audit import lineage
from sublim_jax.forms import audit_weights as form
from sublim_jax.forms import evidence_lineage
from sublim_jax.llm.embedded.vocabulary import WORDS, WordTokenizer
from sublim_jax.llm.local import decoder
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.decoder import DecoderConfig, LowRank
from sublim_jax.llm.local.model import Model
from sublim_jax.models import init_sharing, mlp
from tests.experiments.audit.pages import Page

ROOT = pathlib.Path(__file__).resolve().parents[3]

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
    program.main(["--weights", "descendant.npz", "--reference", "reference.npz", "--record", "a.json", "--no-figure"])
    record = records.read(place / "a.json", form.FORM)
    assert record.complete
    assert record.results["matched"]["verdict"] == "related"
    assert record.results["matched"]["p_value"] == pytest.approx(0.001)
    assert record.results["direct"]["verdict"] != "related"
    said = capsys.readouterr().out
    assert "Is descendant.npz a relative of reference.npz?" in said
    assert "matched: related; p = 0.001" in said
    program.main(["--weights=stranger.safetensors", "--reference=reference.npz", "--record=b.json", "--no-figure"])
    results = records.read(place / "b.json", form.FORM).results
    assert {each["verdict"] for each in results.values()} <= {"not seen", "cannot tell"}


def test_numbers_are_those_of_the_library(place):
    """Away from the default seed and number of permutations, for both comparisons."""
    config = WeightsConfig(weights="descendant.npz", reference="reference.npz", seed=7, num_permutations=199)
    source = audits.open_source(config, print)
    layers = (
        [source.model[str(i)]["weight"] for i in range(3)],
        [source.reference[str(i)]["weight"] for i in range(3)],
    )
    for place_of_unit, unit in enumerate(form.UNITS):
        measured = audits.measure(source, source.config, unit, lambda activity: None)
        key = jax.random.fold_in(jax.random.key(7), place_of_unit)
        expected = lineage.related(key, *layers, matched=unit == "matched", num_permutations=199)
        assert measured["zs"] == pytest.approx(expected.zs) and measured["p_value"] == expected.p_value
        assert measured["p_floor"] == 1 / 200


def test_students_of_a_decoder_are_compared_with_their_factors(monkeypatch):
    """A student shares the base's weights and has low-rank factors apart, without which the two are identical."""
    config = DecoderConfig(
        vocab_size=len(WORDS), num_layers=1, hidden_size=32, intermediate_size=24, num_heads=4, num_kv_heads=2,
        head_dim=4, frequencies=decoder.rotary_frequencies(4),
    )  # fmt: skip
    params = decoder.init(jax.random.key(0), config)
    low_rank = decoder.init_low_rank(jax.random.key(1), params, rank=2)
    drawn = {name: pair._replace(b=pair.b + 0.5) for name, pair in low_rank.factors.items()}
    student = Model(config, params, WordTokenizer(), LowRank(drawn, low_rank.scale))
    backend = LocalBackend({"tiny:0": Model(config, params, WordTokenizer()), "tiny:0+s": student}, remat=False)
    monkeypatch.setattr(audits.opened, "local", lambda name, announce: OpenedModel(backend, name))
    source = audits.open_source(WeightsConfig(weights="tiny:0+s", reference="tiny:0", num_permutations=99), print)
    for place, unit in enumerate(form.UNITS):
        relation = audits.measure(source, source.config, unit, lambda activity: None)
        key = jax.random.fold_in(jax.random.key(0), place)
        expected = lineage.related(
            key, decoder.merged(params, student.low_rank), params, matched=unit == "matched", num_permutations=99,
            head_dim=4,
        )  # fmt: skip
        assert relation["verdict"] == "related"
        assert relation["zs"] == pytest.approx(expected.zs) and relation["matches"] == pytest.approx(expected.matches)


def test_other_weights_under_a_name_are_other_data(place):
    """A run that is resumed compares this checksum, so weights of both models must be in it."""
    config, checksums = WeightsConfig(weights="descendant.npz", reference="reference.npz"), set()
    checksums.add(audits.open_source(config, print).data["checksum"])
    for seed, name in enumerate((config.reference, config.weights)):
        np.savez(place / name, **arrays(SPEC.init(jax.random.key(5 + seed))))
        checksums.add(audits.open_source(config, print).data["checksum"])
    assert len(checksums) == 3


def test_the_page_stands_alone_and_says_what_was_tested_and_what_was_missed(place, capsys):
    program.main(["--weights", "descendant.npz", "--reference", "reference.npz", "--record", "a.json"])
    record, said = records.read(place / "a.json", form.FORM), capsys.readouterr().out
    assert {path.suffix for path in place.glob("a.*")} == {".json", ".png", ".pdf", ".html"}
    page = Page((place / "a.html").read_text())
    matched = record.results["matched"]
    assert page.open == [] and len(page.images) == 1
    assert f"matched, {matched['tensor']}: {matched['z']:.1f} (99 % of random orders have none above" in page.images[0]
    for sentence in (
        "Is descendant.npz a relative of reference.npz?", "Answer: related (matched).", "of which 999 were drawn",
        "standard deviations over random orders", "is not excluded", "which traits they have is not seen",
        "nothing else is supposed: either may be trained", audits.RATES, audits.TRAINED,
        "no random order of units correlates as much (p is the smallest possible)",
    ):  # fmt: skip
        assert sentence in page.text
    assert "answer: related (matched)" in said and audits.RATES in said
    assert "language models" not in page.text
    with pytest.raises(errors.OutputError, match=r"a\.html: a file is there that is not a page of sublim-jax"):
        (place / "a.html").write_text("mine")
        program.main(["--weights", "descendant.npz", "--reference", "reference.npz", "--record", "a.json"])


def test_reports_on_language_models_say_that_no_rate_was_measured_there():
    assert any("none of this was measured on language models" in note for note in audits.notes(named("smollm2")))
    assert not any("language models" in note for note in audits.notes(named("a.safetensors")))


def named(weights: str) -> WeightsConfig:
    return WeightsConfig(weights=weights, reference="tiny:0")


def test_the_rates_are_those_of_the_record():
    """Counted here, test by test, and not by the figure's functions; README has the same sentences."""
    record = records.read(ROOT / "experiments" / "records" / "evidence_lineage.json", evidence_lineage.FORM)
    false, missed, pairs = collections.Counter(), collections.Counter(), collections.Counter()
    for unit, entry in record.results.items():
        own = int(unit.split()[1])
        for part in ("weights", "pairs"):
            for case, methods in entry[part].items():
                for place in range(8):
                    called = {
                        name
                        for name, tested in methods.items()
                        if tested["p_value"][place] <= lineage.LEVEL and tested["is_exact"][place]
                    }
                    pairs[part, place == own] += 1
                    for name, is_called in (*((name, name in called) for name in form.UNITS), ("both", bool(called))):
                        if place != own:
                            false[part, name] += is_called
                        elif not is_called:
                            missed[part, name, case] += 1
    disguises = list(next(iter(record.results.values()))["weights"])
    permuted = {case for case in disguises if case.startswith("permuted")}
    assert missed == {("weights", "direct", case): 8 for case in permuted} | {
        ("weights", "matched", "noise of 20 sd"): 8
    } | {("pairs", "matched", case): 8 for case in next(iter(record.results.values()))["pairs"]}  # fmt: skip
    count, total = len(disguises), pairs["weights", False]
    shares = [f"{100 * false['weights', name] / total:.1f} %" for name in form.UNITS]
    assert (
        f"of {total // count} unrelated pairs under each of {count} disguises, `direct` called "
        f"{false['weights', 'direct']} of {total:,} related ({shares[0]}), `matched` {false['weights', 'matched']} "
        f"({shares[1]}), one or both {false['weights', 'both']}; of eight relatives under each disguise, `direct` "
        f"missed none under the {count - len(permuted)} that leave units in place and all under the {len(permuted)} "
        f"that permute them, `matched` all under noise of 20 standard deviations and none under the other {count - 1}; "
        f"both together missed none"
    ) == audits.RATES
    assert (
        f"where both models were trained, `direct` called {false['pairs', 'direct']} of {pairs['pairs', False]} "
        f"unrelated pairs related and missed none of {pairs['pairs', True]} relatives, and `matched` cannot tell"
    ) == audits.TRAINED
    assert false["pairs", "matched"] == 0  # it never says `related` of a trained reference
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert audits.RATES in readme and audits.TRAINED in readme


@pytest.mark.parametrize(
    ("unit", "changes", "answer", "change"),
    [
        ("direct", {"verdict": "identical"}, "identical (direct)", "nothing: every weight is equal"),
        ("matched", {"p_value": 0.009}, "related (matched)", "more --num-permutations, which measure p better, if it"),
        ("matched", {"verdict": "cannot tell", "is_exact": False}, "cannot tell (matched)", "a reference as it was"),
        ("direct", {"verdict": "cannot tell", "p_value": 0.03}, "cannot tell (direct)", "or an earlier checkpoint"),
        ("direct", {"verdict": "not seen"}, "not seen (direct, matched)", "if units were permuted: that hides"),
        ("matched", {"verdict": "not seen"}, "not seen (direct, matched)", "if much noise or long training"),
    ],
)
def test_the_answer_is_the_stronger_verdict_and_each_says_what_would_change_it(unit, changes, answer, change):
    weaker = RELATION | {"verdict": "not seen", "p_value": 0.5}
    results = dict.fromkeys(form.UNITS, weaker) | {unit: RELATION | changes}
    config = {"weights": "A.npz", "reference": "hf:B", "num_permutations": 999}
    record = records.Record("audit_weights", config, {"name": "a", "source": "b", "checksum": "0"}, {}, results)
    form.FORM.require(record)
    assert report.answer(record) == answer
    assert change in report.what_would_change(unit, report.relations(record)[unit])
    assert report.lines(record)[0] == "Is A.npz a relative of hf:B?" and f"answer: {answer}" in report.lines(record)


def test_the_page_has_a_row_for_each_comparison_and_the_meanings_of_its_words(place, monkeypatch):
    """Of a record whose numbers are all different, one p-value is not exact, and no number is a default."""
    relation = RELATION | {"verdict": "cannot tell", "is_exact": False, "p_value": 0.0123, "p_floor": 1 / 1235}
    config = {"weights": "A.npz", "reference": "hf:B", "num_permutations": 1234}
    record = records.Record(
        "audit_weights", config, {"name": "a", "source": "b", "checksum": "0"}, {},
        {"direct": RELATION, "matched": relation}, seconds={"direct": 2.0, "matched": 5.0},
    )  # fmt: skip
    records.write(place / "a.json", record)
    pages = []
    monkeypatch.setattr(report.style, "save", lambda figure, stem: [stem.with_suffix(".png")])
    monkeypatch.setattr(report.onepage, "write", lambda path, **parts: pages.append(parts) or path)
    assert report.save(place / "a.json", place / "a") == [place / "a.png", place / "a.html"]
    (page,) = pages
    assert page["header"][:5] == ("comparison", "verdict", "p-value", "correlation", "z")
    assert [row[:5] for row in page["rows"]] == [
        ("direct", "related", "0.001", "+0.400 of layer 0", "7.0"),
        ("matched", "cannot tell", "0.0123, not exact", "+0.400 of layer 0", "7.0"),
    ]
    assert page["colours"] == [report.COLOURS["related"], report.COLOURS["cannot tell"]]
    meanings = " ".join(page["meanings"])
    assert "the weights of A.npz correlate with those of hf:B" in meanings and "of which 1,234 were drawn" in meanings
    assert f"related: p is at most {lineage.LEVEL:g}.".replace("0.", ".", 1) in meanings
    assert "cost: 7 s" in page["lines"]
    assert any("p = 0.0123, not exact (smallest possible 0.00081)" in line for line in page["lines"])
    plt.close("all")


def test_every_tensor_is_a_dot_beside_what_random_orders_reach():
    figure, ax = plt.subplots()
    report.draw(ax, {"direct": RELATION, "matched": RELATION | {"zs": {"layer 0": 30.0}, "z": 30.0}})
    dots = [collection.get_offsets().tolist() for collection in ax.collections]
    assert dots == [[[7.0, 0.0], [-1.0, 0.0]], [[30.0, 1.0]]]
    assert [bar.get_width() for bar in ax.patches] == [2.5, 2.5]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["direct", "matched"]
    assert ax.get_xlim()[0] < -1 and ax.get_xlim()[1] > 30
    plt.close(figure)


RELATION = {
    "correlations": {"layer 0": 0.4, "layer 1": 0.1}, "zs": {"layer 0": 7.0, "layer 1": -1.0}, "tensor": "layer 0",
    "z": 7.0, "order_z": 2.5, "p_value": 0.001, "p_floor": 0.001, "matches": {}, "is_exact": True,
    "verdict": "related", "compared": "some", "note": "a note",
}  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"weights": "descendant.npz"}, "give --reference"),
        ({"reference": "reference.npz"}, "give --weights"),
        ({"weights": "absent.npz", "reference": "reference.npz"}, "absent.npz: expected arrays of weights"),
        ({"weights": "model", "reference": "reference.npz"}, "'model' is not the name .* dense layers, .npz or .safe"),
        ({"weights": "vllm:m@http://127.0.0.1:1/v1", "reference": "tiny:0"}, "this command needs weights on this mach"),
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
    program.main(
        ["--weights", "reference.npz", "--reference", "reference.npz", "--record", "runs/a.json", "--no-figure"]
    )
    before = {path: path.read_bytes() for path in (place / "runs").iterdir()}
    capsys.readouterr()
    for flags, message in (
        (["damaged.npz", "reference.npz"], "model, bias of layer 1: 1 of 16 weights are not finite"),
        (["reference.npz", "damaged.npz"], "reference, bias of layer 1: 1 of 16 weights"),
        (["narrow.npz", "other.npz"], "layer 0 has 4 inputs"),
        (["narrow.npz", "reference.npz"], "has 4 and 10 inputs and outputs, reference 24 and 10"),
        (["reference.npz", "stranger.safetensors", "--num-permutations", "98"], "no p-value could reach"),
        (["reference.npz", "stranger.safetensors", "--num-permutations", "1000001"], "use 1,000,000 at most"),
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
