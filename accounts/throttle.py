"""Slows down guessing of passwords: after ten failures an account takes no more tries from that address for a while.

Counts live in each web process's memory, so with two processes up to twice as many tries get through. That keeps a
database write out of every failed attempt, and guessing remains hopeless.
"""

from __future__ import annotations

import hashlib

from django.core.cache import cache
from django.http import HttpRequest

LIMIT = 10
PERIOD_SECONDS = 300


def attempt_key(request: HttpRequest | None, username: str) -> str:
    address = request.META.get("REMOTE_ADDR", "") if request else ""
    # Hashed because a cache key may hold neither blanks nor any length of text.
    return "sign-in:" + hashlib.sha256(f"{address}\n{username.casefold()}".encode()).hexdigest()


def is_blocked(key: str) -> bool:
    return int(cache.get(key, 0)) >= LIMIT


def count_failure(key: str) -> None:
    """One more failure; the period counts from the first."""
    if not cache.add(key, 1, PERIOD_SECONDS):
        try:
            cache.incr(key)
        except ValueError:  # it expired between the two calls
            cache.add(key, 1, PERIOD_SECONDS)


def forget_failures(key: str) -> None:
    cache.delete(key)
