"""A process that gives up, before it loads what is not trusted, whatever it does not need for that."""
