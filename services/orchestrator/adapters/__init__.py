"""The services behind the coordinator's ports."""
