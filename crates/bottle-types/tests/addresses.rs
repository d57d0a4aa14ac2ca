//! Each case of `addresses.toml` is a text; what is shown of it has no password and no token in it.

use bottle_types::address::{Address, has_password, passwords, userinfo, without_userinfo};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    text: String,
    shown: Option<String>,
    #[serde(default)]
    secret: Vec<String>,
}

#[test]
fn no_password_is_shown() {
    let file: File = toml::from_str(include_str!("addresses.toml")).unwrap_or_else(|error| panic!("{error}"));
    assert!(file.case.len() >= 35, "{}", file.case.len());
    for Case { name, text, shown, secret } in file.case {
        let expected = shown.as_deref().unwrap_or(&text);
        assert_eq!(without_userinfo(&text), expected, "{name}");
        // What is clean stays so, and what is shown of an address kept whole is the same.
        assert_eq!(without_userinfo(expected), expected, "{name}: once more");
        assert_eq!(Address::new(&text).to_string(), expected, "{name}");
        assert_eq!(format!("{:?}", Address::new(&text)), format!("Address({expected})"), "{name}");
        assert_eq!(has_password(&text), shown.is_some(), "{name}");
        let found = passwords(&text);
        assert_eq!(found, secret, "{name}");
        for value in &secret {
            assert!(!expected.contains(value.as_str()), "{name}: {value}");
        }
    }
}

#[test]
fn no_text_is_too_strange() {
    use proptest::prelude::*;
    proptest!(|(text in "(https?://|ssh://|[a-z]{1,3}|:|@|/|\\\\|#|\\.|'|\"|\\(| |é|\u{200b}|[0-9]){0,24}")| {
        let shown = without_userinfo(&text);
        prop_assert!(shown.len() <= text.len());
        let _ = passwords(&text);
    });
    // A password never shows, whatever stands around the address. One of digits and a slash is left out: it reads as a port and a path.
    proptest!(|(before in "[ a-z'(]{0,6}", scheme in "(https|http|ssh|HTTPS|git\\+ssh)", password in "[a-z][a-z0-9]{2}[@/#:%!]?Zq[a-z0-9]{4}", after in "[ a-z')/]{0,6}")| {
        let text = format!("{before} {scheme}://me:{password}@git.example.org/x{after}");
        prop_assert!(!without_userinfo(&text).contains("Zq"), "{}", without_userinfo(&text));
        prop_assert!(passwords(&text).iter().any(|found| found.contains("Zq")));
    });
}

#[test]
fn userinfo_is_what_stands_before_the_last_sign_of_the_authority() {
    let with = |user: &str, password: Option<&str>| Some((user.to_owned(), password.map(str::to_owned)));
    for (url, found) in [
        ("http://me:pass@proxy.example:3128", with("me", Some("pass"))),
        ("http://me:p%40s%3as@proxy.example:3128/", with("me", Some("p@s:s"))),
        ("http://me:p@s@proxy.example:3128", with("me", Some("p@s"))),
        ("http://me:a:b@[::1]:3128", with("me", Some("a:b"))),
        ("http://me@proxy.example:3128", with("me", None)),
        ("http://:pass@proxy.example:3128", with("", Some("pass"))),
        ("me:pass@proxy.example:3128", with("me", Some("pass"))),
        ("http://proxy.example:3128/@", None),
        ("http://proxy.example:3128", None),
    ] {
        assert_eq!(userinfo(url), found, "{url}");
    }
}
