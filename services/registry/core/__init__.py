"""Pure domain: prompts, versions, references, and the rules between them."""
