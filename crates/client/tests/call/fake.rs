//! A call server for tests: the REST calls a client makes, `/rtc`, and a real peer connection
//! behind the subscriber. It does what a test tells it, and keeps what the client said.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use axum::{Json, Router};
use base64::Engine as _;
use confab_client::api::{JoinOptions, JoinWith, Session, SessionStart, SpeakerSpec};
use confab_client::session::{SessionConfig, SessionManager};
use confab_media::{AudioSourceSpec, VideoSourceSpec};
use confab_transport::{CandidateInit, Connection, ConnectionConfig, ConnectionEvent, WebRtcConnection};
use confab_types::{CameraQuality, Role, Secret};
use confab_wire::livekit::{self as lk, signal_request as req, signal_response as resp};
use parking_lot::Mutex;
use prost::Message as _;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::sync::mpsc;
use url::Url;

/// Longer than anything takes, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What the backend was asked.
#[derive(Default)]
pub struct Seen {
    /// Room tokens given out.
    pub tokens: Vec<String>,
    /// Bodies of remove-user.
    pub removed: Vec<Value>,
}

/// The server.
pub struct Fake {
    pub url: Url,
    pub seen: Arc<Mutex<Seen>>,
    /// WebSocket requests that are answered 401.
    pub refuse: Arc<Mutex<u32>>,
    sockets: mpsc::UnboundedReceiver<Socket>,
}

/// One client's signalling.
pub struct Socket {
    ws: WebSocket,
    pub query: String,
    pub token: String,
    subscriber: Option<(Arc<dyn Connection>, mpsc::Receiver<ConnectionEvent>)>,
}

#[derive(Clone)]
struct App {
    seen: Arc<Mutex<Seen>>,
    refuse: Arc<Mutex<u32>>,
    sockets: mpsc::UnboundedSender<Socket>,
    port: u16,
}

impl Fake {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, sockets) = mpsc::unbounded_channel();
        let (seen, refuse) = (Arc::default(), Arc::default());
        let app = App {
            seen: Arc::clone(&seen),
            refuse: Arc::clone(&refuse),
            sockets: sender,
            port: address.port(),
        };
        let router = Router::new()
            .route("/api-sessions/get-sessionid-token", post(room_token))
            .route("/api-sessions/remove-user", post(remove_user))
            .route("/rtc", any(rtc))
            .with_state(app);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self {
            url: format!("http://{address}").parse().unwrap(),
            seen,
            refuse,
            sockets,
        }
    }

    /// The next client that opens its signalling.
    pub async fn socket(&mut self) -> Socket {
        tokio::time::timeout(PATIENCE, self.sockets.recv())
            .await
            .expect("a client connects")
            .unwrap()
    }

    /// How a signed-in publisher joins here.
    pub async fn options(&self) -> JoinOptions {
        let manager = SessionManager::new(SessionConfig::default());
        let session = Session {
            server: self.url.clone(),
            user: "ada".parse().unwrap(),
            role: Role::Publisher,
            administrator: false,
            scopes: Vec::new(),
            token: Secret::new("session"),
            refresh: None,
            expires_at: OffsetDateTime::now_utc() + Duration::from_secs(3600),
        };
        manager.start(SessionStart::Token(session)).await.unwrap();
        JoinOptions {
            with: JoinWith::Session(manager),
            room: "TUTORIAL".parse().unwrap(),
            nickname: "Ada".to_owned(),
            camera: VideoSourceSpec::TestPattern {
                width: 320,
                height: 240,
                fps: 10,
                hue: 10,
            },
            microphone: AudioSourceSpec::TestTone(440.0),
            camera_on: true,
            microphone_on: true,
            quality: CameraQuality::Low,
            speaker: SpeakerSpec::Null,
            sink: None,
            record: None,
            tcp_only: false,
            force_publish: false,
        }
    }
}

/// A token whose claims a client can read; nobody here checks its signature.
fn token(number: usize) -> String {
    let b64 = |v: &Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(v.to_string());
    let claims = json!({"iss": "k", "sub": "ada-1", "exp": 4102444800u64, "jti": number.to_string(),
        "video": {"roomJoin": true, "room": "TUTORIAL"}});
    format!("{}.{}.c2ln", b64(&json!({"alg": "HS256"})), b64(&claims))
}

async fn room_token(State(app): State<App>) -> Json<Value> {
    let mut seen = app.seen.lock();
    let token = token(seen.tokens.len());
    seen.tokens.push(token.clone());
    let url = format!("ws://127.0.0.1:{}", app.port);
    Json(json!({"0": "RM_a", "1": token, "url": url, "expiresAt": "2099-01-01T00:00:00Z"}))
}

async fn remove_user(State(app): State<App>, Json(body): Json<Value>) -> Json<Value> {
    app.seen.lock().removed.push(body);
    Json(json!({}))
}

async fn rtc(
    State(app): State<App>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    {
        let mut refuse = app.refuse.lock();
        if *refuse > 0 {
            *refuse -= 1;
            return (StatusCode::UNAUTHORIZED, "the token is void").into_response();
        }
    }
    let token = headers["authorization"]
        .to_str()
        .unwrap()
        .trim_start_matches("Bearer ")
        .to_owned();
    let query = query.unwrap_or_default();
    upgrade.on_upgrade(move |ws| async move {
        let _ = app.sockets.send(Socket {
            ws,
            query,
            token,
            subscriber: None,
        });
    })
}

/// The participant's own description.
pub fn me(sid: &str, can_publish: bool) -> lk::ParticipantInfo {
    lk::ParticipantInfo {
        sid: sid.to_owned(),
        identity: "ada-1".to_owned(),
        name: "Ada".to_owned(),
        permission: Some(lk::ParticipantPermission {
            can_subscribe: true,
            can_publish,
            can_publish_data: true,
            ..Default::default()
        }),
        ..Default::default()
    }
}

impl Socket {
    pub async fn say(&mut self, message: resp::Message) {
        let bytes = lk::SignalResponse { message: Some(message) }.encode_to_vec();
        self.ws.send(Message::Binary(bytes.into())).await.unwrap();
    }

    pub async fn say_raw(&mut self, bytes: &[u8]) {
        self.ws.send(Message::Binary(bytes.to_vec().into())).await.unwrap();
    }

    /// Lets the client in.
    pub async fn join(&mut self, sid: &str, can_publish: bool) {
        self.say(resp::Message::Join(lk::JoinResponse {
            room: Some(lk::Room {
                sid: "RM_a".to_owned(),
                name: "TUTORIAL".to_owned(),
                ..Default::default()
            }),
            participant: Some(me(sid, can_publish)),
            subscriber_primary: true,
            ping_interval: 1,
            ping_timeout: 15,
            ..Default::default()
        }))
        .await;
    }

    /// The client's next request, pings and candidates apart.
    pub async fn hear(&mut self) -> Option<req::Message> {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.ws.recv())
                .await
                .expect("the client says something")?;
            let Ok(Message::Binary(bytes)) = frame else { return None };
            let message = lk::SignalRequest::decode(bytes).unwrap().message.unwrap();
            match message {
                req::Message::Ping(_) | req::Message::PingReq(_) => {}
                req::Message::Trickle(trickle) => self.candidate(&trickle).await,
                other => return Some(other),
            }
        }
    }

    /// Requests until one fits; gives all of them.
    pub async fn hear_until(&mut self, fits: impl Fn(&req::Message) -> bool) -> Vec<req::Message> {
        let mut heard = Vec::new();
        while let Some(message) = self.hear().await {
            let last = fits(&message);
            heard.push(message);
            if last {
                return heard;
            }
        }
        panic!("the client went away after {heard:?}");
    }

    async fn candidate(&mut self, trickle: &lk::TrickleRequest) {
        let Some((connection, _)) = &self.subscriber else {
            return;
        };
        if trickle.target != lk::SignalTarget::Subscriber as i32 {
            return;
        }
        let json: Value = serde_json::from_str(&trickle.candidate_init).unwrap();
        let candidate = CandidateInit {
            candidate: json["candidate"].as_str().unwrap_or_default().to_owned(),
            sdp_mid: json["sdpMid"].as_str().map(str::to_owned),
            sdp_mline_index: json["sdpMLineIndex"].as_u64().map(|n| n as u16),
        };
        let _ = connection.add_candidate(candidate).await;
    }

    /// Connects the subscriber connection for real; gives what the client said meanwhile.
    pub async fn connect_media(&mut self) -> Vec<req::Message> {
        let config = ConnectionConfig {
            loopback: true,
            ..ConnectionConfig::default()
        };
        let (connection, events) = WebRtcConnection::new(config).await.unwrap();
        connection.open_data_channel("_reliable", true, None).await.unwrap();
        let sdp = connection.create_offer(false).await.unwrap();
        self.subscriber = Some((connection, events));
        self.say(resp::Message::Offer(lk::SessionDescription {
            r#type: "offer".to_owned(),
            sdp,
            id: 7,
            ..Default::default()
        }))
        .await;
        let heard = self.hear_until(|m| matches!(m, req::Message::Answer(_))).await;
        let Some(req::Message::Answer(answer)) = heard.last() else {
            unreachable!()
        };
        assert_eq!(answer.id, 7, "the offer's id comes back");
        let (connection, mut events) = self.subscriber.take().unwrap();
        connection.set_answer(&answer.sdp).await.unwrap();
        // Own candidates, as they come, until the client is connected.
        while let Ok(Some(event)) = tokio::time::timeout(PATIENCE, events.recv()).await {
            match event {
                ConnectionEvent::LocalCandidate(c) => {
                    let init =
                        json!({"candidate": c.candidate, "sdpMid": c.sdp_mid, "sdpMLineIndex": c.sdp_mline_index});
                    self.say(resp::Message::Trickle(lk::TrickleRequest {
                        candidate_init: init.to_string(),
                        target: lk::SignalTarget::Subscriber as i32,
                        r#final: false,
                    }))
                    .await;
                }
                ConnectionEvent::State(confab_transport::ConnectionState::Connected) => break,
                _ => {}
            }
        }
        self.subscriber = Some((connection, events));
        heard
    }
}
