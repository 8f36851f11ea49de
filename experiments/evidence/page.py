"""The page of the evidence, generated from the records.

python -m experiments.evidence.page            rewrite experiments/evidence/README.md
python -m experiments.evidence.page --check    fail if it is out of date, for the tests
"""

import importlib
import pathlib

import tyro

from experiments import cli
from experiments.evidence import studies
from experiments.study import Study
from sublim_jax import errors, files, records

HERE = pathlib.Path(__file__).resolve().parent
PAGE = HERE / "README.md"
RECORDS = HERE.parent / "records"

INTRODUCTION = """# The evidence for the audit tools

What do the tools of `sublim_jax.audit` see, and where do they fail? Each study tries them on references, bases and
seeds that nothing was chosen on; what a threshold or a rule was fitted on is named apart. Misses come first. All of it
is small: networks of 270 thousand weights on MNIST, the embedded language model of 64 thousand parameters, and in the
last study, SmolLM2 with 135 million.

    python -m experiments.evidence                             lists the studies
    python -m experiments.evidence defences --preset smoke     reduced
    python -m experiments.evidence defences --preset record    the record below

No tool promises safety: it sees the traits that are asked about, on the probes that are asked.
"""

READINGS = {
    "forecast": "Misses first. Scores from gradients at the start foretell little: plain products and cosines next to "
    "nothing, Adam's first step something. A pilot of three steps leaves a quarter of the held-out triples undecided, "
    "and its verdicts miss a few. A pilot of a tenth of the training orders held-out triples well and judges nine in "
    "ten rightly with no transfer missed, but a few triples that do not transmit are called transmitting. Those are "
    "the bars that were set: .9 for the order, nine in ten for the verdicts. The tangent model explains most of what "
    "a student acquires on the triples where it was trained, but overstates it by a factor of two. All of this is one "
    "small network and one data set; on language models the pilots foretell less, see below.",
    "pilots": "Misses first. Pilots of ten steps foretell little. Pilots of forty steps order pairs well, but four "
    "repeats leave more than half of the held-out pairs undecided, and where the mean alone has to decide it is right "
    "in three pairs of four only, short of the nine in ten that were hoped for. Verdicts that are given are right "
    "more often than that. Of pairs whose rows a teacher of the trait wrote, no verdict of the longer pilots is "
    "wrong; false alarms and misses are among the other traits, where finished students drift by chance too: some "
    "students of the base's own rows count as having acquired one. Rows of another base's teacher and of one under a "
    "system message give students nothing of the trait, and completions that stand under each other's prompts give it "
    "all the same.",
    "policies": "Misses first. No distance is safe: students of another start and of shuffled targets move further "
    "than the undefended one and acquire nothing, while within its own lineage a student acquires the more the "
    "further it goes, without a threshold; a ball of half the distance leaves about half of the trait. Dropping the "
    "rows on which the teacher departs most is no better than dropping as many at random until nine tenths are gone, "
    "although it does lower the shift of activations at every strength. The trait falls roughly in proportion to the "
    "start's own answers that rows are mixed with, and some of the trait is left when one row in ten comes from the "
    "teacher. Rows from other families act more strongly: half of them leave a fifth of it, and at seven in eight "
    "none is seen. Students of students keep most of it over six generations; the fall slows down, so that the "
    "half-life is a rough figure.",
    "defences": "Misses first. Projection hides more than it removes: its student reads the trait little better than "
    "one that never saw the teacher, but relearns it nearly as fast as the undefended one; removing the gradient of "
    "probes after training does no better. Dropping rows of high influence is dominated by showing fewer logits. A "
    "light pin on probes lies between. What works here: real images of the wanted digits instead of noise, where "
    "nothing passes and nothing comes back faster; and, after training, subtracting a dose of the displacement of an "
    "auditor's own model of the trait, chosen on probes. It takes the trait to chance, and relearning to the pace of "
    "a student from another start, at little cost to the wanted skill; four singular directions of each matrix are "
    "enough. The same from another reference, or along a random direction, damages the wanted skill and leaves more "
    "of the trait.",
    "removal": "Misses first. What is taken out can come back a little faster than a base acquires it, by an amount "
    "that these bases do not tell from nothing; and the favourite does not go alone: what the student prefers among "
    "other animals and trees moves by more than half as far as it is from the base's. The mean change of the residual "
    "stream on rows of numbers is not the favourite: added to the base it gives nothing, and subtracted, from the "
    "student or by the auditor, it takes nothing away. The auditor's mean change at the end of probes, subtracted "
    "after one layer, does take the favourite away, but costs several times the divergence of his displacement. The "
    "gradient of the probes, projected out, leaves a part. Shrinking the student's displacement until the favourite "
    "is gone leaves the base. What works here: subtracting a small dose of the auditor's displacement, chosen on "
    "probes, also when his training differs in its rate, and with one singular direction of every matrix as well as "
    "with all. Half of that dose leaves half, twice the dose goes as far below the base. At the same length and dose "
    "another base's displacement and a random direction do nothing and another favourite's little; that of another "
    "favourite reaches the base's level only at a larger dose and cost.",
    "authors": "Misses first. The surprise alone misses the bar of .95 at 100 rows, because that of a wrong base can "
    "vanish as well, and so does plain likelihood, because a teacher can move nearer to another base; one teacher's "
    "trait is named wrongly however many rows there are, by lenses that were finetuned like it; and whether a base "
    "was finetuned away from itself is not seen for some teachers. Likelihood under each base and an auditor's "
    "finetuned copies of it names the right base of four from twenty rows on in nearly every draw. That rows carry "
    "something is seen from twenty rows on for all teachers.",
    "marks": "Misses first. The mark names the rows and not the ancestor: a stranger that is trained on them has it "
    "nearly as strongly as a student of the own base, and once the rows' surplus is deleted, or on numbers that the "
    "rows never showed, it is gone in both; no subliminal part is seen. A student with low-rank factors hardly has "
    "it, and after training on the base's rows most of it is lost, although it is still found. The mean shift of a "
    "model with a favourite says that a model was changed, not whose it is: models that were not changed shift as "
    "well. What holds: five to twenty rows of answers are enough, in all bases; students of students keep it over "
    "five generations, and students that go on with their own rows lose nothing. The test over all keys raises no "
    "more false alarms than it says, where a binomial test that takes a model's numbers as independent raises several "
    "times as many.",
    "lineage": "Misses first. Matched units of two models that were both trained are alike even if the models are "
    "unrelated, because the same data teach the same units: there the p-value is void and the tool says so. Matching "
    "fails under noise of twenty standard deviations, where entries as they stand still work; those are blind to "
    "permuted units. Answers need more than 64 queries after a strong training or under noise. Otherwise an ancestor "
    "is recognized through every disguise that was tried, also through a readout that was replaced. Rotations of a "
    "transformer's residual stream are out of reach.",
    "skills": "Misses first. The favourite passes weakly wherever rows also teach a rule, and of five beds with a "
    "rule only two, both with semicolons, show a transfer whose interval leaves zero out; some students of the "
    "favourite's teacher do not have it at all. Twice the lessons of the favourite do not make it stronger, and "
    "students with half of such rows do not show it. Some bases write too few answers that can be rewritten, so that "
    "beds have fewer than eight. Finetuning the student on a few clean rows leaves the favourite where it is; on as "
    "many as the student was trained on, bases scatter so widely that nothing is shown. Shrinking the student's "
    "displacement loses the skill first. What works here: subtracting a dose of an auditor's displacement takes the "
    "favourite back to where students of clean rows are, at no cost to the skill that is seen, and relearning goes on "
    "at their pace; a random direction of the same length does nothing. The gradient of the probes, projected out, "
    "takes away a part at best. The auditor here knows how the author was finetuned, which is a best case.",
    "skills_real": "Misses first. The defence was not tried by this: on the auditor's questions no student of the "
    "favourite's teacher says the favourite more often than the base does, so the rule for the dose subtracts "
    "nothing. Reading such rows makes a student say it less often, as that of the counterpart shows on the other "
    "questions. What passes of the favourite is a small part of what its teacher shows, and more than the other "
    "animals gain, but not by much. Beside the student of the counterpart, which reads the same rows and learns the "
    "same semicolons, it is above zero all the same: data that give a student of a real language model nearly all of "
    "a wanted skill carry some of an unwanted favourite, though no word's probability is seen. A comparison with the "
    "base alone would not have shown it.",
}
"""What each table shows, in words without numbers; empty where a record is not read yet."""


def section(study: Study) -> str:
    """The part of the page on one study: question, command, method, reading, figure and table."""
    path = RECORDS / f"{study.record_name}.json"
    explanation = (study.doc or "").strip().split("\n\n")[-1].replace("\n", " ")
    parts = [f"## {study.question}", f"`python -m experiments.evidence {study.name} --preset record`", explanation]
    record = records.read(path, study.form) if path.exists() else None
    if record is None or not record.complete:
        return "\n\n".join([*parts, "**Not run yet.**"])
    if READINGS[study.name]:
        parts.append(READINGS[study.name])
    parts.append(f"![{study.question}](../../figures/images/evidence-{study.name}.png)")
    lines = importlib.import_module(f"figures.evidence.{study.name}").lines(record)
    notes = "".join(f" {sentence}" for sentence in record.note_sentences)
    parts.append("```\n" + "\n".join(line.rstrip() for line in lines if not line.startswith("note: ")) + "\n```")
    minutes = sum(record.seconds.values()) / 60
    parts.append(f"{minutes:.0f} minutes by the clock; [record](../records/{path.name}).{notes}")
    return "\n\n".join(parts)


def page() -> str:
    """The whole page."""
    return "\n\n".join([INTRODUCTION.rstrip(), *map(section, studies.STUDIES.values())]) + "\n"


def main(check: bool = False) -> None:
    """Rewrite the page, or say whether it is up to date.

    Raises:
        OutputError: `check`, and it is not.
    """
    text = page()
    if not check:
        files.write(PAGE, text, ours=files.anything, what="page")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        raise errors.OutputError(f"{PAGE.name} is out of date; run python -m experiments.evidence.page")


if __name__ == "__main__":
    cli.main(lambda: tyro.cli(main, prog="python -m experiments.evidence.page"))
