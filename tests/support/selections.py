"""Which cases of a parametrized test are quick ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def slow_but(quick: Collection[Any], cases: Iterable[Any]) -> list[Any]:
    """Return the cases as parameters, all of which are marked slow but the quick ones.

    Raises:
        ValueError: for a quick case that is not among the cases.
    """
    cases = list(cases)
    if missing := [case for case in quick if case not in cases]:
        raise ValueError(f"quick cases must be among the cases. Received: {', '.join(map(str, missing))}")
    return [
        pytest.param(*(case if isinstance(case, tuple) else [case]), marks=() if case in quick else pytest.mark.slow)
        for case in cases
    ]
