"""The ledger's decisions: pure functions of (books, operation, now). Standard library only."""
