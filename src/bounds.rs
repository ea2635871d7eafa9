//! How much of a reply is read, in bytes after decompression: no server can make us allocate without bound.

use crate::error::Result;
use crate::inline::{RowSink, Splitter};

/// The default of the client option `max_response_bytes`.
pub const DEFAULT_MAX_ANSWER: u64 = 256 << 20;
/// What is smaller holds no answer: a number of kilobytes or megabytes, meant as one of bytes.
pub const MIN_MAX_ANSWER: u64 = 1000;
/// The reply to an upload, and an error reply.
pub const MAX_SMALL_REPLY: usize = 1 << 20;
/// A job's state or a page of a list, without the result rows inside it.
pub const MAX_STATE: usize = 64 << 20;
/// A line of a result file.
pub const MAX_LINE: u64 = 256 << 20;
/// A larger reply is read on a thread of its own. Also as much of a reply as is looked at where its beginning is enough.
pub const LARGE: usize = 64 << 10;

/// What the success of a request brings, which decides how much of it is read.
pub enum Expected<'r> {
    Answer,
    /// A job or a list of jobs.
    State,
    /// The same, which the result rows inside leave for a place of their own.
    StateWithRows(&'r mut dyn RowSink),
    /// What is said to an upload.
    UploadReply,
}

impl Expected<'_> {
    /// The same once more, for another try.
    pub fn again(&mut self) -> Expected<'_> {
        match self {
            Self::Answer => Expected::Answer,
            Self::State => Expected::State,
            Self::StateWithRows(rows) => Expected::StateWithRows(&mut **rows),
            Self::UploadReply => Expected::UploadReply,
        }
    }

    /// Why a reply of this kind was not read to its end. `max_answer` is the client's `max_response_bytes`.
    pub fn too_large(&self, max_answer: u64) -> String {
        match self {
            Self::Answer => format!(
                "the answer is larger than {max_answer} bytes, the client's max_response_bytes, and was not read to its end; a \
                 larger max_response_bytes reads more"
            ),
            Self::State | Self::StateWithRows(_) => {
                format!("the reply is larger than {MAX_STATE} bytes (64 MiB), the limit of a job's state and of a list")
            }
            Self::UploadReply => {
                format!("the reply is larger than {MAX_SMALL_REPLY} bytes (1 MiB), the limit of a reply to an upload")
            }
        }
    }
}

/// Takes the body of a reply, piece by piece, up to its limit.
pub struct BodyBuffer<'r> {
    body: Vec<u8>,
    limit: usize,
    /// So many bytes restart the timeout.
    pub min_progress: usize,
    inline: Option<(Splitter, &'r mut dyn RowSink)>,
}

impl<'r> BodyBuffer<'r> {
    pub fn new(expected: Expected<'r>, max_answer: u64) -> Self {
        let (limit, min_progress, rows) = match expected {
            // A server that thinks for long may send a blank now and then.
            Expected::Answer => (usize::try_from(max_answer).unwrap_or(usize::MAX), 1, None),
            Expected::State => (MAX_STATE, LARGE, None),
            Expected::StateWithRows(rows) => {
                rows.restart();
                (MAX_STATE, LARGE, Some(rows))
            }
            Expected::UploadReply => (MAX_SMALL_REPLY, LARGE, None),
        };
        Self { body: Vec::new(), limit, min_progress, inline: rows.map(|rows| (Splitter::default(), rows)) }
    }

    /// The place for the body of an error reply.
    pub fn of_error() -> Self {
        Self::new(Expected::UploadReply, 0)
    }

    /// Takes the next piece. False: the limit is passed, and what is beyond it is dropped.
    pub fn take(&mut self, piece: &[u8]) -> Result<bool> {
        match &mut self.inline {
            Some((splitter, rows)) => splitter.push(piece, &mut self.body, *rows)?,
            None => {
                self.body.extend_from_slice(&piece[..piece.len().min((self.limit - self.body.len()).saturating_add(1))])
            }
        }
        let fits = self.body.len() <= self.limit;
        self.body.truncate(self.limit);
        Ok(fits)
    }

    pub fn finish(self) -> Vec<u8> {
        self.body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_taken_up_to_its_limit_and_not_a_byte_further() {
        let mut buffer = BodyBuffer::new(Expected::Answer, 1000);
        assert!(buffer.take(&[b'a'; 999]).unwrap());
        assert!(buffer.take(b"b").unwrap());
        assert!(buffer.take(b"").unwrap());
        assert!(!buffer.take(b"cd").unwrap());
        assert_eq!(buffer.finish(), [[b'a'; 999].as_slice(), b"b"].concat());
        let mut error = BodyBuffer::of_error();
        assert!(!error.take(&vec![b'x'; MAX_SMALL_REPLY + 9]).unwrap());
        assert_eq!(error.finish().len(), MAX_SMALL_REPLY);
    }

    #[test]
    fn every_limit_is_named_with_its_option_where_there_is_one() {
        let answer = Expected::Answer.too_large(5000);
        assert!(answer.contains("5000 bytes") && answer.contains("max_response_bytes"), "{answer}");
        assert!(Expected::State.too_large(5000).contains("67108864 bytes (64 MiB)"));
        assert!(Expected::UploadReply.too_large(5000).contains("1048576 bytes (1 MiB)"));
    }
}
