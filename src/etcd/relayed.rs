//! The body of an answer that is relayed: what has been read of it, and the rest as it comes.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use thiserror::Error;
use tokio::sync::mpsc;

/// A part of a body that comes later.
#[derive(Debug)]
pub(super) enum Piece {
    /// Bytes of it.
    Data(Bytes),
    /// There are no more.
    End,
}

/// A body that is handed on while it is read.
#[derive(Debug)]
pub struct Relayed {
    begun: Option<Bytes>,
    rest: Option<mpsc::Receiver<Piece>>,
}

/// The body broke off: etcd ended it, or it was not read in time.
#[derive(Debug, Error)]
#[error("the answer broke off")]
pub struct BrokenOff;

impl Relayed {
    /// One that is here already.
    pub fn whole(bytes: Bytes) -> Self {
        Self {
            begun: Some(bytes).filter(|bytes| !bytes.is_empty()),
            rest: None,
        }
    }

    pub(super) fn begun(bytes: Bytes, rest: mpsc::Receiver<Piece>) -> Self {
        Self {
            rest: Some(rest),
            ..Self::whole(bytes)
        }
    }
}

impl Body for Relayed {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if let Some(bytes) = self.begun.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        let Some(rest) = &mut self.rest else {
            return Poll::Ready(None);
        };
        let piece = std::task::ready!(rest.poll_recv(context));
        if let Some(Piece::Data(bytes)) = piece {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        self.rest = None;
        Poll::Ready(piece.is_none().then_some(Err(BrokenOff)))
    }

    fn is_end_stream(&self) -> bool {
        self.begun.is_none() && self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.rest {
            None => SizeHint::with_exact(self.begun.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Some(_) => SizeHint::default(),
        }
    }
}
