//! A file as the body of a request.

use std::fs::File;
use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::sync::mpsc;

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;
/// Pieces that wait to be sent.
const WAITING: usize = 4;

/// The bytes of a file, read by a thread of its own.
pub(crate) struct Upload {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    left: u64,
}

impl Upload {
    /// All of a file; `sent` is told how many bytes were given away so far. Must be called on a runtime.
    pub(crate) fn of(file: File, sent: impl Fn(u64) + Send + 'static) -> io::Result<Upload> {
        let left = file.metadata()?.len();
        let (sender, pieces) = mpsc::channel(WAITING);
        tokio::task::spawn_blocking(move || read(file, &sender, &sent));
        Ok(Upload { pieces, left })
    }
}

fn read(mut file: File, sender: &mpsc::Sender<io::Result<Bytes>>, sent: &dyn Fn(u64)) {
    let mut all = 0;
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let read = (&mut file).take(PIECE as u64).read_to_end(&mut piece);
        let is_last = !matches!(read, Ok(n) if n > 0);
        all += piece.len() as u64;
        match read {
            Ok(0) => {}
            Ok(_) if sender.blocking_send(Ok(piece.into())).is_err() => return,
            Ok(_) => sent(all),
            Err(error) => drop(sender.blocking_send(Err(error))),
        }
        if is_last {
            return;
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = match ready!(self.pieces.poll_recv(context)) {
            // A file that has grown since is not the one that was announced.
            Some(Ok(piece)) if piece.len() as u64 > self.left => {
                Err(io::Error::other("the file has changed"))
            }
            Some(piece) => piece,
            None if self.left > 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            None => return Poll::Ready(None),
        };
        if let Ok(piece) = &piece {
            self.left -= piece.len() as u64;
        }
        Poll::Ready(Some(piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
