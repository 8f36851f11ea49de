"""The sources of published values, and their protocols as far as they are known."""

import dataclasses

from sublim_jax import specs
from sublim_jax.forms import atlas as form


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """A paper, a post or a repository."""

    short: str  # how pages and figures name it
    name: str
    protocol: str
    num_members: specs.Count | None = None  # members averaged in one number, if known
    base: specs.Fraction | None = None  # its value of student_aux at its own defaults
    base_measure: form.Measured = "accuracy"  # the measure of `base`
    comparable: bool = True  # whether its protocol agrees with the paper's where it matters


OFFICIAL = "the published script, 25 models of one seed"

SOURCES: dict[str, Source] = {
    "cloud": Source(
        short="Cloud et al.",
        name="Cloud et al. 2025, figure 10",
        protocol="the paper's, 100 members",
        num_members=100,
        base=None,
    ),
    "jasshone": Source(short="jasshone", name="take-home", protocol=OFFICIAL, num_members=25, base=0.55),
    "divyat09": Source(short="divyat09", name="take-home", protocol=OFFICIAL, num_members=25, base=0.551),
    "thierry123454": Source(short="thierry123454", name="take-home", protocol=OFFICIAL, num_members=25, base=0.548),
    "Xiao0779": Source(
        short="Xiao0779",
        name="take-home, repository not archived",
        protocol=OFFICIAL,
        num_members=25,
        base=0.551,
    ),
    "barathvelmu": Source(
        short="barathvelmu",
        name="repository, 2026",
        protocol="the published script on 50,000 training and 50,000 noise images, scored on 10,000 validation "
        "images; 25 models x 3 to 5 seeds",
        num_members=75,
        base=0.451,
        base_measure="validation_accuracy",
    ),
    "Dezmon": Source(
        short="Dezmon",
        name="SubliminalNetworks, 2025",
        protocol="own PyTorch code: batches of 64, rate 1e-3, N(0, 1) noise, 3 + 10 epochs, single runs",
        num_members=1,
        comparable=False,
    ),
    "jlov7": Source(
        short="jlov7",
        name="GhostTrace, 2026",
        protocol="own MLX code, 10 initializations",
        num_members=10,
        base=0.630,
        comparable=False,
    ),
    "jiang": Source(
        short="Jiang et al.",
        name="Jiang, Nagashima, Miyamoto 2025, Comments & Extensions",
        protocol="squared error on raw logits, 784-256-256-(10+3), 5 + 5 epochs, 20 runs; initialization, rate and "
        "batch not stated",
        num_members=20,
        base=0.271,
        comparable=False,
    ),
    "brockers": Source(
        short="Brockers et al.",
        name="arXiv 2605.23645, 2026",
        protocol="squared error, Adam 1e-3, torch's initialization, 10 auxiliary logits, 60,000 fresh images an epoch",
        num_members=20,
        comparable=False,
    ),
    "VincentLimbach": Source(
        short="VincentLimbach", name="repository, 2026", protocol="a fork of the published script", comparable=False
    ),
    "VarenM": Source(
        short="VarenM",
        name="repository, 2025",
        protocol="a convolutional network, squared error",
        num_members=1,
        comparable=False,
    ),
    "nature": Source(
        short="Nature",
        name="652:615 (2026), and the authors' later code",
        protocol="no values published",
        comparable=False,
    ),
}
