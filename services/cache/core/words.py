"""Words that change an answer: the tables of the contrast guard.

Signatures that are stored depend on these tables and on how contrast.py reads. A change of either must raise
`TABLES_VERSION`, so that older signatures are refused instead of misread; tests/golden/cache holds the tables' digest.
English throughout; negations also in German, French, Spanish, Italian and Dutch.
"""

TABLES_VERSION = 2


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# A text is negated when it holds an odd number of these or of words that end in n't.
NEGATIONS = _words(
    "no not never none nobody nothing nowhere neither nor cannot without except excluding unless lacking "
    "nicht kein keine keinen keinem keiner nie niemals ohne pas jamais sans aucun aucune nunca sin ninguno "
    "ninguna nada non mai senza nessun nessuno nessuna niet geen nooit zonder"
)

# Each line is one contrast: words left and right of the bar are opposites. The order of lines is part of the signature.
_OPPOSITES = """
best top greatest finest | worst poorest
most highest maximum max largest biggest longest upper | least lowest minimum min smallest shortest lower fewest
more greater higher larger bigger longer above over exceeds | less fewer lower smaller shorter below under
before prior earlier precede precedes until | after following later since succeed succeeds
enable enabled enabling activate activated allow allowed permit | disable disabled disabling deactivate forbid block
increase increased increasing raise raised grow gain rise | decrease decreased reduce reduced reducing shrink lose fall
add adding append insert include including join subscribe | remove removing delete drop exclude leave unsubscribe
open opening opened unlock | close closing closed shut lock
start starting begin launch | stop stopping end quit finish terminate
buy buying purchase import | sell selling sale export
win winning won victory | losing lost defeat
love like liked prefer | hate dislike disliked avoid
good great safe healthy positive | bad dangerous unsafe unhealthy negative
true correct right valid legal possible | false incorrect wrong invalid illegal impossible
advantages advantage pros benefits benefit strengths | disadvantages disadvantage cons drawbacks risks weaknesses
fast faster quick quickest fastest | slow slower slowest
cheap cheaper cheapest inexpensive | expensive dearer costly
new newest newer latest recent | old oldest older obsolete
young younger youngest | elderly
hot hotter warm warmer | cold colder cool cooler
hard difficult harder hardest | easy simple easier easiest
male man men boy boys husband father son brother | female woman women girl girls wife mother daughter sister
upload send push encode encrypt compress | download receive pull decode decrypt decompress
login signup install upgrade create | logout uninstall downgrade destroy
input inbound incoming | output outbound outgoing
ascending | descending
up upward upwards | down downward downwards
left leftmost | right rightmost
inside indoor indoors internal | outside outdoor outdoors external
north northern | south southern
east eastern | west western
public | private
all every everyone always | some sometimes partly
next tomorrow upcoming future | previous yesterday past
accept approve approved | reject deny denied refuse
success succeeded pass passed | failure failed fail
hire hired | fire fired dismiss
borrow | lend
teach | learn
married marry | divorced divorce
dead die death kill | alive live birth
employer landlord seller teacher doctor | employee tenant buyer student patient
deposit | withdraw withdrawal
synchronous sync | asynchronous async
mutable | immutable
connect connected attach | disconnect disconnected detach
show visible reveal | hide hidden invisible
full | empty
early | late
vegetarian vegan | meat
white | black
major | minor
long | short
high | low
big large | small little tiny
rich wealthy | poor
honest honestly | dishonest dishonestly
different differ differs difference differences | similar same alike similarity similarities
domestic local | foreign
""".strip()


OPPOSITES: tuple[tuple[frozenset[str], frozenset[str]], ...] = tuple(
    (_words(left), _words(right)) for left, _, right in (line.partition("|") for line in _OPPOSITES.splitlines())
)

# Words for numbers, ranks and relative days; they count as numbers.
NUMBER_WORDS = {
    word: str(value)
    for value, words in {
        0: "zero",
        2: "two twice double second 2nd pair",
        3: "three third 3rd triple",
        4: "four fourth 4th",
        5: "five fifth 5th",
        6: "six sixth 6th",
        7: "seven seventh 7th",
        8: "eight eighth 8th",
        9: "nine ninth 9th",
        10: "ten tenth 10th",
        11: "eleven 11th",
        12: "twelve 12th dozen",
        20: "twenty",
        30: "thirty",
        40: "forty",
        50: "fifty",
        100: "hundred",
        1000: "thousand",
        1000000: "million",
        1000000000: "billion",
        1: "first 1st",
        -1: "last final",
        "0.5": "half",
        "today": "today",
        "tomorrow": "tomorrow",
        "yesterday": "yesterday",
    }.items()
    for word in words.split()
}

# Units right behind a number belong to it.
UNITS = {
    word: words.split()[0]
    for words in (
        "km kilometer kilometers kilometre kilometres",
        "m meter meters metre metres",
        "cm centimeter centimeters centimetre centimetres",
        "mm millimeter millimeters millimetre millimetres",
        "mi mile miles",
        "ft foot feet",
        "in inch inches",
        "kg kilo kilos kilogram kilograms",
        "g gram grams",
        "lb lbs pound pounds",
        "oz ounce ounces",
        "l liter liters litre litres",
        "ml milliliter milliliters millilitre millilitres",
        "kb kilobyte kilobytes",
        "mb megabyte megabytes",
        "gb gigabyte gigabytes",
        "tb terabyte terabytes",
        "ms millisecond milliseconds",
        "s sec secs seconds",
        "min minute minutes mins",
        "h hour hours hr hrs",
        "d day days",
        "w week weeks",
        "month months",
        "y year years yr yrs",
        "usd dollar dollars bucks",
        "eur euro euros",
        "gbp",
        "percent pct",
        "k",
        "million millions mio",
        "billion billions bn",
        "trillion",
        "c celsius",
        "f fahrenheit",
    )
    for word in words.split()
}

# What is asked for; "what" and "which" ask for anything.
QUESTION_KINDS = {
    word: bit for bit, words in enumerate(("who whom whose", "when", "where", "why", "how")) for word in words.split()
}

# Words that carry no answer. They are left out when the order of words is compared.
FILLERS = _words(
    "a an the of in on at to for from by with about as is are was were be been being am do does did can could will "
    "would should shall may might must have has had i me my mine we us our you your he she it its they them their "
    "his her this that these those there here what which who whom whose when where why how and or but if then so "
    "please tell give show explain just really some any also"
)

# Words that may begin a sentence with a capital without being a name.
STARTERS = FILLERS | _words(
    "write list describe find make create convert translate summarize summarise compare calculate help define name "
    "provide generate suggest is not no yes hi hello hey thanks ok okay let let's one two three best most all every "
    "after before during while since because although however according given using use get go need want like know "
    "add remove delete change check open close start stop run show see send set turn try ask answer read "
    "recommend identify discuss classify rewrite edit fix solve outline draft imagine pretend consider "
    "i'm i'd i've it's what's who's where's how's when's that's there's don't doesn't didn't can't isn't aren't "
    "won't shouldn't wouldn't couldn't"
)
