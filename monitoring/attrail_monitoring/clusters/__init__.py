"""The strategies that maps show; describes, never decides."""
