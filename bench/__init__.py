"""Performance of the mesh: an open-loop load generator, the systems it drives, and the report.

Top of the import graph beside the command line: it may import llmops_cli and meshkit, nothing imports it.
"""
