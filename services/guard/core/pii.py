"""Personal data that has a form one can verify: checksums, number plans, address grammars.

Plain numbers, dates, versions, order numbers and names like "S3" are left alone: a detector that masks those is turned
off by its users. Names of people and places need a model and are not here.
Sources: card ranges of the payment networks (ISO/IEC 7812), Luhn check digit; IBAN lengths of the SWIFT registry and
mod 97 (ISO 13616); US Social Security number rules of the SSA after the 2011 randomisation.
"""

from __future__ import annotations

import ipaddress
import re
import string
from collections.abc import Callable, Iterable, Iterator

from services.guard.core.findings import Group, Match
from services.guard.core.phones import find_phones
from services.guard.core.shape import Shape

EMAIL, CARD, IBAN, US_SSN, PHONE, IP_ADDRESS = "EMAIL", "CARD", "IBAN", "US_SSN", "PHONE", "IP_ADDRESS"
# Where two kinds claim the same characters, the earlier one wins.
KINDS = (CARD, IBAN, US_SSN, EMAIL, IP_ADDRESS, PHONE)

Span = tuple[int, int]


def find_pii(shape: Shape, kinds: frozenset[str]) -> Iterable[Match]:
    """Matches of the wanted kinds; overlaps are not resolved here. Every kind has a digit or an "@"."""
    return _find(shape, kinds) if shape.has_digit or "@" in shape.text else ()


def _find(shape: Shape, kinds: frozenset[str]) -> Iterator[Match]:
    for kind in KINDS:
        if kind in kinds:
            may_hold, find = _DETECTORS[kind]
            if may_hold(shape):
                detector = "pii-" + kind.lower().replace("_", "-")
                for start, end in find(shape):
                    yield Match(Group.PII, detector, kind, start, end)


# E-mail

_LATIN = "A-Za-z0-9À-ÖØ-öø-ÿ"
_LOCAL_CHARS = "".join(filter(re.compile(f"[{_LATIN}._%+'-]").match, map(chr, range(256))))
_DOMAIN = re.compile(f"(?:[{_LATIN}](?:[{_LATIN}-]{{0,62}})\\.){{1,8}}[A-Za-z]{{2,24}}(?![A-Za-z0-9@])")
# "logo@2x.png" is a file.
_FILE_SUFFIXES = frozenset(("png", "jpg", "jpeg", "gif", "svg", "webp", "ico", "js", "ts", "css", "md"))
_URL_USER = re.compile(r"://[^\s:/@]{1,48}:$")
_MAX_LOCAL_CHARS = 64


def _find_emails(shape: Shape) -> Iterator[Span]:
    text = shape.text
    at = text.find("@")
    while at != -1:
        domain = _DOMAIN.match(text, at + 1)
        if domain is not None:
            start = _local_start(text, at)
            if start < at and not _is_not_an_address(start, at, domain):
                yield start, domain.end()
        at = text.find("@", at + 1)


def _local_start(text: str, at: int) -> int:
    """Where the part before "@" begins; `at` when there is none."""
    floor = max(0, at - _MAX_LOCAL_CHARS)
    start = floor + len(text[floor:at].rstrip(_LOCAL_CHARS))
    while start < at and not text[start].isalnum():
        start += 1
    return start


def _is_not_an_address(start: int, at: int, domain: re.Match[str]) -> bool:
    """A file name, a git remote, or the password and host of a URL."""
    text = domain.string
    if domain.group().rsplit(".", 1)[1].lower() in _FILE_SUFFIXES:
        return True
    if text[start:at] == "git" and text[domain.end() : domain.end() + 1] == ":":
        return True
    return (
        text[start - 1 : start] == ":" and _URL_USER.search(text, max(0, start - _MAX_LOCAL_CHARS), start) is not None
    )


# Cards

_CARD = re.compile(
    r"(?<![0-9.])(?:[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{1,7}|[0-9]{4}([ -])[0-9]{6}\2[0-9]{4,5}|[0-9]{13,19})"
    r"(?![0-9])(?!\.[0-9])"
)
_CARD_SHAPES = (b"0000 0000 0000", b"0000-0000-0000", b"0000 000000 0000", b"0000-000000-0000", b"0" * 13)
# How far a pattern of a number looks beyond the number's last digit.
_LOOK_AHEAD_CHARS = 2
# (first prefix, last prefix, lengths): Visa, Mastercard, American Express, Diners, Discover, JCB, UnionPay, Maestro.
_CARD_RANGES: tuple[tuple[int, int, tuple[int, ...]], ...] = (
    (4, 4, (13, 16, 19)),
    (51, 55, (16,)),
    (2221, 2720, (16,)),
    (34, 34, (15,)),
    (37, 37, (15,)),
    (300, 305, (14,)),
    (36, 36, (14,)),
    (38, 39, (14, 16)),
    (6011, 6011, (16, 19)),
    (644, 659, (16, 19)),
    (3528, 3589, (16, 19)),
    (62, 62, (16, 17, 18, 19)),
    (50, 50, (13, 16, 19)),
    (56, 58, (13, 16, 19)),
    (6304, 6304, (13, 16, 19)),
    (6759, 6763, (13, 16, 19)),
)


def luhn_valid(digits: str) -> bool:
    """The check digit of ISO/IEC 7812-1 annex B."""
    total = 0
    for position, char in enumerate(reversed(digits)):
        value = ord(char) - 48
        if position % 2:
            value = value * 2 - 9 if value > 4 else value * 2  # noqa: PLR2004 - the digit sum of the double
        total += value
    return total % 10 == 0


def card_valid(digits: str) -> bool:
    """A length and prefix that a network issues, a right check digit, and not one digit repeated."""
    if len(set(digits)) == 1:
        return False
    known = any(
        len(digits) in lengths and first <= int(digits[: len(str(first))]) <= last
        for first, last, lengths in _CARD_RANGES
    )
    return known and luhn_valid(digits)


def _may_hold_card(shape: Shape) -> bool:
    return shape.number_has(_CARD_SHAPES)


def _find_cards(shape: Shape) -> Iterator[Span]:
    for found in shape.numbers(_CARD, behind=_LOOK_AHEAD_CHARS):
        if card_valid(found.group().replace(" ", "").replace("-", "")):
            yield found.span()


# IBAN

_IBAN_START = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}[0-9]{2}(?=[ -]?[A-Z0-9])")
# In lower case only in one piece: groups of lower case letters are words.
_IBAN_LOWER = re.compile(r"(?<![A-Za-z0-9])[a-z]{2}[0-9]{2}[a-z0-9]{16,30}(?![A-Za-z0-9])")
_COUNTRIES_BY_IBAN_LENGTH = {
    15: "NO",
    16: "BE",
    18: "DK FI FK FO GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU MN XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU YE",
    31: "MT SC",
    32: "LC",
    33: "RU",
}
_IBAN_LENGTHS = {
    country: length for length, countries in _COUNTRIES_BY_IBAN_LENGTH.items() for country in countries.split()
}
_MOD_97 = 97


def iban_valid(compact: str) -> bool:
    """Length of the country and mod 97 of the rearranged number (ISO 13616, ISO/IEC 7064)."""
    if len(compact) != _IBAN_LENGTHS.get(compact[:2]):
        return False
    rearranged = compact[4:] + compact[:4]
    return int("".join(str(int(char, 36)) for char in rearranged)) % _MOD_97 == 1


def _may_hold_iban(shape: Shape) -> bool:
    return b"AA00" in shape.folded or (shape.has_mixed_word and shape.has_long_run)


def _find_ibans(shape: Shape) -> Iterator[Span]:
    if shape.has_mixed_word and shape.has_long_run:
        for found in _IBAN_LOWER.finditer(shape.text):
            if iban_valid(found.group().upper()):
                yield found.span()
    text = shape.text
    for found in _IBAN_START.finditer(text):
        length = _IBAN_LENGTHS.get(found.group()[:2])
        if length is not None:
            end, compact = _collect(text, found.start(), length)
            if iban_valid(compact):
                yield found.start(), end


def _collect(text: str, start: int, length: int) -> tuple[int, str]:
    """Takes `length` capitals and digits from `start` on, stepping over single spaces and dashes."""
    compact, at = "", start
    while at < len(text) and len(compact) < length:
        char = text[at]
        if char.isascii() and (char.isdigit() or char.isupper()):
            compact += char
        elif char not in " -" or text[at - 1] in " -":
            break
        at += 1
    if text[at : at + 1].isalnum():
        return at, ""
    return at, compact


# US Social Security numbers

_SSN = re.compile(r"(?<![0-9-])([0-9]{3})-([0-9]{2})-([0-9]{4})(?![0-9-])")
_SSN_BARE = re.compile(r"(?<![0-9])([0-9]{3})( ?)([0-9]{2})\2([0-9]{4})(?![0-9])")
_SSN_SHAPES, _SSN_BARE_SHAPES = (b"000-00-0000",), (b"000 00 0000", b"000000000")
_SSN_CUE_CHARS = 40
_SSN_HIGHEST_AREA = 900


def ssn_valid(area: str, group: str, serial: str) -> bool:
    """Area 001 to 899 without 666, group and serial not zero; numbers once printed in advertisements are excluded."""
    if area in {"000", "666"} or int(area) >= _SSN_HIGHEST_AREA or group == "00" or serial == "0000":
        return False
    return area + group + serial not in {"078051120", "219099999"}


def _may_hold_ssn(shape: Shape) -> bool:
    return shape.number_has(_SSN_SHAPES) or (shape.number_has(_SSN_BARE_SHAPES) and _has_cue(shape.lower))


def _has_cue(lower: str) -> bool:
    return "ssn" in lower or "social security" in lower


def _find_ssns(shape: Shape) -> Iterator[Span]:
    for found in shape.numbers(_SSN, behind=_LOOK_AHEAD_CHARS):
        if ssn_valid(*found.groups()):
            yield found.span()
    if _has_cue(shape.lower):
        for found in shape.numbers(_SSN_BARE, behind=_LOOK_AHEAD_CHARS):
            cue = shape.lower[max(0, found.start() - _SSN_CUE_CHARS) : found.start()]
            if _has_cue(cue) and ssn_valid(found[1], found[3], found[4]):
                yield found.span()


# IP addresses

_IPV4 = re.compile(r"(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w-])(?!\.[0-9])")
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])")
_VERSION_CUES = ("v", "version", "release", "build", "ver.")
_MIN_HEXTETS = 3
_IPV4_SHAPE = re.compile(rb"0\.0{1,3}\.0{1,3}\.0")
_MAX_OCTET_DIGITS = 3
# The first colon of an IPv6 address has another one close behind; single colons of prose cost next to nothing.
_IPV6_COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:")
_MAX_HEXTET_CHARS = 4
_HEX_DIGITS = frozenset(string.hexdigits)


def _may_hold_ip(shape: Shape) -> bool:
    return shape.has_digit


def _find_ips(shape: Shape) -> Iterator[Span]:
    first = _IPV4_SHAPE.search(shape.folded)
    if first is not None:
        for found in _IPV4.finditer(shape.text, max(0, first.start() - _MAX_OCTET_DIGITS)):
            before = shape.lower[max(0, found.start() - 9) : found.start()].rstrip()
            if _is_personal(found.group()) and not before.endswith(_VERSION_CUES):
                yield found.span()
    yield from _find_ipv6(shape.text)


def _find_ipv6(text: str) -> Iterator[Span]:
    colons = _IPV6_COLONS.search(text)
    while colons is not None:
        at = colons.start()
        found = _IPV6.match(text, _hextet_start(text, at))
        if found is None:
            colons = _IPV6_COLONS.search(text, at + 1)
            continue
        hextets = [part for part in found.group().split(":") if part]
        has_digit = any(char.isdigit() for char in found.group())
        if len(hextets) >= _MIN_HEXTETS and has_digit and _is_personal(found.group()):
            yield found.span()
        colons = _IPV6_COLONS.search(text, found.end())


def _hextet_start(text: str, colon: int) -> int:
    start = colon
    while start > max(0, colon - _MAX_HEXTET_CHARS) and text[start - 1] in _HEX_DIGITS:
        start -= 1
    return start


def _is_personal(address: str) -> bool:
    """A real address of a host: not loopback, unspecified, multicast or broadcast."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (parsed.is_loopback or parsed.is_unspecified or parsed.is_multicast or address == "255.255.255.255")


_DETECTORS: dict[str, tuple[Callable[[Shape], bool], Callable[[Shape], Iterator[Span]]]] = {
    EMAIL: (lambda shape: "@" in shape.text, _find_emails),
    CARD: (_may_hold_card, _find_cards),
    IBAN: (_may_hold_iban, _find_ibans),
    US_SSN: (_may_hold_ssn, _find_ssns),
    IP_ADDRESS: (_may_hold_ip, _find_ips),
    PHONE: (lambda shape: bool(shape.long_numbers), find_phones),
}
