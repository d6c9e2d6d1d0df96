"""The registry: immutable versions of prompts, what each environment serves, and a feed of both.

It decides what a version number may be, which version a reference means and which rollout arm a conversation gets. It
calls no model, runs no evaluation and holds no secret; prompts belong to the whole mesh, not to one organisation.
"""
