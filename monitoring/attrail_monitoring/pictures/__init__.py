"""The one place that scales for the eye."""
