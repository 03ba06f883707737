class WireError(ValueError):
    """Bytes from a peer are not the message they claim to be."""

    field: str
    pos: int
    expected: object
    found: object

    def __init__(self, field: str, pos: int, expected: object, found: object) -> None: ...
