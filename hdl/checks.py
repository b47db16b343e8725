"""Checks that the units make of their parameters."""

__all__ = ["check_integer"]


def check_integer(name: str, value: object, low: int, high: int) -> int:
    """``value`` if it is an integer from ``low`` to ``high``.

    Raises
    ------
    TypeError
        If it is not an integer.
    ValueError
        If it is out of range.
    """
    wanted = f"`{name}` must be an integer from {low} to {high}, not {value!r}"
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(wanted)
    if not low <= value <= high:
        raise ValueError(wanted)
    return value
