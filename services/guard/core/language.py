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
_LETTER_WEIGHT = 1.5
# One-letter words are also initials, units and names of variables.
_ONE_LETTER_WEIGHT = 0.4


_LANGUAGES = tuple(_WORDS)
_LETTERS = {letter: _LANGUAGES.index(language) for language, letters in _LETTERS_OF.items() for letter in letters}
_LETTERS_IN = re.compile(f"[{''.join(_LETTERS)}]")


def _weights() -> dict[str, tuple[tuple[int, float], ...]]:
    """Of each word, the languages that it counts for (by their place) and how much."""
    owners: dict[str, list[int]] = {}
    for language, words in enumerate(_WORDS.values()):
        for word in set(words.split()):
            owners.setdefault(word, []).append(language)
    return {
        word: tuple((name, (1.0 if len(word) > 1 else _ONE_LETTER_WEIGHT) / len(names)) for name in names)
        for word, names in owners.items()
    }


_WEIGHTS = _weights()
# ASCII as its letters in lower case and spaces: splitting that is six times as fast as finding words.
_ASCII_WORDS = bytes(
    ord(char.lower()) if char.isascii() and char.isalpha() else ord(" ") for char in map(chr, range(256))
)

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
    sample = text[:_SAMPLE_CHARS]
    if sample.isascii():
        words = sample.encode().translate(_ASCII_WORDS).decode().split()
        return _by_words(words, "")
    sample = sample.lower()
    words = _WORD.findall(sample)
    return _by_script(sample, sum(map(len, words))) or _by_words(words, sample)


def _by_words(words: list[str], sample: str) -> str:
    """By frequent words, and by the letters of a sample that is not ASCII."""
    if len(words) < _MIN_WORDS:
        return UNDETERMINED
    scores = [0.0] * len(_LANGUAGES)
    for weights in filter(None, map(_WEIGHTS.get, words)):
        for language, weight in weights:
            scores[language] += weight
    if sample:
        for char, count in Counter(_LETTERS_IN.findall(sample)).items():
            scores[_LETTERS[char]] += min(count, 3) * _LETTER_WEIGHT
    score = max(scores)
    best = scores.index(score)
    scores[best] = 0.0
    return _LANGUAGES[best] if score >= _MIN_SCORE and score >= _MIN_MARGIN * max(scores) else UNDETERMINED


def _by_script(sample: str, latin: int) -> str:
    """The language of the dominant script other than Latin; empty when there is none. `latin` counts its letters.

    Marker letters decide within a script.
    """
    # There are no more letters than characters that are not spaces: most Latin text is told without counting them.
    if latin >= (1 - _MIN_SCRIPT_SHARE) * (len(sample) - sample.count(" ")):
        return ""
    letters = len(_LETTER.findall(sample))
    if latin >= (1 - _MIN_SCRIPT_SHARE) * letters:
        return ""
    for language, pattern in _SCRIPTS:
        share = len(pattern.findall(sample)) / letters
        if share >= (_MARKER_SHARE if language in _MARKERS else _MIN_SCRIPT_SHARE):
            return language
    return ""
