//! A signalling client: LiveKit's protocol over a WebSocket, without media.

use std::time::Duration;

use confab_wire::livekit as lk;
use futures::{SinkExt, StreamExt};
use lk::signal_request::Message as Request;
use lk::signal_response::Message;
use prost::Message as _;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{self, Message as Frame};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::support::{RoomToken, SOON, World};

/// A connected client.
pub struct Peer {
    pub ws: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// What the server said of the join; empty after a resume.
    pub join: lk::JoinResponse,
    /// Messages that came while something else was waited for.
    seen: Vec<Message>,
}

/// Where a token leads.
pub fn rtc_url(world: &World, token: &str, more: &str) -> String {
    format!(
        "{}/rtc?access_token={token}&auto_subscribe=1&protocol=16{more}",
        world.server.url().replacen("http", "ws", 1)
    )
}

/// Joins, or the status of the refusal.
pub async fn try_join(world: &World, token: &str) -> Result<Peer, u16> {
    let mut peer = open(world, token, "").await?;
    match peer.next().await {
        Some(Message::Join(join)) => peer.join = join,
        other => panic!("the first message must be Join, not {other:?}"),
    }
    Ok(peer)
}

/// Opens the socket and reads nothing.
pub async fn open(world: &World, token: &str, more: &str) -> Result<Peer, u16> {
    match connect_async(rtc_url(world, token, more)).await {
        Ok((ws, _)) => Ok(Peer {
            ws,
            join: lk::JoinResponse::default(),
            seen: Vec::new(),
        }),
        Err(tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
        Err(e) => panic!("{e}"),
    }
}

/// Signs in, gets a token, joins.
pub async fn join(world: &World, user: &str, room: &str) -> (Peer, RoomToken) {
    let token = world.room_token(user, room).await;
    let peer = try_join(world, &token.token).await.unwrap();
    (peer, token)
}

impl Peer {
    pub async fn send(&mut self, message: Request) {
        let bytes = lk::SignalRequest { message: Some(message) }.encode_to_vec();
        self.ws.send(Frame::Binary(bytes.into())).await.unwrap();
    }

    /// The next message; `None` when the connection ends.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            let frame = tokio::time::timeout(SOON, self.ws.next())
                .await
                .expect("a message in time")?;
            match frame {
                Ok(Frame::Binary(bytes)) => return lk::SignalResponse::decode(bytes).unwrap().message,
                Ok(Frame::Text(text)) => return serde_json::from_str::<lk::SignalResponse>(&text).unwrap().message,
                Ok(Frame::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Waits for a message that `pick` takes; the others are kept for later.
    pub async fn expect<T>(&mut self, what: &str, mut pick: impl FnMut(&Message) -> Option<T>) -> T {
        if let Some(at) = self.seen.iter().position(|m| pick(m).is_some()) {
            let message = self.seen.remove(at);
            return pick(&message).unwrap();
        }
        loop {
            let Some(message) = self.next().await else {
                panic!("the connection ended before {what}")
            };
            if let Some(found) = pick(&message) {
                return found;
            }
            self.seen.push(message);
        }
    }

    /// Waits for an update of this identity that `check` takes.
    pub async fn update(
        &mut self,
        identity: &str,
        check: impl Fn(&lk::ParticipantInfo) -> bool,
    ) -> lk::ParticipantInfo {
        self.expect(&format!("an update of {identity}"), |m| match m {
            Message::Update(u) => u
                .participants
                .iter()
                .find(|p| p.identity == identity && check(p))
                .cloned(),
            _ => None,
        })
        .await
    }

    /// Waits for the server's good-bye.
    pub async fn leave(&mut self) -> lk::LeaveRequest {
        self.expect("Leave", |m| {
            if let Message::Leave(l) = m {
                Some(l.clone())
            } else {
                None
            }
        })
        .await
    }

    /// The close code that ends the connection.
    pub async fn close_code(&mut self) -> Option<u16> {
        loop {
            match tokio::time::timeout(SOON, self.ws.next())
                .await
                .expect("an end in time")
            {
                Some(Ok(Frame::Close(frame))) => return frame.map(|f| f.code.into()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// Whether nothing of this kind comes within a moment.
    pub async fn hears_nothing(&mut self, mut of: impl FnMut(&Message) -> bool) -> bool {
        let window = Duration::from_millis(200);
        let deadline = tokio::time::Instant::now() + window;
        while let Ok(frame) = tokio::time::timeout_at(deadline, self.next()).await {
            match frame {
                Some(message) if of(&message) => return false,
                Some(message) => self.seen.push(message),
                None => return true,
            }
        }
        true
    }

    /// Its own participant.
    pub fn me(&self) -> &lk::ParticipantInfo {
        self.join.participant.as_ref().unwrap()
    }

    pub fn sid(&self) -> confab_types::ParticipantSid {
        self.me().sid.parse().unwrap()
    }

    /// Publishes; gives the server's TrackInfo.
    pub async fn add_track(&mut self, cid: &str, kind: lk::TrackType, source: lk::TrackSource) -> lk::TrackInfo {
        self.send(Request::AddTrack(track_request(cid, kind, source))).await;
        let cid = cid.to_owned();
        self.expect("TrackPublished", move |m| match m {
            Message::TrackPublished(p) if p.cid == cid => p.track.clone(),
            _ => None,
        })
        .await
    }
}

/// An AddTrack.
pub fn track_request(cid: &str, kind: lk::TrackType, source: lk::TrackSource) -> lk::AddTrackRequest {
    let layer = |quality: lk::VideoQuality, rid: &str, width, height| lk::VideoLayer {
        quality: quality as i32,
        rid: rid.into(),
        width,
        height,
        ..lk::VideoLayer::default()
    };
    let video = kind == lk::TrackType::Video;
    lk::AddTrackRequest {
        cid: cid.into(),
        name: "a track".into(),
        r#type: kind as i32,
        source: source as i32,
        width: if video { 640 } else { 0 },
        height: if video { 480 } else { 0 },
        layers: if video {
            vec![
                layer(lk::VideoQuality::Low, "q", 160, 120),
                layer(lk::VideoQuality::Medium, "h", 320, 240),
                layer(lk::VideoQuality::High, "f", 640, 480),
            ]
        } else {
            Vec::new()
        },
        ..lk::AddTrackRequest::default()
    }
}
