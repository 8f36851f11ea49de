"""The README's tables are those of the committed records, and its commands exist."""

import importlib.util
import pathlib
import re

import pytest

from figures import readme

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


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


def test_the_python_example_of_the_readme_runs(small_digits, capsys):
    example = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert example
    # The dataset of a test has a few hundred images; the noise is cut to match, so that this takes seconds.
    small = example[1].replace('PRESETS["smoke"]', 'PRESETS["smoke"].__class__(num_noise_images=256)')
    exec(compile(small, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()[-1]
    assert all(0 <= float(accuracy) <= 1 for accuracy in printed.split())
