//! Frames on a pipe: one message a line.
//!
//! It must not know what a line says. It does not cover blank lines: they are skipped.

use bytes::{Bytes, BytesMut};

/// A line over the limit; the pipe cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line of more than {bytes_max} bytes")]
pub struct LineTooLong {
    /// The limit.
    pub bytes_max: usize,
}

/// Cuts a stream of bytes into lines, however it is chunked.
#[derive(Debug)]
pub struct LineDecoder {
    buffer: BytesMut,
    scanned: usize,
    bytes_max: usize,
}

impl LineDecoder {
    /// A decoder for lines of at most `bytes_max` bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), scanned: 0, bytes_max }
    }

    /// Takes a chunk and gives the lines that it completes, without their ends.
    ///
    /// # Errors
    /// Refuses a line over the limit, whether or not its end has come.
    pub fn push(&mut self, chunk: &[u8]) -> Result<Vec<Bytes>, LineTooLong> {
        self.buffer.extend_from_slice(chunk);
        let mut lines = Vec::new();
        loop {
            let rest = self.buffer.get(self.scanned..).unwrap_or_default();
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else { break };
            let mut line = self.buffer.split_to(self.scanned.saturating_add(end).saturating_add(1)).freeze();
            self.scanned = 0;
            line.truncate(line.len().saturating_sub(1));
            if line.ends_with(b"\r") {
                line.truncate(line.len().saturating_sub(1));
            }
            if line.len() > self.bytes_max {
                return Err(LineTooLong { bytes_max: self.bytes_max });
            }
            if !line.iter().all(u8::is_ascii_whitespace) {
                lines.push(line);
            }
        }
        self.scanned = self.buffer.len();
        if self.buffer.len() > self.bytes_max.saturating_add(1) {
            return Err(LineTooLong { bytes_max: self.bytes_max });
        }
        Ok(lines)
    }
}

/// One line of `frame`, with its end. Raw line ends in a message can only be white space between its tokens, for a
/// strict reader has refused them inside strings; they become spaces, and every other byte stays.
#[must_use]
pub fn encode(frame: &[u8]) -> Vec<u8> {
    let mut line: Vec<u8> = frame.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect();
    line.push(b'\n');
    line
}
