"""The exceptions that reach a person as one line."""

from collections.abc import Sequence


class UserError(Exception):
    """A mistake in a setting, a file or a command: its text is one line that says what to do about it.

    Command lines print it after ``error:`` and exit with status 2.
    """


class RunError(Exception):
    """A run that cannot go on though nobody made a mistake: printed in the same way, exit status 1."""


def some(names: Sequence[str], number: int = 3) -> str:
    """The first few of many names, for such a line."""
    return ', '.join(names[:number]) + (', …' if len(names) > number else '')
