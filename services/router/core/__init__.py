"""What the router decides, without input or output: standard library and numpy only."""
