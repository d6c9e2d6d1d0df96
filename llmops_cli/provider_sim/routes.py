"""Which dialect answers at which path."""

from __future__ import annotations

import re

from llmops_cli.provider_sim import bedrock_dialect, embeddings_dialects, gemini_dialect
from llmops_cli.provider_sim.anthropic_dialect import AnthropicDialect
from llmops_cli.provider_sim.dialects import Dialect
from llmops_cli.provider_sim.openai_dialect import AZURE_PATH, OpenAiDialect
from llmops_cli.provider_sim.responses_dialect import ResponsesDialect


class Routes:
    """The paths of model calls, all of them POST."""

    def __init__(self) -> None:
        openai, embeddings = OpenAiDialect(), embeddings_dialects.OpenAiEmbeddings()
        self._dialects: dict[str, Dialect] = {
            "/v1/chat/completions": openai,
            "/openai/v1/chat/completions": openai,
            "/v1/messages": AnthropicDialect(),
            "/v1/responses": ResponsesDialect(),
            "/v1/embeddings": embeddings,
            "/openai/v1/embeddings": embeddings,
        }
        # Dialects that name the model in the path.
        self._patterns: tuple[tuple[re.Pattern[str], Dialect], ...] = (
            (AZURE_PATH, openai),
            (gemini_dialect.PATH, gemini_dialect.GeminiDialect()),
            (bedrock_dialect.PATH, bedrock_dialect.BedrockDialect()),
            (embeddings_dialects.AZURE_PATH, embeddings),
            (embeddings_dialects.GEMINI_PATH, embeddings_dialects.GeminiEmbeddings()),
            (embeddings_dialects.TITAN_PATH, embeddings_dialects.TitanEmbeddings()),
            (embeddings_dialects.COHERE_PATH, embeddings_dialects.CohereEmbeddings()),
        )

    def dialect_of(self, path: str) -> Dialect | None:
        """The dialect of a path, query left out; None where no model is called."""
        exact = self._dialects.get(path)
        return exact or next((dialect for pattern, dialect in self._patterns if pattern.fullmatch(path)), None)
