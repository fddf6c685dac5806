use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use crate::json::{Limits, Tape, parse};

fn id_in(cluster: &str, event: &str) -> EventId {
    let mut tape = Tape::default();
    parse(event.as_bytes(), 0, Limits { depth: 64, values: 10_000 }, &mut tape).unwrap();
    event_id(cluster, tape.root(event).unwrap(), &mut Vec::new())
}

fn id(event: &str) -> EventId {
    id_in("test", event)
}

#[test]
fn spelling_does_not_matter() {
    for (one, other) in [
        (r#"{"a":1,"b":[true,null]}"#, "{ \"b\" : [ true , null ] ,\n\"a\" : 1 }"),
        (r#"{"a":"é/\n\"x"}"#, r#"{"\u0061":"\u00e9\/\u000A\u0022x"}"#),
        (r#"{"a":"😀"}"#, r#"{"a":"\uD83D\ude00"}"#),
        (r#"{"a":100}"#, r#"{"a":1.00e2}"#),
        (r#"{"a":100}"#, r#"{"a":1000E-1}"#),
        (r#"{"a":0.5}"#, r#"{"a":5e-1}"#),
        (r#"{"a":0}"#, r#"{"a":-0.0e7}"#),
        (r#"{"a":-12.50}"#, r#"{"a":-125e-1}"#),
        (r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","a":1}"#, r#"{"a":1}"#),
    ] {
        assert_eq!(id(one), id(other), "{one} {other}");
    }
}

/// The form as it is described, without any haste.
fn write_plainly(value: Value<'_>, is_event: bool, out: &mut Vec<u8>) {
    let head = |kind: u8, length: usize, out: &mut Vec<u8>| {
        let long = (length >= 255).then(|| (length as u64).to_le_bytes());
        out.extend([kind, u8::try_from(length).unwrap_or(255)]);
        out.extend(long.iter().flatten());
    };
    let text = |text: &str, out: &mut Vec<u8>| {
        head(b's', text.len(), out);
        out.extend_from_slice(text.as_bytes());
    };
    match value.kind() {
        Kind::Null => out.push(b'n'),
        Kind::Bool => out.push(value.raw().as_bytes()[0]),
        Kind::Number => any_number(value.raw(), out),
        Kind::Plain | Kind::Escaped => text(&value.as_text().unwrap(), out),
        Kind::Array => {
            let elements: Vec<Value<'_>> = value.elements().collect();
            head(b'a', elements.len(), out);
            elements.into_iter().for_each(|element| write_plainly(element, false, out));
        }
        Kind::Object => {
            let mut members: Vec<_> =
                value.members().map(|(key, value)| (key.as_text().unwrap(), value)).collect();
            members.sort_by(|(one, _), (other, _)| one.as_bytes().cmp(other.as_bytes()));
            if is_event {
                members.retain(|(key, _)| key != "kind" && key != "apiVersion");
            } else {
                head(b'o', members.len(), out);
            }
            for (key, value) in members {
                text(&key, out);
                write_plainly(value, false, out);
            }
        }
    }
}

fn plain_id(event: &str) -> EventId {
    let mut tape = Tape::default();
    parse(event.as_bytes(), 0, Limits { depth: 64, values: 10_000 }, &mut tape).unwrap();
    let mut form = b"watchbell audit event 2\0c\x04test".to_vec();
    write_plainly(tape.root(event).unwrap(), true, &mut form);
    EventId::from_hash(&blake3::hash(&form))
}

/// Logs that were written before know events by these.
#[test]
fn identities_stay_what_they_are() {
    let events = [
        "{}",
        r#"{"kind":"Event","b":"x","a":[null,true,false,{"d":0,"c":-12.50,"":1200}],"\u00e9":"\n\ud83d\ude00"}"#,
        r#"{"requestURI":"/api","requestObject":{},"requestReceivedTimestamp":1e99999999999999999999}"#,
    ];
    assert_eq!(events.map(id), events.map(plain_id));
    let expect = [
        "d831ad744bd2aa7539530f39a524e6f0",
        "a959a085a15dd0be022417469e88f9dd",
        "1f8f4169cbf26fa66aa348a235d57a57",
    ];
    assert_eq!(events.map(|event| id(event).to_string()), expect);
}

#[test]
fn texts_of_any_length_have_the_same_form_wherever_they_stand() {
    for length in [0, 1, 15, 16, 31, 32, 33, 63, 64, 254, 255, 256] {
        let text = "x".repeat(length);
        for event in [
            format!(r#"{{"a":"{text}"}}"#),
            format!(r#"{{"{text}":"{text}","b":"y"}}"#),
            format!(r#"{{"a":["{text}","{text}é"],"b":"{}"}}"#, "y".repeat(64)),
        ] {
            assert_eq!(id(&event), plain_id(&event), "{event}");
        }
    }
}

#[test]
fn lists_of_many_members_have_the_same_form() {
    for count in [254, 255, 256, 300] {
        let members: Vec<String> = (0..count).map(|number| format!(r#""{number}":{number}"#)).collect();
        let elements = "0,".repeat(count - 1);
        let event = format!(r#"{{"a":[{elements}0],"o":{{{}}}}}"#, members.join(","));
        assert_eq!(id(&event), plain_id(&event), "{count}");
    }
}

#[test]
fn content_and_cluster_do_matter() {
    let events = [
        r"{}",
        r#"{"a":1}"#,
        r#"{"a":"1"}"#,
        r#"{"a":-1}"#,
        r#"{"a":10}"#,
        r#"{"a":0.1}"#,
        r#"{"a":true}"#,
        r#"{"a":false}"#,
        r#"{"a":null}"#,
        r#"{"a":[]}"#,
        r#"{"a":{}}"#,
        r#"{"a":[[]]}"#,
        r#"{"a":[1,2]}"#,
        r#"{"a":[2,1]}"#,
        r#"{"a":[[1],2]}"#,
        r#"{"a":[[1,2]]}"#,
        r#"{"a":""}"#,
        r#"{"":"a"}"#,
        r#"{"a":"b","c":"d"}"#,
        r#"{"a":"d","c":"b"}"#,
        r#"{"a":{"kind":"x"}}"#,
        r#"{"a":{"kind":"y"}}"#,
        r#"{"a":10000000000000000000001}"#,
        r#"{"a":10000000000000000000002}"#,
        r#"{"a":1e400}"#,
        r#"{"a":1e99999999999999999999}"#,
        r#"{"a":"redacted:0000000000000001"}"#,
        r#"{"a":"redacted:0000000000000002"}"#,
    ];
    let mut ids: Vec<EventId> = events.iter().map(|event| id(event)).collect();
    ids.push(id_in("other", r#"{"a":1}"#));
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        (-1e9..1e9f64).prop_map(Json::from),
        "[a-c\u{e9}\u{1F600}\"\\\\\n ]{0,6}".prop_map(Json::from),
        // around the lengths that take more than a byte
        "[ab]{253,257}".prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Json::from),
            prop::collection::btree_map("[a-e\u{e9}]{0,3}", inner, 0..6)
                .prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = Json> {
    prop::collection::btree_map("[a-e]{0,3}", json(), 0..6)
        .prop_map(|map| Json::Object(map.into_iter().collect()))
}

/// Writes a value in one of many ways, as the bits of `style` say.
fn write_styled(value: &Json, style: &mut impl FnMut() -> usize, out: &mut String) {
    let space = |style: &mut dyn FnMut() -> usize| ["", " ", "\n\t", "\r\n  "][style() % 4];
    match value {
        Json::Object(map) => {
            let mut members: Vec<_> = map.iter().collect();
            let turn = style() % members.len().max(1);
            members.rotate_left(turn);
            if style().is_multiple_of(2) {
                members.reverse();
            }
            out.push('{');
            for (index, (key, value)) in members.into_iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                out.push_str(space(style));
                write_styled(&Json::from(key.as_str()), style, out);
                out.push_str(space(style));
                out.push(':');
                write_styled(value, style, out);
            }
            out.push_str(space(style));
            out.push('}');
        }
        Json::Array(elements) => {
            out.push('[');
            for (index, element) in elements.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                write_styled(element, style, out);
                out.push_str(space(style));
            }
            out.push(']');
        }
        Json::String(text) => {
            out.push('"');
            for character in text.chars() {
                if character < ' ' || "\"\\".contains(character) || style().is_multiple_of(3) {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        out.push_str(&format!("\\u{unit:04x}"));
                    }
                } else {
                    out.push(character);
                }
            }
            out.push('"');
        }
        other => out.push_str(&other.to_string()),
    }
}

/// Changes one leaf, or adds one, as `pick` says.
fn change(value: &mut Json, pick: &mut impl FnMut() -> usize) {
    match value {
        Json::Object(map) if !map.is_empty() && !pick().is_multiple_of(4) => {
            let index = pick() % map.len();
            if let Some(inner) = map.values_mut().nth(index) {
                change(inner, pick);
            }
        }
        Json::Object(map) => drop(map.insert("new key".to_owned(), Json::Null)),
        Json::Array(elements) if !elements.is_empty() && !pick().is_multiple_of(4) => {
            let index = pick() % elements.len();
            change(&mut elements[index], pick);
        }
        Json::Array(elements) => elements.push(Json::Null),
        Json::String(text) => text.push('+'),
        Json::Number(number) => *value = Json::from(number.as_f64().unwrap_or(0.0) * 3.0 + 1e12),
        Json::Bool(bool) => *bool = !*bool,
        Json::Null => *value = Json::from(""),
    }
}

fn picker(seed: u64) -> impl FnMut() -> usize {
    let mut state = seed | 1;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    }
}

proptest! {
    #[test]
    fn small_numbers_are_written_as_all_others(number in "(0|[1-9][0-9]{0,4}0{0,8})") {
        let (mut one, mut other) = (Vec::new(), Vec::new());
        super::number(&number, &mut one);
        any_number(&number, &mut other);
        prop_assert_eq!(one, other);
    }

    #[test]
    fn writing_an_event_otherwise_keeps_its_identity(event in object(), seed in any::<u64>()) {
        let mut styled = String::new();
        write_styled(&event, &mut picker(seed), &mut styled);
        prop_assert_eq!(id(&event.to_string()), id(&styled), "{}", styled);
        prop_assert_eq!(id(&styled), plain_id(&styled), "{}", styled);
    }

    #[test]
    fn changing_anything_changes_the_identity(event in object(), seed in any::<u64>()) {
        let mut changed = event.clone();
        change(&mut changed, &mut picker(seed));
        prop_assert_ne!(id(&event.to_string()), id(&changed.to_string()), "{} {}", event, changed);
    }
}
