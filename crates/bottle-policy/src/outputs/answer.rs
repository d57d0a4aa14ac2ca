//! The schema of an agent's answer: what a schema may say, and whether an answer fits.
//!
//! Always: a schema refers to nothing but its own `$defs`, in no circle; its patterns are matched in linear time; a keyword
//! that is not known here is an error, since a validator would pass over it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use jsonschema::{Draft, PatternOptions, Validator};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::prose;

/// The largest schema, in bytes of JSON; the model reads it with every request.
pub const LONGEST_SCHEMA: usize = 32 << 10;
/// The largest answer, in bytes of JSON; longer than the longest message of a model.
pub const LONGEST_ANSWER: usize = 256 << 10;
/// So often an agent may hand in an answer that does not fit.
pub const ANSWER_TRIES: usize = 3;
/// The deepest schema, in schemas that stand in each other.
const DEEPEST: usize = 32;
/// The most schemas in a schema, each counted as often as it is referred to.
const MOST_SCHEMAS: u64 = 2000;
/// The largest automaton of a pattern, in bytes.
const LARGEST_PATTERN: usize = 1 << 20;
/// The most faults of an answer that are named.
const MOST_FAULTS: usize = 4;
/// The longest fault, in characters.
const LONGEST_FAULT: usize = 160;
/// The only dialect.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Keywords whose value is one schema.
const ONE: &[&str] = &["items", "contains", "additionalProperties", "propertyNames", "not", "if", "then", "else"];
/// Keywords whose value is a list of schemas.
const LIST: &[&str] = &["allOf", "anyOf", "oneOf", "prefixItems"];
/// Keywords whose value has a schema for each name.
const NAMED: &[&str] = &["properties", "patternProperties", "dependentSchemas"];
/// Keywords that have no schema in them.
const PLAIN: &[&str] = &[
    "title",
    "description",
    "default",
    "examples",
    "$comment",
    "deprecated",
    "readOnly",
    "writeOnly",
    "enum",
    "const",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minContains",
    "maxContains",
    "required",
    "minProperties",
    "maxProperties",
    "dependentRequired",
];
/// Keywords with the schemas that `$ref` may name.
const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];
/// Types of values.
const TYPES: [&str; 7] = ["null", "boolean", "object", "array", "number", "string", "integer"];
/// Formats that are checked.
const FORMATS: &[&str] =
    &["date", "date-time", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uri-reference", "uuid"];

/// The JSON Schema of an answer, as the manifest has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum AnswerSchema {
    /// The path of a JSON file of the base branch.
    File(String),
    /// The schema itself.
    Inline(Map<String, Value>),
}

impl<'de> Deserialize<'de> for AnswerSchema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FileOrSchema;
        impl<'de> Visitor<'de> for FileOrSchema {
            type Value = AnswerSchema;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the path of a JSON Schema in the repository, or a JSON Schema")
            }
            fn visit_str<E: Error>(self, path: &str) -> Result<AnswerSchema, E> {
                Ok(AnswerSchema::File(path.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<AnswerSchema, A::Error> {
                Map::deserialize(MapAccessDeserializer::new(map)).map(AnswerSchema::Inline)
            }
        }
        deserializer.deserialize_any(FileOrSchema)
    }
}

impl JsonSchema for AnswerSchema {
    fn schema_name() -> Cow<'static, str> {
        "AnswerSchema".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The JSON Schema (2020-12) of the agent's answer, or the path of its file in the base branch.",
            "type": ["string", "object"],
            "additionalProperties": true,
        })
    }
}

/// A fault of a schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", place(keys))]
pub struct SchemaError {
    /// The keys and indices to it.
    pub keys: Vec<String>,
    /// The fault.
    pub problem: String,
}

/// A place in a schema, in words that a message begins with; nothing for its top.
fn place(keys: &[String]) -> String {
    if keys.is_empty() { String::new() } else { format!("at /{}: ", keys.join("/")) }
}

impl AnswerSchema {
    /// Reads a file's text.
    pub fn read(text: &str) -> Result<Self, SchemaError> {
        let top = |problem: String| SchemaError { keys: vec![], problem };
        if text.len() > 2 * LONGEST_SCHEMA {
            return Err(top(too_long()));
        }
        let schema = serde_json::from_str(text).map_err(|error| top(format!("expected a JSON object: {error}")))?;
        let schema = Self::Inline(schema);
        schema.check().map(|()| schema)
    }

    /// Tells whether the schema can be kept. One in a file is not looked into.
    pub fn check(&self) -> Result<(), SchemaError> {
        match self {
            Self::File(_) => Ok(()),
            Self::Inline(_) => self.compile().map(drop),
        }
    }

    /// Compiles the schema.
    pub(super) fn compile(&self) -> Result<CompiledSchema, SchemaError> {
        let Self::Inline(schema) = self else {
            return Err(SchemaError { keys: vec![], problem: "the file of the schema was not read".to_owned() });
        };
        let schema = Value::Object(schema.clone());
        if schema.to_string().len() > LONGEST_SCHEMA {
            return Err(SchemaError { keys: vec![], problem: too_long() });
        }
        Walk { top: &schema, keys: vec![], entered: vec![], sizes: BTreeMap::new() }.all()?;
        let options = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .should_validate_formats(true)
            .should_ignore_unknown_formats(false)
            .with_pattern_options(PatternOptions::regex().size_limit(LARGEST_PATTERN).dfa_size_limit(LARGEST_PATTERN))
            .offline();
        let validator = options.build(&schema).map_err(|error| SchemaError {
            keys: error.instance_path().as_str().split('/').skip(1).map(unescaped).collect(),
            problem: prose::name(&error.to_string(), LONGEST_FAULT),
        })?;
        Ok(CompiledSchema(validator))
    }
}

fn too_long() -> String {
    format!("the schema is longer than {LONGEST_SCHEMA} bytes")
}

/// A part of a JSON pointer.
fn unescaped(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
}

/// A schema that answers are held against.
#[derive(Debug)]
pub(super) struct CompiledSchema(Validator);

impl CompiledSchema {
    /// Gives the faults of an answer in one line; none: it fits. Values are not repeated.
    pub(super) fn faults(&self, answer: &Value) -> Option<String> {
        let mut errors = self.0.iter_errors(answer);
        let mut faults: Vec<String> = vec![];
        for error in errors.by_ref().take(MOST_FAULTS) {
            let at = error.instance_path().as_str();
            let at = if at.is_empty() { "at the top".to_owned() } else { format!("at {at}") };
            let fault = format!("{at}: {}", error.masked_with("this value"));
            faults.push(prose::name(&fault, LONGEST_FAULT));
        }
        if errors.next().is_some() {
            faults.push("and more".to_owned());
        }
        (!faults.is_empty()).then(|| faults.join("; "))
    }
}

/// A definition: its keyword and its name.
type Definition<'s> = (&'static str, &'s str);

/// The size of a schema.
#[derive(Debug, Clone, Copy)]
struct Size {
    /// Schemas, each as often as it is referred to.
    count: u64,
    /// Schemas in each other.
    height: usize,
}

impl Size {
    const NOTHING: Self = Self { count: 0, height: 0 };

    fn with(self, other: Self) -> Self {
        Self { count: self.count.saturating_add(other.count), height: self.height.max(other.height) }
    }
}

/// A walk through every schema of a schema.
struct Walk<'s> {
    top: &'s Value,
    /// The keys to where it stands.
    keys: Vec<String>,
    /// The definitions that it has gone into.
    entered: Vec<Definition<'s>>,
    /// The definitions that it has come out of.
    sizes: BTreeMap<Definition<'s>, Size>,
}

impl<'s> Walk<'s> {
    fn all(mut self) -> Result<(), SchemaError> {
        let mut size = self.schema(self.top, 1)?;
        // Those that nothing refers to are compiled as well.
        for key in DEFINITIONS {
            for (name, schema) in self.top.get(key).and_then(Value::as_object).into_iter().flatten() {
                size = size.with(self.definition((key, name), schema, 1)?);
            }
        }
        if size.count > MOST_SCHEMAS {
            return Err(self.wrong(&format!(
                "more than {MOST_SCHEMAS} schemas are in it, each counted as often as it is referred to"
            )));
        }
        Ok(())
    }

    fn wrong(&self, problem: &str) -> SchemaError {
        SchemaError { keys: self.keys.clone(), problem: problem.to_owned() }
    }

    fn too_deep(&self) -> SchemaError {
        self.wrong(&format!("more than {DEEPEST} schemas stand in each other"))
    }

    /// Goes into a key, and does something there.
    fn below(
        &mut self,
        key: &str,
        visit: impl FnOnce(&mut Self) -> Result<Size, SchemaError>,
    ) -> Result<Size, SchemaError> {
        self.keys.push(key.to_owned());
        let size = visit(self)?;
        self.keys.pop();
        Ok(size)
    }

    /// Measures a schema and those in it.
    fn schema(&mut self, schema: &'s Value, depth: usize) -> Result<Size, SchemaError> {
        let fields = match schema {
            Value::Bool(_) => return Ok(Size { count: 1, height: 1 }),
            Value::Object(fields) => fields,
            _ => return Err(self.wrong("expected a schema: an object, true or false")),
        };
        if depth > DEEPEST {
            return Err(self.too_deep());
        }
        let mut size = Size::NOTHING;
        for (key, value) in fields {
            size = size.with(self.below(key, |walk| walk.keyword(key, value, depth))?);
        }
        Ok(Size { count: size.count.saturating_add(1), height: size.height + 1 })
    }

    /// Measures the schemas of a keyword.
    fn keyword(&mut self, key: &str, value: &'s Value, depth: usize) -> Result<Size, SchemaError> {
        let is_top = depth == 1 && self.entered.is_empty();
        match (key, value) {
            ("$schema", Value::String(dialect)) if is_top && dialect.trim_end_matches('#') == DIALECT => {
                Ok(Size::NOTHING)
            }
            ("$schema", _) => Err(self.wrong(&format!("expected {DIALECT}, at the top alone"))),
            (key, Value::Object(_)) if DEFINITIONS.contains(&key) && is_top => Ok(Size::NOTHING),
            (key, _) if DEFINITIONS.contains(&key) => {
                Err(self.wrong("expected a schema for each name, at the top alone"))
            }
            ("$ref", Value::String(reference)) => self.reference(reference, depth),
            ("format", Value::String(format)) if FORMATS.contains(&format.as_str()) => Ok(Size::NOTHING),
            ("format", _) => Err(self.wrong(&format!("expected one of {}", FORMATS.join(", ")))),
            ("type", value) if is_type(value) => Ok(Size::NOTHING),
            ("type", _) => Err(self.wrong(&format!("expected one of {}, or a list of them", TYPES.join(", ")))),
            (key, _) if PLAIN.contains(&key) => Ok(Size::NOTHING),
            (key, schema) if ONE.contains(&key) => self.schema(schema, depth + 1),
            (key, Value::Array(list)) if LIST.contains(&key) => {
                let mut size = Size::NOTHING;
                for (index, schema) in list.iter().enumerate() {
                    size = size.with(self.below(&index.to_string(), |walk| walk.schema(schema, depth + 1))?);
                }
                Ok(size)
            }
            (key, Value::Object(names)) if NAMED.contains(&key) => {
                let mut size = Size::NOTHING;
                for (name, schema) in names {
                    size = size.with(self.below(name, |walk| walk.schema(schema, depth + 1))?);
                }
                Ok(size)
            }
            (key, _) if LIST.contains(&key) => Err(self.wrong("expected a list of schemas")),
            (key, _) if NAMED.contains(&key) => Err(self.wrong("expected a schema for each name")),
            _ => Err(self.wrong("this keyword is not known here")),
        }
    }

    /// Measures a definition that is referred to.
    fn reference(&mut self, reference: &'s str, depth: usize) -> Result<Size, SchemaError> {
        let outside = "expected #/$defs/NAME, where NAME is one of the schema's own definitions";
        let pointer = reference.strip_prefix("#/").and_then(|pointer| pointer.split_once('/'));
        let found = pointer.and_then(|(key, name)| {
            let key = DEFINITIONS.into_iter().find(|known| *known == key)?;
            Some(((key, name), self.top.get(key)?.get(name)?))
        });
        let Some((definition, schema)) = found else { return Err(self.wrong(outside)) };
        if self.entered.contains(&definition) {
            return Err(self.wrong("this definition refers to itself; a schema has to end"));
        }
        self.definition(definition, schema, depth + 1)
    }

    fn definition(&mut self, definition: Definition<'s>, schema: &'s Value, depth: usize) -> Result<Size, SchemaError> {
        let (key, name) = definition;
        if !is_name(name) {
            self.keys = vec![key.to_owned(), name.to_owned()];
            return Err(self.wrong("expected a name of letters, digits, `_`, `-` and `.`"));
        }
        let size = match self.sizes.get(&definition) {
            Some(size) => *size,
            None => {
                // A fault in a definition is shown where that stands.
                let came_from = std::mem::replace(&mut self.keys, vec![key.to_owned(), name.to_owned()]);
                self.entered.push(definition);
                let size = self.schema(schema, depth)?;
                self.entered.pop();
                self.keys = came_from;
                self.sizes.insert(definition, size);
                size
            }
        };
        if depth + size.height > DEEPEST + 1 { Err(self.too_deep()) } else { Ok(size) }
    }
}

fn is_type(value: &Value) -> bool {
    let one = |value: &Value| value.as_str().is_some_and(|name| TYPES.contains(&name));
    match value {
        Value::Array(list) => !list.is_empty() && list.iter().all(one),
        one_alone => one(one_alone),
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

/// An answer as the text of a file: JSON without a line end in it, in which nothing hides and no program's command is one.
pub fn answer_text(answer: &Value) -> String {
    let mut text = String::new();
    for c in answer.to_string().chars() {
        // Such characters stand in texts alone, where an escape means the same.
        if c.is_control() || prose::invisible(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            text.push(c);
        }
    }
    text
}

/// Every text of an answer that is searched for secrets: the whole, and each name and text without what JSON makes of it.
pub(super) fn texts(answer: &Value) -> Vec<Cow<'_, str>> {
    let mut texts = vec![Cow::Owned(answer.to_string())];
    collect(answer, &mut texts);
    texts
}

fn collect<'v>(value: &'v Value, texts: &mut Vec<Cow<'v, str>>) {
    match value {
        Value::String(text) => texts.push(Cow::Borrowed(text)),
        Value::Array(list) => list.iter().for_each(|value| collect(value, texts)),
        Value::Object(fields) => {
            for (name, value) in fields {
                texts.push(Cow::Borrowed(name));
                collect(value, texts);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
