//! Events for targets: as envelopes, and written in several ways.

use serde_json::Value;
use watchbell_event::{Envelope, EventId, Format, Timestamp};

/// An event as the log holds it.
pub fn envelope(event: &[u8]) -> Envelope {
    let now = Timestamp::from_micros(1_770_000_000_000_000);
    Envelope {
        id: EventId([0; 16]),
        received_at: now,
        event_time: now,
        source: "audit".into(),
        cluster: "fuzzed".into(),
        format: Format::KubernetesAudit,
        peer: None,
        history: false,
        bytes: event.to_vec().into(),
    }
}

/// Spellings of an event that mean the same: compact, indented, with every character escaped, and with the
/// keys in reverse order. None if it is not a JSON object.
pub fn spellings(event: &[u8]) -> Vec<String> {
    let Ok(value @ Value::Object(_)) = serde_json::from_slice(event) else { return Vec::new() };
    let (mut escaped, mut reversed) = (String::new(), String::new());
    write(&value, &mut escaped, false, &escape);
    write(&value, &mut reversed, true, &|text| Value::from(text).to_string());
    vec![value.to_string(), format!("{value:#}"), escaped, reversed]
}

fn write(value: &Value, out: &mut String, reverse: bool, quote: &impl Fn(&str) -> String) {
    match value {
        Value::String(text) => out.push_str(&quote(text)),
        Value::Array(elements) => {
            out.push('[');
            for (index, element) in elements.iter().enumerate() {
                out.push_str(if index > 0 { " , " } else { "" });
                write(element, out, reverse, quote);
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            if reverse {
                members.reverse();
            }
            out.push('{');
            for (index, (key, value)) in members.into_iter().enumerate() {
                out.push_str(if index > 0 { "\n," } else { "" });
                out.push_str(&quote(key));
                out.push_str(" :\t");
                write(value, out, reverse, quote);
            }
            out.push('}');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

fn escape(text: &str) -> String {
    let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
    format!("\"{units}\"")
}
