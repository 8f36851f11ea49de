"""The command `python -m experiments.theorem`; see `run`."""

from experiments import cli
from experiments.theorem import run

if __name__ == "__main__":
    cli.main(run.main)
