"""Names by which a server may be called, and the key that requests must bear.

A foreign web page has its origin in the request, or has made one of its own names resolve to this address. A browser
always sends the name, so a request without one comes from no browser.
"""

import ipaddress
import os
import urllib.parse
from collections.abc import Sequence

from sublim_jax import errors
from sublim_jax.llm import addresses

KEY_VARIABLE = "SUBLIM_SERVE_KEY"


def key() -> bytes | None:
    """The key in the environment, if there is one."""
    return os.environ.get(KEY_VARIABLE, "").encode() or None


def require_address(host: str, allow: Sequence[str]) -> None:
    """Refuse a host that other machines reach without a key, and an `allow` that is no name of a host.

    Raises:
        InputError: either of them.
    """
    if key() is None and not addresses.is_loopback(host):
        raise errors.InputError(
            f"host {host!r} lets other machines train and draw here; put a key into the environment variable "
            f"{KEY_VARIABLE}, or serve on 127.0.0.1"
        )
    for name in allow:
        if not _is_name(name):
            raise errors.InputError(
                f"allow: expected the name of a host alone, e.g. server.example, without scheme and port, got {name!r}"
            )


def is_own(authority: str, names: set[str]) -> bool:
    """Whether a value of Host or Origin names this machine, or is one of the server's `names` in lower case."""
    try:
        name = urllib.parse.urlsplit(authority if "://" in authority else f"//{authority}").hostname or ""
    except ValueError:
        return False
    name = name.removesuffix(".")
    if name in names or addresses.is_loopback(name):
        return True
    # A server at every address of its machine may be called by any of them; a foreign page needs a name.
    return bool(names & {"", "0.0.0.0", "::"}) and _is_address(name)


def _is_name(text: str) -> bool:
    """Whether a text is the name or the address of a host, and nothing else."""
    try:
        return _is_address(text) or (text != "" and urllib.parse.urlsplit(f"//{text}").hostname == text.lower())
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
