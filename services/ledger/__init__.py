"""Budgets, rate limits and the usage journal: money is reserved before a model call and booked after it.

It is not a billing system: no invoices of its own, no currencies or taxes. It does not know prompts or outputs; it sees
token counts, prices and names only.
"""
