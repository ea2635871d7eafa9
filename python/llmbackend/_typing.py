"""The names of `typing` that are needed at runtime, without its import, which takes milliseconds.

Type checkers read the first half. At runtime a generic class is a class that can be subscripted, and of an overloaded
function there is the implementation.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any
    from typing import Generic as Generic
    from typing import overload as overload

    from typing_extensions import TypeVar

    T_co = TypeVar("T_co", covariant=True, default=Any)
    V = TypeVar("V")
    M = TypeVar("M")
else:
    T_co = "T_co"

    class Generic:
        __slots__ = ()
        __class_getitem__ = classmethod(type(list[int]))

    def overload(function):
        return function
