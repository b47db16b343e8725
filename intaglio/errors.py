"""What is wrong with an argument: the same sentence for a call in Python and for a command line."""

from __future__ import annotations

from intaglio.network import NetworkError


class ArgumentError(NetworkError):
    """An argument is not usable; one line.

    Attributes
    ----------
    argument : its name in Python, as the text has it; on the command line it is the option of that name
    problem : the rest of the text
    """

    def __init__(self, argument: str, problem: str) -> None:
        super().__init__(f"`{argument}`: {problem}")
        self.argument, self.problem = argument, problem

    @property
    def as_option(self) -> str:
        """The text with the command line's name for the argument."""
        return f"--{self.argument.replace('_', '-')}: {self.problem}"

    def __reduce__(self) -> tuple[type[ArgumentError], tuple[str, str]]:
        return type(self), (self.argument, self.problem)
