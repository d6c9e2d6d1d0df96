"""The built-in model: it quotes the sentences that matter and writes none of its own."""
