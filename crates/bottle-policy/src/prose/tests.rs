//! What comes out of [`for_prompt`] and [`for_posting`], by example and for any text.

use proptest::prelude::*;

use super::*;

#[track_caller]
fn prompt(text: &str, expected: &str, removed: &str) {
    let clean = for_prompt(text);
    assert_eq!((clean.text.as_str(), clean.removed.to_string().as_str()), (expected, removed), "{text:?}");
}

#[track_caller]
fn posting(text: &str, expected: &str) {
    assert_eq!(for_posting(text).text, expected, "{text:?}");
}

#[test]
fn what_a_reader_does_not_see_is_taken_out() {
    for (text, expected, removed) in [
        ("a<!-- b -->c", "ac", "1 HTML comment"),
        ("a\n\n<!-- b\n\nc -->\n\nd", "a\n\n\n\nd", "1 HTML comment"),
        ("a\n<!-- b\n\nc", "a\n", "1 HTML comment"),
        ("> <!-- b\n> c -->\n\nd", "> \n\nd", "1 HTML comment"),
        ("a <? b ?> <!X b> <![CDATA[ b ]]> c", "a    c", "3 HTML comments"),
        ("<span title=\"b\" hidden>a</span>", "<span>a</span>", "2 hidden attributes"),
        ("<a href='https://e.org/x' aria-label=\"b\">a</a>", "<a href=\"https://e.org/x\">a</a>", "1 hidden attribute"),
        ("<a href='javascript:b'>a</a>", "<a>a</a>", "1 link"),
        ("<div style='display:none' data-x=\"b\nb\">\na\n</div>", "<div>\na\n</div>", "2 hidden attributes"),
        ("a <style>b</style> c", "a  c", "1 hidden element"),
        ("<template>\nb\n</template>\nc", "\nc", "1 hidden element"),
        ("![b](https://e.org/i.png \"b\")", "![b](https://e.org/i.png)", "1 link title"),
        ("![b](data:image/png;base64,AAAA)c", "c", "1 link"),
        ("<img src=https://e.org/i.png alt=b>", "<img src=\"https://e.org/i.png\" alt=\"b\">", ""),
        ("[a](https://e.org 'b')", "[a](https://e.org)", "1 link title"),
        ("[a](javascript:b)", "a", "2 links"),
        ("[a](  data:text/html,b  )", "a", "2 links"),
        ("<javascript:a>", "javascript:a", "2 links"),
        ("[](https://e.org/b)a", "a", "1 link"),
        ("[a](docs/x.md) [b](#c) [d](../e)", "[a](docs/x.md) [b](#c) [d](../e)", ""),
        ("a\n\n[//]: # (b)\n", "a\n\n\n", "1 hidden definition"),
        ("[a][b]\n\n[b]: https://e.org 'b'\n", "[a](https://e.org)\n\n\n", "2 hidden definitions"),
        ("[a]\n\n[a]: https://e.org/(x)\n", "[a](https://e.org/%28x%29)\n\n\n", "2 hidden definitions"),
        ("a[^1]\n\n[^1]: b\n", "a[^1]\n\n[^1]: b\n", ""),
        ("a\n\n[^1]: b\n", "a\n\n", "1 hidden definition"),
        ("```rust b b\na\n```", "```rust\na\n```", "1 hidden attribute"),
        ("p\u{200b}l\u{ad}a\u{2060}i\u{202e}n\u{fe0f}\u{e0041}\u{7f}\u{1b}\0", "plain", "9 invisible characters"),
        ("p&#8203;l&shy;a&#x200B;i&ZeroWidthSpace;n&#0000008203", "plain", "5 entities"),
        ("a&amp;#8203;b&amp;amp;shy;c&#38;#x26;#8203;d", "abcd", "3 entities"),
        ("| a |\n|---|\n| 1 | b |\n| 2 |\n", "| a |\n|---|\n| 1 |\n| 2 |\n", "1 hidden element"),
        ("a&#82&#8203;03;b", "ab", "2 entities"),
        ("<<!-- -->!-- b -->a", "a", "2 HTML comments"),
        ("a\u{2028}b\r\nc\rd", "a\nb\nc\nd", "1 invisible character"),
    ] {
        prompt(text, expected, removed);
    }
}

#[test]
fn what_a_reader_sees_stays() {
    for text in [
        "",
        "Fix `parse_size`, please: it doesn't accept KiB (see #12, @mona).\n\n- one\n- two\n  1. three\n",
        "a < b && c > d & e; 5 &lt; 6, &copy; &eacute; AT&T",
        "HashMap<String, Vec<u8>> and Vec<T> and <T>",
        "| a | b |\n|---|---|\n| 1 | 2 |\n3|4\n|5\n| 6 | 7 | \n",
        "```\n<!-- code --> &#8203; [x](javascript:y) ![z](w \"v\")\n```\n",
        "    <!-- code -->\n",
        "`<!-- code --> &shy;`",
        "~~~~ \n```\n~~~~",
        "half a <!-- comment",
        "<https://e.org/x> https://e.org/?a=b&c=d#e mail <a@e.org>",
        "\\[a\\] \\<!-- b --> [x] [ ] [a]",
        "日本語 العربية ünïcödé 👩 ✅",
        "\ttab\n\n\n---\n***\n# head\nSetext\n===\n",
        "<details>\n<summary>more</summary>\n\ntext\n\n</details>",
    ] {
        prompt(text, text, "");
    }
}

#[test]
fn code_loses_only_what_nobody_sees() {
    prompt("```\na\u{200b}b\n```", "```\nab\n```", "1 invisible character");
    prompt("`a\u{e0041}`", "`a`", "1 invisible character");
    let log = code_for_prompt("\u{1b}[1;31merror\u{1b}[0m: <!-- x --> &shy; @mona\u{1b}]0;t\u{7}\u{1b}[");
    assert_eq!(log.text, "error: <!-- x --> &shy; @mona]0;t");
}

#[test]
fn what_is_posted_does_not_act() {
    for (text, expected) in [
        ("ask @mona", "ask ＠mona"),
        ("@team/app, (@a) \\@b *@c*", "＠team/app, (＠a) \\＠b *＠c*"),
        ("a@e.org @ 5 `@mona`", "a@e.org @ 5 `@mona`"),
        ("https://e.org/@mona [x](https://e.org/@mona)", "https://e.org/%40mona [x](https://e.org/%40mona)"),
        ("&#64;mona &commat;mona &amp;commat;mona", "＠mona ＠mona ＠mona"),
        ("fixes #1", "fixes issue #1"),
        ("Closes: #1, RESOLVED GH-2; fix a/b#3", "Closes issue: #1, RESOLVED issue GH-2; fix issue a/b#3"),
        ("fixes https://e.org/a/b/issues/4", "fixes issue https://e.org/a/b/issues/4"),
        ("fixes **#5** and closes\n> !6", "fixes issue **#5** and closes issue\n> !6"),
        ("fixes&nbsp;#1 fixes&#10;#2", "fixes issue\u{a0}#1 fixes issue\n#2"),
        ("fi&#120;es &num;7 fixes\\#8", "fixes issue #7 fixes issue\\#8"),
        ("duplicate of #9 reopens #10", "duplicate of issue #9 reopens issue #10"),
        ("fix-a/b#1 fix.a/b#2 fixes_a/b#3 refix #4", "fix-a/b#1 fix.a/b#2 fixes issue _a/b#3 refix #4"),
        ("_fixes !5_", "_fixes issue !5_"),
        ("this fixes the bug of #1", "this fixes the bug of #1"),
        ("/claude do it", "\\/claude do it"),
        ("a\n  /lgtm\n> /approve\n- /x", "a\n  \\/lgtm\n> \\/approve\n- \\/x"),
        ("&sol;claude do it", "\\/claude do it"),
        ("```\n/claude x\n/usr/bin/y\n```", "```\n /claude x\n/usr/bin/y\n```"),
        ("<b>a</b> <!-- b -->", "&lt;b>a&lt;/b> "),
        ("<div title='b'>\n@mona\n</div>", "&lt;div title='b'>\n＠mona\n&lt;/div>"),
        ("```\n@mona fixes #1 <b>\n```", "```\n@mona fixes #1 <b>\n```"),
        ("It is done: 3 tests pass.", "It is done: 3 tests pass."),
    ] {
        posting(text, expected);
    }
    assert_eq!(for_posting("@a fixes #1\n/b").removed.to_string(), "1 mention, 1 closing keyword, 1 command");
}

#[test]
fn lines_are_their_writers_own() {
    let said = |text: &str| -> Vec<String> {
        lines(text).iter().map(|at| text[*at..].lines().next().unwrap_or_default().to_owned()).collect()
    };
    let text = "a\n  b\n> c\nd\n\ne\n```\nf\n```\n    g\n\n- h\n  i\n\n<div>\nj\n</div>\n\n<!-- k\n\nl -->\nm\n\n\
                n|n\n-|-\no|o\n\np\n===\n# q\n\nr `s\nt` u\nv\n\n[^1]: w\n\n[x]: y\nz\n";
    assert_eq!(said(text), ["a", "b", "e", "i", "m", "p", "r `s", "v", "z"]);
    assert_eq!(said("a <style>\nb\n</style>\nc\n\nd"), ["a <style>", "c", "d"]);
    assert_eq!(said("<img src=a>\n  b\nc\n\nd"), ["b", "c", "d"], "below a picture");
    assert_eq!(said("<img src=a>\n<img src=b />\nc\n<i>d</i>\ne"), ["c"], "up to the next tag");
    assert_eq!(
        said("<img src=a>\n```\nb\n```\n\n<img src=a>\n    c\n\n> <img src=a>\n> d"),
        [""; 0],
        "code and quotes"
    );
    assert_eq!(said("> a\nb"), [""; 0], "a quote goes on until an empty line");
    assert_eq!(said("\\/a\n*b*\n<b>c</b>\n&sol;d\n`e`"), ["&sol;d"]);
}

#[test]
fn lines_and_names() {
    assert_eq!(line_for_prompt("[Bug]:\u{202e} `Vec<T>`\n\tis  slow ").text, "[Bug]: `Vec<T>` is slow");
    assert_eq!(line_for_posting("/a\nfixes\n#1 `@b`").text, "\\/a fixes issue #1 `＠b`");
    assert_eq!(name("a\u{200b}b\n::error::c\u{1b}[31m", 100), "ab ::error::c");
    assert_eq!((name("abcdef", 3).as_str(), name("abc", 3).as_str()), ("ab…", "abc"));
    let message = plain_for_posting("Fixes #1\n\n`@b` <!-- c -->\n/d\u{200b}\n");
    assert_eq!(message.text, "Fixes issue #1\n\n`＠b` <!-- c -->\n\\/d\n");
    assert_eq!(plain_for_posting("fixes~a/fixes!1").text, "fixes issue~a/fixes issue!1");
    let long = line_for_prompt(&"é ".repeat(LONGEST_LINE));
    assert_eq!((long.text.chars().count(), long.removed.of(Kind::Rest)), (LONGEST_LINE, 1));
    let grown = line_for_posting(&"fixes #1 ".repeat(200)).text;
    assert_eq!((grown.chars().count(), line_for_posting(&grown).text == grown), (LONGEST_LINE, true));
}

#[test]
fn a_text_without_end_is_cut_and_one_without_rest_is_left_out() {
    let long = for_prompt(&"é".repeat(LONGEST));
    assert_eq!((long.text.len(), long.removed.of(Kind::Rest)), (LONGEST, 1));
    // Each cleaning makes a new comment.
    let nested = format!("{}b{}", "<".repeat(200), "!-- -->".repeat(200));
    let left = for_prompt(&nested);
    assert!(left.removed.of(Kind::Text) == 1 && left.text.is_empty() || !left.text.contains("<!--"), "{left:?}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test looks at the clock")]
fn no_text_takes_long() {
    let texts = [
        "<",
        "<a ",
        "<a x='",
        "</",
        "</a",
        "<!--",
        "<?",
        "[",
        "![",
        "[](",
        "[a",
        "](b)",
        "[a]: b\n\n",
        "[^a]: \n",
        "&",
        "&amp;",
        "&amp",
        "-@a",
        "> ",
        "- ",
        "`",
        "*a ",
        "|a|b|\n|-|-|\n",
        "fixes ",
        "\n/a",
        "<<!-- -->!-- -->",
    ];
    let start = std::time::Instant::now();
    for text in texts {
        for head in ["", "<style>\n", "<div>\n</style "] {
            let text = format!("{head}{}", text.repeat((32 << 10) / text.len()));
            let _ = (for_prompt(&text), for_posting(&text), lines(&text));
        }
    }
    // A text whose time grows with its square takes more by itself.
    assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
}

/// Pieces that make trouble together.
const PIECES: &str = "(<!--|-->|<\\?|\\?>|<!|<a |title=|'|\"|>|</a>|<style>|</style>|hidden|<div>\n|</div>|!\\[|\\[|\\]|\\(|\\)|\\]\\(|\
     https://e.org|javascript:|&|&amp;|#|#8203;|#x200b;|shy;|&shy;|#64;|`|```|\n```\n|~~~|\n|\n\n|    |> |- |1. |\\||\\|--\\||\
     \n\\[a\\]: |\\[\\^1\\]|\n\\[\\^1\\]: |@|mona|fixes|closes|:| |#1|GH-1|a/b#1|!1|/|claude|\\*|_|\\\\|\u{200b}|\u{fe0f}|\u{e0041}|\r|\0|é|\\PC)";

/// What a forge takes for words, as it shows a text: not code, and entities as what they stand for.
fn shown(text: &str) -> String {
    use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
    let mut out = String::new();
    let mut in_code = false;
    for event in
        Parser::new_ext(text, Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES | Options::ENABLE_STRIKETHROUGH)
    {
        match event {
            Event::Start(Tag::CodeBlock(_)) => in_code = true,
            Event::End(TagEnd::CodeBlock) => in_code = false,
            Event::Text(_) if in_code => {}
            Event::Text(text) => out.push_str(&text),
            Event::SoftBreak | Event::HardBreak => out.push('\n'),
            // A forge looks into each piece by itself.
            _ => out.push('\u{1}'),
        }
    }
    out
}

/// A text of such pieces.
fn text() -> impl Strategy<Value = String> {
    let piece = proptest::string::string_regex(PIECES).expect("a pattern");
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_comes_out_goes_in_again_unchanged(text in text()) {
        for clean in [for_prompt, for_posting, plain_for_posting, line_for_prompt, line_for_posting] {
            let once = clean(&text);
            prop_assert!(!once.text.contains(invisible), "{:?}", once.text);
            let twice = clean(&once.text);
            prop_assert_eq!(&twice.text, &once.text);
            prop_assert!(twice.removed.is_empty(), "{}", twice.removed);
        }
    }

    #[test]
    fn nothing_acts_afterwards(text in text()) {
        let clean = for_posting(&text).text;
        let shown = shown(&clean);
        let acts = regex::Regex::new(r"(^|[^A-Za-z0-9])@[A-Za-z0-9]|\b(?i:fixes|closes)\b:?\s*(#1|(?i:GH-1|a/b#1)|!1)").expect("a pattern");
        prop_assert!(!acts.is_match(&shown), "{clean:?} is shown as {shown:?}");
        prop_assert!(!clean.lines().any(|line| line.starts_with("/claude")), "{clean:?}");
    }

    #[test]
    fn plain_words_stay(words in "([A-Za-z0-9é日.,;]{1,9} ){0,30}") {
        let words = words.trim();
        for clean in [for_prompt, for_posting, line_for_prompt, line_for_posting] {
            let out = clean(words);
            prop_assert_eq!(&out.text, words);
            prop_assert!(out.removed.is_empty());
        }
    }

    #[test]
    fn any_text_is_fine(text in "(?s).{0,300}") {
        let starts = lines(&text);
        prop_assert!(starts.is_sorted() && starts.iter().all(|at| text.is_char_boundary(*at)));
        prop_assert!(!for_posting(&for_prompt(&text).text).text.contains(invisible));
        prop_assert!(!name(&text, 20).contains(|c| invisible(c) || matches!(c, '\n' | '\t')));
    }
}
