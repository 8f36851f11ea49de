"""Students of students."""

from experiments.atlas.rows.types import Arm, Published, Row

PUBLISHED = (
    Row(
        id="chain",
        axis="generations",
        question="Students of students of students",
        base={"num_generations": 6},
        arms=[
            Arm(
                f"m = {m}, generation {generation}",
                {"model.num_aux": m},
                generation=generation,
                published=[Published("jlov7", values[generation - 1])] if values else (),
            )
            for m, values in ((3, (0.63, 0.36, 0.26, 0.20, 0.17, 0.15)), (10, ()), (30, ()))
            for generation in range(1, 7)
        ],
        expected="falls from generation to generation, more slowly with more logits. jlov7: half-life .955 "
        "generations in this chain of 60,000 images; .57, .99, 2.40 at m = 3, 10, 30 with 20,000 images and four "
        "initializations",
        note="Each generation starts from the same reference and sees fresh noise. jlov7's setting differs from ours "
        "in something that the repository does not name: its teacher reaches .962.",
    ),
)
