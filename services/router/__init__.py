"""Model calls: which model, in whose dialect, and what to try next.

It is not: a budget (the ledger reserves before the router spends), a guard, a cache, or a judge of answers.
"""
