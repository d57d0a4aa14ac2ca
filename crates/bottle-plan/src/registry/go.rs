//! go: `go env`, which knows its defaults, the environment and the user's own file.

use std::collections::BTreeMap;

use super::{NoAnswer, Registries, RegistryUrl, Role, ToolAnswer};

/// Reads `go env -json GOPROXY GOSUMDB GONOSUMDB GONOPROXY`.
pub fn read(json: &str) -> ToolAnswer {
    let hint = "see what `go env GOPROXY` says";
    let env: BTreeMap<String, String> = serde_json::from_str(json)
        .map_err(|error| NoAnswer::new(format!("`go env -json` on this host gave no JSON: {error}"), hint))?;
    let get = |name: &str| env.get(name).map(String::as_str).unwrap_or_default();
    let mut all = Registries::default();
    // `,` goes on after "not found", `|` after any error: both are kept.
    let mut proxies = String::new();
    for part in get("GOPROXY").split_inclusive([',', '|']) {
        let (word, end) = match part.strip_suffix([',', '|']) {
            Some(word) => (word.trim(), &part[part.len() - 1..]),
            None => (part.trim(), ""),
        };
        match word {
            "" | "off" => {}
            "direct" => all.left_out.push(
                "GOPROXY's `direct` means fetching from each module's own repository: in the bottle modules come from the \
                 proxies alone"
                    .to_owned(),
            ),
            url => {
                all.add(url, "GOPROXY", Role::Main);
                if let Ok(url) = RegistryUrl::parse(url) {
                    proxies.push_str(&format!("{url}{end}"));
                }
            }
        }
    }
    all.env.insert("GOPROXY".to_owned(), proxies.trim_end_matches([',', '|']).to_owned());
    let sums = get("GOSUMDB");
    match (sums, sums.split_once(' ')) {
        ("" | "off", _) => {}
        (_, Some((_, url))) => all.add(url.trim(), "GOSUMDB", Role::Files),
        // A database without an address is at its name; a key may stand behind it.
        (name, None) => {
            let host = name.split('+').next().unwrap_or_default();
            all.add(&format!("https://{host}"), "GOSUMDB", Role::Files);
        }
    }
    let private = get("GONOPROXY");
    if !private.is_empty() && private != "none" {
        all.left_out.push(format!("GONOPROXY ({private}): these modules are fetched from their repositories"));
    }
    for name in ["GOSUMDB", "GONOSUMDB"] {
        if !get(name).is_empty() {
            all.env.insert(name.to_owned(), super::without_userinfo(get(name)));
        }
    }
    if !all.found.iter().any(|registry| registry.role == Role::Main) {
        all.found.clear();
    }
    all.or_nothing("go", "set a proxy: go env -w GOPROXY=URL")
}
