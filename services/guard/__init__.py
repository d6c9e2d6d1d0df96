"""The guard: checks what goes to a model and what comes back, masks personal data and restores it.

It generates nothing, stores nothing and calls no provider. Its decisions are a verdict in an OK answer; what a
verdict means for the request is the caller's business. Deterministic detectors are not a security boundary: they
lower a risk and leave a trace of it.
"""
