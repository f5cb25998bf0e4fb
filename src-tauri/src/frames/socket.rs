//! The WebSocket on 127.0.0.1 that carries pictures to the page. Nobody else may
//! read them: the first message must be a token handed over by `invoke` and good
//! once, Host and Origin are checked, one connection per window, and a socket that
//! does not prove itself within a second is closed.

use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use parking_lot::Mutex;
use rand::RngCore as _;
use serde::Deserialize;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_util::sync::CancellationToken;

use super::hub::{FrameHub, Wish};
use super::message;
use crate::dto::{FramesEndpoint, TileWish};

/// A page that does not prove itself in this time is cut off.
const PROOF_TIME: Duration = Duration::from_secs(1);
/// At most so many pages may be proving themselves at once: the page itself, and little room for anyone else.
const MAX_UNPROVEN: usize = 4;
/// The page draws at most 30 pictures a second.
const MIN_INTERVAL: Duration = Duration::from_millis(15);
/// A page that lost an acknowledgement (it slept) gets pictures again after this time.
const ACK_PATIENCE: Duration = Duration::from_secs(2);

/// Why there is no socket; the fallback is `poll_frames`.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SocketError {
    /// No port could be opened on 127.0.0.1.
    #[error("no port on 127.0.0.1: {0}")]
    Listen(#[source] std::io::Error),
}

/// What the page sends.
#[derive(Deserialize)]
#[serde(untagged)]
enum FromPage {
    Ack { ack: u32 },
    Tiles { tiles: Vec<TileWish> },
}

/// The listening socket.
pub struct FrameSocket {
    port: u16,
    token: Arc<Mutex<Option<String>>>,
    current: Arc<Mutex<CancellationToken>>,
}

impl FrameSocket {
    /// Listens on a free port of 127.0.0.1 until `stop`.
    pub async fn listen(hub: FrameHub, stop: CancellationToken) -> Result<Self, SocketError> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(SocketError::Listen)?;
        let port = listener.local_addr().map_err(SocketError::Listen)?.port();
        let socket = Self {
            port,
            token: Arc::default(),
            current: Arc::new(Mutex::new(CancellationToken::new())),
        };
        let (token, current) = (socket.token.clone(), socket.current.clone());
        let unproven = Arc::new(tokio::sync::Semaphore::new(MAX_UNPROVEN));
        tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let stream = tokio::select! {
                    () = stop.cancelled() => break,
                    Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                    accepted = listener.accept() => match accepted { Ok((stream, _)) => stream, Err(_) => continue },
                };
                let Ok(permit) = unproven.clone().try_acquire_owned() else {
                    continue;
                };
                let (hub, token, current, stop) = (hub.clone(), token.clone(), current.clone(), stop.child_token());
                connections.spawn(async move {
                    let Ok(Some(page)) = tokio::time::timeout(PROOF_TIME, prove(stream, port, &token)).await else {
                        return;
                    };
                    drop(permit);
                    // One connection per window: a new page (a reload) takes over.
                    std::mem::replace(&mut *current.lock(), stop.clone()).cancel();
                    tokio::select! {
                        () = stop.cancelled() => {}
                        _ = serve(page, hub) => {}
                    }
                });
            }
        });
        Ok(socket)
    }

    /// Where the page connects, with a fresh token; an unused older one is void.
    pub fn endpoint(&self) -> FramesEndpoint {
        let mut random = [0; 16];
        rand::rng().fill_bytes(&mut random);
        let token: String = random.iter().map(|b| format!("{b:02x}")).collect();
        *self.token.lock() = Some(token.clone());
        FramesEndpoint {
            url: Some(format!("ws://127.0.0.1:{}/", self.port)),
            token,
        }
    }
}

/// The origins that the app's own pages have: Linux and macOS, Windows.
fn is_own_origin(origin: &str) -> bool {
    matches!(
        origin,
        "tauri://localhost" | "http://tauri.localhost" | "https://tauri.localhost"
    )
}

/// Accepts the WebSocket of a page that has the right Host, Origin and token.
async fn prove(stream: TcpStream, port: u16, token: &Mutex<Option<String>>) -> Option<WebSocketStream<TcpStream>> {
    stream.set_nodelay(true).ok()?;
    #[expect(clippy::result_large_err, reason = "the callback's shape is the library's")]
    let check = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        let header = |name: &str| {
            request
                .headers()
                .get(name)
                .and_then(|v| v.to_str().ok())
                .unwrap_or_default()
        };
        let host_is_ours = header("host") == format!("127.0.0.1:{port}");
        if host_is_ours && is_own_origin(header("origin")) {
            return Ok(response);
        }
        let mut refusal = ErrorResponse::new(None);
        *refusal.status_mut() = tokio_tungstenite::tungstenite::http::StatusCode::FORBIDDEN;
        Err(refusal)
    };
    let mut page = tokio_tungstenite::accept_hdr_async(stream, check).await.ok()?;
    let Some(Ok(Message::Text(given))) = page.next().await else {
        return None;
    };
    let expected = token.lock().take()?;
    if given.as_str() == expected {
        return Some(page);
    }
    *token.lock() = Some(expected);
    None
}

/// Sends the newest pictures, the next message only after the page drew the one before.
async fn serve(page: WebSocketStream<TcpStream>, hub: FrameHub) -> Result<(), WsError> {
    let (mut to_page, mut from_page) = page.split();
    let mut number: u32 = 0;
    let mut waiting_since: Option<tokio::time::Instant> = None;
    loop {
        let may_send = waiting_since.is_none_or(|since| since.elapsed() > ACK_PATIENCE);
        tokio::select! {
            message = from_page.next() => match message {
                Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                    Ok(FromPage::Ack { ack }) if ack == number => waiting_since = None,
                    Ok(FromPage::Ack { .. }) => {}
                    Ok(FromPage::Tiles { tiles }) => hub.set_wishes(&wishes(&tiles)),
                    Err(error) => tracing::debug!(%error, "a message of the page was not understood"),
                },
                Some(Ok(Message::Close(_))) | None => return Ok(()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
            },
            () = hub.changed(), if may_send => {
                let tiles = hub.take_fresh();
                if tiles.is_empty() {
                    continue;
                }
                number = number.wrapping_add(1);
                to_page.send(Message::Binary(message::encode(number, &tiles).into())).await?;
                waiting_since = Some(tokio::time::Instant::now());
                tokio::time::sleep(MIN_INTERVAL).await;
            }
            () = tokio::time::sleep(ACK_PATIENCE), if waiting_since.is_some() => {}
        }
    }
}

/// The page's wishes, bounded: no tile is drawn larger than 4096 pixels.
pub fn wishes(tiles: &[TileWish]) -> Vec<(u16, Wish)> {
    tiles
        .iter()
        .map(|t| {
            (
                t.key,
                Wish {
                    width: t.width.min(4096),
                    height: t.height.min(4096),
                },
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use confab_client::api::{VideoKey, VideoSink as _};
    use confab_media::I420;
    use confab_types::TrackSource;
    use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

    async fn open(url: &str, origin: &str) -> Option<WebSocketStream<tokio_tungstenite::MaybeTlsStream<TcpStream>>> {
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("origin", origin.parse().unwrap());
        tokio_tungstenite::connect_async(request).await.ok().map(|(ws, _)| ws)
    }

    #[tokio::test]
    async fn pictures_come_one_by_one_to_the_page_that_holds_the_token() {
        let hub = FrameHub::default();
        let socket = FrameSocket::listen(hub.clone(), CancellationToken::new())
            .await
            .unwrap();
        let endpoint = socket.endpoint();
        let mut page = open(&endpoint.url.unwrap(), "tauri://localhost").await.unwrap();
        page.send(Message::text(endpoint.token)).await.unwrap();
        let own = VideoKey::Own(TrackSource::Camera);
        let key = hub.key_of(&own);
        let wish = format!(r#"{{"tiles":[{{"key":{key},"width":2,"height":2}}]}}"#);
        page.send(Message::text(wish)).await.unwrap();
        let mut shown = hub.wishes();
        shown.wait_for(|w| !w.is_empty()).await.unwrap();
        let frame = |v| I420 {
            width: 2,
            height: 2,
            data: vec![v; 6].into(),
            time: std::time::Instant::now(),
        };
        hub.frame(&own, frame(1));
        let first = page.next().await.unwrap().unwrap().into_data();
        assert_eq!(first[14], 1);
        hub.frame(&own, frame(2));
        hub.frame(&own, frame(3));
        page.send(Message::text(r#"{"ack":1}"#)).await.unwrap();
        let second = page.next().await.unwrap().unwrap().into_data();
        assert_eq!(second[14], 3, "only the newest picture is sent");
    }

    #[tokio::test]
    async fn another_site_or_a_wrong_token_gets_no_picture() {
        let hub = FrameHub::default();
        let socket = FrameSocket::listen(hub, CancellationToken::new()).await.unwrap();
        let endpoint = socket.endpoint();
        let url = endpoint.url.unwrap();
        assert!(open(&url, "https://evil.example").await.is_none());
        let mut guess = open(&url, "tauri://localhost").await.unwrap();
        guess
            .send(Message::text("00000000000000000000000000000000"))
            .await
            .unwrap();
        assert!(!matches!(guess.next().await, Some(Ok(Message::Binary(_)))));
        let mut page = open(&url, "tauri://localhost").await.unwrap();
        page.send(Message::text(endpoint.token.clone())).await.unwrap();
        page.send(Message::text(r#"{"tiles":[]}"#)).await.unwrap();
        let mut again = open(&url, "tauri://localhost").await.unwrap();
        again.send(Message::text(endpoint.token)).await.unwrap();
        assert!(
            !matches!(again.next().await, Some(Ok(Message::Binary(_)))),
            "a token is good once"
        );
    }
}
