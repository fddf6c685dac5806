use super::*;

/// Written by MessagePack's own library for Python, one file for each mode.
const MESSAGE: &[u8] = include_bytes!("fixtures/message.msgpack");
const FORWARD: &[u8] = include_bytes!("fixtures/forward.msgpack");
const PACKED: &[u8] = include_bytes!("fixtures/packed.msgpack");
const COMPRESSED: &[u8] = include_bytes!("fixtures/compressed.msgpack");

fn decode(message: &[u8], limits: &LogLimits) -> Result<Decoded, DecodeError> {
    let origin = Origin {
        source: "forward".into(),
        cluster: "prod".into(),
        peer: None,
        received_at: "2026-01-31T08:20:00Z".parse().unwrap(),
        history: false,
    };
    let message = ForwardMessage::parse(&Bytes::copy_from_slice(message)).unwrap();
    let entries = match message.compression {
        Some(compression) => super::super::super::decompress(&message.entries, compression, 1 << 20).unwrap(),
        None => message.entries,
    };
    let delivery = Sequence::delivery(&origin, b"1");
    let redactor = Redactor::new([7; 32], vec![]);
    decode_forward(&entries, (&message.tag, message.form), &origin, &delivery, limits, &redactor)
}

fn documents(message: &[u8]) -> Vec<Value> {
    let decoded = decode(message, &LogLimits::default()).unwrap();
    assert!(decoded.rejected.is_empty(), "{:?}", decoded.rejected);
    decoded.envelopes.iter().map(|envelope| serde_json::from_slice(&envelope.bytes).unwrap()).collect()
}

#[test]
fn all_modes_hold_the_same() {
    let expect = documents(FORWARD);
    assert_eq!(documents(PACKED), expect);
    assert_eq!(documents(COMPRESSED), expect);
    assert_eq!(documents(MESSAGE), expect[..1]);
    for (index, key, value) in [
        (0, "@timestamp", "2026-01-31T08:15:00.123456Z".into()),
        (0, "message", "Failed password for root from 203.0.113.9 port 22 ssh2".into()),
        (0, "event.dataset", "sshd".into()),
        (0, "orchestrator.namespace", "shop".into()),
        (0, "tag", "kube.bastion".into()),
        (1, "@timestamp", "2026-01-31T08:15:01.000000Z".into()),
        (1, "n", Value::from(-5)),
        (1, "ratio", 0.5.into()),
        (1, "none", Value::Null),
        (1, "list", serde_json::json!([1, "a"])),
        (1, "raw", "\u{fffd}\0".into()),
        (2, "message", "with metadata".into()),
        (2, "@timestamp", "2026-01-31T08:15:02.000000Z".into()),
    ] {
        assert_eq!(expect[index][key], value, "{key} of {}", expect[index]);
    }
    for message in [MESSAGE, FORWARD, PACKED, COMPRESSED] {
        let message = ForwardMessage::parse(&Bytes::copy_from_slice(message)).unwrap();
        assert_eq!(message.chunk.as_deref(), Some(&b"p8n9gmxTQVC8/nh2wlKKeQ=="[..]));
    }
}

#[test]
fn seconds_may_be_any_integer_or_a_float() {
    // the client for Go writes signed ones
    for time in [
        &b"\xce\x65\xa0\xb0\xc0"[..],
        b"\xd2\x65\xa0\xb0\xc0",
        b"\xcf\0\0\0\0\x65\xa0\xb0\xc0",
        b"\xd3\0\0\0\0\x65\xa0\xb0\xc0",
        b"\xcb\x41\xd9\x68\x2c\x30\0\0\0",
    ] {
        let message = [&b"\x93\xa1t"[..], time, b"\x81\xa7message\xa1x"].concat();
        assert_eq!(documents(&message)[0]["@timestamp"], "2024-01-12T03:23:44.000000Z", "{time:x?}");
    }
}

#[test]
fn messages_are_found_in_a_stream_however_it_arrives() {
    let stream = [MESSAGE, FORWARD, COMPRESSED, MESSAGE].concat();
    for piece in [1, 2, 7, 100, stream.len()] {
        let (mut frames, mut buffer, mut found) = (ForwardFrames::new(4 << 10), BytesMut::new(), Vec::new());
        for piece in stream.chunks(piece) {
            buffer.extend_from_slice(piece);
            while let Some(message) = frames.next(&mut buffer).unwrap() {
                found.push(message);
            }
        }
        assert_eq!(found, [MESSAGE, FORWARD, COMPRESSED, MESSAGE], "{piece}");
        assert!(buffer.is_empty());
    }
}

#[test]
fn what_is_no_message_or_too_large_ends_the_stream() {
    let next = |bytes: &[u8]| ForwardFrames::new(16).next(&mut BytesMut::from(bytes));
    assert_eq!(next(b"\xc1"), Err(ForwardError::Malformed));
    // what is announced counts before it comes
    for long in [
        &b"\x93\xa1a\xdb\xff\xff\xff\xff"[..],
        b"\x93\xa1a\xd9\x0c",
        b"\xdd\xff\xff\xff\xff",
        b"\xdc\x00\x10\xc0",
        b"\xdf\x00\x00\x00\x06",
        b"\xd9\x0faaaaaaaaaaaaaaaa",
    ] {
        assert_eq!(next(long), Err(ForwardError::TooLong { max_bytes: 16 }), "{long:?}");
    }
    for short in [&b"\x93\xa1a\xd9\x09"[..], b"\xdc\x00\x0d\xc0", b"\x93\xa1a\xdb\xff\xff", b""] {
        assert_eq!(next(short), Ok(None), "{short:?}");
    }
    let parse = |bytes: &'static [u8]| ForwardMessage::parse(&Bytes::from_static(bytes));
    for bad in [&b"\x01"[..], b"\x91\xa1a", b"\x92\xa1a", b"\x93\x01\x02\x03", b"\x93\xa1a\x01"] {
        assert_eq!(parse(bad), Err(ForwardError::Malformed), "{bad:?}");
    }
    assert_eq!(parse(b"\x93\xa1a\xa0\x81\xaacompressed\xa3lz4"), Err(ForwardError::Compression));
    let zstd = parse(b"\x93\xa1a\xa0\x81\xaacompressed\xa4zstd").unwrap();
    assert_eq!(zstd.compression, Some(Compression::Zstd));
}

#[test]
fn a_bad_entry_takes_nothing_with_it_and_limits_hold() {
    let good = b"\x92\x01\x81\xa3log\xa1x";
    let forward = |entries: &[u8]| {
        [&b"\x92\xa1t\xc6"[..], &u32::try_from(entries.len()).unwrap().to_be_bytes(), entries].concat()
    };
    let counts = |entries: &[u8]| {
        let decoded = decode(&forward(entries), &LogLimits::default()).unwrap();
        (decoded.envelopes.len(), decoded.rejected.len())
    };
    for bad in [&b"\x01"[..], b"\x93\x01\x80\xc0", b"\x92\x01\xa1x", b"\x92\xc0\x90"] {
        assert_eq!(counts(&[good, bad, good].concat()), (2, 1), "{bad:?}");
    }
    assert_eq!(counts(&[good, &b"\xc1"[..], good].concat()), (1, 1));
    assert_eq!(counts(&good[..5]), (0, 1));
    assert_eq!(counts(b""), (0, 0));

    let limits = LogLimits { records: 2, ..LogLimits::default() };
    let error = decode(&forward(&good.repeat(3)), &limits).unwrap_err();
    assert_eq!(error, DecodeError::TooManyEvents { limit: 2 });
    // a million nils in one record, and deep nesting
    let nils = [&b"\x92\x01\x81\xa1n\xdd\x00\x10\x00\x00"[..], &vec![0xc0; 1 << 20]].concat();
    let deep = [&b"\x92\x01\x81\xa1d"[..], &vec![0x91; 100_000], &[0xc0]].concat();
    let decoded = decode(&forward(&[&nils, &deep, &good[..]].concat()), &LogLimits::default()).unwrap();
    assert_eq!((decoded.envelopes.len(), decoded.rejected.len()), (3, 0));
    assert!(decoded.envelopes.iter().all(|envelope| envelope.bytes.len() < 100 << 10));
    let flags: Value = serde_json::from_slice(&decoded.envelopes[0].bytes).unwrap();
    assert_eq!(flags["log.flags"][0], "truncated");
}

#[test]
fn the_handshake_is_written_as_it_is_read() {
    let ping = b"\x96\xa4PING\xa1h\xc4\x02\xff\x00\xa2ab\xa0\xa0";
    let expect = Ping { hostname: b"h".to_vec(), salt: vec![0xff, 0], digest: b"ab".to_vec() };
    assert_eq!(Ping::parse(&Bytes::from_static(ping)), Some(expect));
    for other in [MESSAGE, &b"\x96\xa4PONG\xa1h\xa0\xa0\xa0\xa0"[..], &ping[..9], b""] {
        assert_eq!(Ping::parse(&Bytes::copy_from_slice(other)), None);
    }
    for (written, expect) in [
        (helo(b"ab"), serde_json::json!(["HELO", { "nonce": "ab", "auth": "", "keepalive": true }])),
        (pong(None, "host", "cd"), serde_json::json!(["PONG", true, "", "host", "cd"])),
        (pong(Some("no"), "", ""), serde_json::json!(["PONG", false, "no", "", ""])),
        (ack(b"c1"), serde_json::json!({ "ack": "c1" })),
    ] {
        let (mut room, mut reader) = (100, Reader::new(&written));
        assert_eq!(reader.value(&mut room, 9), Ok(expect));
        assert!(reader.is_at_end());
    }
}
