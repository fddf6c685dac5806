use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;

fn document(message: &[u8]) -> Value {
    let origin = Origin {
        source: "syslog".into(),
        cluster: "prod".into(),
        peer: None,
        received_at: "2026-01-31T08:20:00Z".parse().unwrap(),
        history: false,
    };
    let frame = SyslogFrame { bytes: Bytes::copy_from_slice(message), cut: false };
    let messages = [SyslogMessage { peer: [10, 0, 0, 1].into(), frame }];
    let (limits, redactor) = (LogLimits::default(), Redactor::new([7; 32], vec![]));
    let envelopes = decode_syslog(&messages, &origin, &Sequence::delivery(&origin, b"1"), &limits, &redactor);
    assert_eq!(envelopes[0].peer, Some(messages[0].peer));
    serde_json::from_slice(&envelopes[0].bytes).unwrap()
}

fn check(message: &str, expect: &[(&str, Value)]) {
    let document = document(message.as_bytes());
    for (key, expect) in expect {
        assert_eq!(&document[key], expect, "{key} of {document}");
    }
}

#[test]
fn messages_of_rfc_5424() {
    // its own examples
    check(
        "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \u{feff}'su root' failed for lonvick on /dev/pts/8",
        &[
            ("@timestamp", "2003-10-11T22:14:15.003000Z".into()),
            ("host.name", "mymachine.example.com".into()),
            ("log.syslog.appname", "su".into()),
            ("log.syslog.msgid", "ID47".into()),
            ("log.syslog.facility.code", 4.into()),
            ("log.syslog.severity.code", 2.into()),
            ("log.level", "critical".into()),
            ("message", "'su root' failed for lonvick on /dev/pts/8".into()),
            ("event.dataset", "syslog".into()),
            ("log.syslog.procid", Value::Null),
        ],
    );
    check(
        r#"<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 evntslog 17 ID47 [exampleSDID@32473 iut="3" eventSource="a \"b\" \\ \]"][examplePriority@32473 class="high"] An event"#,
        &[
            ("@timestamp", "2003-08-24T12:14:15.000003Z".into()),
            ("process.pid", 17.into()),
            ("message", "An event".into()),
            (
                "log.syslog.structured_data",
                serde_json::json!({ "exampleSDID@32473": { "iut": "3", "eventSource": "a \"b\" \\ ]" },
                    "examplePriority@32473": { "class": "high" } }),
            ),
        ],
    );
    check("<0>1 - - - - - -", &[("message", Value::Null), ("log.level", "emergency".into())]);
    let line = "<86>1 2026-01-31T08:15:00Z bastion sshd 812 - - Failed password for root from 203.0.113.9 port 22 ssh2";
    check(
        line,
        &[
            ("event.dataset", "sshd".into()),
            ("source.ip", "203.0.113.9".into()),
            ("host.name", "bastion".into()),
        ],
    );
    check(
        "<86>1 2026-01-31T08:15:00Z bastion sudo 812 - - eve : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/sh",
        &[
            ("event.dataset", "sudo".into()),
            ("user.name", "eve".into()),
            ("user.effective.name", "root".into()),
        ],
    );
    check(
        "<14>1 2026-01-31T08:15:00Z h app - - - @cee: {\"msg\":\"hello\",\"port\":1}",
        &[("message", "hello".into()), ("port", 1.into())],
    );
    // a clock that is ahead
    check(
        "<14>1 2027-01-31T08:15:00Z h app - - - x",
        &[("@timestamp", "2026-01-31T08:20:00.000000Z".into())],
    );
}

#[test]
fn messages_of_rfc_3164_and_what_resembles_them() {
    check(
        "<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8",
        &[
            ("@timestamp", "2025-10-11T22:14:15.000000Z".into()),
            ("host.name", "mymachine".into()),
            ("process.name", "su".into()),
            ("message", "'su root' failed for lonvick on /dev/pts/8".into()),
        ],
    );
    // rsyslog's forwarding format
    check(
        "<86>2026-01-31T08:15:00.123456+00:00 bastion sshd[812]: Accepted publickey for eve from 203.0.113.9 port 22 ssh2",
        &[
            ("@timestamp", "2026-01-31T08:15:00.123456Z".into()),
            ("event.dataset", "sshd".into()),
            ("process.pid", 812.into()),
            ("event.outcome", "success".into()),
        ],
    );
    // what rsyslog makes of it for RFC 5424 keeps the space that stood after the tag
    check(
        "<86>1 2026-01-31T08:15:00Z bastion sshd - - -  Accepted password for eve from 203.0.113.9 port 22 ssh2",
        &[("event.dataset", "sshd".into())],
    );
    check("<13>no header at all", &[("message", "no header at all".into()), ("log.level", "notice".into())]);
    check("no priority", &[("message", "no priority".into()), ("log.level", Value::Null)]);
    // the address is that of the connection, whatever a message says
    check(
        r#"<13>{"log.source.address":"192.0.2.1","a":1}"#,
        &[
            ("log.source.address", "10.0.0.1".into()),
            ("line", serde_json::json!({"log.source.address": "192.0.2.1"})),
        ],
    );
    for odd in
        ["<192>x", "<>x", "<+1>x", "<1", "<13>1 2026 a b", "<13>1 - h a p m [id", "<13>1 - h a p m [id x=\"]"]
    {
        let message = document(odd.as_bytes())["message"].clone();
        assert!(message.as_str().unwrap().contains(&odd[odd.len() - 1..]), "{odd}: {message}");
    }
    let document = document(b"<13>1 - h a - - - caf\xe9");
    assert_eq!(
        (&document["message"], &document["log.flags"][0]),
        (&"caf\u{fffd}".into(), &"not_utf8".into())
    );
}

#[test]
fn what_ends_a_message_does_not_belong_to_it() {
    // Python's SysLogHandler ends each with a NUL, also in a datagram
    for end in ["", "\0", "\n", "\r\n", "\n\0", "\0\n"] {
        check(&format!("<13>backup: a\0b{end}"), &[("message", "a\0b".into())]);
    }
}

#[test]
fn a_message_may_name_no_host() {
    const FAILED: &str = "Failed password for root from 203.0.113.9 port 4 ssh2";
    for (header, time) in [
        ("<38>Jan 31 08:15:00 sshd[99]: ", "2026-01-31T08:15:00.000000Z"),
        ("<38>Jan 31 08:15:00 sshd: ", "2026-01-31T08:15:00.000000Z"),
        ("<38>2026-01-31T08:15:00Z sshd[99]: ", "2026-01-31T08:15:00.000000Z"),
        ("<38>sshd[99]: ", "2026-01-31T08:20:00.000000Z"),
        ("<38>sshd[99]:", "2026-01-31T08:20:00.000000Z"),
        ("<38>sshd: ", "2026-01-31T08:20:00.000000Z"),
        // glibc's syslog() as it stands in a file
        ("Jan 31 08:15:00 sshd[99]: ", "2026-01-31T08:15:00.000000Z"),
    ] {
        check(
            &format!("{header}{FAILED}"),
            &[
                ("@timestamp", time.into()),
                ("event.dataset", "sshd".into()),
                ("process.name", "sshd".into()),
                ("process.pid", if header.contains("99") { 99.into() } else { Value::Null }),
                ("event.outcome", "failure".into()),
                ("source.ip", "203.0.113.9".into()),
                ("host.name", Value::Null),
                ("log.source.address", "10.0.0.1".into()),
            ],
        );
    }
    // some devices name the year
    check(
        "<38>Oct 11 2025 22:14:15 fw-1 sshd[99]: x",
        &[
            ("@timestamp", "2025-10-11T22:14:15.000000Z".into()),
            ("host.name", "fw-1".into()),
            ("process.name", "sshd".into()),
            ("message", "x".into()),
        ],
    );
    check(
        "<30>Jan 31 08:15:00 postfix/smtpd[7]: connect",
        &[
            ("process.name", "postfix/smtpd".into()),
            ("host.name", Value::Null),
            ("message", "connect".into()),
        ],
    );
    check("<13>backup: done: 7", &[("process.name", "backup".into()), ("message", "done: 7".into())]);
}

#[test]
fn messages_of_cisco_devices_are_as_old_as_they_say() {
    const MESSAGE: &str = "%SYS-5-CONFIG_I: Configured from console";
    let (said, arrived) = ("2026-01-31T08:15:00.123000Z", "2026-01-31T08:20:00.000000Z");
    for (header, time) in [
        ("<189>45: Jan 31 08:15:00.123: ", said),
        ("<189>000045: .Jan 31 2026 08:15:00.123 UTC: ", said),
        ("<189>Jan 31 2026 08:15:00.123: ", said),
        ("<189>45: *Mar  1 00:01:02.123: ", arrived),
    ] {
        check(
            &format!("{header}{MESSAGE}"),
            &[("@timestamp", time.into()), ("message", MESSAGE.into()), ("process.name", Value::Null)],
        );
    }
    for other in ["45: Jan 31 08:15:00 CEST: %A-1-B: c", "45 %A-1-B: c", "45: Jan 31 08:15:00: c"] {
        check(&format!("<189>{other}"), &[("@timestamp", arrived.into()), ("message", other.into())]);
    }
}

#[test]
fn a_word_before_a_colon_is_not_always_a_tag() {
    for message in [
        "error: disk full",
        "WARNING: disk full",
        "12:30: lunch",
        "10.0.0.1: unreachable",
        "http://example.org: gone",
        "std::vector: empty",
        "C:\\ is full",
        "level=info msg=\"a: b\"",
        "the disk: full",
        "%SYS-5-CONFIG_I: configured",
        "sshd[x]: y",
        "sshd[]: y",
        "a-name-of-more-than-thirty-two-characters: y",
        ": y",
    ] {
        check(&format!("<13>{message}"), &[("message", message.into()), ("process.name", Value::Null)]);
    }
    // a host is one, whatever follows
    check(
        "<13>Jan 31 08:15:00 web error: disk full",
        &[("host.name", "web".into()), ("process.name", "error".into()), ("message", "disk full".into())],
    );
    // what stands in no header stays where it is
    let line = "<13>Jan 31 08:15:00 error: disk full";
    check(line, &[("message", line[4..].into()), ("host.name", Value::Null), ("process.name", Value::Null)]);
    let line = "Jan 31 08:15:00 note: x";
    check(line, &[("message", line.into()), ("process.name", Value::Null)]);
}

/// Feeds a stream in pieces of this size.
fn frames(stream: &[u8], piece: usize) -> Vec<(String, bool)> {
    let (mut frames, mut buffer, mut found) = (SyslogFrames::new(20), BytesMut::new(), Vec::new());
    for piece in stream.chunks(piece) {
        buffer.extend_from_slice(piece);
        while let Some(frame) = frames.next(&mut buffer) {
            found.push(frame);
        }
        assert!(buffer.len() <= 20 + 10 + piece.len(), "{}", buffer.len());
    }
    found.extend(frames.last(&mut buffer));
    found.iter().map(|frame| (String::from_utf8_lossy(&frame.bytes).into_owned(), frame.cut)).collect()
}

#[test]
fn a_stream_holds_counted_messages_and_lines() {
    for (stream, expect) in [
        ("5 <1>ab6 <1>a\nb", &[("<1>ab", false), ("<1>a\nb", false)][..]),
        ("<1>a\n<2>b\r\n\n<3>c", &[("<1>a", false), ("<2>b\r", false), ("<3>c", false)]),
        ("<1>a\u{0}5 <1>ab\n<2>c\n", &[("<1>a", false), ("<1>ab", false), ("<2>c", false)]),
        ("1 error\n12\n", &[("1 error", false), ("12", false)]),
        ("<1>56789012345678901234567890\n<2>b\n", &[("<1>56789012345678901", true), ("<2>b", false)]),
        ("30 <1>5678901234567890123456789ü4 <2>b", &[("<1>56789012345678901", true), ("<2>b", false)]),
        ("9 <1>ab", &[("9 <1>ab", true)]),
        ("999999999 <1>ab", &[("999999999 <1>ab", true)]),
        ("", &[]),
    ] {
        for piece in 1..=stream.len().max(1) {
            let expect: Vec<_> = expect.iter().map(|(text, cut)| ((*text).to_owned(), *cut)).collect();
            assert_eq!(frames(stream.as_bytes(), piece), expect, "{stream:?} by {piece}");
        }
    }
}

proptest! {
    #[test]
    fn how_a_stream_is_cut_into_pieces_changes_nothing(
        stream in "([0-9]{1,2} )?<1>[a-z\\n ]{0,30}\\n?([0-9]{1,2} <1>[a-z]{0,9})?", piece in 1usize..9,
    ) {
        prop_assert_eq!(frames(stream.as_bytes(), piece), frames(stream.as_bytes(), stream.len().max(1)));
    }
}
