"""Azure OpenAI: OpenAI's chat completions under other addresses, with the key in another header.

After Microsoft's "Azure OpenAI in Microsoft Foundry Models REST API reference". The base URL is the resource
(`https://NAME.openai.azure.com`); a model's name is its deployment. Without an `api_version`, or with `preview`, the v1
addresses are used; a dated version means the older ones, with the deployment in the path. A prompt that the content
filter refuses is a 400 with the code `content_filter`; an answer that it cuts ends with the finish reason of that name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.router.adapters.dialects.base import path_segment
from services.router.adapters.dialects.openai_chat import OpenAiChat
from services.router.core.catalogue import ModelSpec


@dataclass(frozen=True, slots=True)
class AzureOpenAi(OpenAiChat):
    """The variant. `api_version` is empty, `preview`, or a date such as `2024-10-21`."""

    api_version: str = ""

    def path(self, spec: ModelSpec, *, stream: bool) -> str:
        """Of chat completions."""
        del stream
        return azure_path(self.api_version, spec, "chat/completions")

    def headers(self, api_key: str, organisation: str, project: str) -> Mapping[str, str]:
        """`api-key`. A token of Entra goes into the provider's `headers` as `authorization` instead."""
        del organisation, project
        return {"api-key": api_key} if api_key else {}


def azure_path(api_version: str, spec: ModelSpec, operation: str) -> str:
    """The path of one operation, with the version as its query."""
    if api_version[:1].isdigit():
        return f"/openai/deployments/{path_segment(spec.model)}/{operation}?api-version={api_version}"
    return f"/openai/v1/{operation}" + (f"?api-version={api_version}" if api_version else "")
