"""What stops a start, in three sentences for a person."""


class Problem(Exception):
    """What happened, why and what to do; code 2 is the person's input, 3 the machine, 4 our mistake."""

    def __init__(self, what: str, why: str, remedy: str, code: int = 3) -> None:
        super().__init__(f"error: {what}\nwhy: {why}\ntry: {remedy}")
        self.code = code
