"""A LiteLLM configuration read as a mesh.yaml: every key is mapped, or refused by its name with what to do instead."""

from llmops_cli.litellm_import.convert import Imported, import_litellm

__all__ = ["Imported", "import_litellm"]
