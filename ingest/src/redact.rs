//! Secrets leave an event before it reaches the log, because the log is chained and kept.
//!
//! What is replaced, wherever it stands in `requestObject` and `responseObject`:
//! - of Secrets (named by `objectRef`, or by `kind` inside the body): everything under `data` and
//!   `stringData`, and the annotation `kubectl.kubernetes.io/last-applied-configuration`; of JSON patches
//!   of Secrets the `value` of every operation that does not only touch metadata; a body that is not an
//!   object altogether;
//! - of `TokenRequest`s and `TokenReview`s: every `token`;
//!
//! and of `requestURI` the values of token parameters and everything that looks like a bearer token; and
//! what the configured paths name.
//!
//! A value becomes `redacted:` and 16 hexadecimal digits of a keyed hash, so that equal values can still
//! be recognised by their equal replacements. Keys stay: that a Secret has a key `password` is no secret.
//! A value that already has this form stays, so that redaction can be repeated.

mod uri;

use memchr::memmem;

use crate::json::{Edit, Kind, Value, quoted};

const PREFIX: &str = "redacted:";
/// Stands in the place of what was too large to be kept.
pub(crate) const LEFT_OUT: &str = "left out by watchbell: too large";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Finds secrets in events and replaces them.
#[derive(Clone)]
pub struct Redactor {
    key: [u8; 32],
    paths: Vec<String>,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactor").field("paths", &self.paths).finish_non_exhaustive()
    }
}

impl Redactor {
    /// `key` makes the replacements; whoever has it can test guesses. `paths` name further values from the
    /// event's root, such as `requestObject.spec.password`: keys are separated by dots and may contain
    /// dots, lists are passed through.
    #[must_use]
    pub fn new(key: [u8; 32], paths: Vec<String>) -> Self {
        Self { key, paths }
    }

    /// The edits that remove all secrets from an event.
    pub(crate) fn redact(&self, event: Value<'_>) -> Vec<Edit> {
        let mut finder = Finder { redactor: self, edits: Vec::new() };
        let [object_ref, request, response, uri] =
            event.pick(["objectRef", "requestObject", "responseObject", "requestURI"]);
        let subject = Subject::of(object_ref);
        for body in [request, response].into_iter().flatten() {
            if subject.is_secret() || names_secrets(body) {
                finder.body(body, subject);
            }
        }
        if let Some(uri) = uri {
            finder.uri(uri);
        }
        finder.edits.extend(self.redact_paths(event));
        finder.edits
    }

    /// True if there is anything for [`Self::redact_paths`] to look for.
    pub(crate) fn has_paths(&self) -> bool {
        !self.paths.is_empty()
    }

    /// The edits that remove what the configured paths name.
    pub(crate) fn redact_paths(&self, event: Value<'_>) -> Vec<Edit> {
        let mut finder = Finder { redactor: self, edits: Vec::new() };
        for path in &self.paths {
            finder.path(event, path);
        }
        finder.edits
    }

    /// The edits that remove all secrets from what is no audit event, or a list of something.
    pub(crate) fn redact_any(&self, value: Value<'_>) -> Vec<Edit> {
        let mut finder = Finder { redactor: self, edits: self.redact(value) };
        finder.body(value, Subject::default());
        let mut edits = finder.edits;
        for item in value.get("items").into_iter().flat_map(|items| items.elements()) {
            edits.extend(self.redact(item));
        }
        edits
    }

    /// What stands in the place of `content`.
    fn replacement(&self, content: &str) -> String {
        let hash = blake3::keyed_hash(&self.key, content.as_bytes()).to_hex();
        format!("{PREFIX}{}", &hash.as_str()[..16])
    }
}

/// True for what [`Redactor::replacement`] returns.
fn is_replacement(text: &str) -> bool {
    text.strip_prefix(PREFIX).is_some_and(|hash| {
        hash.len() == 16 && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Objects of these kinds hold secrets.
const SECRETS: [&str; 2] = ["Secret", "SecretList"];
/// Objects of these kinds hold tokens.
const TOKENS: [&str; 2] = ["TokenRequest", "TokenReview"];

/// What is in every body that names one of these kinds: how their names begin, or the only escape that makes letters.
const HINTS: [&[u8]; 3] = [b"\"Secret", b"\"Token", b"\\u"];

/// False for nearly all bodies that are not about secrets, which then need not be walked through.
fn names_secrets(body: Value<'_>) -> bool {
    let raw = body.raw().as_bytes();
    if !HINTS.iter().any(|hint| memmem::find(raw, hint).is_some()) {
        return false;
    }
    body.flat().any(|value| SECRETS.iter().chain(&TOKENS).any(|kind| value.is(kind)))
}

/// What kind of secrets an object can hold.
#[derive(Clone, Copy, Default)]
struct Subject {
    secret: bool,
    token: bool,
}

impl Subject {
    /// By what the request was about.
    fn of(object_ref: Option<Value<'_>>) -> Self {
        let Some(object) = object_ref else { return Self::default() };
        let [resource, subresource] = object.pick(["resource", "subresource"]);
        let resource = |name: &str| resource.is_some_and(|resource| resource.is(name));
        let to_token = subresource.is_some_and(|subresource| subresource.is("token"));
        Self { secret: resource("secrets"), token: to_token || resource("tokenreviews") }
    }

    /// By what the object itself says, on top of what is around it.
    fn within(self, kind: Value<'_>) -> Self {
        Self {
            secret: self.secret || SECRETS.iter().any(|name| kind.is(name)),
            token: self.token || TOKENS.iter().any(|name| kind.is(name)),
        }
    }

    fn is_secret(self) -> bool {
        self.secret || self.token
    }
}

/// True if a JSON pointer into a Secret leads to what is not secret, the last applied configuration aside.
fn is_metadata(pointer: &str) -> bool {
    let mut segments = pointer.trim_start_matches('/').splitn(3, '/');
    match (segments.next(), segments.next(), segments.next()) {
        (Some("metadata"), Some("annotations"), Some(key)) => {
            key.replace("~1", "/").replace("~0", "~") != LAST_APPLIED
        }
        (Some("metadata" | "type" | "immutable" | "kind" | "apiVersion"), _, _) => true,
        _ => false,
    }
}

struct Finder<'a> {
    redactor: &'a Redactor,
    edits: Vec<Edit>,
}

impl Finder<'_> {
    fn body(&mut self, body: Value<'_>, subject: Subject) {
        match body.kind() {
            Kind::Array if subject.secret => body.elements().for_each(|operation| self.patch(operation)),
            _ if subject.secret && !body.is_container() => self.replace(body),
            _ => self.walk(body, subject),
        }
    }

    /// One operation of a JSON patch of a Secret.
    fn patch(&mut self, operation: Value<'_>) {
        if operation.kind() != Kind::Object {
            return self.replace(operation);
        }
        let subject = Subject { secret: true, ..Subject::default() };
        let path = operation.get("path").and_then(|path| path.as_text());
        for (key, value) in operation.members() {
            let is_value = key.as_text().is_some_and(|key| key.eq_ignore_ascii_case("value"));
            match path.as_deref() {
                Some(path) if !is_value || is_metadata(path) => self.member(key, value, subject),
                Some("") if value.kind() == Kind::Object => self.walk(value, subject),
                None if !is_value => self.member(key, value, subject),
                _ => self.content(value),
            }
        }
    }

    fn walk(&mut self, value: Value<'_>, around: Subject) {
        match value.kind() {
            Kind::Array => value.elements().for_each(|element| self.walk(element, around)),
            Kind::Object => {
                let subject = value.get("kind").map_or(around, |kind| around.within(kind));
                value.members().for_each(|(key, value)| self.member(key, value, subject));
            }
            _ => {}
        }
    }

    fn member(&mut self, key: Value<'_>, value: Value<'_>, subject: Subject) {
        if !subject.is_secret() {
            return if value.is_container() {
                self.walk(value, subject)
            };
        }
        let key = key.as_text().unwrap_or_default();
        let is = |name: &str| key.eq_ignore_ascii_case(name);
        if subject.secret && key == "managedFields" {
            // names of fields only
        } else if subject.secret && (is("data") || is("stringData")) {
            self.content(value);
        } else if (subject.secret && key == LAST_APPLIED) || (subject.token && is("token")) {
            self.replace(value);
        } else {
            self.walk(value, subject);
        }
    }

    /// The content of a Secret: each value if it has the usual shape, and otherwise the whole.
    fn content(&mut self, content: Value<'_>) {
        match content.kind() {
            Kind::Object => content.members().for_each(|(_, value)| self.replace(value)),
            _ => self.replace(content),
        }
    }

    fn uri(&mut self, uri: Value<'_>) {
        let Some(text) = uri.as_text() else { return };
        if let Some(redacted) = uri::redact(&text, |token| self.redactor.replacement(token)) {
            self.edit(uri, &redacted);
        }
    }

    /// Replaces what a configured path names. A key with dots is found by trying every split.
    fn path(&mut self, value: Value<'_>, path: &str) {
        if value.kind() == Kind::Array {
            return value.elements().for_each(|element| self.path(element, path));
        }
        for (key, value) in value.members() {
            let key = key.as_text().unwrap_or_default();
            match path.strip_prefix(&*key) {
                Some("") => self.replace(value),
                Some(rest) => {
                    if let Some(rest) = rest.strip_prefix('.') {
                        self.path(value, rest);
                    }
                }
                None => {}
            }
        }
    }

    /// Replaces a value; null, what was redacted before, and what says that something was left out stay.
    fn replace(&mut self, value: Value<'_>) {
        if value.kind() == Kind::Null {
            return;
        }
        match value.as_text() {
            Some(text) if is_replacement(&text) || text == LEFT_OUT => {}
            Some(text) => self.edit(value, &self.redactor.replacement(&text)),
            None => self.edit(value, &self.redactor.replacement(value.raw())),
        }
    }

    fn edit(&mut self, value: Value<'_>, replacement: &str) {
        self.edits.push(Edit { range: value.start()..value.end(), replacement: quoted(replacement) });
    }
}

#[cfg(test)]
mod tests;
