"""mdbook's preprocessor: a link that leads out of docs/ leads to the repository instead, and a picture's comment becomes the picture where
BOTTLE_BOOK_PICTURES says that there are some. https://rust-lang.github.io/mdBook/for_developers/preprocessors.html"""

import json
import os
import pathlib
import posixpath
import re
import sys

# [text](target), and not an image or a link to elsewhere; `target` may have an anchor.
LINK = re.compile(r"(?<!!)\]\((?![a-z]+:)([^)#\s]*)(#[^)\s]*)?\)")
# Of a page in the repository nothing shows it.
PICTURE = re.compile(r"^<!-- picture: ([a-z-]+): ([^\n]+) -->$", re.MULTILINE)
ROOT = pathlib.Path(__file__).resolve().parents[2]


def repository():
    """The repository's address, from the one place that has it."""
    text = (ROOT / "Cargo.toml").read_text()
    return re.search(r'^repository = "([^"]+)"', text, re.MULTILINE)[1]


def pictured(content, page):
    """The page's text with its pictures, or without their comments."""
    if not os.environ.get("BOTTLE_BOOK_PICTURES"):
        return PICTURE.sub("", content)
    up = "../" * page.count("/")
    return PICTURE.sub(lambda match: f"![{match[2]}]({up}pictures/{match[1]}.png)", content)


def led(content, page, address):
    """The page's text with its links out of docs/ led to the repository; code is left as it is."""
    here = posixpath.dirname(posixpath.join("docs", page))

    def lead(match):
        path, anchor = match[1], match[2] or ""
        target = posixpath.normpath(posixpath.join(here, path)) if path else ""
        if not path or target.startswith("docs/"):
            return match[0]
        kind = "tree" if (ROOT / target).is_dir() else "blob"
        return f"]({address}/{kind}/main/{target}{anchor})"

    parts = re.split(r"(^```.*?^```$|`[^`\n]*`)", content, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if number % 2 else LINK.sub(lead, part) for number, part in enumerate(parts))


def walk(items, address):
    for item in items:
        chapter = item.get("Chapter") if isinstance(item, dict) else None
        if chapter:
            if chapter["path"]:
                page = chapter["source_path"]
                chapter["content"] = pictured(led(chapter["content"], page, address), page)
            walk(chapter["sub_items"], address)


def main():
    if sys.argv[1:2] == ["supports"]:
        return
    _, book = json.load(sys.stdin)
    walk(book["items"], repository())
    json.dump(book, sys.stdout)


main()
