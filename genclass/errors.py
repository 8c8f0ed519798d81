"""The one exception that a user is meant to see."""


class GenclassError(Exception):
    """Something the user can mend: one clear line that says what is wrong, where, what to do.

    Commands and workflow scripts print it as `error: ...` and exit with 1; anything else that is
    raised is a bug and keeps its traceback.
    """
