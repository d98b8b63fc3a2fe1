"""May this version take this role: pure decision, policy, a client's view."""
