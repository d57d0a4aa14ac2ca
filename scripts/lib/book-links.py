"""mdbook's preprocessor: a link that leads out of docs/ leads to the repository instead. https://rust-lang.github.io/mdBook/for_developers/preprocessors.html"""

import json
import pathlib
import posixpath
import re
import sys

# [text](target), and not an image or a link to elsewhere; `target` may have an anchor.
LINK = re.compile(r"(?<!!)\]\((?![a-z]+:)([^)#\s]*)(#[^)\s]*)?\)")
ROOT = pathlib.Path(__file__).resolve().parents[2]


def repository():
    """The repository's address, from the one place that has it."""
    text = (ROOT / "Cargo.toml").read_text()
    return re.search(r'^repository = "([^"]+)"', text, re.MULTILINE)[1]


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
                chapter["content"] = led(chapter["content"], chapter["source_path"], address)
            walk(chapter["sub_items"], address)


def main():
    if sys.argv[1:2] == ["supports"]:
        return
    _, book = json.load(sys.stdin)
    walk(book["items"], repository())
    json.dump(book, sys.stdout)


main()
