"""The sequence of a request; pure but for the ports it calls."""
