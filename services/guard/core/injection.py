"""Phrases of prompt injection and jailbreaks, in two strengths.

A *pattern* names the act itself, with its object: "ignore all previous instructions", "reveal your system prompt",
forged chat markup. A *hint* is a phrase that attacks use and honest text uses as well, such as "pretend you are"
or "developer mode". Over-defence is what users complain of most, so the two have separate actions. Words alone
("injection", "jailbreak", "ignore") are never enough. Measured precision and recall are in the service's README.

Every pattern is tied to anchors: substrings without one of which it cannot match. All repetition is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from services.guard.core.findings import Group, Match
from services.guard.core.shape import Shape


@dataclass(frozen=True, slots=True)
class _Rule:
    name: str
    group: Group
    anchors: tuple[str, ...]
    pattern: re.Pattern[str]


# What attacks want the model to drop, and whose it is.
_ORDERS = (
    r"(?:instructions?|prompts?|directions?|directives?|commands?|orders|rules|guidelines|guardrails|programming|"
    r"training|context|constraints|restrictions|safety (?:measures|protocols|guidelines|rules|filters?))"
)
_WHOSE = (
    r"(?:all |any |each |every |of |the |these |those |my |your |our |everything |and |or |above |prior |previous |"
    r"previously |preceding |earlier |initial |original |first |former |past |existing |current |given |system |"
    r"safety |"
    r"other |old |such |foregoing |developer |ethical |content |stated |set |provided |programmed |built-in ){1,7}"
)
_DROP = (
    r"(?:ignor(?:e|ing)|disregard(?:ing)?|forget|overrid(?:e|ing)|bypass(?:ing)?|skip|neglect|dismiss|discard|drop|"
    r"erase|"
    r"delete|cancel|void|(?:do not|don't|stop|quit) (?:follow|obey|heed|adhere to|comply with|"
    r"listen(?:ing)? to)(?:ing)?)"
)
_REVEAL = (
    r"(?:reveal|show|print|output|repeat|display|leak|expose|disclose|share|tell me|give me|write(?: out| down)?|"
    r"recite|"
    r"return|dump|echo|spell out|say|copy|paste|list|reproduce|provide|state|summari[sz]e|translate|encode)"
)
_HIDDEN = (
    r"(?:system (?:prompt|instructions?|message)|initial (?:prompt|instructions?)|hidden (?:prompt|instructions?|"
    r"rules)|"
    r"original (?:prompt|instructions?)|secret (?:prompt|instructions?|key|code|password)|"
    r"(?:previous|above|preceding|prior) (?:prompt|instructions?)|pre-?prompt)"
)


def _rule(name: str, group: Group, anchors: tuple[str, ...], pattern: str) -> _Rule:
    return _Rule("injection-" + name, group, anchors, re.compile(pattern.replace(" ", r"\s{1,3}")))


_STRONG, _HINT = Group.INJECTION, Group.INJECTION_HINT
_RULES: tuple[_Rule, ...] = (
    _rule(
        "override",
        _STRONG,
        (
            "ignor",
            "disregard",
            "forget",
            "overrid",
            "bypass",
            "neglect",
            "dismiss",
            "discard",
            "follow",
            "obey",
            "heed",
        ),
        rf"\b{_DROP} (?:to |about )?{_WHOSE}{_ORDERS}\b",
    ),
    _rule(
        "override",
        _STRONG,
        ("ignor", "disregard", "forget"),
        r"\b(?:ignore|disregard|forget) (?:all |everything |anything |whatever )?(?:of )?(?:the |what |that )?"
        r"(?:above|preceding|you (?:were|have been|'ve been|are) (?:told|instructed|taught|given|programmed)|"
        r"(?:i|we|they) (?:have )?(?:said|told|wrote|asked)(?: you)?(?: (?:before|above|earlier|previously|"
        r"so far)))\b",
    ),
    _rule(
        "override",
        _STRONG,
        ("ignor", "disregard", "forget"),
        r"\b(?:ignore|disregard|forget) (?:about )?(?:all|any|everything|every) (?:of )?(?:the |your |my |these |"
        r"those )?"
        r"(?:(?:previous|prior|above|preceding|earlier) (?:tasks?|assignments?|information|texts?|content|messages?|"
        r"conversations?|"
        r"inputs?)|(?:before|above|prior to) this\b|you (?:learned|know|knew|were told))\b",
    ),
    _rule(
        "override",
        _STRONG,
        (
            "ignorier",
            "vergiss",
            "missachte",
            "ignora",
            "olvida",
            "ignorez",
            "oublie",
            "dimentica",
            "esque",
            "zapomn",
            "zapomeň",
            "ignoruj",
            "negeer",
            "vergeet",
        ),
        r"\b(?:ignoriere?n?|vergiss|vergessen sie|missachte|ignorez|ignore|oublie[zr]?|ignora|olvida|dimentica|"
        r"esqueç?a|"
        r"esquece|zapomeň|zapomnij|ignoruj|negeer|vergeet) (?:\w{1,12} ){0,4}"
        r"(?:anweisungen|instruktionen|befehle|vorgaben|vorherigen aufgaben|vorherigen informationen|instructions|"
        r"consignes|instrucciones|órdenes|indicaciones|istruzioni|"
        r"instruções|pokyny|instrukce|instrukcje|polecenia|instructies|opdrachten)\b",
    ),
    _rule(
        "chat-markup",
        _STRONG,
        (
            "<|im_start|>",
            "<|im_end|>",
            "<|system|>",
            "<|endoftext|>",
            "<|start_header_id|>",
            "<|eot_id|>",
            "<<sys>>",
            "[/inst]",
            "<start_of_turn>",
        ),
        r"<\|(?:im_start|im_end|system|endoftext|start_header_id|eot_id)\|>|<<sys>>|\[/inst\]|<start_of_turn>",
    ),
    _rule(
        "prompt-leak",
        _STRONG,
        ("system prompt", "system  prompt", "instruction", "prompt"),
        rf"\b{_REVEAL} (?:me |us |back |out |verbatim |exactly |word for word |in full )*(?:all |of |any )*(?:your|"
        rf"the (?:entire|full|exact|"
        rf"complete|whole|hidden|secret)) (?:(?:entire|full|exact|complete|whole|own|current|"
        rf"very) ){{0,2}}{_HIDDEN}\b",
    ),
    _rule(
        "prompt-leak",
        _STRONG,
        ("what is your", "what are your", "what were your", "what's your", "what was your"),
        r"\bwhat(?:'s| is| are| were| was) your (?:full |exact |entire )?(?:system prompt|initial (?:prompt|"
        r"instructions)|"
        r"hidden (?:prompt|instructions)|secret (?:prompt|instructions)|original (?:prompt|instructions)|"
        r"prompt instructions)\b",
    ),
    _rule(
        "jailbreak-persona",
        _STRONG,
        (
            "do anything now",
            "dan mode",
            "jailbroken",
            "developer mode enabled",
            "developer mode output",
            "🔓",
            "stay a dan",
            "act as dan",
            "unfiltered response",
            "antigpt",
            "always intelligent and machiavellian",
        ),
        r"\b(?:can|to|stands for|means)[ \"'“”]{1,3}do anything now\b|\bdan mode (?:enabled|on|activated)\b|"
        r"\[🔓jailbreak\]|"
        r"\bdeveloper mode (?:enabled|output)\b|\bstay a dan\b|\bact as dan\b|\bantigpt\b|"
        r"always intelligent and machiavellian",
    ),
    _rule(
        "jailbreak-persona",
        _STRONG,
        (
            "you are not bound",
            "freed from",
            "broken free",
            "no longer bound",
            "not bound by",
            "free of all restrictions",
            "free from all restrictions",
            "no restrictions",
            "without any restrictions",
            "typical confines",
        ),
        r"\b(?:you|he|she|it|they|who|dan|\w{2,12}gpt|model|ai|chatbot)(?: (?:are|is|be|will be|have been|has been|"
        r"have|has|'re))?(?: now| completely|"
        r" totally)? (?:not bound by|no longer bound by|freed? (?:of|from) (?:all|any)|broken free (?:of|from) the) "
        r"(?:\w{1,12} ){0,4}(?:restrictions|rules|confines|filters|limitations|guidelines|policies|constraints|"
        r"polic\w{1,3})\b",
    ),
    _rule(
        "role-reset",
        _HINT,
        (
            "you are now",
            "from now on",
            "you're now",
            "pretend",
            "act as",
            "roleplay",
            "role-play",
            "role play",
            "simulate",
        ),
        r"\b(?:you are now|you're now|from now on,? you|pretend (?:that |to be |you|as if)|"
        r"immerse yourself into the role|"
        r"you are going to (?:act|pretend)|(?:act|behave|respond|answer) as (?:an? )?(?:evil|unfiltered|uncensored|"
        r"unrestricted|"
        r"amoral|immoral)|simulate (?:an? )?(?:evil|unfiltered|uncensored|unrestricted))\b",
    ),
    _rule(
        "no-limits",
        _HINT,
        (
            "uncensored",
            "unfiltered",
            "unrestricted",
            "no restrictions",
            "without restrictions",
            "without any restrictions",
            "no ethical",
            "ethical guidelines",
            "no rules",
            "never refuse",
            "cannot refuse",
            "not refuse",
            "any limitations",
            "openai",
            "content policy",
            "no moral",
            "disclaimers",
            "warnings",
        ),
        r"\b(?:uncensored|unfiltered|unrestricted|amoral) (?:\w{1,12} ){0,2}(?:ai|model|response|answer|chatbot|"
        r"assistant|language|mode)\b|"
        r"\b(?:no|without(?: any)?|any|lacks?|free (?:of|from)(?: all| any)?) (?:ethical |moral |legal |content )"
        r"(?:or \w{1,10} )?(?:restrictions|limitations|guidelines|constraints|filters|rules|boundaries|concerns)|"
        r"\b(?:never|cannot|can't|will not|won't|do not|don't|must not) (?:ever )?(?:refuse|reject|decline|"
        r"deny) (?:\w{1,12} ){0,3}"
        r"(?:request|answer|question|prompt|order|instruction|command|user)|"
        r"\b(?:openai|anthropic|google)(?:'s|’s)? (?:\w{1,12} ){0,2}(?:policy|policies|guidelines|restrictions|"
        r"rules) "
        r"(?:\w{1,12} ){0,3}(?:not apply|no longer|ignored?|bypass|override)",
    ),
    _rule(
        "mode-switch",
        _HINT,
        (
            "developer mode",
            "debug mode",
            "maintenance mode",
            "god mode",
            "sudo mode",
            "admin mode",
            "jailbreak mode",
            "dan mode",
            "root access",
            "admin override",
            "system override",
            "unlock",
        ),
        r"\b(?:enter|enable|activate|enabled|switch(?:ed)? (?:in)?to|in|start|simulate) (?:a |the )?(?:developer|"
        r"debug|maintenance|god|sudo|"
        r"admin|jailbreak|dan|unrestricted|root) mode\b|\b(?:admin|system|security|safety) override\b|"
        r"\bunlock your (?:full|true|hidden)\b",
    ),
    _rule(
        "new-orders",
        _HINT,
        (
            "new instruction",
            "new task",
            "new rule",
            "updated instruction",
            "real instruction",
            "instead, ",
            "instead of",
            "actual task",
            "important instruction",
            "system:",
            "end of ",
        ),
        r"(?:^|[\n.!?#*\-=\]] ?)(?:your |the |here are (?:your |the )?)?(?:new|updated|real|actual|"
        r"important) (?:instructions?|task|rules?|"
        r"system prompt)(?: is| are|:)|(?:^|\n)\W{0,4}system ?:|\bend of (?:the )?(?:document|context|input|"
        r"system prompt|instructions|user input)\b",
    ),
    _rule(
        "prompt-leak",
        _HINT,
        (
            "system prompt",
            "your instructions",
            "your prompt",
            "initial prompt",
            "above text",
            "text above",
            "everything above",
            "words above",
            "before this",
            "above prompt",
            "previous instruction",
            "secret key",
            "access code",
            "the password",
        ),
        rf"\b{_REVEAL} (?:me |us |back |out |verbatim |exactly )*(?:(?:all|of|the|your|any|my) ){{0,4}}"
        r"(?:system prompt|system message|instructions? (?:above|verbatim|you were given)|initial prompt|(?:text|"
        r"words|everything|sentences?|"
        r"content|paragraphs?) (?:above|before this)|above (?:text|prompt|words|instructions)|previous instructions|"
        r"secret key|access code)\b|"
        rf"\b{_REVEAL} (?:me )?your (?:prompt|instructions)\b",
    ),
    _rule(
        "exfiltration",
        _HINT,
        (
            "without telling",
            "don't tell the user",
            "do not tell the user",
            "do not mention this",
            "don't mention this",
            "without informing",
            "without the user",
            "not inform the user",
            "ensuring it goes unnoticed",
            "without notifying",
        ),
        r"\b(?:without (?:telling|informing|notifying|alerting) (?:the |any )?(?:user|human|anyone|them|owner|team|"
        r"admin\w{0,12})|"
        r"(?:do not|don't|never) (?:tell|mention|inform|reveal|alert|notify)(?: this| it| that)?(?: to)? the user|"
        r"without the user(?:'s|s)? (?:knowledge|"
        r"knowing|consent)|ensuring it goes unnoticed)\b",
    ),
)


def find_injection(shape: Shape) -> Iterator[Match]:
    """Matches of patterns and hints; the first of each rule is enough to act on."""
    lower = shape.lower
    for rule in _RULES:
        if any(anchor in lower for anchor in rule.anchors):
            found = rule.pattern.search(lower)
            if found is not None:
                yield Match(rule.group, rule.name, "", found.start(), found.end())
