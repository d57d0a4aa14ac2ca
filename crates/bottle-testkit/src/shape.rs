//! Shapes of types, rendered from their JSON Schema, and held against a committed file.
//!
//! A struct is an object: a key with `?` may be missing, and `? always written` says that our own writer never leaves it out;
//! a default follows its type; `*` stands for keys that a reader skips. An enum is a list of its variants. The renderer knows
//! the keywords that our types need, and panics on any other: nothing is left out in silence.
//!
//! `bottle-wire` holds the wire by this module, and `bottle-plan` the plan.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// Shapes by the type's name.
pub type Shapes = BTreeMap<String, Value>;

/// The shapes of the types that `register` names to a generator, and of all that these are made of.
pub fn shapes(register: impl Fn(&mut SchemaGenerator)) -> Shapes {
    let definitions = |settings: SchemaSettings| {
        let mut generator = settings.into_generator();
        register(&mut generator);
        generator.take_definitions(true)
    };
    let read = definitions(SchemaSettings::draft2020_12().for_deserialize());
    let written = definitions(SchemaSettings::draft2020_12().for_serialize());
    read.iter().map(|(name, schema)| (name.clone(), shape(name, schema, &written[name]))).collect()
}

/// One schema as it is read, beside the same as it is written.
fn shape(at: &str, read: &Value, written: &Value) -> Value {
    let Value::Object(read) = read else {
        assert!(*read == json!(true), "{at}: {read} is no schema that this renderer knows");
        return json!("anything");
    };
    const KNOWN: [&str; 18] = [
        "$ref",
        "additionalProperties",
        "anyOf",
        "const",
        "default",
        "description",
        "enum",
        "format",
        "items",
        "maximum",
        "minimum",
        "oneOf",
        "properties",
        "required",
        "title",
        "type",
        "uniqueItems",
        "writeOnly",
    ];
    for key in read.keys() {
        assert!(KNOWN.contains(&key.as_str()), "{at}: the renderer does not know `{key}`: teach it, then render anew");
    }
    if let Some(Value::Array(variants)) = read.get("oneOf").or_else(|| read.get("anyOf")) {
        let written = written.get("oneOf").or_else(|| written.get("anyOf")).and_then(Value::as_array);
        let written = written.unwrap_or_else(|| panic!("{at}: it is a choice when it is read, and none when written"));
        assert_eq!(variants.len(), written.len(), "{at}: variants that are read, and those that are written");
        let both = variants.iter().zip(written);
        let shapes: Vec<Value> = both.map(|(read, written)| shape(at, read, written)).collect();
        let texts: Option<Vec<&str>> = shapes.iter().map(Value::as_str).collect();
        return match texts {
            Some(texts) if read.contains_key("anyOf") => json!(texts.join(" | ")),
            _ => Value::Array(shapes),
        };
    }
    // A struct without a field has no list of them.
    if read.get("additionalProperties") == Some(&json!(false)) && !read.contains_key("properties") {
        return object(at, read, &Map::new(), written);
    }
    if let Some(Value::Object(properties)) = read.get("properties") {
        return object(at, read, properties, written);
    }
    json!(text(at, read, written))
}

/// A struct, or a variant with fields.
fn object(at: &str, read: &Map<String, Value>, properties: &Map<String, Value>, written: &Value) -> Value {
    let required = |schema: Option<&Value>| -> BTreeSet<String> {
        let names = schema.and_then(Value::as_array).into_iter().flatten();
        names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
    };
    let (needed, always) = (required(read.get("required")), required(written.get("required")));
    let mut shapes = Map::new();
    for (name, field) in properties {
        let at = format!("{at}.{name}");
        let mut key = name.clone();
        match (needed.contains(name), always.contains(name)) {
            (true, true) => {}
            (false, true) => key.push_str("? always written"),
            (false, false) => key.push('?'),
            (true, false) => panic!("{at}: a writer may leave it out, and a reader needs it"),
        }
        let inner = shape(&at, field, &written["properties"][name]);
        let inner = match (field.get("default"), inner) {
            (None | Some(Value::Null), inner) => inner,
            (Some(default), Value::String(text)) => json!(format!("{text} = {default}")),
            (Some(default), inner) => json!({ "of": inner, "default": default }),
        };
        shapes.insert(key, inner);
    }
    match read.get("additionalProperties") {
        Some(Value::Bool(false)) => {}
        None => drop(shapes.insert("*".to_owned(), json!("skipped"))),
        Some(other) => panic!("{at}: a struct with other keys besides its own: {other}"),
    }
    Value::Object(shapes)
}

/// All that fits in a few words: a reference, a scalar, a list, a map.
fn text(at: &str, read: &Map<String, Value>, written: &Value) -> String {
    let inner = |key: &str| match shape(at, &read[key], written.get(key).unwrap_or(&Value::Null)) {
        Value::String(text) => text,
        other => other.to_string(),
    };
    if let Some(Value::String(reference)) = read.get("$ref") {
        return reference.trim_start_matches("#/$defs/").to_owned();
    }
    if let Some(constant) = read.get("const") {
        return constant.to_string();
    }
    if let Some(Value::Array(values)) = read.get("enum") {
        return values.iter().map(Value::to_string).collect::<Vec<_>>().join(" | ");
    }
    let kinds: Vec<&str> = match read.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        None => return "anything".to_owned(),
        Some(other) => panic!("{at}: the type {other}"),
    };
    let named = kinds.iter().map(|kind| match (*kind, read.get("format").and_then(Value::as_str)) {
        ("array", _) => format!("[{}]", inner("items")),
        ("object", _) => format!("{{*: {}}}", inner("additionalProperties")),
        ("null" | "boolean", _) | (_, None) => (*kind).to_owned(),
        (kind, Some(format)) => format!("{kind} ({format})"),
    });
    named.collect::<Vec<_>>().join(" | ")
}

/// How one file's shapes stand to what is committed.
#[derive(Debug, PartialEq)]
pub enum Held {
    /// The same.
    Same,
    /// There is no file of this version yet.
    New,
}

/// Compares shapes with those of a committed file; the error says which type has changed, and what follows from it.
pub fn compare(file: &str, version: u32, committed: Option<&str>, shapes: &Shapes) -> Result<Held, String> {
    let Some(committed) = committed else { return Ok(Held::New) };
    let committed: Shapes = serde_json::from_str(committed).map_err(|error| format!("{file}: {error}"))?;
    let names: BTreeSet<&String> = committed.keys().chain(shapes.keys()).collect();
    let changed = names.into_iter().filter_map(|name| match (committed.get(name), shapes.get(name)) {
        (Some(was), Some(is)) if was == is => None,
        (Some(was), Some(is)) => Some(format!("{name} has changed:\n  was {was}\n  is  {is}")),
        (Some(_), None) => Some(format!("{name} is gone")),
        (None, _) => Some(format!("{name} is new")),
    });
    let changed: Vec<String> = changed.collect();
    if changed.is_empty() {
        return Ok(Held::Same);
    }
    let (next, changed) = (version + 1, changed.join("\n"));
    Err(format!(
        "{changed}\n{file} is frozen: a change of the wire needs VERSION {next} in bottle-wire and new files for it \
         (UPDATE_FIXTURES=1 writes those), and version {version} must still be read"
    ))
}

/// Holds shapes against `<stem>-v<version>.json` in a crate's directory, and looks for the files of the versions before it.
/// Where UPDATE_FIXTURES is set, a file that is not there is written; one that is there is never written again.
pub fn hold(dir: &Path, stem: &str, version: u32, shapes: &Shapes) -> Result<(), String> {
    let name = |version: u32| format!("{stem}-v{version}.json");
    for version in 1..version {
        if !dir.join(name(version)).is_file() {
            return Err(format!("{} is missing: the shapes of a version stay", name(version)));
        }
    }
    let path = dir.join(name(version));
    match compare(&name(version), version, std::fs::read_to_string(&path).ok().as_deref(), shapes)? {
        Held::Same => Ok(()),
        Held::New if std::env::var_os("UPDATE_FIXTURES").is_some() => {
            let text = serde_json::to_string_pretty(shapes).map_err(|error| error.to_string())?;
            std::fs::write(&path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))
        }
        Held::New => {
            Err(format!("{} is missing: run the test with UPDATE_FIXTURES=1 and commit the file", name(version)))
        }
    }
}
