"""Reads pages that reports write."""

import html.parser


class Page(html.parser.HTMLParser):
    """Tags that are open, attributes and text of a page, which must close what it opens and load nothing."""

    def __init__(self, content: str):
        super().__init__()
        self.open, self.images, self.text = [], [], ""
        self.feed(content)
        self.close()

    def handle_starttag(self, tag, attrs):
        assert tag not in ("script", "link", "iframe")
        addresses = [value for name, value in attrs if name in ("src", "href")]
        assert all(address.startswith("data:image/png;base64,") for address in addresses)
        if tag == "img":
            self.images.append(dict(attrs)["alt"])
        elif tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data if self.open[-1:] != ["style"] else ""
