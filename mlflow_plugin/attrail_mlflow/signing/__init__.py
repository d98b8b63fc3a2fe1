"""Canonical JSON, keys and whom to trust, DSSE envelopes, codes of refusal."""
