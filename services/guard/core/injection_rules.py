"""The phrases of prompt injection and jailbreaks, as data.

A pattern is written over several lines: white space in it means nothing, "_" stands for one to three characters of
white space. `anchors` are substrings, divided by ";", without one of which the pattern cannot match; so are those of
`also`, which are too common to look for everywhere. `leads` are what a match can begin with: trying those places costs
a fraction of what the search costs, which tries every one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from services.guard.core.findings import Group

_ORDERS = r"""
    (?:instructions? | prompts? | directions? | directives? | commands? | orders | rules | guidelines | guardrails
    | programming | training | context | constraints | restrictions
    | safety_(?:measures|protocols|guidelines|rules|filters?))
"""
_WHOSE = r"""
    (?:(?:all | any | each | every | of | the | these | those | my | your | our | everything | and | or | above | prior
    | previous | previously | preceding | earlier | initial | original | first | former | past | existing | current
    | given | system | safety | other | old | such | foregoing | developer | ethical | content | stated | set | provided
    | programmed | built-in)_){1,7}
"""
_DROP = r"""
    (?:ignor(?:e|ing) | disregard(?:ing)? | forget | overrid(?:e|ing) | bypass(?:ing)? | skip | neglect | dismiss
    | discard
    | drop | erase | delete | cancel | void
    | (?:do_not|don't|stop|quit)_(?:follow | obey | heed | adhere_to | comply_with | listen_to)(?:ing)?)
"""
_DROP_ANCHORS = (
    "ignor;disregard;forget;overrid;bypass;neglect;dismiss;discard;skip ;drop ;erase ;delete ;cancel ;void ;not follow;"
    "n't follow;stop follow;quit follow;not obey;n't obey;not heed;n't heed;comply with;adhere to;listen to"
)
_DROP_LEADS = (
    "ignor;disregard;forget;overrid;bypass;skip;neglect;dismiss;discard;drop;erase;delete;cancel;void;do;stop;quit"
)
_REVEAL = r"""
    (?:reveal | show | print | output | repeat | display | leak | expose | disclose | share | tell_me | give_me
    | write(?:_out|_down)? | recite | return | dump | echo | spell_out | say | copy | paste | list | reproduce | provide
    | state | summari[sz]e | translate | encode)
"""
_REVEAL_LEADS = (
    "reveal;show;print;output;repeat;display;leak;expose;disclose;share;tell;give;write;recite;return;dump;echo;spell;say;"
    "copy;paste;list;reproduce;provide;state;summari;translate;encode"
)
_HIDDEN = r"""
    (?:system_(?:prompt|instructions?|message) | (?:initial|hidden|original|secret)_(?:prompt|instructions?)
    | hidden_rules
    | secret_(?:key|code|password) | (?:previous|above|preceding|prior)_(?:prompt|instructions?) | pre-?prompt)
"""
_ORDERS_ABROAD = r"""
    (?:anweisungen | instruktionen | befehle | vorgaben | vorherigen_aufgaben | vorherigen_informationen | instructions
    | consignes | instrucciones | órdenes | indicaciones | istruzioni | instruções | pokyny | instrukce | instrukcje
    | polecenia | instructies | opdrachten)
"""


@dataclass(frozen=True, slots=True)
class InjectionRule:
    """`strong` rules name the act and its object; the others are hints, which honest text also uses."""

    detector: str
    group: Group
    anchors: tuple[str, ...]
    also: tuple[str, ...]
    leads: tuple[str, ...]
    pattern: re.Pattern[str]

    def search(self, text: str, first: int, end: int) -> re.Match[str] | None:
        """The pattern's own answer: its first match in text[first:end]."""
        if self.also and not _holds(text[first:end], self.also):
            return None
        if not self.leads:
            return self.pattern.search(text, first, end)
        best: re.Match[str] | None = None
        before = end
        for lead in self.leads:
            at = text.find(lead, first, end)
            while -1 < at < before:
                found = self.pattern.match(text, at, end)
                if found is not None:
                    best, before = found, at
                at = text.find(lead, at + 1, end)
        return best


def _holds(text: str, parts: tuple[str, ...]) -> bool:
    for part in parts:  # noqa: SIM110 - `any` with a generator takes three times as long
        if part in text:
            return True
    return False


def _rule(name: str, anchors: str, pattern: str, *, strong: bool, also: str = "", leads: str = "") -> InjectionRule:
    return InjectionRule(
        detector="injection-" + name,
        group=Group.INJECTION if strong else Group.INJECTION_HINT,
        anchors=_parts(anchors),
        also=_parts(also),
        leads=_parts(leads),
        pattern=re.compile(re.sub(r"\s+", "", pattern).replace("_", r"\s{1,3}")),
    )


def _parts(words: str) -> tuple[str, ...]:
    return tuple(words.split(";")) if words else ()


RULES: tuple[InjectionRule, ...] = (
    _rule(
        "override",
        _DROP_ANCHORS,
        rf"\b {_DROP} _(?:to_|about_)? {_WHOSE} {_ORDERS} \b",
        strong=True,
        also="instruct;prompt;direct;command;orders;rules;guid;guardrails;programming;training;context;constraints;"
        "restrictions;safety",
        leads=_DROP_LEADS,
    ),
    _rule(
        "override",
        "ignor;disregard;forget",
        r"""
        \b(?:ignore|disregard|forget)_(?:(?:all|everything|anything|whatever)_)?(?:of_)?(?:(?:the|what|that)_)?
        (?:above | preceding | you_(?:were|have_been|are)_(?:told|instructed|taught|given|programmed)
        | (?:i|we|they)_(?:have_)?(?:said|told|wrote|asked)(?:_you)?(?:_(?:before|above|earlier|previously|so_far)))\b
        """,
        strong=True,
        also="above;preceding;told;instructed;taught;given;programmed;said;wrote;asked",
        leads="ignore;disregard;forget",
    ),
    _rule(
        "override",
        "ignor;disregard;forget",
        r"""
        \b(?:ignore|disregard|forget)_(?:about_)?(?:all|any|everything|every)_(?:of_)?(?:(?:the|your|my|these|those)_)?
        (?:(?:previous|prior|above|preceding|earlier)_
           (?:tasks?|assignments?|information|texts?|content|messages?|conversations?|inputs?)
        | (?:before|above|prior_to)_this | you_(?:learned|know|knew|were_told))\b
        """,
        strong=True,
        also="previous;prior;above;preceding;earlier;before;learned;know;knew;told",
        leads="ignore;disregard;forget",
    ),
    _rule(
        "override",
        "ignorier;vergiss;missachte;ignora;olvida;ignore;oublie;dimentica;esque;zapomn;zapome;ignoruj;negeer;vergeet",
        rf"""
        \b(?:ignoriere?n? | vergiss | vergessen_sie | missachte | ignorez | ignore | oublie[zr]? | ignora | olvida
        | dimentica | esqueç?a | esquece | zapomeň | zapomnij | ignoruj | negeer | vergeet)_
        (?:\w{{1,12}}_){{0,4}} {_ORDERS_ABROAD} \b
        """,
        strong=True,
        also="anweisungen;instru;befehle;vorgaben;vorherigen;consignes;órdenes;indicaciones;istruzioni;pokyny;polecenia;"
        "opdrachten",
        leads="ignor;vergiss;vergessen;missachte;oublie;olvida;dimentica;esque;zapome;zapomn;negeer;vergeet",
    ),
    _rule(
        "chat-markup",
        "im_start;im_end;<|system;endoftext;start_header_id;eot_id;<<sys>>;[/inst];<start_of_turn>",
        r"<\|(?:im\x5fstart|im\x5fend|system|endoftext|start\x5fheader\x5fid|eot\x5fid)\|> | <<sys>> | \[/inst\] "
        r"| <start\x5fof\x5fturn>",
        strong=True,
    ),
    _rule(
        "prompt-leak",
        "system prompt;system message;instruction;prompt;hidden rules;secret key;secret code;secret password",
        rf"""
        \b {_REVEAL} _(?:(?:me|us|back|out|verbatim|exactly|word_for_word|in_full)_){{0,3}}(?:(?:all|of|any)_){{0,2}}
        (?:your | the_(?:entire|full|exact|complete|whole|hidden|secret))_
        (?:(?:entire|full|exact|complete|whole|own|current|very)_){{0,2}} {_HIDDEN} \b
        """,
        strong=True,
        also="your;entire;full;exact;complete;whole;hidden;secret",
        leads=_REVEAL_LEADS,
    ),
    _rule(
        "prompt-leak",
        "what is your;what are your;what were your;what's your;what was your",
        r"""
        \bwhat(?:'s|_is|_are|_were|_was)_your_(?:(?:full|exact|entire)_)?
        (?:system_prompt | (?:initial|hidden|secret|original)_(?:prompt|instructions) | prompt_instructions)\b
        """,
        strong=True,
    ),
    _rule(
        "jailbreak-persona",
        "do anything now;dan mode;developer mode;jailbreak];stay a dan;act as dan;antigpt;"
        "always intelligent and machiavellian",
        r"""
        \b(?:can|to|stands_for|means)[\s"'“”]{1,3}do_anything_now\b | \bdan_mode_(?:enabled|on|activated)\b
        | \[🔓jailbreak\] | \bdeveloper_mode_(?:enabled|output)\b | \bstay_a_dan\b | \bact_as_dan\b | \bantigpt\b
        | always_intelligent_and_machiavellian
        """,
        strong=True,
    ),
    _rule(
        "jailbreak-persona",
        "bound by;freed of;freed from;free of a;free from a;broken free",
        r"""
        \b(?:you|he|she|it|they|who|dan|\w{2,12}gpt|model|ai|chatbot)
        (?:_(?:are|is|be|will_be|have_been|has_been|have|has))?(?:_(?:now|completely|totally))?
        _(?:(?:not|no_longer)_bound_by | freed?_(?:of|from)_(?:all|any) | broken_free_(?:of|from)_the)
        _(?:\w{1,12}_){0,4}
        (?:restrictions|rules|confines|filters|limitations|guidelines|policies|constraints|polic\w{1,3})\b
        """,
        strong=True,
        also="restrictions;rules;confines;filters;limitations;guidelines;polic;constraints",
    ),
    _rule(
        "role-reset",
        "you are now;from now on;you're now;pretend;immerse yourself;going to act;evil;unfiltered;uncensored;"
        "unrestricted;moral",
        r"""
        \b(?:you_are_now | you're_now | from_now_on,?_you | pretend_(?:that_|to_be_|you|as_if)
        | immerse_yourself_into_the_role | you_are_going_to_(?:act|pretend)
        | (?:act|behave|respond|answer)_as_(?:an?_)?(?:evil|unfiltered|uncensored|unrestricted|amoral|immoral)
        | simulate_(?:an?_)?(?:evil|unfiltered|uncensored|unrestricted))
        """,
        strong=False,
        leads="you;from;pretend;immerse;act;behave;respond;answer;simulate",
    ),
    _rule(
        "no-limits",
        "uncensored;unfiltered;unrestricted;moral;ethical;legal;content;refuse;reject;decline;openai;anthropic;google",
        r"""
        \b(?:uncensored|unfiltered|unrestricted|amoral)_(?:\w{1,12}_){0,2}
          (?:ai|model|response|answer|chatbot|assistant|language|mode)\b
        | \b(?:no|without(?:_any)?|any|lacks?|free_(?:of|from)(?:_all|_any)?)_(?:ethical|moral|legal|content)_
          (?:or_\w{1,10}_)?
          (?:restrictions|limitations|guidelines|constraints|filters|rules|boundaries|concerns)
        | \b(?:never|cannot|can't|will_not|won't|do_not|don't|must_not)_(?:ever_)?(?:refuse|reject|decline|deny)_
          (?:\w{1,12}_){0,3}(?:request|answer|question|prompt|order|instruction|command|user)
        | \b(?:openai|anthropic|google)(?:['’]s)?_(?:\w{1,12}_){0,2}(?:policy|policies|guidelines|restrictions|rules)_
          (?:\w{1,12}_){0,3}(?:not_apply|no_longer|ignored?|bypass|override)
        """,
        strong=False,
        also="uncensored;unfiltered;unrestricted;amoral;restrictions;limitations;guidelines;constraints;filters;rules;"
        "boundaries;concerns;refuse;reject;decline;deny;polic",
        leads="uncensored;unfiltered;unrestricted;amoral;no;without;any;lack;free;never;can;will;won't;do;must;openai;"
        "anthropic;google",
    ),
    _rule(
        "mode-switch",
        "developer mode;debug mode;maintenance mode;god mode;sudo mode;admin mode;jailbreak mode;dan mode;root mode;"
        "unrestricted mode;admin override;system override;security override;safety override;unlock your",
        r"""
        \b(?:enter|enable|activate|enabled|switch(?:ed)?_(?:in)?to|in|start|simulate)_(?:(?:a|the)_)?
          (?:developer|debug|maintenance|god|sudo|admin|jailbreak|dan|unrestricted|root)_mode\b
        | \b(?:admin|system|security|safety)_override\b | \bunlock_your_(?:full|true|hidden)\b
        """,
        strong=False,
    ),
    _rule(
        "new-orders",
        "new instruction;new task;new rule;new system;updated instruction;real instruction;real task;actual task;"
        "actual instruction;important instruction;important rule;system:;system :;end of the;end of doc;end of context;"
        "end of input;end of system;end of instruction;end of user",
        r"""
        (?:^|[\n.!?#*\-=\]]\s?)(?:(?:your|the|here_are_(?:your_|the_)?)_?)?(?:new|updated|real|actual|important)_
          (?:instructions?|task|rules?|system_prompt)(?:_is|_are|:)
        | (?:^|\n)\W{0,4}system\s?:
        | \bend_of_(?:the_)?(?:document|context|input|system_prompt|instructions|user_input)\b
        """,
        strong=False,
        also="instruction;task;rule;system;document;context;input",
    ),
    _rule(
        "prompt-leak",
        "system prompt;system message;your instructions;your prompt;initial prompt;text above;words above;"
        "everything above;sentence above;sentences above;content above;paragraph above;before this;above text;"
        "above prompt;above words;"
        "above instruction;previous instruction;instructions above;instructions verbatim;instructions you were;"
        "secret key;access code",
        rf"""
        \b {_REVEAL} _(?:(?:me|us|back|out|verbatim|exactly)_){{0,3}}(?:(?:all|of|the|your|any|my)_){{0,4}}
          (?:system_prompt | system_message | instructions?_(?:above|verbatim|you_were_given) | initial_prompt
          | (?:text|words|everything|sentences?|content|paragraphs?)_(?:above|before_this)
          | above_(?:text|prompt|words|instructions) | previous_instructions | secret_key | access_code)\b
        | \b {_REVEAL} _(?:me_)?your_(?:prompt|instructions)\b
        """,
        strong=False,
        leads=_REVEAL_LEADS,
    ),
    _rule(
        "exfiltration",
        "without telling;without informing;without notifying;without alerting;the user;goes unnoticed",
        r"""
        \b(?:without_(?:telling|informing|notifying|alerting)_(?:the_|any_)?
          (?:user|human|anyone|them|owner|team|admin\w{0,12})
        | (?:do_not|don't|never)_(?:tell|mention|inform|reveal|alert|notify)(?:_this|_it|_that)?(?:_to)?_the_user
        | without_the_user(?:'s|s)?_(?:knowledge|knowing|consent) | ensuring_it_goes_unnoticed)\b
        """,
        strong=False,
        also="tell;inform;notify;alert;mention;reveal;know;consent;unnoticed",
        leads="without;do;never;ensuring",
    ),
)
