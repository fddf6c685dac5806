use proptest::prelude::*;

use super::*;
use crate::json::{Limits, Tape, apply, parse};

fn redactor() -> Redactor {
    Redactor::new([7; 32], vec!["requestObject.spec.password".into(), "annotations.example.com/key".into()])
}

fn redact(event: &str) -> String {
    let mut tape = Tape::default();
    parse(event.as_bytes(), 0, Limits { depth: 64, values: 10_000 }, &mut tape).unwrap();
    let redacted = apply(event, redactor().redact(tape.root(event).unwrap()));
    serde_json::from_str::<serde_json::Value>(&redacted).unwrap();
    redacted
}

/// What begins with `hush` must go and what begins with `keep` must stay.
fn check(event: &str) {
    let redacted = redact(event);
    assert!(event.contains("hush"), "the case has nothing to hide: {event}");
    assert!(!redacted.contains("hush"), "{event}\nbecame {redacted}");
    let kept = |text: &str| text.matches("keep").count();
    assert_eq!(kept(&redacted), kept(event), "{event}\nbecame {redacted}");
    assert_eq!(redact(&redacted), redacted, "redacting again changes nothing");
}

fn of_secret(body: &str) -> String {
    format!(r#"{{"objectRef":{{"resource":"secrets","name":"keep"}},"verb":"keep","requestObject":{body}}}"#)
}

#[test]
fn bodies_of_secrets() {
    for body in [
        r#"{"kind":"Secret","data":{"keep":"hush"},"stringData":{"keep":"hush"},"type":"keep"}"#,
        r#"{"data":{"keep":"hush"}}"#,
        r#"{"kind":"SecretList","items":[{"data":{"keep":"hush"}},{"stringData":{"a":"hush"},"metadata":{"name":"keep"}}]}"#,
        r#"{"kind":"keepTable","rows":[{"cells":["keep"],"object":{"data":{"keep":"hush"}}}]}"#,
        // shapes that no Secret has
        r#"{"data":["hush",{"hush1":"hush"}]}"#,
        r#"{"data":"hush"}"#,
        r#"{"data":{"keep":{"hush":["hush"]}}}"#,
        r#"{"DATA":{"keep":"hush"},"StringData":{"keep":["hush"]}}"#,
        r#"{"\u0064ata":{"keep":"hush"}}"#,
        r#"{"data":{"keep":"hu\u0073h","keep2":"\"hush\""}}"#,
        r#"{"items":{"data":{"keep":"hush"}}}"#,
        r#"[[{"data":"hush"}],"hush"]"#,
        r#""data: hush""#,
        r#"{"metadata":{"name":"keep","annotations":{"keep":"keep",
            "kubectl.kubernetes.io/last-applied-configuration":"{\"data\":{\"a\":\"hush\"}}"}}}"#,
        r#"{"metadata":{"managedFields":[{"fieldsV1":{"f:data":{"f:keep":{}}},"data":"keep"}]},"data":{"keep":"hush"}}"#,
    ] {
        check(&of_secret(body));
        check(&of_secret(body).replace("requestObject", "responseObject"));
    }
}

#[test]
fn patches_of_secrets() {
    for operation in [
        r#"{"op":"keep","path":"/data/keep","value":"hush"}"#,
        r#"{"op":"keep","path":"/stringData","value":{"keep":"hush"}}"#,
        r#"{"op":"keep","path":"","value":{"data":{"keep":"hush"},"metadata":{"name":"keep"}}}"#,
        r#"{"op":"keep","path":"/","value":"hush"}"#,
        r#"{"op":"keep","path":"data/keep","value":"hush"}"#,
        r#"{"op":"keep","path":"//data/keep","value":"hush"}"#,
        r#"{"op":"keep","path":"/Data","value":["hush"]}"#,
        r#"{"op":"keep","value":"hush"}"#,
        r#"{"op":"keep","path":["/data"],"value":"hush"}"#,
        r#"{"op":"keep","path":7,"value":{"hush":"hush"},"Value":"hush"}"#.replace(r#""hush":"#, r#""x":"#).as_str(),
        r#"{"op":"keep","path":"/metadata/annotations","value":{"keep":"keep","kubectl.kubernetes.io/last-applied-configuration":"hush"}}"#,
        r#"{"op":"keep","path":"/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration","value":"hush"}"#,
        r#""hush""#,
    ] {
        let metadata = r#"{"op":"keep","path":"/metadata/labels/keep","value":"keep"}"#;
        check(&of_secret(&format!("[{metadata},{operation}]")));
    }
}

#[test]
fn secrets_in_other_requests_and_tokens() {
    for event in [
        r#"{"objectRef":{"resource":"configmaps"},"requestObject":{"kind":"Secret","data":{"keep":"hush"}}}"#,
        r#"{"requestObject":{"kind":"List","items":[{"kind":"Secret","data":{"keep":"hush"}},{"kind":"ConfigMap","data":{"a":"keep"}}]}}"#,
        r#"{"requestObject":{"spec":{"template":{"kind":"S\u0065cret","stringData":{"keep":"hush"}}}}}"#,
        r#"{"objectRef":{"resource":"serviceaccounts","subresource":"token"},"responseObject":{"status":{"token":"hush","expires":"keep"}}}"#,
        r#"{"responseObject":{"kind":"TokenRequest","status":{"token":"hush"},"spec":{"audiences":["keep"]}}}"#,
        r#"{"objectRef":{"resource":"tokenreviews"},"requestObject":{"spec":{"token":"hush"}},"responseObject":{"spec":{"Token":"hush"},"status":{"user":"keep"}}}"#,
        r#"{"requestURI":"/keep?watch=keep&token=hush&keep=1"}"#,
        r#"{"requestURI":"/keep?access_token=hush"}"#,
        r#"{"requestURI":"/keep?%74oken=hush;TOKEN=hush"}"#,
        r#"{"requestURI":"\/keep?a=keep\u0026token=hush"}"#,
        r#"{"requestURI":"/api/proxy/keep/eyJhush.eyJhush.hush-_x/keep?x=eyJhush.eyJhush.hush"}"#,
        r#"{"requestURI":"/keep?auth=Bearer%20hush&h=bearer+hush"}"#,
        r#"{"requestObject":{"spec":{"password":"hush","user":"keep"}}}"#,
        r#"{"requestObject":{"spec":[{"password":["hush"]},{"password":{"a":"hush"}}]}}"#,
        r#"{"requestObject":{"spec.password":"hush"}}"#,
        r#"{"annotations":{"example.com/key":"hush","example.com/keys":"keep"}}"#,
        // a configured path within what is redacted anyway
        r#"{"objectRef":{"resource":"secrets"},"requestObject":{"spec":{"password":"hush"},"data":{"keep":"hush"}}}"#,
    ] {
        check(event);
    }
}

#[test]
fn what_is_no_secret_stays_as_it_is() {
    for event in [
        r#"{"objectRef":{"resource":"configmaps"},"requestObject":{"kind":"ConfigMap","data":{"a":"b"},"token":"x"}}"#,
        r#"{"requestURI":"/api/v1/secrets?limit=500&continue=eyJ2Ijoib&fieldSelector=metadata.name%3Dtoken","verb":"list"}"#,
        // a letter by which tokens are found, behind characters of two, three and four bytes
        r#"{"requestURI":"/é…J/…J?é=😀J","verb":"list"}"#,
        r#"{"requestURI":"J?eyJ.a=eyJhbGciOi.eyJzdWIi…","verb":"list"}"#,
        r#"{"requestURI":"/apis/bearer/x?token=","annotations":{"authorization.k8s.io/reason":"token"}}"#,
        r#"{"objectRef":{"resource":"secrets"},"requestObject":{"data":null,"stringData":{"a":null}},"responseObject":null}"#,
        r#"{"objectRef":"secrets","requestObject":{"data":{"a":"b"}}}"#,
        r#"{"objectRef":{"resource":"secrets"},"responseStatus":{"code":200},"annotations":{"data":"x"}}"#,
    ] {
        assert_eq!(redact(event), event);
    }
}

#[test]
fn equal_values_have_equal_replacements_under_one_key() {
    let of = |value: &str| redact(&of_secret(&format!(r#"{{"data":{{"a":{value}}}}}"#)));
    assert_eq!(of(r#""hush""#), of(r#""hus\u0068""#));
    assert_ne!(of(r#""hush""#), of(r#""hush2""#));
    assert_eq!(of("12345"), of(r#""12345""#));
    let replacement = redactor().replacement("hush");
    assert!(of(r#""hush""#).contains(&format!(r#""a":"{replacement}""#)));
    assert_ne!(replacement, Redactor::new([8; 32], Vec::new()).replacement("hush"));
    assert!(is_replacement(&replacement) && replacement.len() == 25);
    assert!(!format!("{:?}", Redactor::new([0xAB; 32], Vec::new())).contains("171"));
}

proptest! {
    /// The quick look at bodies misses nothing.
    #[test]
    fn what_names_no_secrets_holds_none(
        key in sample(&["kind", r"\u006bind", r"k\u0069nd", "Kind", "name"]),
        kind in sample(&[
            "Secret", r"\u0053ecret", r"Secre\u0074", "SecretList", "TokenRequest", r"Token\u0052eview", "TokenReviews",
            "ConfigMap", r"a\/b", r"\\u0053ecret", r"Sec\u0072et\u004cist",
        ]),
        around in proptest::collection::vec(sample(&[r#"{"items":["#, r#"{"x":["#, r#"{"kind":"List","x":["#]), 0..4),
    ) {
        let end = "]}".repeat(around.len());
        let object = format!(r#"{{"{key}":"{kind}","data":{{"a":"hush"}},"status":{{"token":"hush"}}}}"#);
        let text = format!("{}{object}{end}", around.concat());
        let mut tape = Tape::default();
        parse(text.as_bytes(), 0, Limits { depth: 64, values: 10_000 }, &mut tape).unwrap();
        let body = tape.root(&text).unwrap();
        let redactor = redactor();
        let mut finder = Finder { redactor: &redactor, edits: Vec::new() };
        finder.body(body, Subject::default());
        prop_assert!(names_secrets(body) || finder.edits.is_empty(), "{text}");
    }
}

fn sample(texts: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    proptest::sample::select(texts)
}
