//! Server-sent events (WHATWG HTML, section 9.2), both ways, incremental and bounded.
//!
//! It must not know what an event's data says. It does not cover when a stream is resumed.

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Its type; empty means `message`.
    pub name: String,
    /// Its data: the `data` lines, joined by line feeds.
    pub data: Vec<u8>,
    /// Its id, if it has one.
    pub id: Option<String>,
}

/// An event over the limit; the stream cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of more than {bytes_max} bytes")]
pub struct EventTooLong {
    /// The limit.
    pub bytes_max: usize,
}

/// A comment, which keeps a quiet stream open.
pub const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

/// How long a client waits before it opens a lost stream again.
pub const RETRY: &[u8] = b"retry: 1000\n\n";

/// One `message` event whose data is `data`. Raw line ends, which are white space in JSON, become line feeds.
#[must_use]
pub fn encode(data: &[u8]) -> Vec<u8> {
    encode_under(None, data)
}

/// The same under an id, from which a client can go on.
#[must_use]
pub fn encode_under(id: Option<u64>, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len().saturating_add(48));
    if let Some(id) = id {
        out.extend_from_slice(format!("id: {id}\n").as_bytes());
    }
    out.extend_from_slice(b"event: message\ndata: ");
    let mut previous = 0;
    for byte in data {
        match byte {
            b'\n' if previous == b'\r' => {}
            b'\n' | b'\r' => out.extend_from_slice(b"\ndata: "),
            other => out.push(*other),
        }
        previous = *byte;
    }
    out.extend_from_slice(b"\n\n");
    out
}

/// Cuts a stream of bytes into events, however it is chunked.
#[derive(Debug)]
pub struct SseDecoder {
    line: Vec<u8>,
    event: Event,
    has_data: bool,
    held: usize,
    after_cr: bool,
    first_line: bool,
    last_id: Option<String>,
    retry_ms: Option<u64>,
    bytes_max: usize,
}

impl SseDecoder {
    /// A decoder for events of at most `bytes_max` bytes, all their lines together.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            line: Vec::new(),
            event: Event::default(),
            has_data: false,
            held: 0,
            after_cr: false,
            first_line: true,
            last_id: None,
            retry_ms: None,
            bytes_max,
        }
    }

    /// Takes a chunk and gives the events that it completes. Events without data are no events.
    ///
    /// # Errors
    /// Refuses an event over the limit, whether or not its end has come.
    pub fn push(&mut self, chunk: &[u8]) -> Result<Vec<Event>, EventTooLong> {
        let mut events = Vec::new();
        for byte in chunk {
            let follows_cr = std::mem::replace(&mut self.after_cr, *byte == b'\r');
            match byte {
                b'\n' if follows_cr => {}
                b'\n' | b'\r' => events.extend(self.end_line()),
                other => {
                    self.held = self.held.saturating_add(1);
                    if self.held > self.bytes_max {
                        return Err(EventTooLong { bytes_max: self.bytes_max });
                    }
                    self.line.push(*other);
                }
            }
        }
        Ok(events)
    }

    /// The id from which the stream can be resumed: that of the last event, with data or without.
    #[must_use]
    pub fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref().filter(|id| !id.is_empty())
    }

    /// How long the server wants to be left alone before the stream is resumed, in milliseconds.
    #[must_use]
    pub const fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        let mut line = line.as_slice();
        if std::mem::take(&mut self.first_line) {
            line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
        }
        if line.is_empty() {
            self.held = 0;
            let event = std::mem::take(&mut self.event);
            if event.id.is_some() {
                self.last_id.clone_from(&event.id);
            }
            return std::mem::take(&mut self.has_data).then_some(event);
        }
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(at) => {
                let (field, rest) = line.split_at(at);
                let value = rest.get(1..).unwrap_or_default();
                (field, value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, &[][..]),
        };
        match field {
            // A comment is no part of an event, so it does not count.
            b"" => self.held = self.held.saturating_sub(line.len()),
            b"data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push(b'\n');
                }
                self.event.data.extend_from_slice(value);
            }
            b"event" => self.event.name = String::from_utf8_lossy(value).into_owned(),
            b"id" if !value.contains(&0) => self.event.id = Some(String::from_utf8_lossy(value).into_owned()),
            b"retry" => {
                let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
                self.retry_ms = digits.and_then(|text| text.parse().ok()).or(self.retry_ms);
            }
            _ => {}
        }
        None
    }
}
