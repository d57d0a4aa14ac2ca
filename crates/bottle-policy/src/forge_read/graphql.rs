//! Queries of GraphQL: parsed, expanded, held against what is known of the schema, and written anew.
//!
//! Always: the query that goes has one operation, with no name, fragment's name or directive in it; a repository is named in it by a text
//! of the manifest's, never by a variable. Where an object has words of its author, the author is asked for, too.

use std::collections::{BTreeMap, BTreeSet};

use graphql_parser::query::{self as parsed, Definition, OperationDefinition, Selection, TypeCondition};
use serde_json::{Map, Value as Json};

use super::answer::Expected;
use super::schema::{SCHEMA, Target, Type};
use super::{ForgeReadRules, ForgeRefusal, ForgeRequest, ForgeRule, Judged, MAX_QUERY_BYTES, search, shown};
use crate::strict_json;

/// So deep may a query's braces, brackets and parentheses be nested, before it is parsed and after fragments are in place.
const MAX_DEPTH: usize = 24;
/// So many fields may it have when each fragment stands where it is used.
const MAX_FIELDS: usize = 1000;
/// So many objects may it ask for at most: `first` and `last` of all levels multiplied.
const MAX_OBJECTS: u64 = 200_000;
/// What a connection has at most, and what is reckoned where none is said.
const MAX_PAGE: u64 = 100;
/// Names that begin so are the door's own.
const OWN: &str = "bottle";
/// By which names the door asks for an object's author, the author's association, and the repository.
pub(super) const AUTHOR: &str = "bottleAuthor";
pub(super) const ASSOCIATION: &str = "bottleAssociation";
pub(super) const REPOSITORY: &str = "bottleRepository";
/// Types whose fields may be asked for by name, as gh does to learn what a server knows.
const DESCRIBED: [&str; 8] = [
    "Issue",
    "PullRequest",
    "Repository",
    "StatusCheckRollupContextConnection",
    "WorkflowRun",
    "Release",
    "CheckRun",
    "PullRequestReview",
];
/// Arguments of fields below the repository: which of its objects, in which order, how many. `first` and `last` are judged besides.
const ARGUMENTS: [&str; 23] = [
    "number",
    "first",
    "last",
    "after",
    "before",
    "states",
    "orderBy",
    "filterBy",
    "labels",
    "baseRefName",
    "headRefName",
    "tagName",
    "name",
    "query",
    "expression",
    "oid",
    "qualifiedName",
    "refPrefix",
    "direction",
    "author",
    "includeDeprecated",
    "pullRequestId",
    "pullRequestNumber",
];

type Parsed<'a> = parsed::SelectionSet<'a, &'a str>;
type Field<'a> = parsed::Field<'a, &'a str>;
type Query<'a> = parsed::Query<'a, &'a str>;
type Value<'a> = parsed::Value<'a, &'a str>;
type Variables<'a> = BTreeMap<&'a str, Option<Json>>;

/// What was selected of an object, by which its answer is read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Selected {
    /// By which name it is in the answer.
    pub(super) key: String,
    /// Whether it has words of people.
    pub(super) is_text: bool,
    /// Whether none but those who may write make such an object.
    pub(super) is_of_writers: bool,
    /// Whether an answer's object is one that a search has found, which has to say of which repository it is.
    pub(super) is_found: bool,
    /// What was selected below.
    pub(super) below: Vec<Selected>,
}

fn refusal(rule: ForgeRule, message: impl Into<String>) -> ForgeRefusal {
    ForgeRefusal::new(rule, message)
}

/// Judges a query's request.
pub(super) fn judge(rules: &ForgeReadRules, request: ForgeRequest<'_>) -> Result<Judged, ForgeRefusal> {
    if request.method != "POST" {
        return Err(refusal(ForgeRule::Method, "a query is posted, as JSON in the body"));
    }
    if request.query.is_some() {
        return Err(refusal(ForgeRule::Parameter, "a query stands in the body, and not behind `?`"));
    }
    let body = Body::read(request.body)?;
    check_depth(&body.query)?;
    let document = graphql_parser::parse_query::<&str>(&body.query)
        .map_err(|_| refusal(ForgeRule::Document, "the query can't be parsed"))?;
    let mut fragments = BTreeMap::new();
    let mut operations = vec![];
    for definition in document.definitions {
        match definition {
            Definition::Operation(operation) => operations.push(operation),
            Definition::Fragment(fragment) if !fragment.directives.is_empty() => return Err(no_directives()),
            Definition::Fragment(fragment) => {
                let TypeCondition::On(on) = fragment.type_condition;
                if fragments.insert(fragment.name, (on, fragment.selection_set)).is_some() {
                    return Err(refusal(ForgeRule::Document, "two fragments have one name"));
                }
            }
        }
    }
    let query = only_query(operations, body.operation.as_deref())?;
    let variables = variables(&query, &body.variables)?;
    let mut writer = Writer {
        rules,
        fragments: &fragments,
        variables: &variables,
        open: vec![],
        unused: fragments.keys().copied().collect(),
        used: BTreeSet::new(),
        fields: 0,
        objects: 0,
        written: String::new(),
    };
    let selected = writer.root(&query.selection_set)?;
    if let Some(name) = writer.unused.first() {
        return Err(refusal(ForgeRule::Document, format!("the fragment {} is not used", shown(name))));
    }
    let declared: Vec<String> = query
        .variable_definitions
        .iter()
        .filter(|definition| writer.used.contains(definition.name))
        .map(|definition| {
            let default = definition.default_value.as_ref().map(literal).transpose()?;
            let default = default.map(|value| format!(" = {value}")).unwrap_or_default();
            Ok(format!("${}: {}{default}", definition.name, definition.var_type))
        })
        .collect::<Result<_, ForgeRefusal>>()?;
    let declared = if declared.is_empty() { String::new() } else { format!("({})", declared.join(", ")) };
    let sent: Map<String, Json> =
        body.variables.into_iter().filter(|(name, _)| writer.used.contains(name.as_str())).collect();
    let body = serde_json::json!({ "query": format!("query{declared} {}", writer.written), "variables": sent });
    Ok(Judged {
        target: request.path.to_owned(),
        accept: "application/json",
        body: Some(body.to_string().into_bytes()),
        may_lead_elsewhere: false,
        answer: Expected::Query(selected),
    })
}

/// A query's body.
struct Body {
    query: String,
    operation: Option<String>,
    variables: Map<String, Json>,
}

impl Body {
    fn read(body: &[u8]) -> Result<Self, ForgeRefusal> {
        let wrong = |message: String| refusal(ForgeRule::Body, message);
        if body.len() > MAX_QUERY_BYTES {
            return Err(wrong(format!("a query of more than {MAX_QUERY_BYTES} bytes")));
        }
        let value = strict_json::parse(body).map_err(|error| wrong(format!("not JSON that can be judged: {error}")))?;
        let Json::Object(mut body) = value else {
            return Err(wrong("one query at a time, as a JSON object".to_owned()));
        };
        let query = match body.remove("query") {
            Some(Json::String(query)) => query,
            _ => return Err(wrong("`query` is not a text: the whole query is sent each time".to_owned())),
        };
        let operation = match body.remove("operationName") {
            None | Some(Json::Null) => None,
            Some(Json::String(name)) => Some(name),
            Some(_) => return Err(wrong("`operationName` is not a text".to_owned())),
        };
        let variables = match body.remove("variables") {
            None | Some(Json::Null) => Map::new(),
            Some(Json::Object(variables)) => variables,
            Some(_) => return Err(wrong("`variables` is not a mapping".to_owned())),
        };
        match body.keys().next() {
            Some(key) => {
                Err(wrong(format!("{} is no key of a query: `query`, `variables`, `operationName`", shown(key))))
            }
            None => Ok(Self { query, operation, variables }),
        }
    }
}

/// Refuses what is nested deeper than the parser should have to follow, whatever is in texts.
fn check_depth(query: &str) -> Result<(), ForgeRefusal> {
    let mut depth = 0_usize;
    for byte in query.bytes() {
        match byte {
            b'{' | b'[' | b'(' => depth += 1,
            b'}' | b']' | b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH * 2 {
            return Err(too_deep());
        }
    }
    Ok(())
}

fn too_deep() -> ForgeRefusal {
    refusal(ForgeRule::Cost, format!("a query is at most {MAX_DEPTH} levels deep"))
}

fn no_directives() -> ForgeRefusal {
    refusal(ForgeRule::Document, "a query has no directives here: leave out what is not wanted")
}

/// The one operation, which has to be a query.
fn only_query<'a>(
    mut operations: Vec<OperationDefinition<'a, &'a str>>,
    name: Option<&str>,
) -> Result<Query<'a>, ForgeRefusal> {
    let wrong = |message: &str| Err(refusal(ForgeRule::Operation, message));
    let (Some(operation), None) = (operations.pop(), operations.pop()) else {
        return wrong("a document has one operation, a query");
    };
    let query = match operation {
        OperationDefinition::Query(query) => query,
        OperationDefinition::SelectionSet(selection_set) => Query {
            position: selection_set.span.0,
            name: None,
            variable_definitions: vec![],
            directives: vec![],
            selection_set,
        },
        OperationDefinition::Mutation(_) => return wrong("a mutation writes, and the forge is read here"),
        OperationDefinition::Subscription(_) => return wrong("a subscription is no query"),
    };
    if !query.directives.is_empty() {
        return Err(no_directives());
    }
    match name {
        Some(name) if query.name != Some(name) => wrong("`operationName` is not the name of the query"),
        _ => Ok(query),
    }
}

/// The value of each declared variable: what was given, else its default; none: neither.
fn variables<'a>(query: &Query<'a>, given: &Map<String, Json>) -> Result<Variables<'a>, ForgeRefusal> {
    let mut values = Variables::new();
    for definition in &query.variable_definitions {
        let value = match (given.get(definition.name), &definition.default_value) {
            (Some(value), _) => Some(value.clone()),
            (None, Some(default)) => Some(constant(default)?),
            (None, None) => None,
        };
        if values.insert(definition.name, value).is_some() {
            return Err(refusal(ForgeRule::Document, "two variables have one name"));
        }
    }
    Ok(values)
}

/// A value without variables, as JSON. A name of an enumeration is a text there, as in variables.
fn constant(value: &Value<'_>) -> Result<Json, ForgeRefusal> {
    let float = |float: f64| serde_json::Number::from_f64(float).map(Json::Number);
    Ok(match value {
        Value::Int(int) => int.as_i64().map_or(Json::Null, Json::from),
        Value::Float(value) => float(*value).unwrap_or(Json::Null),
        Value::String(text) => Json::from(text.as_str()),
        Value::Enum(name) => Json::from(*name),
        Value::Boolean(flag) => Json::from(*flag),
        Value::Null => Json::Null,
        Value::List(items) => Json::Array(items.iter().map(constant).collect::<Result<_, _>>()?),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| Ok(((*name).to_owned(), constant(value)?)));
            Json::Object(fields.collect::<Result<_, ForgeRefusal>>()?)
        }
        Value::Variable(_) => return Err(refusal(ForgeRule::Document, "a variable's default has no variable in it")),
    })
}

/// A value as a document has it.
fn literal(value: &Value<'_>) -> Result<String, ForgeRefusal> {
    Ok(match value {
        Value::Variable(name) => format!("${name}"),
        Value::Int(_) | Value::Float(_) | Value::Boolean(_) | Value::Null => constant(value)?.to_string(),
        Value::String(text) => Json::from(text.as_str()).to_string(),
        Value::Enum(name) => (*name).to_owned(),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(literal).collect::<Result<_, _>>()?;
            format!("[{}]", items.join(", "))
        }
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| Ok(format!("{name}: {}", literal(value)?)));
            format!("{{{}}}", fields.collect::<Result<Vec<_>, ForgeRefusal>>()?.join(", "))
        }
    })
}

/// Where a selection stands.
#[derive(Clone, Copy)]
struct Here<'a> {
    /// The type's name, and whether it is a connection of it, or one of a connection's edges.
    name: &'a str,
    part: Part,
    depth: usize,
    /// How many such objects there may be.
    objects: u64,
    /// Whether a search has found them.
    is_found: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Root,
    Object,
    Connection,
    Edge,
}

/// Writes a query anew while it is judged.
struct Writer<'a> {
    rules: &'a ForgeReadRules,
    fragments: &'a BTreeMap<&'a str, (&'a str, Parsed<'a>)>,
    variables: &'a Variables<'a>,
    /// The fragments that are being expanded.
    open: Vec<&'a str>,
    unused: BTreeSet<&'a str>,
    /// The variables that what is written has.
    used: BTreeSet<String>,
    fields: usize,
    objects: u64,
    written: String,
}

impl<'a> Writer<'a> {
    fn root(&mut self, set: &'a Parsed<'a>) -> Result<Vec<Selected>, ForgeRefusal> {
        let here = Here { name: "Query", part: Part::Root, depth: 1, objects: 1, is_found: false };
        self.set(set, here)
    }

    /// Writes a selection set in braces.
    fn set(&mut self, set: &'a Parsed<'a>, here: Here<'a>) -> Result<Vec<Selected>, ForgeRefusal> {
        if here.depth > MAX_DEPTH {
            return Err(too_deep());
        }
        let mut selected = vec![];
        self.written.push('{');
        self.items(set, here, &mut selected)?;
        self.own(here, &mut selected);
        self.written.push('}');
        Ok(selected)
    }

    /// Asks for an object's author and repository, where they are looked at.
    fn own(&mut self, here: Here<'_>, selected: &mut Vec<Selected>) {
        let Some(found) = SCHEMA.get(here.name).filter(|_| here.part == Part::Object) else { return };
        let mut ask = |key: &str, what: &str| {
            self.written.push_str(&format!(" {key}:{what}"));
            let key = key.to_owned();
            let (is_text, is_of_writers, is_found, below) = (false, false, false, vec![]);
            selected.push(Selected { key, is_text, is_of_writers, is_found, below });
        };
        if found.is_authored {
            ask(AUTHOR, "author{__typename login}");
            ask(ASSOCIATION, "authorAssociation");
        }
        if here.is_found && found.of.is_empty() {
            ask(REPOSITORY, "repository{nameWithOwner}");
        }
    }

    fn items(&mut self, set: &'a Parsed<'a>, here: Here<'a>, selected: &mut Vec<Selected>) -> Result<(), ForgeRefusal> {
        for item in &set.items {
            match item {
                Selection::Field(field) => selected.push(self.field(field, here)?),
                Selection::InlineFragment(fragment) => {
                    if !fragment.directives.is_empty() {
                        return Err(no_directives());
                    }
                    let on = fragment.type_condition.as_ref().map(|TypeCondition::On(on)| *on);
                    selected.extend(self.fragment(on, &fragment.selection_set, here)?);
                }
                Selection::FragmentSpread(spread) => {
                    if !spread.directives.is_empty() {
                        return Err(no_directives());
                    }
                    let name = spread.fragment_name;
                    let Some((on, set)) = self.fragments.get(name) else {
                        return Err(refusal(ForgeRule::Document, format!("there is no fragment {}", shown(name))));
                    };
                    if self.open.contains(&name) {
                        let message = format!("the fragment {} is part of itself", shown(name));
                        return Err(refusal(ForgeRule::Document, message));
                    }
                    self.unused.remove(name);
                    self.open.push(name);
                    selected.extend(self.fragment(Some(on), set, here)?);
                    self.open.pop();
                }
            }
        }
        Ok(())
    }

    /// A fragment in the place where it is used.
    fn fragment(
        &mut self,
        on: Option<&'a str>,
        set: &'a Parsed<'a>,
        here: Here<'a>,
    ) -> Result<Vec<Selected>, ForgeRefusal> {
        self.count_field()?;
        let own = match here.part {
            Part::Root => "Query".to_owned(),
            Part::Object => here.name.to_owned(),
            Part::Connection => format!("{}Connection", here.name),
            Part::Edge => format!("{}Edge", here.name),
        };
        let name = match on {
            None => here.name,
            Some(on) if on == own => here.name,
            Some(on) if here.part == Part::Object && SCHEMA.may_be(here.name, on) && SCHEMA.get(on).is_some() => on,
            Some(on) => {
                let message = format!("a fragment on {} has no place in {own}", shown(on));
                return Err(refusal(ForgeRule::Document, message));
            }
        };
        self.written.push_str(" ...");
        if here.part == Part::Object {
            self.written.push_str(&format!("on {name}"));
            self.check_kind(name)?;
        }
        self.set(set, Here { name, depth: here.depth + 1, ..here })
    }

    fn count_field(&mut self) -> Result<(), ForgeRefusal> {
        self.fields += 1;
        if self.fields > MAX_FIELDS {
            return Err(refusal(
                ForgeRule::Cost,
                format!("a query has at most {MAX_FIELDS} fields, fragments expanded"),
            ));
        }
        Ok(())
    }

    fn check_kind(&self, name: &str) -> Result<(), ForgeRefusal> {
        SCHEMA.get(name).map_or(Ok(()), |found| self.rules.check_kind(&found.kinds, name))
    }

    fn field(&mut self, field: &'a Field<'a>, here: Here<'a>) -> Result<Selected, ForgeRefusal> {
        self.count_field()?;
        if !field.directives.is_empty() {
            return Err(no_directives());
        }
        let key = field.alias.unwrap_or(field.name);
        if key.get(..OWN.len()).is_some_and(|start| start.eq_ignore_ascii_case(OWN))
            || key.starts_with("__") && key != field.name
        {
            return Err(refusal(ForgeRule::Field, format!("{} can't be a name in the answer", shown(key))));
        }
        if let Some(alias) = field.alias {
            self.written.push_str(&format!(" {alias}:{}", field.name));
        } else {
            self.written.push_str(&format!(" {}", field.name));
        }
        let (target, found) = self.target(field, here)?;
        let selected = |is_text, is_found, below| Selected {
            key: key.to_owned(),
            is_text,
            is_of_writers: found.is_some_and(|found| found.is_of_writers),
            is_found,
            below,
        };
        let is_text =
            here.part == Part::Object && found.is_some_and(|found| found.text.iter().any(|text| text == field.name));
        let arguments = self.arguments(field, here, &target)?;
        let next = match &target {
            Target::Value if field.selection_set.items.is_empty() => return Ok(selected(is_text, false, vec![])),
            Target::Value => {
                return Err(refusal(ForgeRule::Field, format!("{} has no fields", shown(field.name))));
            }
            _ if field.selection_set.items.is_empty() => {
                return Err(refusal(ForgeRule::Field, format!("say which fields of {}", shown(field.name))));
            }
            Target::Object(name) => (name, Part::Object),
            Target::Connection(name) => (name, Part::Connection),
        };
        let (name, mut part) = next;
        // Edges and nodes are the connection's own.
        let is_inside = here.part == Part::Connection && name == here.name;
        if is_inside && field.name == "edges" {
            part = Part::Edge;
        }
        let Some((name, _)) = SCHEMA.name_of(name) else {
            return Err(refusal(ForgeRule::Field, format!("{} is not known", shown(field.name))));
        };
        if part == Part::Object {
            self.check_kind(name)?;
        }
        let objects = here.objects.saturating_mul(arguments.page.unwrap_or(1));
        self.objects = self.objects.saturating_add(objects);
        if self.objects > MAX_OBJECTS {
            let message =
                format!("a query asks for at most {MAX_OBJECTS} objects: `first` and `last` of all levels multiplied");
            return Err(refusal(ForgeRule::Cost, message));
        }
        let is_found = (here.is_found && (is_inside || here.part == Part::Edge)) || arguments.is_search;
        let next = Here { name, part, depth: here.depth + 1, objects, is_found };
        let below = self.set(&field.selection_set, next)?;
        Ok(selected(false, is_found && part == Part::Object, below))
    }

    /// What a field leads to, and the type that it is of.
    fn target(&self, field: &Field<'_>, here: Here<'_>) -> Result<(Target, Option<&'static Type>), ForgeRefusal> {
        if field.name == "__typename" {
            return Ok((Target::Value, None));
        }
        let object = |name: &str| Some(Target::Object(name.to_owned()));
        let found = SCHEMA.get(here.name);
        let target = match (here.part, field.name) {
            (Part::Root, "repository") => object("Repository"),
            (Part::Root, "node") => object("Node"),
            (Part::Root, "rateLimit") => object("RateLimit"),
            (Part::Root, "__type") => object("__Type"),
            (Part::Root, "search") => Some(Target::Connection("SearchResultItem".to_owned())),
            (Part::Root, _) => None,
            (Part::Connection, "totalCount") => Some(Target::Value),
            (Part::Connection, "issueCount") if here.is_found => Some(Target::Value),
            (Part::Connection | Part::Edge, _) if here.name == "Count" => None,
            (Part::Connection, "pageInfo") => object("PageInfo"),
            (Part::Connection, "nodes" | "edges") | (Part::Edge, "node") => object(here.name),
            (Part::Connection, name) => found.and_then(|found| found.connection.get(name).cloned()),
            (Part::Edge, "cursor") => Some(Target::Value),
            (Part::Edge, _) => None,
            (Part::Object, name) => found.and_then(|found| found.fields.get(name).cloned()),
        };
        let place = if here.part == Part::Root { "a query" } else { here.name };
        let message = || match field.name {
            "__schema" => "the schema is not read here; a type's fields are, by `__type(name:)`".to_owned(),
            name => format!("{} of {place} is not read here", shown(name)),
        };
        let target = target.ok_or_else(|| refusal(ForgeRule::Field, message()))?;
        Ok((target, found.filter(|_| here.part == Part::Object)))
    }

    /// Writes a field's arguments.
    fn arguments(&mut self, field: &'a Field<'a>, here: Here<'a>, target: &Target) -> Result<Arguments, ForgeRefusal> {
        let mut names = BTreeSet::new();
        if let Some((name, _)) = field.arguments.iter().find(|(name, _)| !names.insert(*name)) {
            return Err(refusal(ForgeRule::Argument, format!("{} is there twice", shown(name))));
        }
        let mut written = vec![];
        let mut known = Arguments { page: None, is_search: false };
        match (here.part, field.name) {
            (Part::Root, "repository") => {
                self.only(field, &["owner", "name"])?;
                let (owner, name) = (self.text(field, "owner")?, self.text(field, "name")?);
                let repository = self.rules.repository(&owner, &name);
                let repository = repository.ok_or_else(|| self.rules.not_named(&format!("{owner}/{name}")))?;
                written.push(format!("owner: {}", Json::from(repository.owner.as_str())));
                written.push(format!("name: {}", Json::from(repository.name.as_str())));
            }
            (Part::Root, "search") => {
                known.is_search = true;
                self.only(field, &["query", "type", "first", "last", "after", "before"])?;
                if self.text(field, "type")? != "ISSUE" {
                    return Err(refusal(
                        ForgeRule::Search,
                        "issues and pull requests are what is searched for: `type: ISSUE`",
                    ));
                }
                let text = search::judge(self.rules, &self.text(field, "query")?)?;
                written.extend(["type: ISSUE".to_owned(), format!("query: {}", Json::from(text))]);
            }
            (Part::Root, "node") => {
                // Its answer says of which repository it is, and is judged by that.
                known.is_search = true;
                self.only(field, &["id"])?;
                written.push(format!("id: {}", Json::from(self.text(field, "id")?)));
            }
            (Part::Root, "__type") => {
                self.only(field, &["name"])?;
                let name = self.text(field, "name")?;
                if !DESCRIBED.contains(&name.as_str()) {
                    let message = format!("the type {} is not described here", shown(&name));
                    return Err(refusal(ForgeRule::Argument, message));
                }
                written.push(format!("name: {}", Json::from(name)));
            }
            (Part::Root, _) => self.only(field, &[])?,
            _ => self.only(field, &ARGUMENTS)?,
        }
        let is_connection = matches!(target, Target::Connection(_));
        for (name, value) in &field.arguments {
            let is_judged = matches!(
                (here.part, field.name, *name),
                (Part::Root, "repository" | "node" | "__type", _) | (Part::Root, "search", "query" | "type")
            );
            match *name {
                _ if is_judged => {}
                "first" | "last" if is_connection => {
                    let Some(count) = self.value(value)? else { continue };
                    let Some(count) = count.as_u64().filter(|count| *count <= MAX_PAGE) else {
                        let message = format!("`{name}` is a number up to {MAX_PAGE}");
                        return Err(refusal(ForgeRule::Cost, message));
                    };
                    known.page = Some(known.page.unwrap_or(0).max(count));
                    written.push(format!("{name}: {count}"));
                }
                name => {
                    self.note_variables(value)?;
                    written.push(format!("{name}: {}", literal(value)?));
                }
            }
        }
        // A number alone is one object's.
        if is_connection && known.page.is_none() && has_objects(&field.selection_set) {
            known.page = Some(MAX_PAGE);
        }
        if !written.is_empty() {
            self.written.push_str(&format!("({})", written.join(", ")));
        }
        Ok(known)
    }

    fn only(&self, field: &Field<'_>, names: &[&str]) -> Result<(), ForgeRefusal> {
        match field.arguments.iter().find(|(name, _)| !names.contains(name)) {
            Some((name, _)) => {
                let message = format!("{} of {} is no argument that is known here", shown(name), shown(field.name));
                Err(refusal(ForgeRule::Argument, message))
            }
            None => Ok(()),
        }
    }

    /// The text that an argument has.
    fn text(&self, field: &Field<'_>, name: &str) -> Result<String, ForgeRefusal> {
        let value = field.arguments.iter().find(|(own, _)| *own == name).map(|(_, value)| self.value(value));
        match value.transpose()?.flatten() {
            Some(Json::String(text)) => Ok(text),
            _ => {
                let message = format!("`{name}` of {} is not a text", shown(field.name));
                Err(refusal(ForgeRule::Argument, message))
            }
        }
    }

    /// An argument's value; none: a variable that has none, or null.
    fn value(&self, value: &Value<'_>) -> Result<Option<Json>, ForgeRefusal> {
        let found = match value {
            Value::Variable(name) => match self.variables.get(name) {
                Some(found) => found.clone(),
                None => return Err(undeclared(name)),
            },
            value => Some(constant(value)?),
        };
        Ok(found.filter(|found| !found.is_null()))
    }

    /// Notes the variables in a value, each of which has to be declared.
    fn note_variables(&mut self, value: &Value<'_>) -> Result<(), ForgeRefusal> {
        match value {
            Value::Variable(name) if self.variables.contains_key(name) => {
                self.used.insert((*name).to_owned());
                Ok(())
            }
            Value::Variable(name) => Err(undeclared(name)),
            Value::List(items) => items.iter().try_for_each(|item| self.note_variables(item)),
            Value::Object(fields) => fields.values().try_for_each(|value| self.note_variables(value)),
            _ => Ok(()),
        }
    }
}

/// Whether a connection's objects are asked for, and not their number alone.
fn has_objects(set: &Parsed<'_>) -> bool {
    set.items.iter().any(|item| match item {
        Selection::Field(field) => matches!(field.name, "nodes" | "edges"),
        Selection::FragmentSpread(_) | Selection::InlineFragment(_) => true,
    })
}

fn undeclared(name: &str) -> ForgeRefusal {
    refusal(ForgeRule::Document, format!("the variable {} is not declared", shown(name)))
}

/// What is learnt of a field's arguments.
struct Arguments {
    /// How many objects a connection gives at most.
    page: Option<u64>,
    is_search: bool,
}
