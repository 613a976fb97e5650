"""English sentences about drawn people."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from datasets.drawn.languages.speaker import Speaker

# Wordings of values, of which one is picked.
_COLOURS = {"grey": ("grey", "gray"), "sky": ("light blue", "sky blue"), "purple": ("purple", "violet")}
_SLEEVES = {
    "bare": ("sleeveless",),
    "short": ("short-sleeved", "short-sleeve"),
    "long": ("long-sleeved", "long-sleeve"),
}
_LEGWEAR = {
    "trousers": ("trousers", "pants", "long trousers"),
    "shorts": ("shorts", "short pants"),
    "skirt": ("skirt", "knee-length skirt"),
    "gown": ("long skirt", "ankle-length skirt"),
}
_PATTERNS = {
    "hoops": (
        "{colours} horizontally striped {top}",
        "horizontally striped {colours} {top}",
        "{colours} {top} with horizontal stripes",
    ),
    "stripes": (
        "{colours} vertically striped {top}",
        "vertically striped {colours} {top}",
        "{colours} {top} with vertical stripes",
    ),
    "checks": (
        "{colours} checked {top}",
        "checkered {colours} {top}",
        "{colours} {top} with a check pattern",
    ),
    "halves": ("two-part {colours} {top}", "{colours} {top} in two parts"),
    "band": ("{colours} {top} with a band across the chest", "{colours} {top} with a chest stripe"),
}
_WITH_SECOND = {
    "halves": ("{first} {top} with a lower half in {second}", "{first} {top} that is {second} at the bottom"),
    "band": (
        "{first} {top} with {a_second} band across the chest",
        "{first} {top} with a chest stripe in {second}",
    ),
}
_BAGS = {
    "backpack": ("backpack", "rucksack", "backpack on {her} back"),
    "shoulder": ("shoulder bag", "handbag", "bag over {her} shoulder"),
}
_BUILDS = {"slim": ("slim", "thin"), "broad": ("stocky", "heavyset")}

# The verbs of what is said, after a singular and after 'they'; and how it follows a noun without a verb.
_VERBS = {
    "hair": (("has", "have"),),
    "clothes": (
        ("wears", "wear"),
        ("is wearing", "are wearing"),
        ("has on", "have on"),
        ("is dressed in", "are dressed in"),
    ),
    "bag": (("carries", "carry"), ("is carrying", "are carrying")),
}
_LINKS = {"hair": ("with",), "clothes": ("wearing", "dressed in", "in"), "bag": ("with", "carrying")}


class _Someone(NamedTuple):
    """Nouns and pronouns for a person."""

    nouns: tuple[str, ...]
    she: str
    her: str


_PEOPLE = {
    "woman": _Someone(("woman", "lady"), "she", "her"),
    "man": _Someone(("man", "guy"), "he", "his"),
    "person": _Someone(("person", "pedestrian"), "they", "their"),
}


def describe(facts: Mapping[str, str], someone: str, rng: np.random.Generator) -> str:
    """One or two English sentences that mention all facts and nothing else.

    `someone` is 'woman', 'man' or 'person'. The generator decides the wording.
    """
    speaker = _Speaker(facts, _PEOPLE[someone], rng)
    plan = speaker.pick((_one_chain, _noun_first, _quality_first, _scene_first, _noun_only))
    text = plan(speaker)
    return f"{text[0].upper()}{text[1:]}."


class _Speaker(Speaker):
    """The parts of one description: a subject, and groups of facts in the order in which they are said."""

    def __init__(self, facts: Mapping[str, str], someone: _Someone, rng: np.random.Generator) -> None:
        super().__init__(facts, rng)
        self.someone = someone
        hair, hat = self._hair(), self._hat()
        if hair and hat and self.pick((True, False)):
            hair, hat = f"{hair} under {hat}", ""
        clothes = [part for part in (self._top(), self._legwear(), self._shoes(), hat) if part]
        if self.pick((True, False)):
            rng.shuffle(clothes)
        said = {"hair": hair, "clothes": _listed(clothes), "bag": self._bag()}
        self.said = {group: text for group, text in said.items() if text}
        self.groups = list(self.said)
        rng.shuffle(self.groups)

    def noun(self, articles: tuple[str, ...] = ("a", "the")) -> str:
        """The subject as a noun with one of the articles."""
        noun = self.pick(self.someone.nouns)
        if "build" in self.facts:
            noun = f"{self.pick(_BUILDS[self.facts['build']])} {noun}"
        return f"the {noun}" if self.pick(articles) == "the" else _a(noun)

    def clauses(self, groups: Sequence[str], *, they: bool = False) -> str:
        """Groups with verbs, as after a noun: 'has short hair and wears a hat'; `they` is the plural."""
        return _listed([f"{self.pick(_VERBS[group])[they]} {self.said[group]}" for group in groups])

    def links(self, groups: Sequence[str]) -> str:
        """Groups without verbs: 'with short hair, wearing a hat'."""
        return ", ".join(f"{self.pick(_LINKS[group])} {self.said[group]}" for group in groups)

    def more(self, groups: Sequence[str]) -> str:
        """A sentence of its own with a pronoun, or nothing."""
        they = self.someone.she == "they"
        return f". {self.someone.she.capitalize()} {self.clauses(groups, they=they)}" if groups else ""

    def _top(self) -> str:
        facts, sleeve = self.facts, self.facts.get("sleeve", "")
        names = {
            "top": self.pick(("shirt", "t-shirt", "top") if sleeve == "short" else ("shirt", "top")),
            "first": self._colour("top"),
            "second": self._colour("second"),
        }
        names["a_second"] = _a(names["second"] or "plain")
        names["colours"] = _listed([colour for colour in (names["first"], names["second"]) if colour])
        pattern = facts.get("pattern", "")
        wordings = _WITH_SECOND if names["second"] and pattern in _WITH_SECOND else _PATTERNS
        text = self.pick(wordings.get(pattern, ("{first} {top}",))).format(**names)
        return _a(f"{self.pick(_SLEEVES[sleeve])} {text}" if sleeve else text)

    def _legwear(self) -> str:
        if "legwear" not in self.facts:
            return ""
        text = f"{self._colour('bottom')} {self.pick(_LEGWEAR[self.facts['legwear']])}".lstrip()
        return _a(text) if text.endswith("skirt") else text

    def _shoes(self) -> str:
        return f"{self._colour('shoes')} {self.pick(('shoes', 'sneakers'))}" if "shoes" in self.facts else ""

    def _hair(self) -> str:
        cut, colour = self.facts.get("cut", ""), self.facts.get("hair", "")
        if cut == "bald":
            return self.pick(("a bald head", "no hair"))
        return f"{cut} {colour} hair".strip().replace("  ", " ") if cut or colour else ""

    def _hat(self) -> str:
        return _a(f"{self._colour('hat')} {self.pick(('hat', 'cap'))}") if "hat" in self.facts else ""

    def _bag(self) -> str:
        if "bag" not in self.facts:
            return ""
        name = self.pick(_BAGS[self.facts["bag"]]).format(her=self.someone.her)
        return _a(f"{self._colour('bag_colour')} {name}".lstrip())

    def _colour(self, field: str) -> str:
        """The colour that a field names, or '' if it is no fact."""
        colour = self.facts.get(field, "")
        return self.pick(_COLOURS.get(colour, (colour,)))


def _one_chain(speaker: _Speaker) -> str:
    return f"{speaker.noun()} {speaker.clauses(speaker.groups)}"


def _noun_first(speaker: _Speaker) -> str:
    if len(speaker.groups) == 1:
        return _one_chain(speaker)
    first, second, *others = speaker.groups
    text = f"{speaker.noun()} {speaker.links([first])} {speaker.clauses([second])}"
    return text + speaker.more(others)


def _quality_first(speaker: _Speaker) -> str:
    first, *others = speaker.groups
    said = speaker.clauses(others) if others else speaker.pick(("walks past", "is walking"))
    return f"{speaker.links([first])}, {speaker.noun()} {said}"


def _scene_first(speaker: _Speaker) -> str:
    scene = speaker.pick(("is walking along", "walks past the camera", "is on foot"))
    return f"{speaker.noun(('a',))} {scene}{speaker.more(speaker.groups)}"


def _noun_only(speaker: _Speaker) -> str:
    start = speaker.pick(("this is", "there is", "the picture shows", "the camera sees"))
    return f"{start} {speaker.noun(('a',))} {speaker.links(speaker.groups)}"


def _a(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def _listed(words: Sequence[str]) -> str:
    *others, last = words or ("",)
    return f"{', '.join(others)} and {last}" if others else last
