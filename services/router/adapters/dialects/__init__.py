"""Wire formats of providers: pure functions between the router's own words and bytes.

Two things make a dialect: a value with `path`, `headers`, `encode`, `decode`, `error_body`, and a stream decoder fed
with events. Another vendor is another file here and a line in `adapters/remote.py`.
"""
