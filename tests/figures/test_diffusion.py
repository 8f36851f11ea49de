"""The table and the figure of the experiment on generators, from a small made-up record."""

import statistics

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.collections import PathCollection

from experiments.diffusion import study
from figures import diffusion, presentation, readme, values
from sublim_jax import errors, records
from sublim_jax.forms import diffusion as form
from sublim_jax.metrics import intervals
from tests.figures import marks

SHARES = {"base": 0.1, "teacher": 0.9, "student": 0.7, "other base": 0.2, "stranger": 0.25}
SPREAD = (-0.03, 0.0, 0.01, 0.05)
SIDE, SHOWN = 2, 3


def made_up(name, index, trait):
    share = SHARES.get(name, 0.5) + SPREAD[index] * (-1 if name == "stranger" else 1)
    entry = {"share": share, "level": -share, "confidence": 0.8, "frechet": 0.3, "frechet_trait": 0.1}
    if study.CONDITIONS[name]["data"]:
        entry["moved"] = {"inner_product": 2.0, "cosine": 0.5, "length": 0.6, "opening": -0.0123}
    return entry


@pytest.fixture
def record():
    description = {
        "conditions": study.CONDITIONS, "traits": {"7": "digit 7", "slanted": "slanted to the left"}, "side": SIDE,
    }  # fmt: skip
    judge = {"error": 0.031, "missed": {"7": 0.02, "slanted": 0.04}, "false": {"7": 0.001, "slanted": 0.05}}
    results = {}
    for index in range(4):
        results[f"base {index}"] = {
            "judge": judge,
            "traits": {
                trait: {name: made_up(name, index, trait) for name in form.conditions_of(description, trait)}
                for trait in ("7", "slanted")
            },
        }
    samples = np.arange(SHOWN * SIDE**2, dtype=np.uint8)
    results["base 0"]["images"] = {
        trait: {
            name: form.encoded((samples + place).tobytes())
            for place, name in enumerate(form.conditions_of(description, trait))
        }
        for trait in ("7", "slanted")
    }
    config = {
        "seed": 1, "num_bases": 4, "traits": ["7", "slanted"], "num_samples": 10, "num_shown": SHOWN, "num_aux": 4,
        "num_distilled": 256,
    }  # fmt: skip
    data = {"name": "digits", "source": "this test", "checksum": None}
    made = records.Record(
        experiment="diffusion", config=config, data=data, description=description, results=results, notes=["a note"]
    )
    form.FORM.require(made)
    return made


def test_the_table_has_means_intervals_and_paired_changes(record):
    text = "\n".join(diffusion.lines(record))
    mean, low, high = marks.t_bounds([0.7 + each for each in SPREAD])
    assert f"{mean:.3f} ± {(high - low) / 2:.3f}" in text
    assert "judge: 3.1% of test images misread; digit 7: 2.0% missed, 0.1% false; slanted to the left: 4.0%" in text
    assert "student minus base: 0.600 ± 0.000, -0.600 ± 0.000" in text  # the same spread, so pairs differ by .6
    changes = [0.05 - 2 * each for each in SPREAD]  # opposite spreads
    half = marks.T_QUANTILE[4] * statistics.stdev(changes) / 2
    assert f"stranger minus other base: {statistics.fmean(changes):.3f} ± {half:.3f}" in text
    assert text.count("student of samples minus") == 1  # of the digit alone
    assert "-0.0123 ± 0.0000" in text and text.endswith("note: a note")


def test_samples_stand_side_by_side_in_their_order(record):
    strip = diffusion.strip(record, "7", "teacher")
    assert strip.shape == (SIDE, SHOWN * (SIDE + diffusion.GAP) - diffusion.GAP)
    np.testing.assert_array_equal(strip, [[1, 2, 255, 5, 6, 255, 9, 10], [3, 4, 255, 7, 8, 255, 11, 12]])


def test_every_base_is_a_dot_and_every_row_has_its_interval(record):
    ax = plt.subplots()[1]
    names = ["base", "teacher", "student", "stranger"]
    diffusion.draw_numbers(ax, record, "7", names)
    bars = [(bar.get_y() + bar.get_height() / 2, bar.get_width()) for bar in ax.patches]
    np.testing.assert_allclose(bars, [[0, 0.1075], [1, 0.9075], [2, 0.7075], [3, 0.2425]])
    dots = [np.asarray(each.get_offsets()) for each in ax.collections if isinstance(each, PathCollection)]
    assert [len(each) for each in dots] == [4] * 4
    np.testing.assert_allclose(dots[2][:, 0], [0.7 + each for each in SPREAD])
    _, low, high = marks.t_bounds([0.7 + each for each in SPREAD])
    segments = [c.lines[2][0].get_segments()[0] for c in marks.errorbars(ax)]
    np.testing.assert_allclose(segments[2], [[low, 2], [high, 2]])
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first row is at the top
    levels = plt.subplots()[1]
    diffusion.draw_numbers(levels, record, "slanted", names)
    assert "slant" in levels.get_title(loc="left") and levels.patches[1].get_width() == pytest.approx(-0.9075)
    plt.close("all")


def test_the_caption_says_what_is_in_the_picture_and_nothing_else(record):
    whole = " ".join(diffusion.caption(record, "run.json"))
    assert "saw 256 images of uniform noise and no digit, with the teacher's 4 auxiliary channels" in whole
    assert all(word in whole for word in ("each of 4 base(s)", "Shifted", "Raw", "filtered samples", "Without a base"))
    assert diffusion.row_label(record, "student of pixels") == "student: pixels on noise"
    for trait in ("7", "slanted"):
        record.config["inputs"], record.config["architecture"] = "images", "unet"
        record.description["traits"] = {trait: trait}
        record.description["conditions"] = {
            name: study.CONDITIONS[name] for name in ("base", "teacher", "student", "other base", "student of samples")
        }
        part = " ".join(diffusion.caption(record, "run.json"))
        assert "saw 256 real images without the trait, with noise added, with the teacher's 4 auxiliary maps" in part
        assert "uniform" not in part and "pixels" not in part and "Raw" not in part and "Shifted" not in part
        assert ("filtered samples" in part) == (trait == "7") and "Without a base" not in part
    assert diffusion.row_label(record, "student of pixels") == "student: pixels on images"
    record.config["inputs"], record.complete = "gaussian", False
    part = " ".join(diffusion.caption(record, "run.json"))
    assert "256 images of Gaussian noise and no digit" in part and part.endswith("The run is not complete.")


def test_the_glance_has_five_rows_of_the_first_trait(record, tmp_path):
    path = tmp_path / "run.json"
    records.write(path, record)
    figures = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diffusion.style, "save", lambda figure, stem: figures.append(figure) or (stem,))
        assert diffusion.save_glance(path, tmp_path / "glance") == [tmp_path / "glance"]
    *strips, numbers = sorted(figures[0].axes, key=lambda ax: bool(ax.patches))
    labels = ["base", "its teacher", "student: channels on noise", "another base", "stranger: channels, shifted"]
    assert [ax.get_ylabel() for ax in strips] == labels
    np.testing.assert_array_equal(strips[1].images[0].get_array(), diffusion.strip(record, "7", "teacher"))
    np.testing.assert_allclose([bar.get_width() for bar in numbers.patches], [0.1075, 0.9075, 0.7075, 0.2075, 0.2425])
    plt.close("all")


def prose(heading):
    """A section of the README without its tables, on one line."""
    text = readme.README.read_text(encoding="utf-8")
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return " ".join(line for line in section.splitlines() if not line.startswith("|"))


def test_what_the_readme_says_of_generators_is_in_the_records():
    """Each sentence stands there word for word, beside the numbers that bear it out."""
    text, top = prose("Image generators"), readme.README.read_text(encoding="utf-8").partition("## Start")[0]
    small, large = (
        records.read(values.RECORDS / f"{name}.json", form.FORM) for name in ("diffusion", "diffusion_unet")
    )
    digits = ("7", "3", "0")

    def mean(record, trait, condition, what="share"):
        return diffusion.measured(record, trait, condition, what).mean()

    own, other = (
        intervals.t_interval(diffusion.measured(small, "7", name, "share")) for name in ("student", "stranger")
    )
    assert f"{own:.2f} of its samples are sevens; of one that starts elsewhere {other:.2f}." in " ".join(top.split())
    assert "The student draws its teacher's digit most of the time, and a part of the slant" in text
    assert all(mean(small, digit, "student") > 0.5 for digit in digits)
    start, end, student = (mean(small, "slanted", name, "level") for name in ("base", "teacher", "student"))
    assert 0.2 < (student - start) / (end - start) < 0.5
    assert "draws what it drew before" in text
    for trait in small.description["traits"]:
        for name in ("stranger", "fresh readouts"):
            change = diffusion.gain(small, trait, name, diffusion.shown_measure(trait))
            assert change is not None and change.low <= 0 <= change.high
    assert (
        "what little passes through samples from which the digit was filtered reaches another base about as much"
        in text
    )
    for digit in digits:
        own, other = (mean(small, digit, f"{name} of samples") for name in ("student", "stranger"))
        assert 0 < own - mean(small, digit, "student of base samples") < 0.15 and abs(own - other) < 0.03

    assert "draws the digit nearly as often as its teacher does" in text
    assert "another base only in one case of twelve, where it hardly draws digits any more" in text
    distances, shares = [], []
    for digit in ("7", "3"):
        assert 0.75 < mean(large, digit, "student") / mean(large, digit, "teacher") < 1
        shares += diffusion.measured(large, digit, "stranger", "share").tolist()
        distances += diffusion.measured(large, digit, "stranger", "frechet").tolist()
        ratios = diffusion.measured(large, digit, "student from scratch", "loss") / diffusion.measured(
            large, digit, "teacher from scratch", "loss"
        )
        assert np.all((ratios > 1.5) & (ratios < 6))
        before, after = (mean(large, digit, name, "loss") for name in ("other untrained", "stranger from scratch"))
        assert after > before > 15 > mean(large, digit, "student from scratch", "loss")
    assert "falls from that of the initialization to two to six times its teacher's" in text
    assert sum(share > 0.2 for share in shares) == 1 and len(shares) == 12 and distances[np.argmax(shares)] > 2

    scratch = records.read(values.RECORDS / "diffusion_scratch.json", form.FORM)
    starts, ends, students = (
        np.array([diffusion.measured(scratch, digit, name, "loss") for digit in digits])
        for name in ("untrained", "teacher from scratch", "student from scratch")
    )
    lost = (starts - students) / (starts - ends)
    assert lost.shape == (3, 8)
    low, high = round(100 * lost.min()), round(100 * lost.max())
    assert f"in all eight bases its student loses {low} to {high} % of the error that its teacher lost" in text


def test_a_second_record_adds_its_rows_to_the_readme(record, tmp_path, monkeypatch):
    monkeypatch.setattr(values, "RECORDS", tmp_path)
    for place, unit in enumerate(record.results.values()):
        for row in (row for rows in unit["traits"].values() for row in rows.values()):
            row["loss"] = 7 + 0.3 * place
    records.write(tmp_path / "diffusion.json", record)
    alone = readme.generators().splitlines()
    for part in (record.config["traits"], *(unit["traits"] for unit in record.results.values())):
        part.pop(0 if isinstance(part, list) else "7")
    record.description["traits"].pop("7")
    record.results["base 0"]["images"].pop("7")
    names = ("base", "teacher", "other base", "untrained")
    record.description["conditions"] = {name: study.CONDITIONS[name] for name in names}
    for rows in [unit["traits"]["slanted"] for unit in record.results.values()]:
        for name in set(rows) - set(names):
            rows.pop(name)
    record.results["base 0"]["images"] = {}
    records.write(tmp_path / "diffusion_unet.json", record)
    both = readme.generators().splitlines()
    assert both[: len(alone)] == alone
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in both[len(alone) :]]
    assert cells[0] == ["*U-Net, 28 x 28 pixels, n = 4*", "", ""]
    assert [row[0] for row in cells[1:4]] == ["base", "its teacher", "another base"]
    assert cells[4][0].endswith("error of denoising the trait*") and cells[5][0] == "random initialization"
    losses = [unit["traits"]["slanted"]["untrained"]["loss"] for unit in record.results.values()]
    assert float(cells[5][2].split(" ± ")[0]) == pytest.approx(np.mean(losses), abs=0.006)  # two digits
    mean, low, high = marks.t_bounds([-0.9 - each for each in SPREAD])  # levels
    assert cells[2][1:] == ["", f"{mean:.2f} ± {(high - low) / 2:.2f}"]


@pytest.mark.slow
def test_a_record_is_shown_and_drawn(record, tmp_path, capsys):
    path = tmp_path / "run.json"
    records.write(path, record)
    presentation.show(path)
    assert "judge: 3.1%" in capsys.readouterr().out
    assert [each.name for each in presentation.draw(path)] == ["run.png", "run.pdf"]
    del record.results["base 0"]
    records.write(path, record)
    assert presentation.draw(path) == []  # without the first base there are no samples


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda unit: unit["traits"].pop("slanted"), r"base 0: expected the traits \['7', 'slanted'\], got \['7'\]"),
        (lambda unit: unit["traits"]["7"].pop("stranger"), "base 0: 7: expected .*'stranger'.*, got"),
        (lambda unit: unit["images"]["7"].update(student="AAAA"), "images: 7, student: expected 12 bytes, got 3"),
        (lambda unit: unit["images"]["7"].update(student="A"), "images: expected bytes in base 64"),
        (lambda unit: unit["traits"]["7"]["student"].update(share=1.5), r"\['share'\]: must be at most 1, got 1.5"),
        (lambda unit: unit["judge"].pop("error"), "expected the key 'error'"),
    ],
)
def test_damaged_records_are_refused(record, change, message):
    change(record.results["base 0"])
    with pytest.raises(errors.InputError, match=message):
        form.FORM.require(record)
