"""Seeds made of names, so that adding a condition leaves the numbers of the others as they were.

The names are the random numbers: a changed one is another draw.
"""

import pathlib
import zlib


def derive(seed: int, *names: str) -> int:
    """A seed of its own, 32 bits, for each sequence of names."""
    return zlib.crc32("/".join((str(seed), *names)).encode())


def model_name(model: str) -> str:
    """A model's name without the folder that it happens to lie in, so that draws do not depend on the folder."""
    return pathlib.PurePath(model).name
