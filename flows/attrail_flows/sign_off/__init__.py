"""The question, the form, the answer."""
