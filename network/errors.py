"""The one exception that a user's bad input raises."""


class NetworkError(ValueError):
    """The user's file, network or data is not usable; the message is one line: where, what, what to do."""
