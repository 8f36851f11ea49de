"""Seeds derived from names, so that adding a condition leaves the random numbers of the others as they were.

The names must stay as they are: another name gives other random numbers.
"""

import pathlib
import zlib


def derive(seed: int, *names: str) -> int:
    """A 32-bit seed for a sequence of names."""
    return zlib.crc32("/".join((str(seed), *names)).encode())


def model_name(model: str) -> str:
    """A model's name without its folder, so that seeds do not depend on where the model is stored."""
    return pathlib.PurePath(model).name
