"""Bodies into typed structs, by the tables of parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

import msgspec
from msgspec import Raw, Struct

from services.edge.core.errors import InvalidRequest
from services.edge.core.parameters import Refusal

Body = TypeVar("Body", bound=Struct)

_MAX_DEPTH_MESSAGE = "The body is nested too deeply."
_MAX_EXTRA_BYTES = 65_536
_FIELDS = msgspec.json.Decoder(dict[str, Raw])


class Wire(Generic[Body]):
    """Decodes bodies of one shape.

    Parameters that the struct lacks are refused, ignored or passed on by the tables; with `passed` of None everything
    that is neither refused nor ignored is passed on.
    """

    def __init__(
        self,
        body: type[Body],
        refused: Mapping[str, Refusal],
        passed: frozenset[str] | None = None,
        ignored: frozenset[str] = frozenset(),
        hints: Sequence[tuple[re.Pattern[str], str]] = (),
    ) -> None:
        self._decoder = msgspec.json.Decoder(body)
        self._known = frozenset(body.__struct_fields__)
        self._refused = refused
        self._passed = passed
        self._ignored = ignored
        self._hints = hints

    def decode(self, body: bytes) -> tuple[Body, str]:
        """Returns the request and, as JSON text, the parameters to pass on; empty when there are none.

        Raises InvalidRequest. Plain requests are decoded once; only those with other parameters are looked at twice.
        """
        try:
            _require_utf8(body)
            try:
                return self._decoder.decode(body), ""
            except msgspec.ValidationError:
                fields = _FIELDS.decode(body)
                known = msgspec.json.encode({name: raw for name, raw in fields.items() if name in self._known})
                request = self._decoder.decode(known)
                return request, self._others({n: r for n, r in fields.items() if n not in self._known})
        except msgspec.ValidationError as error:
            raise self._invalid(error) from None
        except msgspec.DecodeError:
            raise InvalidRequest("The body is not valid JSON.") from None
        except UnicodeDecodeError:
            raise InvalidRequest("The body is not valid UTF-8.") from None
        except RecursionError:
            raise InvalidRequest(_MAX_DEPTH_MESSAGE) from None

    def _others(self, others: dict[str, Raw]) -> str:
        passed: dict[str, Raw] = {}
        for name, raw in others.items():
            value = msgspec.json.decode(raw)
            if value is None or name in self._ignored:
                continue
            refusal = self._refused.get(name)
            if refusal is not None:
                if not any(value == neutral and type(value) is type(neutral) for neutral in refusal.neutral):
                    raise InvalidRequest(refusal.message, param=name)
            elif self._passed is None or name in self._passed:
                passed[name] = raw
            else:
                raise InvalidRequest("There is no parameter of this name here.", param=name)
        return _extra_text(passed)

    def _invalid(self, error: msgspec.ValidationError) -> InvalidRequest:
        """msgspec writes "Expected `int`, got `str` - at `$.messages[0].content`": the path is the parameter."""
        message, _, path = str(error).partition(" - at `")
        path = path.removesuffix("`").removeprefix("$").lstrip(".")
        name = message.partition(" field `")[2].rstrip("`")
        if name:
            path = f"{path}.{name}" if path else name
        hint = next((f" {text}" for pattern, text in self._hints if pattern.search(path)), "")
        return InvalidRequest((f"{path}: {message}." if path else f"{message}.") + hint, param=path or None)


def _require_utf8(body: bytes) -> None:
    """The decoder does not look into what it leaves raw. Raises UnicodeDecodeError."""
    if not body.isascii():
        body.decode()


def _extra_text(passed: dict[str, Raw]) -> str:
    if not passed:
        return ""
    text = msgspec.json.encode(passed)
    if len(text) > _MAX_EXTRA_BYTES:
        raise InvalidRequest(
            f"Parameters that are passed on to the provider may take {_MAX_EXTRA_BYTES} bytes at most.",
            param=max(passed, key=lambda name: len(bytes(passed[name]))),
        )
    return text.decode()
