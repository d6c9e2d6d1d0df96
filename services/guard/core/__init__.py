"""Pure decisions of the guard: text in, findings and replacement text out."""
