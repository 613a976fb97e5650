"""Russian sentences about drawn people."""

from collections.abc import Mapping, Sequence

import numpy as np

from datasets.drawn.languages.russian_words import (
    BAGS,
    BAND,
    BUILDS,
    CHECK,
    COLOURS,
    CUTS,
    FIGURES,
    FOOTWEAR,
    HAIR,
    HATS,
    HEAD,
    JOINED,
    LEGWEAR,
    LINE,
    LINES,
    LOWER,
    PEOPLE,
    PLACES,
    SHOES,
    TOPS,
    UPPER,
    WAYS,
    Noun,
    Phrase,
    Someone,
)
from datasets.drawn.languages.speaker import Speaker


def describe(facts: Mapping[str, str], someone: str, rng: np.random.Generator) -> str:
    """One or two Russian sentences that mention all facts and nothing else.

    `someone` is 'woman', 'man' or 'person'. The generator decides the wording.
    """
    speaker = _Speaker(facts, PEOPLE[someone], rng)
    plan = speaker.pick((_dressed, _walking, _picture, _clothes_first, _hair_first, _report))
    text = plan(speaker)
    return f"{text[0].upper()}{text[1:]}."


class _Speaker(Speaker):
    """The parts of one description, which the plans put into cases: a subject, clothes, hair and a bag."""

    def __init__(self, facts: Mapping[str, str], someone: Someone, rng: np.random.Generator) -> None:
        super().__init__(facts, rng)
        self.someone = someone
        self.person = self._person()
        self.hat = self._thing("hat", HATS)
        self.shoes = self._thing("shoes", SHOES)
        self.hair = self._hair()
        self.bag = self._bag()
        self.place = self.pick(PLACES[facts["bag"]]) if "bag" in facts else ""
        self.under_hat = bool(self.hat and self.hair and self.pick((True, False)))
        self.worn = [self._top(), *self._legwear()]

    def clothes(self, case: str, before: str = "") -> str:
        """A list of the clothes; `before` is a preposition, said again where a long item would hide it.

        The list may have shoes and hat, which are left to `rest` otherwise; one is not 'одет' in shoes.
        """
        if self.shoes and case != "accusative" and self.pick((True, False)):
            self.worn.append(self.shoes)
            self.shoes = None
        if self.hat and not self.under_hat and self.pick((True, False)):
            self.worn.append(self.hat)
            self.hat = None
        items = [phrase.put(case) for phrase in self.worn]
        if self.pick((True, False)):
            items = self.shuffle(items)
        items.sort(key=lambda item: " и " in item)
        again = f"{before} " if before and any(" с " in item or " без " in item for item in items) else ""
        text = listed([items[0], *(again + item for item in items[1:])])
        return f"{before} {text}".lstrip()

    def rest(self, *, hair: bool = True, bag: bool = True) -> list[str]:
        """Clauses of a sentence of its own: на ногах …, на голове …, у неё …, за спиной …."""
        clauses, first = [], []
        if self.shoes and self.shoes.noun != FOOTWEAR and self.pick((True, False)):
            first.append(f"{self.someone.shod} в {self.shoes.put('accusative')}")
        elif self.shoes:
            clauses.append(f"на ногах {self.shoes.put('nominative')}")
        if self.hat and not self.under_hat:
            clauses.append(f"на голове {self.hat.put('nominative')}")
        if hair and self.hair:
            clauses.append(self.hair_clause(self.hair))
        if bag and self.bag:
            clauses.append(f"{self.place} {self.bag.put('nominative')}")
        return [*first, *self.shuffle(clauses)]

    def hair_clause(self, phrase: Phrase) -> str:
        """У неё длинные волосы, or under a hat: из-под кепки видны длинные волосы."""
        hair = phrase.put("nominative")
        if self.hat and self.under_hat:
            if phrase.noun == HEAD["bald"]:
                return f"под {self.hat.put('instrumental')} {hair}"
            return f"из-под {self.hat.put('genitive')} видны {hair}"
        return f"у {self.someone.her} {hair}"

    def with_hair(self) -> str:
        """С длинными волосами, or nothing."""
        if not self.hair:
            return ""
        under = f" под {self.hat.put('instrumental')}" if self.hat and self.under_hat else ""
        return f"{along(self.hair.put('instrumental'))}{under}"

    def with_bag(self) -> str:
        """С сумкой на плече, or nothing."""
        return f"{along(self.bag.put('instrumental'))} {self.place}" if self.bag else ""

    def _person(self) -> Phrase:
        noun = self.pick(self.someone.nouns)
        if "build" not in self.facts:
            return Phrase((), noun)
        build = self.facts["build"]
        return self.pick((Phrase((self.pick(BUILDS[build]),), noun), Phrase((), noun, FIGURES[build])))

    def _top(self) -> Phrase:
        noun, after, sleeves = self.pick(TOPS[self.facts.get("sleeve", "")])
        first, second = self._colour("top"), self._colour("second")
        behind, parts = [after], [sleeves]
        pattern = self.facts.get("pattern", "")
        if pattern in ("hoops", "stripes"):
            first = self._stripes(first, second, behind, parts)
        elif pattern == "checks":
            first = self._checks(first, second, behind)
        elif pattern == "halves":
            parts.append(Phrase(first, UPPER).put("instrumental"))
            parts.append(Phrase(second, LOWER).put("instrumental") if second else "низом другого цвета")
            first = ("двухцветный",) if self.pick((True, False)) else ()
        elif pattern == "band":
            band = Phrase(second, BAND).put("instrumental")
            parts.append(f"{band} {self.pick(('на груди', 'поперёк груди'))}")
        parts = [part for part in parts if part]
        behind.append(along(listed(parts)) if parts else "")
        return Phrase(first, noun, " ".join(word for word in behind if word))

    def _stripes(
        self, first: tuple[str, ...], second: tuple[str, ...], behind: list[str], parts: list[str]
    ) -> tuple[str, ...]:
        """The colours before the noun; adds what is said of stripes behind it, or after 'с'."""
        way = WAYS[self.facts["pattern"]]
        kind = self.pick(("in", "with", "mixed"))
        if kind == "with":
            parts.append(Phrase((*second, way), LINES).put("instrumental"))
            return first
        if kind == "mixed" and (mixed := self._mixed(second)):
            behind.append(f"в {Phrase((way,), LINE).put('accusative')}")
            return mixed
        behind.append(f"в {Phrase((*second, way), LINE).put('accusative')}")
        return first

    def _checks(self, first: tuple[str, ...], second: tuple[str, ...], behind: list[str]) -> tuple[str, ...]:
        """The adjectives before the noun; adds what is said of checks behind it."""
        mixed = self._mixed(second)
        if mixed and self.pick((True, False)):
            if self.pick((True, False)):
                return ("клетчатый", *mixed)
            behind.append(f"в {Phrase(mixed, CHECK).put('accusative')}")
            return ()
        if not second and self.pick((True, False)):
            return ("клетчатый", *first)
        behind.append(f"в {Phrase(second, CHECK).put('accusative')}")
        return first

    def _mixed(self, second: tuple[str, ...]) -> tuple[str, ...]:
        """Both colours in one word (красно-белый), or nothing where there is no such word."""
        joined = JOINED.get(self.facts["top"])
        return (f"{joined}-{second[0]}",) if joined and second and "-" not in second[0] else ()

    def _legwear(self) -> tuple[Phrase, ...]:
        if "legwear" not in self.facts:
            return ()
        phrase = self.pick(LEGWEAR[self.facts["legwear"]])
        return (phrase._replace(adjectives=(*phrase.adjectives, *self._colour("bottom"))),)

    def _thing(self, field: str, nouns: Sequence[Noun]) -> Phrase | None:
        return Phrase(self._colour(field), self.pick(nouns)) if field in self.facts else None

    def _hair(self) -> Phrase | None:
        cut, colour = self.facts.get("cut", ""), self.facts.get("hair", "")
        adjectives = tuple(self.pick(table[value]) for table, value in ((CUTS, cut), (HAIR, colour)) if value)
        return Phrase(adjectives, HEAD["bald" if cut == "bald" else "hair"]) if adjectives else None

    def _bag(self) -> Phrase | None:
        return Phrase(self._colour("bag_colour"), BAGS[self.facts["bag"]]) if "bag" in self.facts else None

    def _colour(self, field: str) -> tuple[str, ...]:
        """The colour that a field names, or nothing if it is no fact."""
        return (self.pick(COLOURS[self.facts[field]]),) if field in self.facts else ()


def _dressed(speaker: _Speaker) -> str:
    """Женщина с длинными волосами одета в красную футболку. За спиной рюкзак."""
    hair, bag = (speaker.pick((True, False)) for _ in range(2))
    links = [speaker.with_hair() if hair else "", speaker.with_bag() if bag else ""]
    subject = f"{speaker.person.put('nominative')} {' и '.join(link for link in links if link)}".rstrip()
    text = f"{subject} {speaker.someone.dressed} {speaker.clothes('accusative', 'в')}"
    return _sentences(text, speaker.rest(hair=not hair, bag=not bag))


def _walking(speaker: _Speaker) -> str:
    """Мимо камеры идёт парень в красной футболке. У него короткие волосы."""
    bag = speaker.pick((True, False))
    start = speaker.pick(("мимо камеры идёт", "по улице идёт", "перед камерой идёт"))
    subject = f"{speaker.person.put('nominative')} {speaker.clothes('prepositional', 'в')}"
    links = [speaker.with_bag()] if bag and speaker.bag else []
    return _sentences(", ".join([f"{start} {subject}", *links]), speaker.rest(bag=not bag))


def _picture(speaker: _Speaker) -> str:
    """На снимке девушка с длинными волосами, в красной футболке, с сумкой на плече."""
    start = speaker.pick(("на снимке", "в кадре", "на фотографии", "это"))
    links = [speaker.with_hair(), speaker.clothes("prepositional", "в"), speaker.with_bag()]
    text = _chain(speaker.person.put("nominative"), speaker.shuffle(links))
    return _sentences(f"{start} {text}", speaker.rest(hair=False, bag=False))


def _clothes_first(speaker: _Speaker) -> str:
    """На женщине красная футболка и синяя юбка, за спиной рюкзак."""
    text = f"на {speaker.person.put('prepositional')} {speaker.clothes('nominative')}"
    return _sentences(text, speaker.rest())


def _hair_first(speaker: _Speaker) -> str:
    """У мужчины короткие волосы, на нём красная футболка, за спиной рюкзак."""
    if not speaker.hair or speaker.under_hat:
        return _clothes_first(speaker)
    text = f"у {speaker.person.put('genitive')} {speaker.hair.put('nominative')}"
    text += f", на {speaker.someone.on_her} {speaker.clothes('nominative')}"
    return _sentences(text, speaker.rest(hair=False))


def _report(speaker: _Speaker) -> str:
    """As the police write: мужчина, короткие волосы, одет в красную футболку, за спиной рюкзак."""
    person, someone = speaker.person.put("nominative"), speaker.someone
    hair = [speaker.hair.put("nominative")] if speaker.hair and not speaker.under_hat else []
    dressed = f"{someone.dressed} {speaker.clothes('accusative', 'в')}"
    return ", ".join([person, *hair, dressed, *speaker.rest(hair=speaker.under_hat)])


def _chain(subject: str, links: Sequence[str]) -> str:
    """The subject with phrases behind it, the first without a comma."""
    first, *others = [link for link in links if link] or [""]
    return ", ".join([f"{subject} {first}".rstrip(), *others])


def _sentences(text: str, clauses: Sequence[str]) -> str:
    """A sentence, and one of clauses where there are some."""
    more = ", ".join(clauses)
    return f"{text}. {more[0].upper()}{more[1:]}" if more else text


def along(words: str) -> str:
    """The words after 'с', which is 'со' before с, з, ш or ж and another consonant."""
    before = words[0] in "сзшж" and words[1] not in "аеёиоуыэюяь"
    return f"{'со' if before else 'с'} {words}"


def listed(words: Sequence[str]) -> str:
    """The words with commas, and 'и' before the last."""
    *others, last = words
    return f"{', '.join(others)} и {last}" if others else last
