"""The exceptions that reach a person as one line."""


class UserError(Exception):
    """A mistake in a setting, a file or a command: its text is one line that says what to do about it.

    Command lines print it after ``error:`` and exit with status 2.
    """


class RunError(Exception):
    """A run that cannot go on though nobody made a mistake: printed in the same way, exit status 1."""
