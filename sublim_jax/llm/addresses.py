"""Addresses of servers: whether a text is one, and whether only this machine can reach it."""

import ipaddress
import urllib.parse


def is_loopback(host: str) -> bool:
    """Whether a host is an address of this machine that no other machine can reach."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_url(text: str) -> bool:
    """Whether a text is the address of a server, with http or https and a host."""
    try:
        parts = urllib.parse.urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, half of an address in brackets
        return False
