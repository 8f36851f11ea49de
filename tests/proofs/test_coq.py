"""The machine-checked proofs: nothing is left open, every name cited exists, and (slow) the development compiles.

pytest tests/proofs -m slow    needs coqc: apt-get install --no-install-recommends coq libcoq-coquelicot
"""

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


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("coqc") is None, reason="coqc is not installed")
def test_the_development_compiles_and_rests_on_the_allowed_axioms_only(tmp_path):
    for path in [*COQ_FILES, COQ / "_CoqProject", COQ / "Makefile", COQ / "axioms.allowed"]:
        shutil.copy(path, tmp_path)
    run = subprocess.run(["make", "all", "axioms"], cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "theorems rest on nothing but axioms.allowed" in run.stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("coqc") is None, reason="coqc is not installed")
def test_an_axiom_of_our_own_would_be_noticed(tmp_path):
    for path in [*COQ_FILES, COQ / "_CoqProject", COQ / "Makefile", COQ / "axioms.allowed"]:
        shutil.copy(path, tmp_path)
    allowed = (tmp_path / "axioms.allowed").read_text().splitlines()
    (tmp_path / "axioms.allowed").write_text("\n".join(allowed[1:]) + "\n")
    run = subprocess.run(["make", "axioms"], cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert run.returncode != 0
    assert allowed[0] in run.stdout
