"""A place of a figure that could not be written after the run is refused before it, whichever file is in the way."""

import dataclasses

import pytest

from experiments import cli
from sublim_jax import errors


@pytest.mark.parametrize("suffix", [".png", ".pdf"])
def test_a_file_of_the_users_where_a_figure_goes_is_refused_before_the_run(suffix, tmp_path):
    options = cli.RunOptions(record=tmp_path / "run.json")
    cli.require_figures(options)
    (tmp_path / f"run-late{suffix}").write_text("mine")
    cli.require_figures(options)  # of another figure
    with pytest.raises(errors.OutputError, match=f"run-late{suffix}: a file is there that is not a figure"):
        cli.require_figures(options, ["", "-late"])
    cli.require_figures(dataclasses.replace(options, figure=False), ["", "-late"])
