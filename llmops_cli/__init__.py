"""The `llmops` command and the launcher: the top of the import graph."""
