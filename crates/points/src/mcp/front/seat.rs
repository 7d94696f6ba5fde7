//! Seats: a place for one channel to each upstream of an endpoint, filled when it is first needed and again when it was
//! lost. It must not know what goes through a channel.

use tokio::sync::{Mutex, mpsc};

use crate::mcp::execute::Upstream;
use crate::mcp::execute::channel::{Channel, ClientHello, Said};
use crate::mcp::execute::link::LinkError;
use crate::mcp::wire::Era;

/// What an upstream says outside of requests may wait so long to be heard.
const SAID_QUEUE: usize = 16;

/// Seats at the upstreams of an endpoint, in its order.
pub(crate) struct Seats {
    era: Era,
    client: ClientHello,
    /// Whether many use them: then no session of an upstream's may be in one.
    shared: bool,
    seats: Vec<Seat>,
}

struct Seat {
    upstream: Upstream,
    open: Mutex<Option<Channel>>,
}

impl Seats {
    /// Empty seats for a client of `era` that opened like `client`.
    pub(crate) fn new(era: Era, client: ClientHello, upstreams: &[Upstream]) -> Self {
        let seat = |upstream: &Upstream| Seat { upstream: upstream.clone(), open: Mutex::new(None) };
        Self { era, client, shared: false, seats: upstreams.iter().map(seat).collect() }
    }

    /// Empty seats for all clients of `era` together, at upstreams that speak it.
    pub(crate) fn shared(era: Era, client: ClientHello, upstreams: &[Upstream]) -> Self {
        Self { shared: true, ..Self::new(era, client, upstreams) }
    }

    pub(crate) const fn client(&self) -> &ClientHello {
        &self.client
    }

    /// The channel to the upstream at a place. `hear` gets what comes on a new one.
    pub(crate) async fn channel(
        &self,
        at: usize,
        hear: impl FnOnce(mpsc::Receiver<Said>),
    ) -> Result<Channel, LinkError> {
        let seat = self.seats.get(at).ok_or(LinkError::Gone)?;
        let mut open = seat.open.lock().await;
        if let Some(channel) = open.as_ref().filter(|channel| !channel.closed().is_cancelled()) {
            return Ok(channel.clone());
        }
        let (said, heard) = mpsc::channel(SAID_QUEUE);
        let channel = match self.shared {
            true => seat.upstream.share(self.era, (said, None))?,
            false => seat.upstream.open(self.era, &self.client, said).await?,
        };
        hear(heard);
        *open = Some(channel.clone());
        Ok(channel)
    }

    /// Tells every upstream that has a channel.
    pub(crate) async fn tell(&self, frame: &[u8]) {
        for seat in &self.seats {
            let channel = seat.open.lock().await.clone();
            if let Some(channel) = channel.filter(|channel| !channel.closed().is_cancelled())
                && let Err(error) = channel.notify(frame.to_vec()).await
            {
                tracing::debug!(upstream = %seat.upstream.id(), %error, "an upstream could not be told");
            }
        }
    }

    /// Ends every channel.
    pub(crate) async fn close(&self) {
        for seat in &self.seats {
            if let Some(channel) = seat.open.lock().await.take() {
                channel.close();
            }
        }
    }
}

impl std::fmt::Debug for Seats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Seats({})", self.seats.len())
    }
}
