"""Pages of rankings, read back."""

import base64
import io
from html.parser import HTMLParser

from PIL import Image


class Page(HTMLParser):
    """The elements of a page: (tag, attributes, text up to the next tag)."""

    def __init__(self, source):
        super().__init__()
        self.elements = []
        self.source = source
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.elements.append([tag, dict(attrs), ""])

    def handle_endtag(self, tag):
        self.elements.append([f"/{tag}", {}, ""])

    def handle_data(self, data):
        if self.elements:
            self.elements[-1][2] += data

    def all(self, tag, of_class=None):
        """(attributes, text) of the elements."""
        return [
            (attributes, text.strip())
            for name, attributes, text in self.elements
            if name == tag and of_class in (None, attributes.get("class"))
        ]

    def labels(self):
        return [text for _, text in self.all("span", "label")]

    def queries(self):
        return [attributes["id"] for attributes, _ in self.all("section")]

    def alts(self):
        return [attributes["alt"] for attributes, _ in self.all("img")]

    def pictures(self):
        return [decoded(attributes["src"]) for attributes, _ in self.all("img")]


def decoded(uri):
    head, data = uri.split(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))
