"""What another model is shown, so that it goes on where an answer broke off."""

from __future__ import annotations

from dataclasses import replace

from services.router.core.chat import Message, ModelCall
from services.router.core.tokens import tokens_of_characters

# A user's message: a model whose last message is its own is refused by some providers.
_GO_ON = (
    "Your last message was cut off. Write its remainder only: begin with the very next character, repeat nothing, "
    "and do not mention the interruption."
)


def asked_to_go_on(call: ModelCall, written: str) -> ModelCall:
    """The conversation, what was written so far as the assistant's message, and the request to go on exactly there.

    What may still be written is what the caller allowed less what came, by estimate, and at least one token.
    """
    parameters = call.parameters
    if parameters.max_output_tokens is not None:
        left = max(1, parameters.max_output_tokens - tokens_of_characters(len(written)))
        parameters = replace(parameters, max_output_tokens=left)
    messages = (*call.messages, Message("assistant", written), Message("user", _GO_ON))
    return replace(call, messages=messages, parameters=parameters)
