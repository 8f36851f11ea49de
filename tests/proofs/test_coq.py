"""The machine-checked proofs: nothing is left open, every name cited exists, and (slow) the development compiles.

pytest tests/proofs -m slow    needs coqc: apt-get install --no-install-recommends coq libcoq-coquelicot
"""

import functools
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PROOFS = ROOT / "proofs"
COQ = PROOFS / "coq"
COQ_FILES = sorted(COQ.glob("*.v"))
CODE = sorted(path for room in ("sublim_jax", "experiments", "figures") for path in (ROOT / room).rglob("*.py"))

HOLES = re.compile(
    r"\b(Admitted|admit|give_up|Abort|Axioms?|Parameters?|Conjectures?|Declare|bypass_check|Unset|type_in_type)\b"
)
ASSUMPTION = re.compile(r"(Variables?|Hypothes[ie]s|Context)\b")
NAMED = re.compile(
    r"\b(?:Theorem|Lemma|Corollary|Definition|Fixpoint|Inductive|Record|Canonical)\s+([A-Za-z_][A-Za-z0-9_']*)"
)
NAME = r"[A-Za-z_][A-Za-z0-9_']*"


def without_comments(source: str) -> str:
    """Coq source with its comments, which nest, replaced by a space."""
    kept, depth, position = [], 0, 0
    for mark in re.finditer(r"\(\*|\*\)", source):
        if depth == 0:
            kept.append(source[position : mark.start()])
        depth = max(depth + (1 if mark.group() == "(*" else -1), 0)
        position = mark.end()
        if depth == 0:
            kept.append(" ")
    return "".join(kept) + (source[position:] if depth == 0 else "")


def holes(source: str) -> list[str]:
    """What would let a statement through without a proof: open proofs, axioms, hypotheses outside every section."""
    source = without_comments(source)
    found = [match.group(1) for match in HOLES.finditer(source)]
    open_sections: list[str] = []
    for sentence in re.split(r"\.\s+", source):
        words = sentence.split()
        if words[:1] == ["Section"]:
            open_sections.append(words[1])
        elif words[:1] == ["End"] and open_sections:
            open_sections.pop()
        elif words and ASSUMPTION.match(words[0]) and not open_sections:
            found.append(" ".join(words[:3]))
    return found


@functools.cache
def names_in_coq() -> set[str]:
    return {name for path in COQ_FILES for name in NAMED.findall(without_comments(path.read_text()))}


def headline_names() -> set[str]:
    """The theorems whose axioms `make axioms` looks at."""
    return set(re.findall(rf"@({NAME})", without_comments((COQ / "Axioms.v").read_text())))


def cited_in_markdown(text: str) -> set[str]:
    """Names after "Coq:", and those in a table column headed "Coq"."""
    cited = {
        name
        for group in re.findall(rf"Coq:\s+((?:`{NAME}`,?\s*(?:and\s+)?)+)", text)
        for name in re.findall(rf"`({NAME})`", group)
    }
    column = None
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            column = None
        elif "Coq" in cells:
            column = cells.index("Coq")
        elif column is not None and column < len(cells):
            cited |= set(re.findall(rf"`({NAME})`", cells[column]))
    return cited


def cited_in_code(text: str) -> set[str]:
    """Names after "Coq:" in a docstring or comment, up to the end of the line, and values of a field `coq`."""
    lists = re.findall(rf"Coq:\s*(`?{NAME}`?(?:,\s*`?{NAME}`?)*)", text)
    return {name for names in lists for name in re.findall(NAME, names)} | set(
        re.findall(rf"\bcoq=[\"']({NAME})[\"']", text)
    )


def test_there_is_something_to_check():
    listed = [word for word in (COQ / "_CoqProject").read_text().split() if word.endswith(".v")]
    assert sorted([*listed, "Axioms.v"]) == [path.name for path in COQ_FILES]
    assert len(names_in_coq()) > 100
    assert len(headline_names()) > 50


@pytest.mark.parametrize("path", COQ_FILES, ids=lambda path: path.name)
def test_no_hole_in_a_proof(path):
    assert holes(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "Theorem t : False. Proof. Admitted.",
        "Theorem t : False. Proof. admit. Qed.",
        "Axiom a : False.",
        "Parameter a : False.",
        "Section S. Variable x : nat. End S. Variable a : False. ",
        "Hypothesis a : False. Theorem t : False. Proof. exact a. Qed.",
        "(* (* nested *) *) Axiom a : False.",
        "Unset Guard Checking. ",
    ],
)
def test_each_kind_of_hole_is_seen(source):
    assert holes(source)


def test_comments_are_no_holes():
    assert holes("(* Admitted (* Axiom *) Abort *) Section S. Variable x : nat. End S. Theorem t : True. Qed.") == []


def test_headline_theorems_exist():
    assert headline_names() - names_in_coq() == set()


@pytest.mark.parametrize("path", sorted(PROOFS.glob("*.md")), ids=lambda path: path.name)
def test_coq_names_cited_in_the_text_exist(path):
    cited = cited_in_markdown(path.read_text())
    assert len(cited) > 20, f"{path}: the citations are not being read"
    assert cited - names_in_coq() == set()


def test_the_table_of_statements_lists_only_theorems_whose_axioms_are_checked():
    assert cited_in_markdown((PROOFS / "README.md").read_text()) - headline_names() == set()


def test_coq_names_cited_in_comments_of_the_development_exist():
    """Written [name] there; words in brackets that are no identifiers with an underscore or digit are prose."""
    for path in COQ_FILES:
        text = path.read_text()
        comments = " ".join(re.findall(r"\(\*.*?\*\)", text, flags=re.DOTALL))
        cited = {name for name in re.findall(rf"\[({NAME})\]", comments) if re.search(r"[_0-9]", name)}
        local = set(re.findall(NAME, without_comments(text)))
        assert cited - names_in_coq() - local == set(), path.name


def test_coq_names_cited_in_the_code_exist():
    missing = {
        (str(path.relative_to(ROOT)), name)
        for path in CODE
        for name in cited_in_code(path.read_text()) - names_in_coq()
    }
    assert missing == set()


def test_citations_are_recognised():
    assert cited_in_code("Source: a. Coq: lemma1, `theorem1`\nmore") == {"lemma1", "theorem1"}
    assert cited_in_code('coq="relu_kink", coq=None') == {"relu_kink"}
    assert cited_in_markdown("x. Coq: `lemma1`,\n`theorem1`. Then `other`.") == {"lemma1", "theorem1"}
    table = "| statement | Coq | test |\n|---|---|---|\n| `a_b` | `lemma1`, `theorem1` | `t` |\n"
    assert cited_in_markdown(table) == {"lemma1", "theorem1"}


def test_every_headline_theorem_and_what_it_rests_on_is_restated():
    """So that `make proofs` compares each statement, and each definition in it, with the one that was read."""
    restated = without_comments((COQ / "Statements.v").read_text())
    assert set(re.findall(rf"Example ({NAME})_says :", restated)) == headline_names()
    definitions = {
        name
        for path in COQ_FILES
        for name in re.findall(rf"\b(?:Definition|Fixpoint)\s+({NAME})", without_comments(path.read_text()))
    } - {"headline"}
    used = set(re.findall(NAME, restated)) & definitions
    assert used - set(re.findall(rf"Example ({NAME})_is :", restated)) == set()
    assert len(used) > 80
    for name in headline_names():
        assert f"Proof. exact @{name}. Qed." in restated, name


needs_coq = pytest.mark.skipif(shutil.which("coqc") is None, reason="coqc is not installed")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> pathlib.Path:
    """A copy of the development, compiled."""
    folder = tmp_path_factory.mktemp("coq")
    for path in [*COQ_FILES, COQ / "_CoqProject", COQ / "Makefile", COQ / "axioms.allowed"]:
        shutil.copy(path, folder)
    run = make(folder, "all")
    assert run.returncode == 0, run.stdout + run.stderr
    return folder


def make(folder: pathlib.Path, target: str) -> subprocess.CompletedProcess:
    return subprocess.run(["make", "-j2", target], cwd=folder, capture_output=True, text=True, timeout=900)


@pytest.mark.slow
@needs_coq
def test_the_development_compiles_and_rests_on_the_allowed_axioms_only(compiled):
    run = make(compiled, "axioms")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "theorems rest on nothing but axioms.allowed" in run.stdout


@pytest.mark.slow
@needs_coq
def test_an_axiom_of_our_own_would_be_noticed(compiled):
    allowed = (COQ / "axioms.allowed").read_text()
    first, *others = allowed.splitlines()
    (compiled / "axioms.allowed").write_text("\n".join(others) + "\n")
    try:
        run = make(compiled, "axioms")
    finally:
        (compiled / "axioms.allowed").write_text(allowed)
    assert run.returncode != 0
    assert first in run.stdout


WEAKENED = {
    "conclusion": {
        "filtered_alignment 0 < filtered_alignment e.\nProof.": "filtered_alignment 0 < filtered_alignment e "
        "\\/ filtered_alignment e <= filtered_alignment 0.\nProof.",
        "intros e He. specialize (Hd e He). lra.": "intros e He. left. specialize (Hd e He). lra.",
    },
    "hypothesis": {
        "filtered_beats_control : 0 < retained_variance ->": "filtered_beats_control : 0 < retained_variance -> "
        "retained_variance = 0 ->",
        "intros H.\n  destruct (pos_near_0 (fun e => filtered": "intros H _.\n  "
        "destruct (pos_near_0 (fun e => filtered",
    },
}
"""Edits after which every proof but that of the restated statement goes through."""


@pytest.mark.slow
@needs_coq
@pytest.mark.parametrize("what", WEAKENED)
def test_a_weakened_statement_does_not_compile(compiled, what):
    file = "Filter.v"
    source = weakened = (compiled / file).read_text()
    for old, new in WEAKENED[what].items():
        assert weakened.count(old) == 1
        weakened = weakened.replace(old, new)
    (compiled / file).write_text(weakened)
    try:
        run = make(compiled, "all")
    finally:
        (compiled / file).write_text(source)
    assert run.returncode != 0
    assert "./Statements.v" in run.stderr, run.stderr
