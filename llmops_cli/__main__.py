"""`python -m llmops_cli` is `llmops`."""

from llmops_cli.main import main

if __name__ == "__main__":
    main()
