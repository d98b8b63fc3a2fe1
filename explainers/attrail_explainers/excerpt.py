"""An excerpt: how much of a stranger's text a message shows."""

SHOWN = 300  # characters; a file that is not trusted must not fill a terminal


def excerpt(text: object, most: int = SHOWN) -> str:
    """A text in one line, whole up to ``most`` characters; of a longer one as many, and three dots that say so."""
    line = " ".join(str(text).split())
    return line if len(line) <= most else f"{line[:most]}..."
