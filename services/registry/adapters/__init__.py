"""The outside: PostgreSQL, files, templates, telemetry, and the memory twins."""
