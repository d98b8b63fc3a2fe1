"""Can attrail work here."""
