"""Whether a message was cut can be seen."""

from attrail_explainers.excerpt import SHOWN, excerpt


def test_a_text_is_whole_or_says_that_it_is_not() -> None:
    assert excerpt("a\n  b\tc") == "a b c"
    assert excerpt("x" * SHOWN) == "x" * SHOWN
    assert excerpt("x" * (SHOWN + 1)) == "x" * SHOWN + "..."
    assert excerpt(b"abcdef", 4) == "b'ab..."
