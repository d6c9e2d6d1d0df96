"""The cache's decisions: pure Python, no transport, no database, no vector library."""
