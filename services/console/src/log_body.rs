//! A file as the body of an answer, piece by piece: a slow reader holds no more than one piece of it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::fs::File;
use tokio::io::{AsyncRead as _, ReadBuf};

use crate::limits::LOG_PIECE_BYTES;

pub struct FileBody {
    file: File,
    left: u64,
    piece: Vec<u8>,
}

impl FileBody {
    /// The first `length` bytes of a file.
    pub fn new(file: std::fs::File, length: u64) -> Self {
        Self {
            file: File::from_std(file),
            left: length,
            piece: Vec::new(),
        }
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        // At most a piece.
        let wanted = this.left.min(LOG_PIECE_BYTES as u64) as usize;
        this.piece.resize(wanted, 0);
        let mut piece = ReadBuf::new(&mut this.piece);
        if let Err(error) = ready!(Pin::new(&mut this.file).poll_read(context, &mut piece)) {
            this.left = 0;
            return Poll::Ready(Some(Err(error)));
        }
        let read = Bytes::copy_from_slice(piece.filled());
        if read.is_empty() {
            // It was cut short meanwhile: the connection ends, so that nobody takes it for the whole.
            this.left = 0;
            return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
        }
        this.left -= read.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(read))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
