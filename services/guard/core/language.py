"""Which language a text is in: by script, and for the Latin script by frequent short words.

Knows English, German, French, Spanish, Italian, Portuguese, Dutch, Czech and Polish by their words, and one likely
language for each other script. "und" when the text is short, mixed or in none of these. Its accuracy is in the
service's README.
"""

from __future__ import annotations

import re
from collections import Counter

UNDETERMINED = "und"
_SAMPLE_CHARS = 400
_WORD = re.compile(r"[a-zà-öø-ÿāăąćčďđēęěğīįıłńňōőœřśşšťūůűźżž]+")

# Frequent function words. A word that several languages share counts for each of them, by its share.
_WORDS = {
    "en": (
        "man ten die war the of and to in is you that it he was for on are with as his they be at one have this "
        "from or had by not but what all were we when your can said there use an each which she do how their if "
        "will up other about out many then them these so some her would make like him into has look my who its me "
        "did does please i a could should where why give tell write am than more need want get just"
    ),
    "de": (
        "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er "
        "hat dass sie nach wird bei einer um am sind noch wie einem über einen so zum war haben nur oder aber vor "
        "zur bis mehr durch man sein wurde ich du wir ihr mir mich dich kann bitte was wer wo warum mein meine kein "
        "keine diese dieser alle wenn"
    ),
    "fr": (
        "de la le et les des en un du une que est pour qui dans a par plus pas au sur ne se ce il sont mais comme "
        "ou nous on avec leur été cette aux ces son sa ont elle être fait deux même aussi je tu vous ils elles mon "
        "ma mes votre notre si tout tous bien quel quelle où pourquoi très peut sans y"
    ),
    "es": (
        "de la que el en y a los se del las un por con no una su para es al lo como más o pero sus le ha me si sin "
        "sobre este ya entre cuando todo esta ser son dos también fue había era muy hasta desde está mi porque qué "
        "sólo han yo hay vez puede todos así nos ni ese eso tú usted cómo dónde quién cuál estoy tengo"
    ),
    "it": (
        "di e il la che in a un per è non una sono con si da come le dei nel del i alla della più anche ma gli al "
        "lo se ha delle ai nella o dal su essere questo questa sia tra due quando mi io tu lui lei noi voi ho hai "
        "cosa perché dove chi qual quale degli sei suo sua mio mia molto tutto tutti può"
    ),
    "pt": (
        "de a o que e do da em um para é com não uma os no se na por mais as dos como mas foi ao ele das tem à seu "
        "sua ou ser quando muito há nos já está eu também só pelo pela até isso ela entre era depois sem mesmo aos "
        "ter seus quem nas me esse eles estão você tinha foram essa num nem suas meu às minha têm numa pelos onde "
        "porque qual são"
    ),
    "nl": (
        "de van het een en in is dat op te zijn met voor niet aan er om ook als dan maar bij door naar uit of wordt "
        "heeft over hij ik je we ze wij jij u deze die dit was werd nog kan wat wie waar waarom hoe geen meer al "
        "worden hebben had mijn jouw zich tot tussen tegen onder veel wel moet alle mensen zo"
    ),
    "cs": (
        "a se v na je že o s z do i to k ve pro za by ale si po jako jsem jsou od byl který také které tak která "
        "bylo už jeho nebo až jen být než jak mezi při byla podle však kde když může mi ty my vy co kdo proč není "
        "má mít bude toho této ze ani své jsme pokud pouze"
    ),
    "pl": (
        "w i z na do się nie to że jest o jak za od po jego są co dla przez ale był czy tym tak już ich jej tylko "
        "oraz przy może która które który ten ma być ze też także jako roku mnie mi ja ty my wy kto gdzie dlaczego "
        "mam bardzo wszystko więc gdy było jeszcze lub pod nad bez"
    ),
}
# Letters that one of these languages uses alone, and so count as much as several words.
_LETTERS_OF = {"de": "ß", "es": "ñ¿¡", "pt": "ãõ", "cs": "ěřů", "pl": "łżęąś", "fr": "œ"}
_LETTERS = {letter: language for language, letters in _LETTERS_OF.items() for letter in letters}
_LETTER_WEIGHT = 1.5
# One-letter words are also initials, units and names of variables.
_ONE_LETTER_WEIGHT = 0.4


def _weights() -> dict[str, tuple[tuple[str, float], ...]]:
    owners: dict[str, list[str]] = {}
    for language, words in _WORDS.items():
        for word in set(words.split()):
            owners.setdefault(word, []).append(language)
    return {
        word: tuple((name, (1.0 if len(word) > 1 else _ONE_LETTER_WEIGHT) / len(names)) for name in names)
        for word, names in owners.items()
    }


_WEIGHTS = _weights()

_SCRIPTS = (
    ("ja", re.compile("[\u3041-\u30ff]")),
    ("ko", re.compile("[\uac00-\ud7a3]")),
    ("zh", re.compile("[\u3400-\u9fff]")),
    ("uk", re.compile("[іїєґІЇЄҐ]")),
    ("ru", re.compile("[\u0400-\u04ff]")),
    ("el", re.compile("[\u0370-\u03ff]")),
    ("fa", re.compile("[پچژگ]")),
    ("ar", re.compile("[\u0600-\u06ff]")),
    ("he", re.compile("[\u0590-\u05ff]")),
    ("hi", re.compile("[\u0900-\u097f]")),
    ("th", re.compile("[\u0e00-\u0e7f]")),
)
_LETTER = re.compile(r"[^\W\d_]")
_MIN_SCRIPT_SHARE = 0.3
_MARKER_SHARE = 0.02
_MARKERS = frozenset(("ja", "uk", "fa"))
_MIN_SCORE = 1.0
_MIN_MARGIN = 1.2
_MIN_WORDS = 2


def detect_language(text: str) -> str:
    """ISO 639-1 code, or "und". Reads the first 400 code points."""
    sample = text[:_SAMPLE_CHARS].lower()
    if not sample.isascii():
        script = _by_script(sample)
        if script is not None:
            return script
    words = _WORD.findall(sample)
    if len(words) < _MIN_WORDS:
        return UNDETERMINED
    scores: dict[str, float] = dict.fromkeys(_WORDS, 0.0)
    for word in words:
        for language, weight in _WEIGHTS.get(word, ()):
            scores[language] += weight
    if not sample.isascii():
        for char, count in Counter(sample).items():
            if char in _LETTERS:
                scores[_LETTERS[char]] += min(count, 3) * _LETTER_WEIGHT
    ranked = sorted(scores.items(), key=lambda item: -item[1])
    (best, score), (_, second) = ranked[0], ranked[1]
    return best if score >= _MIN_SCORE and score >= _MIN_MARGIN * second else UNDETERMINED


def _by_script(sample: str) -> str | None:
    """The language of the dominant script other than Latin. Marker letters decide within a script."""
    letters = len(_LETTER.findall(sample))
    if not letters:
        return None
    latin = sum(map(len, _WORD.findall(sample)))
    if latin >= (1 - _MIN_SCRIPT_SHARE) * letters:
        return None
    for language, pattern in _SCRIPTS:
        share = len(pattern.findall(sample)) / letters
        if share >= (_MARKER_SHARE if language in _MARKERS else _MIN_SCRIPT_SHARE):
            return language
    return None
