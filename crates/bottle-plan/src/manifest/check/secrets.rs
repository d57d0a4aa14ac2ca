//! Whether a variable's value looks like a secret that was put into a manifest by mistake.

use crate::tokens::looks_like_secret;
use bottle_types::address::has_password;

/// No known token is shorter. Most values are (`info`, `1`), and making the rules ready takes longer than all other planning.
const SHORTEST_TOKEN: usize = 12;

/// The ends of names of variables that hold secrets.
const TELLING: [&str; 9] =
    ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "API_KEY", "APIKEY", "PRIVATE_KEY", "ACCESS_KEY", "CREDENTIALS"];

/// Whether a word by itself looks like a secret.
pub(in crate::manifest) fn looks_like_secret_value(value: &str) -> bool {
    looks_like_one("", value)
}

/// Whether the agent should not see this value.
pub(super) fn looks_like_one(name: &str, value: &str) -> bool {
    let value = value.trim();
    if value.contains("-----BEGIN ") && value.contains("PRIVATE KEY") {
        return true;
    }
    // A URL with a password in it.
    if let Some((_, rest)) = value.split_once("://")
        && let Some((userinfo, _)) = rest.split(['/', '?']).next().unwrap_or_default().rsplit_once('@')
        && userinfo.split_once(':').is_some_and(|(_, password)| !password.is_empty())
    {
        return true;
    }
    // Over http a user name alone may be a token; elsewhere it is none.
    if value.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http")) && has_password(value) {
        return true;
    }
    if value.len() >= SHORTEST_TOKEN && looks_like_secret(&format!("{name}={value}")) {
        return true;
    }
    if value.contains(char::is_whitespace) {
        return false;
    }
    let name = name.to_ascii_uppercase();
    let path_or_url = value.contains('/') && (value.starts_with(['/', '.', '~']) || value.contains("://"));
    TELLING.iter().any(|end| name.ends_with(end)) && value.len() >= 8 && !path_or_url
}

#[cfg(test)]
mod tests {
    use super::{SHORTEST_TOKEN, looks_like_one};

    #[test]
    fn no_known_token_is_shorter() {
        let rules: toml::Table =
            toml::from_str(include_str!("../../../../bottle-scan/src/dlp_rules.toml")).expect("rules");
        let rules = rules["rule"].as_array().expect("a list");
        assert!(rules.len() > 100);
        for rule in rules {
            let pattern =
                regex_syntax::ParserBuilder::new().utf8(false).build().parse(rule["regex"].as_str().expect("text"));
            let shortest = pattern.expect("a pattern").properties().minimum_len().expect("a length");
            assert!(shortest >= SHORTEST_TOKEN, "{rule:?}: {shortest}");
        }
    }

    #[test]
    fn tokens_are_told_from_settings() {
        // Put together here, so that no scanner takes this file for a leak.
        let filler = "aB3dE6gH9jK2mN5pQ8sT1vW4xY7zC0fLrUiO";
        for (name, value) in [
            ("X", format!("ghp_{filler}")),
            ("X", format!("-----BEGIN {} KEY-----\n{filler}", "OPENSSH PRIVATE")),
            ("DATABASE_URL", format!("postgres://app:{filler}@db.example/app")),
            ("DB_PASSWORD", "correct-horse".to_owned()),
            ("INDEX", "HTTPS://correct-horse@index.example.org/".to_owned()),
            ("INDEX", "https://me:correct/horse@index.example.org/".to_owned()),
        ] {
            assert!(looks_like_one(name, &value), "{name}");
        }
        for (name, value) in [
            ("RUST_LOG", "info"),
            ("TOKEN_FILE", "/run/token"),
            ("PASSWORD", ""),
            ("TOKEN", "/run/secrets/token"),
            ("URL", "https://docs.example.org/a@b"),
            ("SKIP", "sk-short"),
            ("DATABASE_URL", "postgres://app@db.example/app"),
            ("GREETING", "sk- is a prefix of nothing"),
        ] {
            assert!(!looks_like_one(name, value), "{name}");
        }
    }
}
