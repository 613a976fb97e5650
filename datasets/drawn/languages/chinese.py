"""Chinese sentences about drawn people."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from datasets.drawn.languages.speaker import Speaker

# Wordings of values, of which one is picked. No Latin letters, so no T恤.
COLOURS = {
    "black": ("黑色",),
    "white": ("白色",),
    "grey": ("灰色",),
    "red": ("红色",),
    "orange": ("橙色", "橘色"),
    "yellow": ("黄色",),
    "green": ("绿色",),
    "blue": ("蓝色",),
    "sky": ("天蓝色", "浅蓝色"),
    "purple": ("紫色",),
    "pink": ("粉色", "粉红色"),
    "brown": ("棕色", "褐色"),
    "navy": ("深蓝色", "藏青色"),
    "maroon": ("酒红色", "暗红色"),
    "rust": ("铁锈色", "砖红色"),
    "mustard": ("姜黄色", "芥末黄色"),
    "beige": ("米色", "浅驼色"),
    "olive": ("橄榄绿色", "军绿色"),
    "teal": ("蓝绿色", "孔雀蓝色"),
    "lilac": ("淡紫色", "浅紫色"),
    "blond": ("金色",),
}
# Colours that join another one without 色: 红白相间.
SHORT_COLOURS = {
    "black": "黑",
    "white": "白",
    "grey": "灰",
    "red": "红",
    "orange": "橙",
    "yellow": "黄",
    "green": "绿",
    "blue": "蓝",
    "purple": "紫",
    "pink": "粉",
    "brown": "棕",
}
TOPS = {
    "": ("上衣", "衣服"),
    "bare": ("无袖上衣", "无袖衫", "背心"),
    "short": ("短袖上衣", "短袖衫", "短袖"),
    "long": ("长袖上衣", "长袖衫", "长袖衣服"),
}
# {a}: a colour with 色, {b}: the second one, {ab}: how both are mixed.
PATTERNS = {
    "hoops": ("{a}横条纹{top}", "带横条纹的{a}{top}"),
    "stripes": ("{a}竖条纹{top}", "带竖条纹的{a}{top}"),
    "checks": ("{a}格子{top}", "{a}格纹{top}"),
    "halves": ("{a}拼色{top}", "上半截为{a}的拼色{top}"),
    "band": ("胸前有一道横杠的{a}{top}", "胸口有一条宽条纹的{a}{top}"),
}
WITH_SECOND = {
    "hoops": ("{ab}相间的横条纹{top}", "带{b}横条纹的{a}{top}"),
    "stripes": ("{ab}相间的竖条纹{top}", "带{b}竖条纹的{a}{top}"),
    "checks": ("{ab}相间的格子{top}", "{ab}相间的格纹{top}"),
    "halves": ("上半截{a}、下半截{b}的{top}", "上半部分{a}、下半部分{b}的拼色{top}"),
    "band": ("胸前有一道{b}横杠的{a}{top}", "胸口有一条{b}宽条纹的{a}{top}"),
}
LEGWEAR = {
    "trousers": ("裤子", "长裤"),
    "shorts": ("短裤",),
    "skirt": ("短裙", "及膝裙"),
    "gown": ("长裙", "及踝长裙"),
}
SHOES = ("鞋", "鞋子", "运动鞋")
HATS = ("帽子", "鸭舌帽", "棒球帽")
BAGS = {"backpack": ("双肩包", "背包"), "shoulder": ("单肩包", "挎包")}
BUILDS = {"slim": ("身材偏瘦", "体形瘦削", "身材消瘦"), "broad": ("身材壮实", "体形偏胖", "身材敦实")}

# Verbs, each with the thing that is worn or carried behind it.
_ON_TOP = ("穿着", "身穿", "身着")
_ON_TOP_AFTER = ("上身穿着", "上身穿", "身着")  # behind other clothes
_ON_LEGS = ("下身穿着", "下穿", "下身穿")
_ON_FEET = ("脚穿", "脚上穿着", "脚上穿")
_ON_HEAD = ("戴着", "头戴", "头上戴着")
_CARRIES = {"backpack": ("背着", "身后背着", "背上背着"), "shoulder": ("挎着", "肩上挎着", "背着")}


class _Someone(NamedTuple):
    """Nouns for a person, each behind its measure word, and how the person is called from then on."""

    nouns: tuple[tuple[str, str], ...]
    again: tuple[str, ...]


_PEOPLE = {
    "woman": _Someone((("名", "女子"), ("位", "女士"), ("个", "女人"), ("名", "女性")), ("她",)),
    "man": _Someone((("名", "男子"), ("位", "男士"), ("个", "男人"), ("名", "男性")), ("他",)),
    "person": _Someone((("个", "人"), ("名", "行人"), ("位", "路人")), ("此人", "这个人")),
}


def describe(facts: Mapping[str, str], someone: str, rng: np.random.Generator) -> str:
    """One or two Chinese sentences that mention all facts and nothing else.

    `someone` is 'woman', 'man' or 'person'. The generator decides the wording.
    """
    speaker = _Speaker(facts, _PEOPLE[someone], rng)
    plan = speaker.pick((_chain, _quality_first, _scene_first, _picture_first, _report))
    return f"{plan(speaker)}。"


class _Speaker(Speaker):
    """The parts of one description: a subject, and ways to say each fact in the order in which they follow.

    Each way to say something takes whether things are counted: 一件红色上衣, or 红色上衣.
    """

    def __init__(self, facts: Mapping[str, str], someone: _Someone, rng: np.random.Generator) -> None:
        super().__init__(facts, rng)
        self.someone = someone
        self.measure, self.noun = self.pick(someone.nouns)
        clothes = [self._top]
        clothes += [self._legwear] if "legwear" in facts else []
        clothes += [self._shoes] if "shoes" in facts else []
        hair = [self._hair] if facts.keys() & {"hair", "cut"} else []
        hat = [self._hat] if "hat" in facts else []
        if hair and hat and facts.get("cut") != "bald" and self.pick((True, False)):
            hair, hat = [self._hair_under_hat], []
        clothes = self.shuffle(clothes + hat) if self.pick((True, False)) else clothes + hat
        self.on_top = _ON_TOP if clothes[0] == self._top else _ON_TOP_AFTER
        bag = [self._bag] if "bag" in facts else []
        groups = self.shuffle([group for group in (hair, clothes, bag) if group])
        self.ways: list[Callable[[bool], str]] = [way for group in groups for way in group]

    def clauses(self, ways: list[Callable[[bool], str]]) -> str:
        """Clauses with things that are counted or not: 身穿一件红色上衣，留着短发."""
        counted = self.pick((True, False))
        return "，".join(way(counted) for way in ways)

    def someone_with(self, ways: list[Callable[[bool], str]]) -> str:
        """The person with what comes before the noun: 一名身材偏瘦、留着短发的男子."""
        qualities = [self.build()] if "build" in self.facts else []
        qualities += [way(False).replace("，", "、") for way in ways]
        return f"一{self.measure}{'、'.join(qualities)}{'的' if qualities else ''}{self.noun}"

    def build(self) -> str:
        """The build, which must be a fact."""
        return self.pick(BUILDS[self.facts["build"]])

    def _top(self, counted: bool) -> str:
        first, second = self.facts["top"], self.facts.get("second", "")
        pattern = self.facts.get("pattern", "")
        names = {"top": self.pick(TOPS[self.facts.get("sleeve", "")]), "a": self._colour("top")}
        names["b"] = self._colour("second")
        names["ab"] = f"{names['a']}和{names['b']}"
        if {first, second} <= SHORT_COLOURS.keys():
            pair = (second, first) if first == "white" else (first, second)  # 黑白, never 白黑
            names["ab"] = "".join(SHORT_COLOURS[colour] for colour in pair)
        if pattern:
            text = self.pick((WITH_SECOND if second else PATTERNS)[pattern]).format(**names)
        else:
            text = self._coloured("top", names["top"], counted)
        return f"{self.pick(self.on_top)}{'一件' if counted else ''}{text}"

    def _legwear(self, counted: bool) -> str:
        name = self.pick(LEGWEAR[self.facts["legwear"]])
        return f"{self.pick(_ON_LEGS)}{'一条' if counted else ''}{self._coloured('bottom', name, counted)}"

    def _shoes(self, counted: bool) -> str:
        name = self._coloured("shoes", self.pick(SHOES), counted)
        return f"{self.pick(_ON_FEET)}{'一双' if counted else ''}{name}"

    def _hat(self, counted: bool) -> str:
        name = self._coloured("hat", self.pick(HATS), counted)
        return f"{self.pick(_ON_HEAD)}{'一顶' if counted else ''}{name}"

    def _bag(self, counted: bool) -> str:
        bag = self.facts["bag"]
        name = self._coloured("bag_colour", self.pick(BAGS[bag]), counted)
        return f"{self.pick(_CARRIES[bag])}{'一个' if counted else ''}{name}"

    def _hair(self, counted: bool) -> str:
        if self.facts.get("cut") == "bald":
            return self.pick(("剃着光头", "没有头发", "留着光头"))
        return f"留着{'一头' if counted else ''}{self.hair(counted)}"

    def _hair_under_hat(self, counted: bool) -> str:
        return f"{self._hat(counted)}，{self.pick(('', '帽子下'))}露出{self.hair(counted)}"

    def hair(self, counted: bool) -> str:
        """The hair of one who has some, as a noun."""
        cut = {"short": "短发", "long": "长发", "": "头发"}[self.facts.get("cut", "")]
        return self._coloured("hair", cut, counted)

    def _coloured(self, field: str, name: str, counted: bool) -> str:
        """The name behind its colour if that is a fact, joined by 的 only where no other 的 follows."""
        colour = self._colour(field)
        return f"{colour}{self.pick(('', '', '的')) if colour and counted else ''}{name}"

    def _colour(self, field: str) -> str:
        """The colour that a field names, or '' if it is no fact."""
        return self.pick(COLOURS[self.facts[field]]) if field in self.facts else ""


def _chain(speaker: _Speaker) -> str:
    return f"{speaker.someone_with([])}{speaker.clauses(speaker.ways)}"


def _quality_first(speaker: _Speaker) -> str:
    first, *others = speaker.ways
    if others:
        return f"{speaker.someone_with([first])}，{speaker.clauses(others)}"
    return f"{speaker.someone_with([first])}{speaker.pick(('正在走路', '从镜头前走过'))}"


def _scene_first(speaker: _Speaker) -> str:
    scene = speaker.pick(("正在路上行走", "从镜头前走过", "正沿街步行"))
    link = speaker.pick(("，", f"。{speaker.pick(speaker.someone.again)}"))
    return f"{speaker.someone_with([])}{scene}{link}{speaker.clauses(speaker.ways)}"


def _picture_first(speaker: _Speaker) -> str:
    start = speaker.pick(("画面中有", "图中是", "镜头里有", "照片上是"))
    return f"{start}{speaker.someone_with([])}，{speaker.clauses(speaker.ways)}"


def _report(speaker: _Speaker) -> str:
    """As the police write: 男子，身材偏瘦，身穿红色上衣."""
    build = f"{speaker.build()}，" if "build" in speaker.facts else ""
    noun = f"一{speaker.measure}{speaker.noun}" if speaker.noun == "人" else speaker.noun
    return f"{noun}，{build}{'，'.join(way(False) for way in speaker.ways)}"
