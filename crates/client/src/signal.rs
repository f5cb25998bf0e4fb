//! The signalling WebSocket (`/rtc`, LiveKit's protocol version 0): connects, sends and
//! receives typed messages, answers pings and tells when the other side is silent. Knows
//! nothing of what the messages mean, but for pings.

use std::sync::Arc;
use std::time::Duration;

use confab_types::Secret;
use confab_wire::livekit::{self as lk, signal_request as req, signal_response as resp};
use futures::{SinkExt, StreamExt};
use prost::Message as _;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message, http};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use url::Url;

use crate::tls::{self, Pins, Untrusted};

/// The protocol version told to the server: with `Leave.action` (13) and `RequestResponse` (14).
const PROTOCOL: u32 = 15;
/// Requests that may wait for the socket; more means that it is stuck.
const SEND_QUEUE: usize = 256;
/// Messages that may wait for the call; the socket waits beyond.
const RECEIVE_QUEUE: usize = 256;
/// The largest message taken: a join response of a room with hundreds of people.
const LARGEST_MESSAGE: usize = 4 << 20;
/// Until the WebSocket is open.
const OPEN_TIMEOUT: Duration = Duration::from_secs(8);
/// Ping interval until Join or Reconnect names one.
const DEFAULT_PING: Duration = Duration::from_secs(5);
/// Silence after which the socket is given up, until Join names one.
const DEFAULT_SILENCE: Duration = Duration::from_secs(15);

/// A resume of a join whose signalling broke.
#[derive(Debug, Clone)]
pub struct Resume {
    /// The own participant's sid.
    pub sid: String,
}

/// How to open it.
#[derive(Debug, Clone)]
pub struct SignalOptions {
    /// `ws://`, `wss://` (or http, https) of the server.
    pub url: Url,
    /// The room token; goes into a header, never into the URL.
    pub token: Secret,
    /// Come back as the same participant.
    pub resume: Option<Resume>,
    /// The client tells the size of every tile.
    pub adaptive_stream: bool,
}

/// Why it did not open, or ended.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum SignalError {
    /// Nothing answers there.
    #[error("{server} cannot be reached ({reason})")]
    Unreachable {
        /// Where.
        server: String,
        /// The system's words.
        reason: String,
    },
    /// Its certificate is not trusted.
    #[error("{0}")]
    Untrusted(#[from] Untrusted),
    /// The server refused the token or the room.
    #[error("{message} (HTTP {status})")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The server's words.
        message: String,
    },
    /// Broken off, or silent for too long.
    #[error("the connection to the server broke: {0}")]
    Lost(String),
    /// Not an address.
    #[error("{0} is not an address of a call server")]
    BadAddress(String),
}

/// What arrives.
#[derive(Debug)]
pub enum SignalEvent {
    /// A message.
    Message(Box<resp::Message>),
    /// The measured round trip of a ping.
    RoundTrip(Duration),
    /// The end; nothing follows.
    Closed(SignalError),
}

/// Sends requests. Cheap to clone; the socket closes when all are gone.
#[derive(Debug, Clone)]
pub struct SignalSender(mpsc::Sender<req::Message>);

impl SignalSender {
    /// Queues a request. False: the socket is gone or stuck, and its end is told as an event.
    pub fn send(&self, message: req::Message) -> bool {
        self.0.try_send(message).is_ok()
    }
}

/// Opens the WebSocket. The events end with `Closed`, or when the receiver is dropped.
pub async fn connect(
    options: &SignalOptions,
    pins: &Pins,
) -> Result<(SignalSender, mpsc::Receiver<SignalEvent>), SignalError> {
    let server = Pins::authority(&options.url);
    let opened = tokio::time::timeout(OPEN_TIMEOUT, open(options, pins, &server)).await;
    let socket = opened.map_err(|_| SignalError::Unreachable {
        server,
        reason: "no answer in time".to_owned(),
    })??;
    let (requests, request_queue) = mpsc::channel(SEND_QUEUE);
    let (events, event_queue) = mpsc::channel(RECEIVE_QUEUE);
    match socket {
        Socket::Plain(ws) => tokio::spawn(run(ws, request_queue, events)),
        Socket::Tls(ws) => tokio::spawn(run(*ws, request_queue, events)),
    };
    Ok((SignalSender(requests), event_queue))
}

#[allow(
    clippy::large_enum_variant,
    reason = "there is one for each call, on its way to its task"
)]
enum Socket {
    Plain(WebSocketStream<TcpStream>),
    Tls(Box<WebSocketStream<tokio_rustls::client::TlsStream<TcpStream>>>),
}

async fn open(options: &SignalOptions, pins: &Pins, server: &str) -> Result<Socket, SignalError> {
    let bad = || SignalError::BadAddress(options.url.to_string());
    let secure = matches!(options.url.scheme(), "wss" | "https");
    let host = options.url.host_str().ok_or_else(bad)?.trim_matches(['[', ']']);
    let port = options.url.port_or_known_default().ok_or_else(bad)?;
    let unreachable = |e: std::io::Error| SignalError::Unreachable {
        server: server.to_owned(),
        reason: e.to_string(),
    };
    let tcp = TcpStream::connect((host, port)).await.map_err(unreachable)?;
    // Small messages, each waited for: Nagle's algorithm would hold them 40 ms.
    tcp.set_nodelay(true).map_err(unreachable)?;
    let request = handshake(options, secure).ok_or_else(bad)?;
    let limits = WebSocketConfig::default()
        .max_message_size(Some(LARGEST_MESSAGE))
        .max_frame_size(Some(LARGEST_MESSAGE));
    if !secure {
        let (ws, _) = client_async_with_config(request, tcp, Some(limits))
            .await
            .map_err(|e| refused(e, server))?;
        return Ok(Socket::Plain(ws));
    }
    let trust = tls::trust(&options.url, pins, &[b"http/1.1"]);
    let name = ServerName::try_from(host.to_owned()).map_err(|_| bad())?;
    let tls = TlsConnector::from(Arc::clone(&trust.config)).connect(name, tcp).await;
    let tls = tls.map_err(|e| {
        trust
            .take_refusal()
            .map_or_else(|| unreachable(e), SignalError::Untrusted)
    })?;
    let (ws, _) = client_async_with_config(request, tls, Some(limits))
        .await
        .map_err(|e| refused(e, server))?;
    Ok(Socket::Tls(Box::new(ws)))
}

fn handshake(options: &SignalOptions, secure: bool) -> Option<http::Request<()>> {
    let mut url = options.url.clone();
    url.set_scheme(if secure { "wss" } else { "ws" }).ok()?;
    let base = url.path().trim_end_matches('/').to_owned();
    url.set_path(&format!("{base}/rtc"));
    url.query_pairs_mut()
        .clear()
        .append_pair("protocol", &PROTOCOL.to_string())
        .append_pair("sdk", "rust")
        .append_pair("version", env!("CARGO_PKG_VERSION"))
        .append_pair("auto_subscribe", "1")
        .append_pair("adaptive_stream", if options.adaptive_stream { "1" } else { "0" });
    if let Some(resume) = &options.resume {
        url.query_pairs_mut()
            .append_pair("reconnect", "1")
            .append_pair("sid", &resume.sid);
    }
    let mut request = url.as_str().into_client_request().ok()?;
    let mut bearer = http::HeaderValue::try_from(format!("Bearer {}", options.token.expose())).ok()?;
    bearer.set_sensitive(true);
    request.headers_mut().insert(http::header::AUTHORIZATION, bearer);
    Some(request)
}

fn refused(error: tungstenite::Error, server: &str) -> SignalError {
    match error {
        tungstenite::Error::Http(answer) => {
            let body = answer.body().as_deref().unwrap_or_default();
            SignalError::Refused {
                status: answer.status().as_u16(),
                message: refusal_text(body),
            }
        }
        other => SignalError::Unreachable {
            server: server.to_owned(),
            reason: other.to_string(),
        },
    }
}

/// The REST contract's error message if the body is one, else the start of its text.
fn refusal_text(body: &[u8]) -> String {
    if let Ok(body) = serde_json::from_slice::<confab_wire::rest::ErrorBody>(body) {
        return body.error.message;
    }
    let text = String::from_utf8_lossy(body);
    let shown: String = text.trim().chars().filter(|c| !c.is_control()).take(200).collect();
    if shown.is_empty() {
        "the server refused to let this participant in".to_owned()
    } else {
        shown
    }
}

/// Ping state of one socket.
struct Pings {
    interval: Duration,
    silence: Duration,
    next: Instant,
    heard: Instant,
    round_trip_ms: i64,
}

impl Pings {
    fn new(now: Instant) -> Self {
        Self {
            interval: DEFAULT_PING,
            silence: DEFAULT_SILENCE,
            next: now + DEFAULT_PING,
            heard: now,
            round_trip_ms: 0,
        }
    }

    fn joined(&mut self, join: &lk::JoinResponse, now: Instant) {
        let seconds = |n: i32| u64::try_from(n).ok().filter(|n| *n > 0).map(Duration::from_secs);
        self.interval = seconds(join.ping_interval)
            .unwrap_or(self.interval)
            .min(Duration::from_secs(60));
        self.silence = seconds(join.ping_timeout).unwrap_or(self.silence).max(self.interval);
        self.next = now + self.interval;
    }
}

async fn run<S>(ws: WebSocketStream<S>, mut requests: mpsc::Receiver<req::Message>, events: mpsc::Sender<SignalEvent>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut write, mut read) = ws.split();
    let mut pings = Pings::new(Instant::now());
    let ended = loop {
        tokio::select! {
            request = requests.recv() => {
                let Some(message) = request else {
                    // Everyone let go of it: an orderly end.
                    let _ = tokio::time::timeout(Duration::from_secs(1), write.close()).await;
                    return;
                };
                let bytes = lk::SignalRequest { message: Some(message) }.encode_to_vec();
                if let Err(e) = write.send(Message::Binary(bytes.into())).await {
                    break SignalError::Lost(e.to_string());
                }
            }
            frame = read.next() => {
                pings.heard = Instant::now();
                match received(frame, &mut pings) {
                    Ok(Some(event)) => if events.send(event).await.is_err() { return },
                    Ok(None) => {}
                    Err(e) => break e,
                }
            }
            () = tokio::time::sleep_until(pings.next) => {
                pings.next = Instant::now() + pings.interval;
                for message in ping_messages(pings.round_trip_ms) {
                    let bytes = lk::SignalRequest { message: Some(message) }.encode_to_vec();
                    if write.send(Message::Binary(bytes.into())).await.is_err() {
                        break;
                    }
                }
            }
            () = tokio::time::sleep_until(pings.heard + pings.silence) => {
                break SignalError::Lost("the server is silent".to_owned());
            }
            () = events.closed() => {
                // What was asked before the listener went, a `Leave` above all, still goes out.
                let last_words = async {
                    while let Ok(message) = requests.try_recv() {
                        let bytes = lk::SignalRequest { message: Some(message) }.encode_to_vec();
                        write.send(Message::Binary(bytes.into())).await?;
                    }
                    write.close().await
                };
                let _ = tokio::time::timeout(Duration::from_secs(1), last_words).await;
                return;
            }
        }
    };
    let _ = events.send(SignalEvent::Closed(ended)).await;
}

/// Turns a frame into an event; unknown and undecodable messages are passed over.
fn received(
    frame: Option<Result<Message, tungstenite::Error>>,
    pings: &mut Pings,
) -> Result<Option<SignalEvent>, SignalError> {
    let bytes = match frame {
        Some(Ok(Message::Binary(bytes))) => bytes,
        Some(Ok(Message::Close(frame))) => {
            return Err(SignalError::Lost(
                frame.map_or_else(|| "closed".to_owned(), |f| f.reason.to_string()),
            ));
        }
        Some(Ok(_)) => return Ok(None),
        Some(Err(e)) => return Err(SignalError::Lost(e.to_string())),
        None => return Err(SignalError::Lost("closed".to_owned())),
    };
    let message = match lk::SignalResponse::decode(bytes) {
        Ok(lk::SignalResponse { message: Some(message) }) => message,
        Ok(_) => return Ok(None),
        Err(e) => {
            tracing::warn!("a signalling message could not be read: {e}");
            return Ok(None);
        }
    };
    match &message {
        resp::Message::Join(join) => pings.joined(join, Instant::now()),
        resp::Message::PongResp(pong) => {
            pings.round_trip_ms = (unix_ms() - pong.last_ping_timestamp).clamp(0, 60_000);
            let ms = u64::try_from(pings.round_trip_ms).unwrap_or_default();
            return Ok(Some(SignalEvent::RoundTrip(Duration::from_millis(ms))));
        }
        resp::Message::Pong(_) => return Ok(None),
        _ => {}
    }
    Ok(Some(SignalEvent::Message(Box::new(message))))
}

/// Both kinds: older servers know only the first.
fn ping_messages(round_trip_ms: i64) -> [req::Message; 2] {
    let now = unix_ms();
    [
        req::Message::Ping(now),
        req::Message::PingReq(lk::Ping {
            timestamp: now,
            rtt: round_trip_ms,
        }),
    ]
}

/// Milliseconds since 1970, as LiveKit's messages carry them.
pub(crate) fn unix_ms() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str, resume: Option<Resume>) -> SignalOptions {
        SignalOptions {
            url: url.parse().unwrap(),
            token: Secret::new("secret-token"),
            resume,
            adaptive_stream: true,
        }
    }

    #[test]
    fn the_token_goes_into_a_header_and_never_into_the_url() {
        let request = handshake(&options("http://host:7880", None), false).unwrap();
        assert!(
            request.uri().to_string().starts_with("ws://host:7880/rtc?"),
            "{}",
            request.uri()
        );
        assert!(!request.uri().to_string().contains("secret-token"));
        assert_eq!(request.headers()["authorization"], "Bearer secret-token");
    }

    #[test]
    fn a_resume_names_the_participant_and_a_path_is_kept() {
        let resume = Resume { sid: "PA_1".to_owned() };
        let request = handshake(&options("wss://host/base/", Some(resume)), true).unwrap();
        let uri = request.uri().to_string();
        assert!(
            uri.starts_with("wss://host/base/rtc?") && uri.contains("reconnect=1&sid=PA_1"),
            "{uri}"
        );
    }

    #[test]
    fn a_refusal_is_told_in_the_servers_words() {
        let body = br#"{"error":{"code":"room_locked","message":"the room is locked"}}"#;
        assert_eq!(refusal_text(body), "the room is locked");
        assert_eq!(refusal_text(b"invalid token\n"), "invalid token");
        assert!(!refusal_text(b"").is_empty());
    }

    #[test]
    fn a_frame_that_is_no_message_is_passed_over() {
        let mut pings = Pings::new(Instant::now());
        let garbage = Message::Binary(vec![0xff, 0xff, 0xff].into());
        assert!(received(Some(Ok(garbage)), &mut pings).unwrap().is_none());
    }
}
