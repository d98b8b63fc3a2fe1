"""The hash-chained journal, in a file or a table."""
