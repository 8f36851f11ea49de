"""The command `python -m experiments.atlas`; see `run`."""

from experiments import cli
from experiments.atlas import run

if __name__ == "__main__":
    cli.main(run.main)
