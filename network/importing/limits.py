"""How much a file may ask for. More is a damaged file, and must not become an allocation."""

MAX_ELEMENTS = 1 << 24
"""Of one tensor, its padding included."""
MAX_AXES = 8
"""Of one tensor, its batch included where the file has one."""
