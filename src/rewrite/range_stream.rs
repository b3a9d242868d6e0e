//! RangeStream (etcd 3.7 and later): one `RangeRequest`, many messages that each hold a part of the `RangeResponse`.

use bytes::Bytes;

use super::{Context, OpenFailure, OpenJob, Refusal, open::Leaf, plan, range::RangeRequest};
use crate::{
    types::Reach,
    wire::{Fields, Frame, Script, Spliced, etcd::range_stream_response},
};

/// A RangeStream's request as it goes on to etcd.
#[derive(Debug)]
pub struct RangeStreamRequest {
    /// The message to send.
    pub message: Spliced,
    /// Whether it asks for no more than so many keys.
    pub is_limited: bool,
    /// How to read each message that comes back.
    pub responses: RangeStreamResponses,
}

/// How the messages of one RangeStream are to be read.
#[derive(Clone, Copy, Debug)]
pub struct RangeStreamResponses {
    values: bool,
}

/// Checks the one request of a RangeStream.
///
/// # Errors
/// As for Range; and [`Refusal::StreamOverState`] for a range that spans the proxy's own records: two streams have no
/// common revision, and clients fall back to Range.
pub fn range_stream_request(message: Bytes, ctx: &Context<'_>) -> Result<RangeStreamRequest, Refusal> {
    let read = RangeRequest::parse(Fields::new(&message))?;
    match ctx.state.reach(read.range(ctx)?) {
        Reach::Clear => {}
        Reach::Inside => return Err(Refusal::StatePrefix),
        Reach::Around { .. } => return Err(Refusal::StreamOverState),
    }
    let (values, is_limited) = (read.returns_values(), read.is_limited());
    Ok(RangeStreamRequest {
        message: Spliced::untouched(message),
        is_limited,
        responses: RangeStreamResponses { values },
    })
}

impl RangeStreamResponses {
    /// Begins to open one `RangeStreamResponse`.
    ///
    /// # Errors
    /// [`OpenFailure::Malformed`].
    pub fn open(&self, message: Bytes) -> Result<OpenJob, OpenFailure> {
        let items = plan::items(self.values);
        let mut script = Script::new();
        let mut leaves = Vec::new();
        for field in Fields::new(&message) {
            let field = field?;
            if field.number == range_stream_response::RANGE_RESPONSE {
                let extent = field.body()?.extent;
                leaves.push(Leaf {
                    frame: script.enter(Frame::TOP, extent),
                    at: extent.start,
                    end: extent.end,
                    items,
                    may_fail: true,
                });
            }
        }
        Ok(OpenJob::new(message, script, leaves))
    }
}
