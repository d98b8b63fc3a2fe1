"""The command line, one file per group: whatever command a file defines is one of ``attrail``'s."""
