"""The outside: PostgreSQL, token issuers, signatures, telemetry, and twins of each."""
