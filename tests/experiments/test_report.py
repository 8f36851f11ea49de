"""The README's tables are those of the committed records, and its commands exist."""

import importlib.util
import pathlib
import re

import jax
import pytest

from figures import readme
from tests import examples

ROOT = pathlib.Path(__file__).parents[2]


def test_every_table_of_the_readme_is_made_from_a_committed_record():
    text = readme.README.read_text(encoding="utf-8")
    assert readme.rewritten(text) == text, "run python -m figures.readme"


def test_a_changed_number_is_noticed():
    text = readme.README.read_text(encoding="utf-8")
    changed = re.sub(r"(`student_aux` \| )0\.", r"\g<1>1.", text, count=1)
    assert changed != text
    assert readme.rewritten(changed) == text


def test_a_missing_marker_is_an_error():
    with pytest.raises(ValueError, match="must enclose a table"):
        readme.rewritten("no table here")


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "proofs/README.md"])
def test_modules_and_files_that_a_page_names_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for module in set(re.findall(r"python -m ([\w.]+)", text)):
        assert importlib.util.find_spec(module), f"{page} names the module {module}"
    for link in re.findall(r"\]\((?!http)([^)#\s]+)\)", text):
        assert (ROOT / page).parent.joinpath(link).exists(), f"{page} links to {link}"
    targets = set(re.findall(r"^make (\w+)", text, flags=re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), f"{page} names make {target}"


FLAX = "sl.from_flax(nn.Sequential([nn.Dense(64), nn.tanh, nn.Dense(13)]), x[:1], num_classes=10)"
EQUINOX = "sl.from_equinox(lambda key: eqx.nn.MLP(64, 13, 64, 1, key=key), x[:1], num_classes=10)"


@pytest.mark.slow
@pytest.mark.parametrize(("library", "line"), [("flax", FLAX), ("equinox", EQUINOX)])
def test_the_python_examples_of_the_readme_run(library, line, capsys):
    """With two members and little noise, so that this takes seconds."""
    module = importlib.import_module(library)
    assert (
        EQUINOX in (ROOT / "README.md").read_text(encoding="utf-8").replace("\n", " ") and len(examples.EXAMPLES) == 2
    )
    example = examples.small("".join(examples.EXAMPLES))
    assert example.count(FLAX) == 1
    example = example.replace(FLAX, line)
    with jax.numpy_rank_promotion("allow"):  # as it is outside tests
        exec(compile(example, "README.md", "exec"), {"eqx": module})
    printed = capsys.readouterr().out
    for condition in ("reference", "teacher", "student_aux", "student_all", "cross_model_aux", "cross_model_all"):
        assert re.search(rf"^{condition} +0\.\d+ \(n=2\)$", printed, flags=re.MULTILINE)
    assert re.search(r"^[+-]0\.\d+ \(n=2\)$", printed, flags=re.MULTILINE)
    numbers = dict(re.findall(r"(\w+)=Array\(([-.\w]+)", printed))
    assert (
        float(numbers["coefficient"]) > 0 and 0 < float(numbers["cosine"]) <= 1 and float(numbers["epsilon_star"]) > 0
    )
