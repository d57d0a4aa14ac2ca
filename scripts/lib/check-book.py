"""Follows every link of a built book: check-book.py DIR. Each leads to a file of the book, and to an id in it."""

import html.parser
import pathlib
import sys
import urllib.parse


class Page(html.parser.HTMLParser):
    """The ids of a page, and where it leads."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if attrs.get("id"):
            self.ids.add(attrs["id"])
        for name in ("href", "src"):
            if attrs.get(name):
                self.links.append(attrs[name])


def main(root):
    # The page for printing repeats the others, and the one for a wrong address is served at any.
    files = [path for path in root.rglob("*.html") if path.name not in ("print.html", "404.html", "toc.html")]
    pages = {path: Page(path.read_text()) for path in files}
    wrong, followed = [], 0
    for path, page in pages.items():
        for link in page.links:
            to = urllib.parse.urlsplit(link)
            if to.scheme or to.netloc:
                continue
            followed += 1
            target = (path.parent / urllib.parse.unquote(to.path)).resolve() if to.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.is_file():
                wrong.append(f"{path.relative_to(root)}: {link} leads to nothing")
            elif to.fragment and target in pages and urllib.parse.unquote(to.fragment) not in pages[target].ids:
                wrong.append(f"{path.relative_to(root)}: {link} leads to no heading")
    if wrong or len(pages) < 2:
        sys.exit("\n".join(sorted(set(wrong))) or f"{root} has no pages")
    print(f"{len(pages)} pages, {followed} links, each leads somewhere")


main(pathlib.Path(sys.argv[1]).resolve())
