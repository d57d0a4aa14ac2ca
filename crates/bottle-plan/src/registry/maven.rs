//! Maven: what it says when it may not go out, and the mirrors and repositories of its settings.

use quick_xml::events::Event;

use super::{NoAnswer, Registries, Role, ToolAnswer};

/// Reads what `mvn -o help:evaluate` with an empty local repository says (it names the repositories that it would have
/// asked), and the `settings.xml` files, each with its path.
pub fn read(said: &str, settings: &[(String, String)]) -> ToolAnswer {
    let mut all = Registries::default();
    for (file, text) in settings {
        for (kind, id, url) in places(text) {
            let from = format!("{file}, {kind} `{id}`");
            let role = if kind == "mirror" { Role::Main } else { Role::Named(id) };
            all.add(&url, &from, role);
        }
    }
    // `… available from the repositories [local (/x), central (https://…/maven2)] …`
    if let Some((_, rest)) = said.split_once("available from the repositories [")
        && let Some((list, _)) = rest.split_once(']')
    {
        for entry in list.split("), ") {
            if let Some((id, url)) = entry.trim_end_matches(')').split_once(" (")
                && id != "local"
                && all.found.iter().all(|one| one.url.to_string() != super::without_userinfo(url))
            {
                all.add(url, &format!("mvn's own list of repositories, `{id}`"), Role::Default);
            }
        }
    }
    if all.found.is_empty() && all.left_out.is_empty() {
        let line = said.lines().find(|line| line.contains("ERROR")).unwrap_or("it said nothing").trim();
        return Err(NoAnswer::new(
            format!("mvn on this host names no repository: {line}"),
            "see what `mvn -o help:evaluate` says",
        ));
    }
    all.or_nothing("maven", "see its settings.xml")
}

/// Kind, id and address of each mirror and repository.
fn places(text: &str) -> Vec<(&'static str, String, String)> {
    let mut reader = quick_xml::Reader::from_str(text);
    let mut found = vec![];
    let (mut path, mut kind, mut id, mut url, mut blocked) = (vec![], None, String::new(), String::new(), false);
    loop {
        match reader.read_event() {
            Ok(Event::Start(tag)) => {
                let name = String::from_utf8_lossy(tag.local_name().as_ref()).into_owned();
                match name.as_str() {
                    "mirror" => kind = Some("mirror"),
                    "repository" => kind = Some("repository"),
                    "pluginRepository" => kind = Some("plugin repository"),
                    _ => {}
                }
                path.push(name);
            }
            Ok(Event::Text(words)) => {
                let words = words.decode().unwrap_or_default().trim().to_owned();
                match path.last().map(String::as_str) {
                    Some("id") if kind.is_some() && id.is_empty() => id = words,
                    Some("url") if kind.is_some() => url = words,
                    // A mirror that only keeps others from being asked.
                    Some("blocked") => blocked = words == "true",
                    _ => {}
                }
            }
            Ok(Event::End(_)) => {
                let name = path.pop();
                if matches!(name.as_deref(), Some("mirror" | "repository" | "pluginRepository"))
                    && let Some(kind) = kind.take()
                {
                    let place = (kind, std::mem::take(&mut id), std::mem::take(&mut url));
                    if !std::mem::take(&mut blocked) {
                        found.push(place);
                    }
                }
            }
            Ok(Event::Eof) | Err(_) => return found,
            Ok(_) => {}
        }
    }
}
