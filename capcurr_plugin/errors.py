"""The two ways a command ends badly. Anything else that escapes is a defect and keeps its traceback."""


class InputError(Exception):
    """The command line or the input is wrong: one line that says what, where and what to do. Exit code 2."""


class JobError(Exception):
    """The job itself failed: one line that says at what, and why. Exit code 1."""
