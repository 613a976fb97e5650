"""Which deed follows which click, and what it changes on the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio

from service.page.deeds import Deeds, Filters, Lists
from service.page.layout import AddRoom, LifeRoom, SearchRoom, add_room, life_room, own_html, search_room

# Nobody calls the page's functions by name. Each click is one request, which the limits of a service count;
# answers of gradio's queue come by a stream that it closes, and an answer in that moment is lost.
_EVENT: dict[str, Any] = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}
# On a phone the filters would stand between the question and its ranking.
_FOLD = """() => {
    if (window.innerWidth < 768) document.querySelector("#filters button.open")?.click();
}"""
_SEEN: dict[str, Any] = _EVENT | {"show_progress": "minimal"}


def build_page(deeds: Deeds) -> gradio.Blocks:
    """The page, with every field connected."""
    # Nothing is told to gradio's makers.
    with gradio.Blocks(title="Gallery", analytics_enabled=False) as page:
        head = gradio.HTML(elem_id="head", js_on_load=None, apply_default_css=False)
        with gradio.Tabs(elem_id="rooms") as rooms:
            with gradio.Tab("Search", id="search"):
                search = search_room(deeds)
            with gradio.Tab("Timeline", id="life"):
                life = life_room()
            with gradio.Tab("Add", id="add", visible=deeds.may_add):
                add = add_room(deeds)
        wiring = _Wiring(deeds, head, rooms, (search, life, add), own_html("one"))
        page.load(wiring.lists, None, wiring.listed, **_EVENT)
        page.load(None, js=_FOLD, api_visibility="private")
        wiring.connect_search()
        wiring.connect_timeline()
        wiring.connect_adding()
        wiring.connect_pictures()
    _keep_nothing(page)
    return page


def _keep_nothing(page: gradio.Blocks) -> None:
    """Let gradio copy and fetch no file that a value names, and remember no picture.

    It would copy any file of the machine, and keep the values of ten thousand sessions.
    """
    read = page.preprocess_data

    async def check(block_fn: Any, inputs: list[Any], state: Any, *args: Any, **kwargs: Any) -> Any:
        state._update_value_in_config = lambda key, value: None
        waiting: list[Any] = [inputs]
        while waiting:
            value = waiting.pop()
            if isinstance(value, dict):
                if "meta" in value:
                    raise gradio.Error("the page takes no files by name", print_exception=False)
                waiting += value.values()
            elif isinstance(value, list):
                waiting += value
        return await read(block_fn, inputs, state, *args, **kwargs)

    page.preprocess_data = check


class _Wiring:
    """Connects fields and buttons with deeds."""

    def __init__(
        self,
        deeds: Deeds,
        head: gradio.HTML,
        rooms: gradio.Tabs,
        parts: tuple[SearchRoom, LifeRoom, AddRoom],
        one: gradio.HTML,
    ) -> None:
        self.deeds, self.rooms, self.one = deeds, rooms, one
        self.search, self.life, self.add = parts
        self.listed = [head, self.search.cameras, self.life.name, self.add.identity, self.add.camera]
        self._asked = [self.search.question, *self.search.filters]

    def lists(self) -> tuple[Any, ...]:
        """The head, and the choices of the fields for cameras and names."""
        return self._offered(self.deeds.lists())

    def lists_after(self) -> tuple[Any, ...]:
        """The same after a change."""
        return self._offered(self.deeds.lists(changed=True))

    def _offered(self, lists: Lists) -> tuple[Any, ...]:
        head, names, cameras = lists
        of_form = [name for _, name in cameras if name]
        return head, *(gradio.update(choices=each) for each in (cameras, names, names, of_form))

    def _rank(self, question: Any, *filters: Any) -> str:
        return self.deeds.search(question, Filters(*filters))

    def _rank_after(self, event: Callable[..., Any]) -> None:
        event(self._rank, self._asked, self.search.ranking, **_SEEN)

    def connect_search(self) -> None:
        """A question, or another filter, gives a ranking."""
        search = self.search
        changed = (search.cameras.change, search.since.change, search.until.change, search.hits.release)
        for event in (*changed, search.threshold.submit, search.threshold.blur):
            self._rank_after(event)
        self._rank_after(search.question.asked)
        search.question.asked(lambda: "", None, search.sentence, **_EVENT)
        described = search.sentence.submit(
            lambda text: {"text": text}, search.sentence, search.question, **_EVENT
        )
        self._rank_after(described.then)

    def connect_timeline(self) -> None:
        """A name gives its timeline."""
        self.life.name.change(self.deeds.timeline, self.life.name, self.life.line, **_SEEN)

    def connect_adding(self) -> None:
        """A picture and facts become an entry; the facts stay for the next picture of the same person."""
        add = self.add

        def run(picture: Any, identity: str, camera: str, time: str) -> tuple[str, Any]:
            line, was_added = self.deeds.add(picture, {"identity": identity, "camera": camera, "time": time})
            return line, {} if was_added else gradio.skip()

        done = add.button.click(
            run, [add.picture, add.identity, add.camera, add.time], [add.said, add.picture], **_SEEN
        )
        done.then(self.lists_after, None, self.listed, **_EVENT)
        add.picture.asked(lambda: "", None, add.said, **_EVENT)

    def connect_pictures(self) -> None:
        """The buttons on pictures work wherever the picture stands."""
        for part in (self.search.ranking, self.life.line, self.one):
            part.look(self._look, None, self.one, **_EVENT)
            asked = part.again(
                self._again,
                None,
                [self.search.question, self.search.sentence, self.rooms, self.one],
                **_EVENT,
            )
            self._rank_after(asked.then)
            part.life(self._life, None, [self.life.name, self.rooms, self.one], **_EVENT)
            for event, deed in ((part.rename, self._rename), (part.forget, self._forget)):
                changed = event(deed, None, self.one, **_EVENT)
                changed.then(self.lists_after, None, self.listed, **_EVENT)
                self._rank_after(changed.then)
                changed.then(self.deeds.timeline, self.life.name, self.life.line, **_EVENT)
        self.search.ranking.keep(
            lambda question: (question, gradio.update(selected="add")),
            self.search.question,
            [self.add.picture, self.rooms],
            **_EVENT,
        )

    def _look(self, event: gradio.EventData) -> str:
        return self.deeds.look(_fact(event, "key"))

    def _again(self, event: gradio.EventData) -> tuple[Any, ...]:
        return self.deeds.ask_again(_fact(event, "key")), "", gradio.update(selected="search"), ""

    def _life(self, event: gradio.EventData) -> tuple[Any, ...]:
        return _fact(event, "name"), gradio.update(selected="life"), ""

    def _rename(self, event: gradio.EventData) -> str:
        return self.deeds.rename(_fact(event, "key"), _fact(event, "name"))

    def _forget(self, event: gradio.EventData) -> str:
        return self.deeds.remove(_fact(event, "key"))


def _fact(event: gradio.EventData, name: str) -> str:
    """A fact that a button sends about itself; '' where it sends none."""
    facts = event._data if isinstance(event._data, dict) else {}
    return str(facts.get(name) or "")
