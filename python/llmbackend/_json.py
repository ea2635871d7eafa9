"""Reading JSON whose integers may have any number of digits."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# More digits take seconds to become an int; a Decimal is as exact.
_MAX_INT_DIGITS = 100_000


def loads(text: str) -> Any:
    """The value of a JSON text; line breaks inside strings are taken as they are.

    Raises:
        ValueError: It is not JSON.
    """
    import json  # late: it takes milliseconds, and most users never need it

    try:
        return json.loads(text)
    except ValueError:
        return json.loads(text, strict=False, parse_int=_int)


def _int(digits: str) -> Any:
    try:
        return int(digits)
    except ValueError:  # more digits than Python reads unless it is told otherwise
        from decimal import Decimal

        number = Decimal(digits)
        return int(number) if len(digits) <= _MAX_INT_DIGITS else number
