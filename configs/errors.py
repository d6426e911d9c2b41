"""The base class of the errors that a person can mend."""


class UserError(Exception):
    """What the person who runs the program can mend: a setting, a file, a table, a key.

    The message says what is wrong, where, and what to do. Raise a subclass and let it pass: the command line catches it in one
    place, `serving.console.Commands`, prints the message and exits with code 1.
    """


def one_line(error: Exception, most: int = 300) -> str:
    """A library's message on one line, cut to `most` characters; the type of the error if it has no message."""
    return " ".join(str(error).split())[:most] or type(error).__name__
