//! The lines that all log routes carry: of a web server, of a component of Kubernetes, of a program that writes JSON, and
//! of one that writes sentences, as many of each.

/// How many lines one request, chunk or batch carries.
pub(super) const LINES_PER_BATCH: usize = 500;

/// The line with this number; numbers that are spread over all bits make varied lines.
pub(super) fn line(number: u64) -> String {
    let (low, millis) = (number % 251, number / 251 % 1_000);
    match number / 7 % 4 {
        0 => format!(
            "10.1.2.{low} - - [31/Jan/2026:08:15:00 +0000] \"GET /api/v1/items/{millis} HTTP/1.1\" 200 {millis} \"-\" \"Mozilla/5.0 (X11; Linux x86_64)\""
        ),
        1 => format!(
            "I0131 08:15:00.000{millis:03}       1 controller.go:{low}] Reconciled deployment shop/web-{low} in {millis}ms"
        ),
        2 => format!(
            "{{\"level\":\"info\",\"ts\":1769847300.{millis:03},\"msg\":\"handled request\",\"path\":\"/items/{low}\",\"duration_ms\":{millis},\"user\":\"u{low}\"}}"
        ),
        _ => {
            format!("worker {low} finished batch {millis} of the nightly export without any error at all")
        }
    }
}
