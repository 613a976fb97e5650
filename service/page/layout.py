"""The page's fields and buttons, room by room."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from service.page.deeds import MOST_HITS, Deeds
from service.page.markup import no_name, number

if TYPE_CHECKING:
    import gradio
    from gradio.components import Component

_HERE = Path(__file__).parent
_LANGUAGES = (
    "in other languages, too: 穿红色大衣的女人, женщина в красном пальто, \u2068امرأة بمعطف أحمر\u2069"
)


@dataclass(frozen=True)
class SearchRoom:
    """A question and its filters on the left, its ranking on the right."""

    question: gradio.HTML
    sentence: gradio.Textbox
    cameras: gradio.Dropdown
    since: gradio.DateTime
    until: gradio.DateTime
    hits: gradio.Slider
    threshold: gradio.Textbox
    ranking: gradio.HTML

    @property
    def filters(self) -> list[Component]:
        """The fields of `deeds.Filters`, in their order."""
        return [self.cameras, self.since, self.until, self.hits, self.threshold]


@dataclass(frozen=True)
class LifeRoom:
    """A name, and where its pictures were taken."""

    name: gradio.Dropdown
    line: gradio.HTML


@dataclass(frozen=True)
class AddRoom:
    """A picture and what is known of it."""

    picture: gradio.HTML
    identity: gradio.Dropdown
    camera: gradio.Dropdown
    time: gradio.DateTime
    button: gradio.Button
    said: gradio.HTML


def own_html(name: str, value: str = "") -> gradio.HTML:
    """A place for HTML of `markup`, whose buttons do deeds."""
    import gradio

    # "${value}" is filled in last: a name that looks like a template is not taken for one.
    script = (_HERE / "deeds.js").read_text("utf-8")
    return gradio.HTML(
        value, elem_id=name, html_template="${value}", js_on_load=script, apply_default_css=False
    )


def search_room(deeds: Deeds) -> SearchRoom:
    """The first room."""
    import gradio

    own = deeds.finder.threshold
    with gradio.Row(elem_classes="room"):
        with gradio.Column(scale=1, min_width=300):
            question = _picture_field("question", "Picture of somebody to search for", deeds.max_bytes)
            sentence = gradio.Textbox(
                label="Or describe somebody",
                placeholder="a woman in a red coat",
                info=_LANGUAGES if deeds.finder.takes_many_languages else None,
                visible=deeds.finder.takes_sentences,
                submit_btn="Search",
                max_lines=1,
                max_length=1000,
                elem_id="sentence",
            )
            with gradio.Accordion("Filters", elem_id="filters"):
                cameras = gradio.Dropdown(
                    [], label="Cameras", info="none chosen: all", multiselect=True, elem_id="cameras"
                )
                since = gradio.DateTime(
                    label="Since", info="in the server's time zone", type="string", elem_id="since"
                )
                until = gradio.DateTime(label="Until", type="string", elem_id="until")
                hits = gradio.Slider(1, MOST_HITS, 12, step=1, label="Pictures", elem_id="count")
                threshold = gradio.Textbox(
                    label="Largest distance of the same person",
                    placeholder="no threshold" if own is None else number(own),
                    max_lines=1,
                    max_length=20,
                    elem_id="threshold",
                )
        with gradio.Column(scale=3, min_width=320):
            ranking = own_html("hits", deeds.welcome())
    return SearchRoom(question, sentence, cameras, since, until, hits, threshold, ranking)


def life_room() -> LifeRoom:
    """The second room."""
    return LifeRoom(_name_field("Name", "name"), own_html("line", no_name()))


def add_room(deeds: Deeds) -> AddRoom:
    """The third room."""
    import gradio

    with gradio.Row(elem_classes="room"):
        with gradio.Column(scale=1, min_width=300):
            picture = _picture_field("new", "Picture to add", deeds.max_bytes)
        with gradio.Column(scale=2, min_width=300):
            return AddRoom(
                picture,
                _name_field("Name", "identity"),
                _name_field("Camera", "camera"),
                gradio.DateTime(label="Time", type="string", elem_id="time"),
                gradio.Button("Add to the gallery", variant="primary", elem_id="add"),
                gradio.HTML(elem_id="said", js_on_load=None, apply_default_css=False),
            )


def _name_field(label: str, name: str) -> gradio.Dropdown:
    import gradio

    return gradio.Dropdown([], value=None, label=label, allow_custom_value=True, elem_id=name)


def _picture_field(name: str, purpose: str, most_bytes: int) -> gradio.HTML:
    import gradio

    return gradio.HTML(
        {},
        elem_id=name,
        html_template=(_HERE / "question.html").read_text("utf-8"),
        js_on_load=(_HERE / "question.js").read_text("utf-8"),
        apply_default_css=False,
        purpose=purpose,
        most=most_bytes,
    )
