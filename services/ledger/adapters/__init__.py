"""The outside of the ledger: stores, price tables, telemetry."""
