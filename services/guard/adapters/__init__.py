"""What the guard uses from outside: pattern engine, schema validator, metrics, and their memory twins."""
