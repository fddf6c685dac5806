//! Kubernetes components: `Lmmdd hh:mm:ss.uuuuuu threadid file:line] message`, and in the structured form pairs
//! behind a message in quotes.

use super::super::draft::Draft;
use super::super::{Field, time};
use super::logfmt;
use super::scan::Cursor;

pub(super) fn read<'a>(line: &'a str, draft: &mut Draft<'a>) -> Option<()> {
    let level = match line.as_bytes().first()? {
        b'I' => "info",
        b'W' => "warning",
        b'E' => "error",
        b'F' => "fatal",
        _ => return None,
    };
    let (time, rest) = time::klog(line.get(1..)?, draft.received_at)?;
    let mut rest = Cursor(rest.trim_start_matches(' '));
    let thread = rest.word().filter(|thread| thread.bytes().all(|byte| byte.is_ascii_digit()))?;
    let (file, number) = rest.until(b']')?.split_once(':')?;
    let message = rest.0.strip_prefix(' ').unwrap_or(rest.0);
    draft.dataset = "klog";
    draft.time = Some(time);
    draft.say(Field::LogLevel, level);
    draft.say(Field::LogOriginFileName, file);
    draft.say_number(Field::LogOriginFileLine, number);
    draft.say_number(Field::ProcessThreadId, thread);
    let mut structured = Cursor(message);
    if structured.quoted().is_some() {
        logfmt::pairs(structured.0, draft);
    }
    Some(())
}
