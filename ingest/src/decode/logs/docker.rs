use watchbell_event::Timestamp;

/// One line of Docker's json-file driver: `{"log":"message\n","stream":"stdout","time":"…"}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerLine {
    /// When Docker read it.
    pub time: Option<Timestamp>,
    /// `stdout` or `stderr`.
    pub stream: Option<String>,
    /// True if the message goes on in the stream's next line.
    pub partial: bool,
    /// What the container wrote, without its line break.
    pub message: String,
}

impl DockerLine {
    /// Reads a line; none if it is not of this form.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        #[derive(serde::Deserialize)]
        struct Wire {
            log: String,
            stream: Option<String>,
            time: Option<Timestamp>,
        }
        let Wire { log, stream, time } = serde_json::from_slice(line).ok()?;
        let mut message = log;
        let partial = !message.ends_with('\n');
        if !partial {
            message.pop();
            if message.ends_with('\r') {
                message.pop();
            }
        }
        Some(Self { time, stream, partial, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_docker_are_taken_apart() {
        let line = br#"{"log":"a \"b\"\n","stream":"stderr","time":"2018-02-21T17:26:53.360920913Z"}"#;
        let read = DockerLine::parse(line).unwrap();
        assert_eq!(
            (read.message.as_str(), read.stream.as_deref(), read.partial),
            ("a \"b\"", Some("stderr"), false)
        );
        assert_eq!(read.time.unwrap().to_string(), "2018-02-21T17:26:53.360920Z");
        assert!(DockerLine::parse(br#"{"log":"a part"}"#).unwrap().partial);
        assert_eq!(DockerLine::parse(br#"{"message":"x"}"#), None);
    }
}
