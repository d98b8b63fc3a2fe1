"""What the commands share: options, and what is printed."""
