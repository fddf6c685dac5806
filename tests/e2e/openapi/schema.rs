//! Checks values against the schemas of the OpenAPI document: the part of JSON Schema that it uses, and no
//! more; another keyword is a mistake. Stricter than the standard in one thing: an object has no members but
//! those that are described, unless `additionalProperties` says so.

use regex_automata::meta::Regex;
use serde_json::{Map, Value};

/// What is wrong with `value`, each with its place; nothing if it is as the schema says.
pub(super) fn mistakes(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut checker = Checker { document, mistakes: Vec::new() };
    checker.check(schema, value, "$");
    checker.mistakes
}

struct Checker<'a> {
    document: &'a Value,
    mistakes: Vec<String>,
}

impl<'a> Checker<'a> {
    fn check(&mut self, schema: &'a Value, value: &Value, place: &str) {
        let described = self.check_members(schema, value, place);
        let Some(members) = value.as_object().filter(|_| !described.open) else { return };
        for name in members.keys().filter(|name| !described.names.contains(&name.as_str())) {
            self.wrong(place, &format!("{name} is not described"));
        }
    }

    /// Checks everything but that no member is left over; returns which members are described.
    fn check_members(&mut self, schema: &'a Value, value: &Value, place: &str) -> Described<'a> {
        let schema = resolve(self.document, schema);
        let mut described = Described::default();
        for (keyword, argument) in schema.as_object().into_iter().flatten() {
            match keyword.as_str() {
                "description" | "default" | "example" => {}
                "type" => self.check_type(argument, value, place),
                "enum" => {
                    self.expect(argument.as_array().unwrap().contains(value), place, "is not in", argument)
                }
                "format" => self.check_time(argument, value, place),
                "pattern" => self.check_pattern(argument, value, place),
                "minimum" => {
                    let enough = value.as_f64().is_none_or(|number| number >= argument.as_f64().unwrap());
                    self.expect(enough, place, "is less than", argument);
                }
                "minLength" | "minItems" | "maxLength" | "maxItems" => {
                    let length = value.as_str().map(|text| text.chars().count());
                    let length = length.or(value.as_array().map(Vec::len)).map(|length| length as u64);
                    let (bound, least) = (argument.as_u64().unwrap(), keyword.starts_with("min"));
                    let within =
                        length.is_none_or(|length| if least { length >= bound } else { length <= bound });
                    self.expect(within, place, &format!("breaks {keyword}"), argument);
                }
                "required" => self.check_required(argument, value, place),
                "items" => {
                    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.check(argument, item, &format!("{place}[{index}]"));
                    }
                }
                "properties" => {
                    let properties = argument.as_object().unwrap();
                    described.names.extend(properties.keys().map(String::as_str));
                    self.check_properties(properties, value, place);
                }
                "additionalProperties" => {
                    described.open |= *argument != Value::Bool(false);
                    let known = schema["properties"].as_object();
                    let members = value.as_object().into_iter().flatten().filter(|_| argument.is_object());
                    for (name, member) in
                        members.filter(|(name, _)| known.is_none_or(|known| !known.contains_key(*name)))
                    {
                        self.check(argument, member, &format!("{place}.{name}"));
                    }
                }
                "allOf" => {
                    for part in argument.as_array().unwrap() {
                        let part = self.check_members(part, value, place);
                        described.open |= part.open;
                        described.names.extend(part.names);
                    }
                }
                "anyOf" => {
                    let parts = argument.as_array().unwrap();
                    let fits = |part| mistakes(self.document, part, value).is_empty();
                    let any = parts.iter().any(fits);
                    self.expect(any, place, "is none of", argument);
                    described.open = true;
                }
                other => self.wrong(place, &format!("the keyword {other} is not known to this test")),
            }
        }
        described
    }

    fn check_properties(&mut self, properties: &'a Map<String, Value>, value: &Value, place: &str) {
        for (name, schema) in properties {
            if let Some(member) = value.get(name) {
                self.check(schema, member, &format!("{place}.{name}"));
            }
        }
    }

    fn check_type(&mut self, types: &Value, value: &Value, place: &str) {
        let is = |name: &Value| match name.as_str().unwrap() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            _ => false,
        };
        let matches = types.as_array().map_or_else(|| is(types), |types| types.iter().any(is));
        self.expect(matches, place, &format!("{value:.60} is not of type"), types);
    }

    fn check_time(&mut self, format: &Value, value: &Value, place: &str) {
        let time = value.as_str().is_none_or(|text| text.parse::<watchbell_event::Timestamp>().is_ok());
        self.expect(time && format == "date-time", place, "is not of the format", format);
    }

    fn check_pattern(&mut self, pattern: &Value, value: &Value, place: &str) {
        let regex = Regex::new(pattern.as_str().unwrap()).unwrap();
        self.expect(value.as_str().is_none_or(|text| regex.is_match(text)), place, "does not match", pattern);
    }

    fn check_required(&mut self, names: &Value, value: &Value, place: &str) {
        let Some(members) = value.as_object() else { return };
        for name in names.as_array().unwrap() {
            self.expect(members.contains_key(name.as_str().unwrap()), place, "lacks", name);
        }
    }

    fn expect(&mut self, holds: bool, place: &str, what: &str, argument: &Value) {
        if !holds {
            self.wrong(place, &format!("{what} {argument}"));
        }
    }

    fn wrong(&mut self, place: &str, what: &str) {
        self.mistakes.push(format!("{place}: {what}"));
    }
}

/// Which members of an object a schema describes.
#[derive(Default)]
struct Described<'a> {
    names: Vec<&'a str>,
    /// Others are allowed.
    open: bool,
}

/// What a reference leads to; anything else is what it is.
pub(super) fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value.get("$ref").and_then(Value::as_str) {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap(),
        None => value,
    }
}

#[test]
fn what_differs_from_a_schema_is_found() {
    use serde_json::json;
    let document = json!({ "named": { "type": "object", "required": ["id"], "properties": {
        "id": { "type": "string", "pattern": "^[a-f]+$" } } } });
    let schema = json!({ "allOf": [{ "$ref": "#/named" }, { "properties": {
        "at": { "type": ["string", "null"], "format": "date-time" },
        "counts": { "type": "object", "additionalProperties": { "type": "integer", "minimum": 0 } },
        "kinds": { "type": "array", "maxItems": 2, "items": { "enum": ["a", "b"] } } } }] });
    for (value, expect) in [
        (json!({ "id": "abc", "at": null, "counts": { "x": 1 }, "kinds": ["a"] }), None),
        (json!({ "at": "2026-01-31T08:00:00Z" }), Some("$: lacks \"id\"")),
        (json!({ "id": "xyz" }), Some("$.id: does not match \"^[a-f]+$\"")),
        (json!({ "id": 7 }), Some("$.id: 7 is not of type \"string\"")),
        (json!({ "id": "a", "at": "soon" }), Some("$.at: is not of the format \"date-time\"")),
        (json!({ "id": "a", "counts": { "x": -1 } }), Some("$.counts.x: is less than 0")),
        (json!({ "id": "a", "kinds": ["a", "c"] }), Some("$.kinds[1]: is not in [\"a\",\"b\"]")),
        (json!({ "id": "a", "kinds": ["a", "b", "a"] }), Some("$.kinds: breaks maxItems 2")),
        (json!({ "id": "a", "more": 1 }), Some("$: more is not described")),
    ] {
        let found = mistakes(&document, &schema, &value);
        assert_eq!(found.first().map(String::as_str), expect, "{value}");
    }
}
