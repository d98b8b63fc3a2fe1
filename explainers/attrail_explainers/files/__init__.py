"""Files of strangers: no pipe, no device, pictures as pixels."""
