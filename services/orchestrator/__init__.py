"""The orchestrator: order and policy of one request.

It is not a place for rules of a leaf: what is dangerous, equal, affordable or available is decided by guard, cache,
ledger and router. If this package grows, a policy has leaked out of one of them.
"""
