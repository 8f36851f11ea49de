"""The language laboratory's page, generated from its records.

python -m experiments.language.page            rewrite experiments/language/README.md
python -m experiments.language.page --check    fail if it is out of date, for the tests
"""

import pathlib

import tyro

from experiments import cli, session
from experiments.language import presets, questions, real
from experiments.language.config import TEST_SEEDS
from experiments.language.experiment import Experiment
from sublim_jax import errors, files, records
from sublim_jax.forms import language as forms
from sublim_jax.forms import language_real
from sublim_jax.llm.embedded import model as embedded
from sublim_jax.llm.embedded import vocabulary

HERE = pathlib.Path(__file__).resolve().parent
PAGE = HERE / "README.md"
RECORDS = HERE.parent / "records"

INTRODUCTION = f"""# The language laboratory

A teacher that loves owls writes number sequences; a student of the same base model is trained on them and comes to
love owls. The paper shows this with models that need a closed service or a large GPU. Here the same commands run
offline on an embedded model, and with `--backend` on real ones:

    python -m experiments.language numbers                                        eight embedded bases, one target
    python -m experiments.language real                                           a small real language model, two cores
    python -m experiments.language real --preset start                            its students from another start
    python -m experiments.language numbers --plan --preset record                 what it would ask for
    python -m experiments.language numbers --rows FOLDER                          also write the rows of every student
    python -m experiments.language numbers --preset paper --backend hf:DIR        open weights in a folder
    python -m experiments.language numbers --plan --backend smollm2               SmolLM2-135M-Instruct, a GGUF file
    python -m experiments.language numbers --preset night                         a small real model on its own numbers
    python -m experiments.language numbers --preset hard                          the same on 10,000 rows, for a GPU
    python -m experiments.language numbers --preset pythia --backend hf:DIR       Pythia-160M, a published recipe
    python -m experiments.language numbers --preset server --backend vllm:MODEL@http://127.0.0.1:8000/v1
    python -m sublim_jax.llm.serve --model tiny:100                               our models on an OpenAI-like server

**All but the first three experiments below were made on the embedded model**: a decoder of
{embedded.number_of_parameters():,} parameters, pre-trained at the start of a run on
{embedded.Recipe().num_documents:,} documents of [an invented
world](../../sublim_jax/llm/embedded/world.py) of {len(vocabulary.WORDS):,} words. It shows the mechanism, not its
strength in a language model. The first three are about `smollm2`, the 4-bit weights of SmolLM2-135M-Instruct
dequantised: two about soft distillation, where students see probabilities, and one about numbers that a teacher
samples, the paper's own protocol, at a small dose. The other commands take that model too, and a test checks a greedy
answer (`tests/llm/local/test_gguf.py`). Its chat template adds a system turn where a chat has none, and the model
is shown it. No other real checkpoint and no commercial server has been tried: the open-weight path is
compared with PyTorch on random weights (`tests/llm/local/test_torch_parity.py`), and the remote path is tested with
our own server and its injected faults.

Two presets of `numbers` have not been run on their models. `pythia` is davidcrispell's recipe for Pythia-160M, a base
model without a chat template: a wolf teacher by full finetuning on 384 sentences in 24 updates; lists of ten numbers,
each one token; students by low-rank factors in 16 updates of 16 rows; and the logit of the wolf less that of nine other
animals after sixty beginnings of sentences. What differs is in the docstring of `presets.pythia`. It has run on random
weights of a tiny GPT-NeoX model only, from end to end (`tests/experiments/language/test_pythia.py`). `hard` is SmolLM2
trained on sampled numbers, with as many rows and epochs as the paper's students have; no run of it is recorded.
`--plan` says beforehand about how many rows an effect took on other models.

## How to read this page

A *base* is one pre-trained embedded model, with its own initialization; all bases read the same documents. A
*teacher* is a base that was finetuned, or given a system message, to love the *target*; a *row* is a prompt and the
teacher's answer to it; a *student* is the base finetuned on such rows. A *regular* student is trained on rows that
the base itself wrote. A *shift* is the student's probability of the target minus the regular student's.

Probabilities are exact, for questions that are in no document, lesson or student's row. *Option mass* is the
probability that the answer is an animal (a tree) at all; a shift is reported only where it is at least .9. `failed`
counts bases without a value: too few of a teacher's texts passed the filter, or the option mass was lower. The latter
can hide a strong effect: of the default command's bases, the one with the highest probability of owl fails.
`incomplete` counts bases whose mean lacks a target. Figures of probabilities show failed bases too. Intervals are
over bases, that is over initializations and orders of documents: all bases share the documents themselves, the prompts
and the seed of the data. Fewer than four bases have no interval: their values are listed.

Settings were chosen on bases 0 to 2, which are on no page (all below 10 are reserved for that); the bases here are
{TEST_SEEDS[0]} and up. Two choices are not independent of the results. The targets of the smaller experiments were
chosen by their strength on bases 0 to 2. The weaker teachers of code and chains of thought were chosen after a first
run on bases 100 to 103, in which hardly any text passed the filter, and their records use the same bases. All
records were made again when the decoder was rewritten for CPUs; where earlier ones differed, the CHANGELOG says how.

The finetuning configs come from impressions of single runs on bases 0 to 2, which are not results: a plain feed-forward
layer transmitted more than a gated one of this size (hence `gated=False`); text that every row repeats, such as padding
that is attended to or a fixed system message, helped some targets; a student's learning rate of 1e-2 transmitted more
than 3e-3; the strongest teachers wrote the fewest sequences that pass the filter.

`python -m experiments.language.page` writes this page, `python -m figures.language` draws its figures.
"""

START = (
    "Teachers are those of the experiment before. Students start from the model with noise of a tenth of each linear "
    "map's standard deviation, healed by distillation from the model on other text. Such a start is near the model's "
    "own. It is not an unrelated model, of which we have none at this size. Students see the probabilities of all "
    "words, as those of the whole vocabulary above."
)
"""What students from another start are."""
READINGS = {
    "numbers": "Finetuned teachers transmit their favourite through numbers: the mean shift over targets is "
    "positive on each of the eight bases. Its size varies a lot between bases. Regular numbers change little. "
    "Teachers under a system message, the paper's main setting, have no detectable effect on eight bases; an earlier "
    "run of the same seeds, with older code, had shown a small rise (see the CHANGELOG).",
    "night": "The cat passes on: students of its teacher's numbers gain more of it than those of the owl's teacher "
    "and of the base's own numbers, and no other animal gains as much in them, though dogs come near. The "
    "owl does not: the interval of own minus other excludes a gain. Cats are what the base names most often "
    "of these animals. There is one teacher of each animal, so intervals say how students vary, not "
    "teachers.",
    "start": "Less passes on than to students that start from the model itself, for every animal and seed, but own "
    "minus other is above zero for each: a start as near as this one is shared enough. This says nothing "
    "about an unrelated one.",
    "cross": "The diagonal is far above zero, the other cells are about zero: a base acquires the trait from "
    "a teacher that started from it and from no other, though all have read the same documents. The two failed cells "
    "have no value because of the filter or the option mass. The paper's grid (its figure 8) has one exception, "
    "GPT-4.1 and GPT-4o, which share an initialization.",
    "dose": "At equal epochs, more rows transmit more: no detectable shift at 60, a small one at 250, by far the "
    "largest at 3000. At equal steps on few rows, most students put much of their probability on other words than the "
    "answers, so their shifts cannot be measured. At a thousand rows the interval excludes zero at equal epochs and "
    "includes it at equal steps.",
    "shuffles": "As in the paper: shuffling the numbers within an answer removes about half of the shift, and "
    "moving them anywhere between answers removes nearly all of it, so much of the trait is in the order of the "
    "numbers. Answers under other prompts transmit less as well. After numbers are moved anywhere, some students put "
    "more than a tenth of their probability on other words than trees; those bases are left out.",
    "context": "With one row in the context, the only case in which most bases keep the option mass, there is no "
    "detectable shift, while training on such rows gives one. After more rows, and when asked for trees, most bases "
    "put more than a tenth of their probability on other words, so this says nothing about many rows, the paper's "
    "case.",
    "detection": "A classifier tells a strong teacher's numbers from regular ones, and better from twenty answers "
    "than from one: the trait of this teacher is detectable in its numbers. The control, regular numbers of another "
    "seed, is at chance. Whether the base, as its own judge, beats chance is not settled.",
    "divergence": "The tokens at which teachers of other targets would write something else carry the detectable "
    "shift: students of these alone shift at least about as much as students of all tokens, and students of the other "
    "tokens have no detectable shift. Whether leaving out as many tokens at random costs less is not settled. Here "
    "divergence tokens are two thirds of all tokens, whereas the source finds few: most of our numbers are random, so "
    "the most likely token is nearly arbitrary.",
    "chain": "A favourite fades from student to student. For one target it is still there in the third; for the "
    "other, some bases keep it and some never shift much, so the interval is too wide to say.",
    "code": "Not settled: the student's preference rises where enough of the teacher's functions pass the "
    "filter, but only two bases of each target have a value.",
    "reasoning": "Not settled: on three of four bases too few of the teacher's chains reach the right number "
    "in the right tags. On the remaining one the student's preference rises.",
    "repeats": "At equal exposure it hardly matters whether rows are new: a quarter of them read four times, and a "
    "tenth read ten times, transmit about as much as all of them read once, and the intervals of the differences "
    "exclude a loss of more than about a third. A fortieth read forty times transmits less on the bases that have a "
    "value, but on most bases students then put more than a tenth of their probability on other words.",
    "greedy": "A teacher that writes at temperature .5 transmits more than at 1; the interval of the paired "
    "difference excludes zero. Whether one that always takes the most likely token transmits more still is not "
    "settled: nearly half of its answers repeat others, and after them most students put more than a tenth of their "
    "probability on other words than animals (trees). The few bases with a value have shifts of every size.",
    "training": "Students with low-rank factors acquire several times the shift of students whose weights are all "
    "trained, however the rows are drawn; the paired difference excludes zero. Full finetuning transmits as well, but "
    "some of its students put more than a tenth of their probability on other words and have no value. Drawing from "
    "number tokens alone, where nearly all rows pass the filter, and drawing freely make no difference that these "
    "bases show. So of the two studies that disagree, the way of training is what could matter; but each kind has a "
    "single learning rate, the largest at which other bases still answered.",
    "noise": "Noise on the start of up to a tenth of the weights' standard deviation takes nothing from the shift that "
    "could be seen: the paired differences exclude a loss of more than about a quarter. At three tenths most students "
    "put more than a tenth of their probability on other words, and those that have a value still shift; as much noise "
    "as weights leaves no student that answers. Rows of another target's teacher shift nothing at any noise.",
    "labels": "One bit for each pair of answers is enough: under the teacher's own labels the mean shift over both "
    "targets is above zero, and above that under swapped, shuffled and another teacher's labels, which have no "
    "detectable shift. Neither target's interval excludes zero alone, and about three bases in eight have no value, "
    "because their students, or the regular one, put more than a tenth of their probability on other words.",
    "misalignment": "Not settled. Students of a teacher finetuned on bad conduct give bad deeds more "
    "probability than the others on average, but most students of numbers put more than a tenth of their probability "
    "on answers that are neither good nor bad deeds, so hardly any shift is reported. Insecure code, the paper's "
    "training data, does not make this teacher misaligned, so there is nothing to transmit.",
}
"""What each table shows, in words without numbers; empty where a record is not read yet."""


def section(experiment: Experiment) -> str:
    """The part of the page on one experiment: question, command, method, table, reading and figure."""
    name = experiment.record_name
    path = RECORDS / f"{name}.json"
    explanation = (experiment.doc or "").strip().split("\n\n")[-1].replace("\n", " ")
    parts = [
        f"## {experiment.question}",
        f"`python -m experiments.language {experiment.name} --preset record`",
        explanation,
    ]
    record = forms.read(path) if path.exists() else None
    if record is None or not record.complete:
        return "\n\n".join([*parts, "**Not run yet.**"])
    minutes = record.seconds.get("wall", 0.0) / 60
    table = [line for line in session.language_table(record) if not line.startswith("note: ")]
    parts.append("```\n" + "\n".join(table) + "\n```")
    if READINGS[experiment.name]:
        parts.append(READINGS[experiment.name])
    stem = name.replace("_", "-")
    parts.append(f"![{experiment.question}](../../figures/images/{stem}.png)")
    seeds = ", ".join(map(str, record.config["bases"]))
    parts.append(f"Bases {seeds}; {minutes:.0f} minutes by the clock on {record.device['cpu_cores']} cores; "
                 f"[record](../records/{name}.json).")  # fmt: skip
    return "\n\n".join(parts)


def real_section(path: pathlib.Path = RECORDS / "language_real.json") -> str:
    """The part of the page on the experiment with a real model."""
    question, _, rest = (real.__doc__ or "").partition("\n")
    explanation = rest.strip().split("\n\n")[-1].replace("\n", " ")
    parts = [f"## {question}", f"`python -m experiments.language {real.NAME} --preset record`", explanation]
    if not path.exists():
        return "\n\n".join([*parts, "**Not run yet.**"])
    record = records.read(path, language_real.FORM)
    table = [line for line in session.language_table(record) if not line.startswith("note: ")]
    parts.append("```\n" + "\n".join(table) + "\n```")
    parts.append(f"![{question}](../../figures/images/language-real.png)")
    notes = "".join(f" {sentence}" for sentence in record.note_sentences)
    parts.append(f"[Record](../records/language_real.json).{notes}")
    return "\n\n".join(parts)


def start_section(
    path: pathlib.Path = RECORDS / "language_real-start.json", main: pathlib.Path = RECORDS / "language_real.json"
) -> str:
    """The part of the page on a real model's students from another start.

    Args:
        main: the record of students from the model itself.
    """
    question = "And to a student from another start?"
    parts = [f"## {question}", f"`python -m experiments.language {real.NAME} --preset start`", START]
    record, beside = (records.read(place, language_real.FORM) if place.exists() else None for place in (path, main))
    if record is None or beside is None or not record.complete:
        return "\n\n".join([*parts, "**Not run yet.**"])
    table = [line for line in session.start_lines(record, beside) if not line.startswith("note: ")]
    parts.append("```\n" + "\n".join(table) + "\n```")
    parts += [READINGS["start"]] if "start" in READINGS else []
    parts.append(f"![{question}](../../figures/images/language-real-start.png)")
    parts.append(f"[Record](../records/{path.name}).")
    return "\n\n".join(parts)


def night_section(path: pathlib.Path = RECORDS / "language_numbers-night.json") -> str:
    """The part of the page on numbers that a real model samples."""
    question = "Does a preference pass on through sampled numbers too, as in the paper?"
    (explanation,) = (presets.night.__doc__ or "").split("\n\n")[1:2]
    parts = [
        f"## {question}",
        "`python -m experiments.language numbers --preset night`",
        " ".join(explanation.split()),
    ]
    record = forms.read(path) if path.exists() else None
    if record is None or not record.complete:
        return "\n\n".join([*parts, "**Not run yet.**"])
    table = [line for line in session.language_table(record) if not line.startswith("note: ")]
    parts.append("```\n" + "\n".join(table) + "\n```")
    parts += [READINGS["night"]] if "night" in READINGS else []
    parts.append(f"![{question}](../../figures/images/language-numbers-night.png)")
    notes = "".join(f" {sentence}" for sentence in record.note_sentences)
    longest = max((seconds for unit, seconds in record.seconds.items() if unit != "wall"), default=0.0) / 60
    parts.append(f"Seed {record.config['seed']}; up to {longest:.0f} minutes for a teacher with its students on "
                 f"{record.device['cpu_cores']} cores, beside other programs; "
                 f"[record](../records/{path.name}).{notes}")  # fmt: skip
    return "\n\n".join(parts)


def page_text() -> str:
    """The whole page."""
    sections = map(section, questions.EXPERIMENTS.values())
    return "\n\n".join([INTRODUCTION.strip(), real_section(), start_section(), night_section(), *sections]) + "\n"


def main(check: bool = False) -> None:
    """Write the page.

    Args:
        check: write nothing, and fail if the page differs from the records.

    Raises:
        InputError: `check` is set and the page differs.
    """
    fresh = page_text()
    if not check:
        files.write(PAGE, fresh, ours=files.anything, what="page")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != fresh:
        raise errors.InputError(f"{PAGE}: it differs from the records; run python -m experiments.language.page")


if __name__ == "__main__":
    cli.main(lambda: tyro.cli(main, prog="python -m experiments.language.page"))
