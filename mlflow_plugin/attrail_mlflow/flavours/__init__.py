"""The flavours of MLflow that the registry takes, one file each; ``FLAVOUR`` is its class."""
