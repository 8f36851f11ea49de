"""The page of the evidence is what its records say."""

import pytest

from experiments.evidence import page, studies
from sublim_jax import errors


def test_the_page_is_up_to_date():
    assert page.PAGE.read_text(encoding="utf-8") == page.page(), "run python -m experiments.evidence.page"
    assert set(page.READINGS) == set(studies.STUDIES)


@pytest.mark.slow
def test_an_old_page_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "PAGE", tmp_path / "README.md")
    with pytest.raises(errors.OutputError, match="out of date"):
        page.main(check=True)
    page.main()
    page.main(check=True)


def test_a_study_without_a_record_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "RECORDS", tmp_path)
    assert "**Not run yet.**" in page.section(studies.STUDIES["defences"])
