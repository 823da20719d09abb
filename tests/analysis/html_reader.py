"""What a page of HTML holds, read by the standard library."""

from __future__ import annotations

from html.parser import HTMLParser

OPEN = {"area", "br", "col", "hr", "img", "input", "link", "meta", "path"}


class Reader(HTMLParser):
    """The page's exact numbers, ids, references, texts and unclosed tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.numbers: dict[str, float] = {}
        self.shown: dict[str, str] = {}
        self.ids: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._stack: list[str] = []
        self._where: str | None = None
        self.feed(html)
        self.close()
        assert self._stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if found.get("id"):
            self.ids.append(str(found["id"]))
        if tag == "data" and found.get("data-where"):
            self._where = str(found["data-where"])
            self.numbers[self._where] = float(str(found["value"]))
        if tag not in OPEN:
            self._stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in OPEN:
            return
        assert self._stack.pop() == tag
        if tag == "data":
            self._where = None

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self._where:
            self.shown[self._where] = data
