"""The OpenAI-compatible HTTP edge: JSON and server-sent events outside, the orchestrator's contract inside.

It translates, bounds and reports. It decides nothing about a request: no key is checked, no prompt rendered, no text
judged here.
"""
