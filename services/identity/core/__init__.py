"""What identity decides: pure."""
