//! The header `traceparent` (W3C Trace Context, version 00): to which span of which trace a call belongs. Pure.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanId, TraceId};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What a client says of its own span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
    /// Whether the client records it.
    pub(super) is_sampled: bool,
}

/// The client's span; `None` where it names none, or none that can be.
pub(super) fn read(headers: &HeaderMap) -> Option<Parent> {
    let mut parts = headers.get(TRACEPARENT)?.to_str().ok()?.split('-');
    let mut hex = |length| {
        let part = parts.next()?;
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (part.len() == length && part.bytes().all(is_hex)).then_some(part)
    };
    let (version, trace, span, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    // Versions to come begin in the same way, and may go on; ff is none.
    if version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let parent = Parent {
        trace: TraceId::from_hex(trace).ok()?,
        span: SpanId::from_hex(span).ok()?,
        is_sampled: u8::from_str_radix(flags, 16).ok()? & 1 == 1,
    };
    (parent.trace != TraceId::INVALID && parent.span != SpanId::INVALID).then_some(parent)
}

/// Makes `span`, which is recorded, the one that the call belongs to.
pub(super) fn write(headers: &mut HeaderMap, trace: TraceId, span: SpanId) {
    if let Ok(value) = HeaderValue::from_str(&format!("00-{trace:032x}-{span:016x}-01")) {
        headers.insert(TRACEPARENT, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn of(value: &str) -> Option<Parent> {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_str(value).unwrap());
        read(&headers)
    }

    #[test]
    fn only_a_well_formed_header_names_a_span() {
        let parent = of(&format!("00-{TRACE}-{SPAN}-01")).unwrap();
        assert_eq!(
            (parent.trace.to_string(), parent.span.to_string()),
            (TRACE.into(), SPAN.into())
        );
        assert!(parent.is_sampled);
        assert!(!of(&format!("00-{TRACE}-{SPAN}-02")).unwrap().is_sampled);
        assert!(of(&format!("01-{TRACE}-{SPAN}-01-more")).is_some());
        let (zero_trace, zero_span) = ("0".repeat(32), "0".repeat(16));
        for bad in [
            String::new(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{zero_trace}-{SPAN}-01"),
            format!("00-{TRACE}-{zero_span}-01"),
            format!("00-{TRACE}-+7ad6b716920333-01"),
        ] {
            assert_eq!(of(&bad), None, "{bad}");
        }
        assert_eq!(read(&HeaderMap::new()), None);
    }

    #[test]
    fn what_is_written_is_read() {
        let mut headers = HeaderMap::new();
        let (trace, span) = (TraceId::from(7), SpanId::from(9));
        write(&mut headers, trace, span);
        let is_sampled = true;
        assert_eq!(
            read(&headers),
            Some(Parent {
                trace,
                span,
                is_sampled
            })
        );
    }
}
