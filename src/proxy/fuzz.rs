//! What fuzzers are shown of the room: its framing, which is the one parser here that reads bytes of a peer.

use bytes::Bytes;

use super::deframer::Deframer;
use super::frame::FrameError;

/// What a body was read as.
#[derive(Debug)]
pub struct Read {
    /// Its messages.
    pub messages: Vec<Bytes>,
    /// How many of them do not lie where they came.
    pub copied: usize,
    /// What ended it other than its end.
    pub error: Option<String>,
}

/// Reads the body that comes in `chunks`, with messages of at most `limit` bytes: chunk by chunk if `eager`, else all that
/// has come at the end.
pub fn read(chunks: &[Bytes], limit: usize, eager: bool) -> Read {
    let mut deframer = Deframer::new(limit, "");
    let mut read = Read {
        messages: Vec::new(),
        copied: 0,
        error: None,
    };
    let mut ended = Ok(());
    for (index, chunk) in chunks.iter().enumerate() {
        deframer.push(chunk.clone());
        if eager || index + 1 == chunks.len() {
            ended = take(&mut deframer, chunks, &mut read);
        }
        if ended.is_err() {
            break;
        }
    }
    let ended = ended.and_then(|()| deframer.finish());
    read.error = ended.err().map(|error| named(&error).to_owned());
    read
}

fn take(deframer: &mut Deframer, chunks: &[Bytes], read: &mut Read) -> Result<(), FrameError> {
    while let Some(frame) = deframer.next()? {
        let place = frame.clone().into_bytes().as_ptr();
        if !chunks.iter().any(|chunk| chunk.as_ptr_range().contains(&place)) {
            read.copied += 1;
        }
        read.messages.push(frame.into_message());
    }
    Ok(())
}

fn named(error: &FrameError) -> &'static str {
    match error {
        FrameError::Truncated => "truncated",
        FrameError::Compressed(_) => "compressed",
        FrameError::Flag(_) => "flag",
        FrameError::TooLarge { .. } => "too large",
        FrameError::Surplus | FrameError::Missing | FrameError::Crowded | FrameError::Stream(_) => "the stream's",
    }
}
