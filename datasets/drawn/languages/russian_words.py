"""Russian words for drawn people, and their cases.

Things are said in several cases (красная кепка, в красной кепке, из-под красной кепки), so a wording is a
noun with adjectives, which `Phrase` puts into a case.
"""

from typing import NamedTuple

CASES = ("nominative", "genitive", "accusative", "prepositional", "instrumental")  # of things, not of people
_ENDINGS = {  # by the ending of the dictionary's form and by gender; "p" is the plural
    "ый": {
        "m": ("ый", "ого", "ый", "ом", "ым"),
        "f": ("ая", "ой", "ую", "ой", "ой"),
        "p": ("ые", "ых", "ые", "ых", "ыми"),
    },
    "ий": {
        "m": ("ий", "его", "ий", "ем", "им"),
        "f": ("яя", "ей", "юю", "ей", "ей"),
        "p": ("ие", "их", "ие", "их", "ими"),
    },
}
_ENDINGS["ой"] = _ENDINGS["ый"] | {"m": ("ой", "ого", "ой", "ом", "ым")}
_ENDINGS["кий"] = {  # no ы after к
    "m": ("кий", "кого", "кий", "ком", "ким"),
    "f": ("кая", "кой", "кую", "кой", "кой"),
    "p": ("кие", "ких", "кие", "ких", "кими"),
}


class Noun(NamedTuple):
    """A noun: 'm', 'f' or 'p' (plural), and its form in each of the cases."""

    gender: str
    forms: tuple[str, ...]


class Phrase(NamedTuple):
    """A noun with adjectives before it and words that stay as they are behind it."""

    adjectives: tuple[str, ...]
    noun: Noun
    after: str = ""

    def put(self, case: str) -> str:
        """The phrase in a case."""
        words = [decline(adjective, self.noun.gender, case) for adjective in self.adjectives]
        words.append(self.noun.forms[CASES.index(case)])
        return " ".join([*words, self.after] if self.after else words)


def decline(adjective: str, gender: str, case: str) -> str:
    """An adjective, given as in a dictionary, in a gender and case."""
    ending = next(ending for ending in ("кий", "ый", "ий", "ой") if adjective.endswith(ending))
    return adjective.removesuffix(ending) + _ENDINGS[ending][gender][CASES.index(case)]


def _noun(gender: str, forms: str) -> Noun:
    return Noun(gender, tuple(forms.split()))


# Wordings of values, of which one is picked.
COLOURS = {
    "black": ("чёрный",),
    "white": ("белый",),
    "grey": ("серый",),
    "red": ("красный",),
    "orange": ("оранжевый",),
    "yellow": ("жёлтый",),
    "green": ("зелёный",),
    "blue": ("синий",),
    "sky": ("голубой", "светло-голубой"),
    "purple": ("фиолетовый",),
    "pink": ("розовый",),
    "brown": ("коричневый",),
    "navy": ("тёмно-синий",),
    "maroon": ("бордовый", "тёмно-бордовый"),
    "rust": ("терракотовый", "кирпичный"),
    "mustard": ("горчичный",),
    "beige": ("бежевый",),
    "olive": ("оливковый",),
    "teal": ("бирюзовый", "тёмно-бирюзовый"),
    "lilac": ("сиреневый", "лиловый"),
}
# Colours that begin a compound: чёрно-белый.
JOINED = {
    "black": "чёрно",
    "white": "бело",
    "grey": "серо",
    "red": "красно",
    "orange": "оранжево",
    "yellow": "жёлто",
    "green": "зелёно",
    "blue": "сине",
    "purple": "фиолетово",
    "pink": "розово",
    "brown": "коричнево",
}
HAIR = {
    "black": ("чёрный",),
    "brown": ("каштановый",),
    "blond": ("светлый", "белокурый"),
    "white": ("седой", "белый"),
}
CUTS = {"short": ("короткий",), "long": ("длинный",), "bald": ("лысый", "бритый")}
HEAD = {
    "hair": _noun("p", "волосы волос волосы волосах волосами"),
    "bald": _noun("f", "голова головы голову голове головой"),
}
SHIRT = _noun("f", "рубашка рубашки рубашку рубашке рубашкой")
JERSEY = _noun("f", "кофта кофты кофту кофте кофтой")
TEE = _noun("f", "футболка футболки футболку футболке футболкой")
VEST = _noun("f", "майка майки майку майке майкой")
# By the sleeves that are told: what it is called, what goes behind that, and what follows 'с'.
TOPS = {
    "": ((SHIRT, "", ""), (JERSEY, "", "")),
    "bare": ((VEST, "", ""), (SHIRT, "без рукавов", ""), (TEE, "без рукавов", "")),
    "short": ((TEE, "", ""), (SHIRT, "", "коротким рукавом"), (SHIRT, "", "короткими рукавами")),
    "long": (
        (JERSEY, "", "длинными рукавами"),
        (SHIRT, "", "длинным рукавом"),
        (TEE, "", "длинным рукавом"),
    ),
}
LINE = _noun("f", "полоска полоски полоску полоске полоской")
LINES = _noun("p", "полоски полосок полоски полосках полосками")
BAND = _noun("f", "полоса полосы полосу полосе полосой")
CHECK = _noun("f", "клетка клетки клетку клетке клеткой")
UPPER = _noun("m", "верх верха верх верхе верхом")
LOWER = _noun("m", "низ низа низ низе низом")
WAYS = {"hoops": "горизонтальный", "stripes": "вертикальный"}
LEGWEAR = {
    "trousers": (
        Phrase((), _noun("p", "брюки брюк брюки брюках брюками")),
        Phrase((), _noun("p", "штаны штанов штаны штанах штанами")),
    ),
    "shorts": (Phrase((), _noun("p", "шорты шорт шорты шортах шортами")),),
    "skirt": (
        Phrase((), _noun("f", "юбка юбки юбку юбке юбкой")),
        Phrase((), _noun("f", "юбка юбки юбку юбке юбкой"), "до колен"),
    ),
    "gown": (
        Phrase(("длинный",), _noun("f", "юбка юбки юбку юбке юбкой")),
        Phrase((), _noun("f", "юбка юбки юбку юбке юбкой"), "до щиколоток"),
        Phrase((), _noun("f", "юбка юбки юбку юбке юбкой"), "в пол"),
    ),
}
FOOTWEAR = _noun("f", "обувь обуви обувь обуви обувью")
SHOES = (
    _noun("p", "кроссовки кроссовок кроссовки кроссовках кроссовками"),
    _noun("p", "ботинки ботинок ботинки ботинках ботинками"),
    FOOTWEAR,
)
HATS = (
    _noun("f", "шапка шапки шапку шапке шапкой"),
    _noun("f", "кепка кепки кепку кепке кепкой"),
    _noun("f", "бейсболка бейсболки бейсболку бейсболке бейсболкой"),
)
BAGS = {
    "backpack": _noun("m", "рюкзак рюкзака рюкзак рюкзаке рюкзаком"),
    "shoulder": _noun("f", "сумка сумки сумку сумке сумкой"),
}
PLACES = {"backpack": ("за спиной",), "shoulder": ("на плече", "через плечо")}
BUILDS = {"slim": ("стройный", "худой", "худощавый"), "broad": ("плотный", "полный", "крупный")}
FIGURES = {"slim": "худощавого телосложения", "broad": "плотного телосложения"}


class Someone(NamedTuple):
    """Nouns for a person, and what agrees with them; 'ней' follows a preposition of place."""

    nouns: tuple[Noun, ...]
    her: str  # у неё
    on_her: str  # на ней
    dressed: str
    shod: str


_HE = ("него", "нём", "одет", "обут")
PEOPLE = {
    "woman": Someone(
        (
            _noun("f", "женщина женщины женщину женщине женщиной"),
            _noun("f", "девушка девушки девушку девушке девушкой"),
        ),
        *("неё", "ней", "одета", "обута"),
    ),
    "man": Someone(
        (
            _noun("m", "мужчина мужчины мужчину мужчине мужчиной"),
            _noun("m", "парень парня парня парне парнем"),
        ),
        *_HE,
    ),
    "person": Someone(
        (
            _noun("m", "человек человека человека человеке человеком"),
            _noun("m", "прохожий прохожего прохожего прохожем прохожим"),
            _noun("m", "пешеход пешехода пешехода пешеходе пешеходом"),
        ),
        *_HE,
    ),
}
