//! Remote tracks: from the library's announcement and the delivery queue to the channel
//! that the client reads, with keyframe requests the other way.

use std::sync::{Arc, Weak};
use std::time::Duration;

use rtc::peer_connection::event::RTCTrackEventInit;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use tokio::sync::mpsc;
use tracing::debug;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};

use crate::api::{ConnectionEvent, KeyframeAsker, ReceivedPacket, RemoteTrack};
use crate::connection::Core;
use crate::streams::Inbound;

/// Packets between our task and the reader; the second's worth waits before it, where the oldest can be dropped.
const CHANNEL: usize = 64;
/// The server asks the sender for each request; a keyframe needs a round trip and an encoder.
const BETWEEN_REQUESTS: Duration = Duration::from_millis(300);

/// Follows the life of a remote track, which can end and begin again under the same id.
pub(crate) async fn follow(core: Weak<Core>, track: Arc<dyn TrackRemote>) {
    let mut current: Option<Arc<Inbound>> = None;
    let mut reader: Option<mpsc::WeakSender<ReceivedPacket>> = None;
    while let Some(event) = track.poll().await {
        let Some(core) = core.upgrade() else { break };
        match event {
            TrackRemoteEvent::OnOpen(init) => {
                let Some(mut inbound) = core.wire.inbound(init.ssrc) else {
                    debug!(ssrc = init.ssrc, "a track without a stream");
                    continue;
                };
                let owner = inbound.track_id.lock().clone();
                let is_read = reader
                    .as_ref()
                    .and_then(mpsc::WeakSender::upgrade)
                    .is_some_and(|r| !r.is_closed());
                if owner == init.track_id && is_read && !inbound.is_ended() {
                    // Negotiated again; it goes on.
                    continue;
                }
                if !owner.is_empty() {
                    inbound = core.wire.renew_inbound(&inbound);
                }
                if let Some(old) = current.replace(inbound.clone()) {
                    old.end();
                }
                reader = Some(announce(&core, &track, &init, inbound).await);
            }
            TrackRemoteEvent::OnEnded | TrackRemoteEvent::OnError => {
                if let Some(old) = current.take() {
                    old.end();
                }
            }
            _ => {}
        }
    }
    if let Some(old) = current {
        old.end();
    }
}

async fn announce(
    core: &Arc<Core>,
    track: &Arc<dyn TrackRemote>,
    init: &RTCTrackEventInit,
    inbound: Arc<Inbound>,
) -> mpsc::WeakSender<ReceivedPacket> {
    let mid = core.mid_of(init.receiver_id).await.unwrap_or_default();
    *inbound.track_id.lock() = init.track_id.clone();
    let (packets, reader) = mpsc::channel(CHANNEL);
    let (asker, asked) = mpsc::channel(1);
    let remote = RemoteTrack {
        stream_id: init.stream_ids.first().cloned().unwrap_or_default(),
        track_id: init.track_id.clone(),
        mid,
        mime: inbound.mime.clone(),
        clock_rate: inbound.clock_rate,
        packets: reader,
        keyframes: KeyframeAsker(asker),
        sender_report: inbound.reports(),
    };
    let held = packets.downgrade();
    core.spawn(pump(inbound.clone(), packets));
    core.spawn(ask(inbound, track.clone(), asked));
    core.events.tell(ConnectionEvent::Track(remote));
    held
}

async fn pump(inbound: Arc<Inbound>, packets: mpsc::Sender<ReceivedPacket>) {
    let forward = async {
        while let Some(packet) = inbound.next().await {
            if packets.send(packet).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = forward => {}
        () = packets.closed() => {}
    }
    // Nobody reads any more: if the track is opened again, it is announced again.
    inbound.end();
}

async fn ask(inbound: Arc<Inbound>, track: Arc<dyn TrackRemote>, mut asked: mpsc::Receiver<()>) {
    while asked.recv().await.is_some() {
        inbound.count_pli();
        let pli = PictureLossIndication {
            sender_ssrc: 0,
            media_ssrc: inbound.ssrc,
        };
        if let Err(error) = track.write_rtcp(vec![Box::new(pli)]).await {
            debug!(%error, "a keyframe request was not sent");
            break;
        }
        tokio::time::sleep(BETWEEN_REQUESTS).await;
    }
}
