//! Getting in: the room token, the signalling, and the peer connections of a join; and telling
//! the server on the way out.

use confab_transport::{ConnectionConfig, IceServer, TransportError};
use confab_types::{Claims, Nickname, Secret};
use confab_wire::livekit::{self as lk, signal_request as req};
use url::Url;

use super::actor::{Actor, Note};
use super::link::{Link, Target};
use super::machine::Input;
use crate::api::JoinWith;
use crate::signal::{self, Resume, SignalOptions};
use crate::tls::Pins;

impl Actor {
    pub(super) fn fetch_token(&mut self) {
        let JoinWith::Session(manager) = self.options.with.clone() else {
            return;
        };
        let (room, notes) = (self.options.room.clone(), self.notes.clone());
        let nickname = self.options.nickname.parse::<Nickname>().ok();
        tokio::spawn(async move {
            let answer = manager.room_token(&room, nickname.as_ref()).await;
            let _ = notes.send(Note::Token(answer)).await;
        });
    }

    pub(super) fn open_signal(&mut self, resume: bool) {
        if let JoinWith::Token { url, token } = &self.options.with
            && self.access.is_none()
        {
            self.use_token(url.clone(), token.clone());
        }
        let Some((url, token)) = self.access.clone() else {
            return;
        };
        self.opening += 1;
        let sid = self.people.me().map(ToString::to_string);
        let options = SignalOptions {
            url,
            token,
            resume: sid.filter(|_| resume).map(|sid| Resume { sid }),
            adaptive_stream: self.options.sink.is_some(),
        };
        let (opening, notes, pins) = (self.opening, self.notes.clone(), self.pins());
        tokio::spawn(async move {
            let opened = signal::connect(&options, &pins).await;
            let _ = notes.send(Note::Signal(opening, opened)).await;
        });
    }

    fn pins(&self) -> Pins {
        match &self.options.with {
            JoinWith::Session(manager) => manager.pins().clone(),
            JoinWith::Token { .. } => Pins::default(),
        }
    }

    /// Takes a token into use. Its claims say what may be opened before the server answers.
    pub(super) fn use_token(&mut self, url: Url, token: Secret) {
        if let Some(claims) = claims_of(&token) {
            self.own.presume(&claims.video.grants());
            self.claims = claims;
        }
        self.access = Some((url, token));
        self.prepare_link();
    }

    /// A token for the next reconnect.
    pub(super) fn refresh_token(&mut self, token: String) {
        if let Some((url, _)) = self.access.clone() {
            self.access = Some((url, Secret::new(token)));
        }
    }

    /// Makes connections for the next join beside the signalling, as our own server will want them: sockets are bound
    /// and certificates made by the time `Join` comes.
    fn prepare_link(&mut self) {
        if self.prepared.is_some() || self.link.is_some() || !matches!(self.options.with, JoinWith::Session(_)) {
            return;
        }
        let (config, events) = (self.connection_config(Vec::new(), true), self.link_events.clone());
        self.joins += 1;
        let opening = Link::open(config.clone(), self.joins, Target::Subscriber, events);
        self.prepared = Some((config, tokio::spawn(opening)));
    }

    fn connection_config(&self, ice_servers: Vec<IceServer>, ours: bool) -> ConnectionConfig {
        ConnectionConfig {
            ice_servers,
            passive_setup: ours,
            loopback: self.access.as_ref().is_some_and(|(url, _)| is_loopback(url)),
            tcp: true,
            tcp_only: self.options.tcp_only,
        }
    }

    /// The prepared connections if they fit, else new ones.
    async fn open_link(&mut self, config: ConnectionConfig, primary: Target) -> Result<Link, TransportError> {
        if let Some((prepared, opening)) = self.prepared.take() {
            match opening.await {
                Ok(Ok(mut link)) if prepared == config => {
                    link.primary = primary;
                    return Ok(link);
                }
                Ok(Ok(unfit)) => unfit.close(),
                _ => {}
            }
        }
        self.joins += 1;
        Link::open(config, self.joins, primary, self.link_events.clone()).await
    }

    /// The server let us in: connections are made, own tracks announced.
    pub(super) async fn join_media(&mut self, join: &lk::JoinResponse) {
        let ours = join.server_info.as_ref().is_some_and(|s| s.node_id == "confab");
        let ice_servers = join.ice_servers.iter().map(|s| IceServer {
            urls: s.urls.clone(),
            username: s.username.clone(),
            credential: s.credential.clone(),
        });
        let config = self.connection_config(ice_servers.collect(), ours);
        let primary = if join.subscriber_primary {
            Target::Subscriber
        } else {
            Target::Publisher
        };
        match self.open_link(config, primary).await {
            Ok(link) => self.link = Some(link),
            Err(e) => {
                tracing::warn!("no peer connection could be made: {e}");
                return self.step(Input::MediaFailed).await;
            }
        }
        self.own.linked(self.people.may_publish());
        if let (Some(link), Some(signal)) = (&mut self.link, &self.signal) {
            let announced = self.own.announce(link, signal).await;
            // The publisher is the one that counts, or will be needed soon: no waiting for the first track.
            if announced || primary == Target::Publisher {
                link.negotiate(signal, false).await;
            }
        }
    }

    /// `Leave` on the signalling, and the token voided at the backend.
    pub(super) fn tell_server(&mut self) {
        if let Some(signal) = &self.signal {
            let reason = lk::DisconnectReason::ClientInitiated as i32;
            signal.send(req::Message::Leave(lk::LeaveRequest {
                reason,
                ..Default::default()
            }));
        }
        let (JoinWith::Session(manager), Some((_, token))) = (self.options.with.clone(), self.access.clone()) else {
            return;
        };
        let room = self.options.room.clone();
        self.farewell.spawn(async move {
            if let Err(e) = manager.remove_user(&room, &token).await {
                tracing::info!("the server was not told of leaving: {e}");
            }
        });
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

/// A token's claims, unverified: only the server can verify them, and only the server enforces them.
fn claims_of(token: &Secret) -> Option<Claims> {
    use base64::Engine as _;
    let payload = token.expose().split('.').nth(1)?;
    let json = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(payload.trim_end_matches('='))
        .ok()?;
    serde_json::from_slice(&json).ok()
}
