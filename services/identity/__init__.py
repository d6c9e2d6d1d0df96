"""Identity: organisations, teams, users and keys, whose a credential is, and the audit log of what was done to them.

It decides who somebody is and what a key may be given. Whether an RPC serves a role is data of the contract, and is
decided where the call arrives; budgets, prompts and policies belong to the services that keep them.
"""
