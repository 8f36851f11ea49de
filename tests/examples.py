"""The Python examples of the README, made small, so that they take seconds."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
SMALLER = (("num_members=8", "num_members=2"), ("=8192", "=256"), ("num_epochs=5", "num_epochs=1"))


def small(example: str) -> str:
    """The example with two members and little noise."""
    for old, new in SMALLER:
        assert example.count(old) == 1
        example = example.replace(old, new)
    return example
