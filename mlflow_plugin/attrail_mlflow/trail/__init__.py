"""An audit's evidence as files that are signed, bundled, inspected without a server."""
