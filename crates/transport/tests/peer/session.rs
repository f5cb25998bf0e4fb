//! Steps that the tests share.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use confab_transport::{
    Connection, ConnectionConfig, ConnectionEvent, ConnectionState, LayerConfig, RemoteTrack, SendCodec,
    SendTrackConfig,
};
use confab_types::Bitrate;
use tokio::sync::mpsc;

use super::media::Frames;
use super::{Peer, PeerEvent};

pub type Events = mpsc::Receiver<ConnectionEvent>;

pub fn config() -> ConnectionConfig {
    ConnectionConfig {
        loopback: true,
        passive_setup: true,
        ..Default::default()
    }
}

pub fn simulcast() -> SendCodec {
    let layer = |rid: &str, kbps| LayerConfig {
        rid: Some(rid.into()),
        max_bitrate: Bitrate::kbps(kbps),
    };
    SendCodec::Vp8(vec![layer("q", 150), layer("h", 500), layer("f", 1700)])
}

pub fn track(cid: &str, codec: SendCodec) -> SendTrackConfig {
    SendTrackConfig {
        cid: cid.into(),
        stream_id: "stream".into(),
        codec,
    }
}

/// Waits for an event; hands our candidates to nobody: the peer is ICE-lite.
pub async fn wait<T>(events: &mut Events, mut pick: impl FnMut(ConnectionEvent) -> Option<T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            let event = events.recv().await.expect("events ended");
            if let Some(found) = pick(event) {
                return found;
            }
        }
    })
    .await
    .expect("nothing within 10 s")
}

pub async fn connected(events: &mut Events) {
    wait(events, |e| {
        matches!(e, ConnectionEvent::State(ConnectionState::Connected)).then_some(())
    })
    .await;
}

pub async fn negotiate(connection: &Arc<dyn Connection>, peer: &Peer, restart: bool) {
    let offer = connection.create_offer(restart).await.unwrap();
    let answer = peer.answer(&offer).await;
    connection.set_answer(&answer).await.unwrap();
}

#[derive(Default)]
pub struct Got {
    pub streams: HashMap<String, Frames>,
    pub audio: Vec<(u64, u32, Option<i8>)>,
}

impl Got {
    pub fn take(&mut self, events: Vec<PeerEvent>) {
        for event in events {
            let PeerEvent::Rtp { rid, packet, .. } = event else {
                continue;
            };
            match rid {
                Some(rid) => {
                    let frames = self.streams.entry(rid.to_string()).or_default();
                    frames.add(
                        *packet.seq_no,
                        packet.header.timestamp,
                        packet.header.marker,
                        Bytes::copy_from_slice(&packet.payload),
                    );
                }
                None => self.audio.push((
                    *packet.seq_no,
                    packet.header.timestamp,
                    packet.header.ext_vals.audio_level,
                )),
            }
        }
    }
}

pub async fn remote_track(events: &mut Events) -> RemoteTrack {
    wait(events, |e| match e {
        ConnectionEvent::Track(track) => Some(track),
        _ => None,
    })
    .await
}
