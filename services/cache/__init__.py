"""Answers that were given before: an exact tier by fingerprint, a semantic tier by verified similarity.

It is a store of answers and the judge of whether one may be served again. It is not a guard (a verdict is kept
with its answer and never made here), not an encoder (embeddings come in with the call) and not a source of truth
about prompts or keys.
"""
