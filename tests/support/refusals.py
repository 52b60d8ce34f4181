"""What a call says where it refuses its arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def refusal(call: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """Return the message of the ValueError that a call must raise, which must be one line."""
    with pytest.raises(ValueError) as caught:
        call(*arguments, **options)
    message = str(caught.value)
    assert message and "\n" not in message
    return message


def complaint(call: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """Return the refusal of a call, which must name what it received."""
    message = refusal(call, *arguments, **options)
    assert "Received" in message
    return message
