"""The one exception for mistakes that a user can put right."""


class UserError(Exception):
    """A mistake in a setting, a file or a command: its text is one line that says what to do about it.

    Command lines print it after ``error:`` and exit with status 2.
    """
