//! Connections at rest: what they hold meanwhile, and that nobody notices.

use std::sync::Mutex;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;

const IDLE: Duration = Duration::from_secs(2);
/// Long enough to rest, too short to be closed.
const A_WHILE: Duration = Duration::from_millis(700);

/// A client's end of a connection on which `/slow` answers after a while, and any other path with itself and the body.
struct Rig {
    client: DuplexStream,
    asked: Arc<Mutex<Vec<String>>>,
    shutdown: CancellationToken,
    serving: tokio::task::JoinHandle<hyper::Result<()>>,
}

fn rig(buffer: usize) -> Rig {
    let (client, server) = tokio::io::duplex(buffer);
    let (asked, shutdown) = (Arc::new(Mutex::new(Vec::new())), CancellationToken::new());
    let (seen, stop) = (asked.clone(), shutdown.clone());
    let handle = move |request: Request<Incoming>| {
        let seen = seen.clone();
        async move {
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            seen.lock().unwrap().push(path.clone());
            if path == "/slow" {
                tokio::time::sleep(A_WHILE).await;
            }
            let body = if path == "/long" { vec![b'x'; 100_000].into() } else { body };
            Response::new(Full::<Bytes>::new(body))
        }
    };
    let mut builder = Builder::new();
    builder.timer(hyper_util::rt::TokioTimer::new()).header_read_timeout(IDLE);
    let serving = tokio::spawn(async move { serve((builder, IDLE), server, handle, &stop).await });
    Rig { client, asked, shutdown, serving }
}

impl Rig {
    async fn send(&mut self, bytes: &str) {
        self.client.write_all(bytes.as_bytes()).await.unwrap();
    }

    async fn ask(&mut self, path: &str, body: &str) {
        self.send(&format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await;
    }

    /// Reads until what came ends with `end`.
    async fn hears(&mut self, end: &str) -> String {
        let mut heard = Vec::new();
        while !heard.ends_with(end.as_bytes()) {
            assert!(self.client.read_buf(&mut heard).await.unwrap() > 0, "closed: {}", String::from_utf8_lossy(&heard));
        }
        String::from_utf8(heard).unwrap()
    }

    /// Whether the server closes, and says nothing before it.
    async fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        tokio::time::timeout(IDLE * 5, self.client.read_to_end(&mut rest)).await.unwrap().unwrap();
        rest.is_empty()
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

/// A connection that rests after one request.
async fn rested() -> Rig {
    let mut rig = rig(1 << 16);
    rig.ask("/", "one").await;
    rig.hears("one").await;
    tokio::time::sleep(A_WHILE).await;
    rig
}

#[tokio::test]
async fn it_rests_after_a_request_and_not_before() {
    let (mut client, stream) = tokio::io::duplex(1 << 16);
    let (activity, stop) = (Arc::new(Activity::default()), CancellationToken::new());
    let service = service_fn(|_: Request<Incoming>| {
        let answering = activity.begin();
        let body = Answer { body: Full::<Bytes>::new("answer".into()), _answering: answering };
        Box::pin(async move { Ok::<_, Infallible>(Response::new(body)) })
    });
    let mut builder = Builder::new();
    builder.timer(hyper_util::rt::TokioTimer::new());
    let socket = Socket { stream, ahead: Bytes::new(), activity: Arc::clone(&activity) };
    let mut connection = builder.serve_connection(TokioIo::new(socket), service);
    let resting = tokio::time::timeout(A_WHILE, until_rest(&mut connection, &activity, &stop)).await;
    assert!(resting.is_err(), "nothing was asked");
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(until_rest(&mut connection, &activity, &stop).await.unwrap());
    drop(connection);
    let mut heard = String::new();
    client.read_to_string(&mut heard).await.unwrap();
    assert!(heard.ends_with("answer"), "{heard}");
}

#[tokio::test]
async fn a_connection_that_rested_goes_on() {
    let mut rig = rig(1 << 16);
    for body in ["one", "two", "three"] {
        rig.ask("/", body).await;
        let heard = rig.hears(body).await;
        assert!(!heard.contains("connection"), "nobody is told to close: {heard}");
        tokio::time::sleep(A_WHILE).await;
    }
    assert!(rig.is_closed().await, "it is closed when it was idle for long");
    assert!(rig.serving.await.unwrap().is_ok());
}

#[tokio::test]
async fn what_is_in_flight_does_not_rest() {
    let mut rig = rig(1 << 10);
    rig.ask("/slow", "body").await;
    rig.hears("body").await;
    // A client that takes its time with an answer.
    rig.ask("/long", "").await;
    tokio::time::sleep(A_WHILE).await;
    let heard = rig.hears(&"x".repeat(1_000)).await;
    tokio::time::sleep(A_WHILE).await;
    let mut left = 100_000 - heard.bytes().filter(|byte| *byte == b'x').count();
    while left > 0 {
        let mut more = vec![0; left];
        left -= rig.client.read(&mut more).await.unwrap();
    }
    rig.ask("/", "after").await;
    rig.hears("after").await;
}

#[tokio::test]
async fn what_was_read_ahead_is_not_lost() {
    let mut rig = rig(1 << 16);
    // The head of a second request comes with the first, its end after a rest.
    rig.send("POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n1POST /b HTTP/1.1\r\nhost: x\r\ncon").await;
    rig.hears("1").await;
    tokio::time::sleep(A_WHILE).await;
    rig.send("tent-length: 1\r\n\r\n2").await;
    rig.hears("2").await;
    assert_eq!(*rig.asked.lock().unwrap(), ["/a", "/b"]);
}

#[tokio::test]
async fn resting_gives_nobody_more_time_for_a_head() {
    let mut rig = rested().await;
    let begun = tokio::time::Instant::now();
    // A byte now and then, each time long enough to rest.
    let mut sent = 0;
    for byte in "POST / HTTP/1.1\r\nhost: xxxxxxxxxxxxxxxxxxxxxxxx".chars() {
        if rig.client.write_all(byte.to_string().as_bytes()).await.is_err() || rig.serving.is_finished() {
            break;
        }
        sent += 1;
        tokio::time::sleep(QUIET * 2).await;
    }
    assert!(sent < 20 && begun.elapsed() < IDLE * 5, "{sent} bytes");
    assert_eq!(rig.asked(), 1);
}

#[tokio::test]
async fn a_connection_at_rest_ends_with_the_service() {
    let mut rig = rested().await;
    rig.shutdown.cancel();
    assert!(rig.is_closed().await);
    assert!(rig.serving.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_connection_that_never_asked_is_closed_in_time() {
    let mut rig = rig(1 << 16);
    let begun = tokio::time::Instant::now();
    rig.is_closed().await;
    assert!(begun.elapsed() < IDLE * 3);
}
