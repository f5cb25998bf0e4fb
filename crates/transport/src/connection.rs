//! `Connection` on the `webrtc` crate.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use confab_types::Bitrate;
use parking_lot::Mutex;
use rtc::peer_connection::configuration::RTCOfferOptions;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;
use webrtc::data_channel::{DataChannel, RTCDataChannelInit};
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, RTCIceCandidateInit, RTCSessionDescription, StatsSelector,
};
use webrtc::rtp_transceiver::{RTCRtpReceiverId, RTCRtpTransceiverDirection, RTCRtpTransceiverInit, RtpTransceiver};
use webrtc::runtime::TokioRuntime;

use crate::api::{
    CandidateInit, Connection, ConnectionConfig, ConnectionEvent, ConnectionState, ConnectionStats, SendCodec,
    SendTrackConfig, TrackSender, TransportError,
};
use crate::data::{self, DataChannels};
use crate::events::{Events, Handler};
use crate::streams::SentTrack;
use crate::wire::Wire;
use crate::{publish, sdp, setup, stats};

/// How much a data channel may hold before `send_data` waits: three large messages.
const DATA_BUFFER: usize = 1 << 20;
/// How often the round trip is read for the retransmission timers.
const ROUND_TRIP_INTERVAL: Duration = Duration::from_secs(1);
/// How long UDP is tried before TCP candidates are dialled: the first pair that works is kept, and media belongs on UDP.
const UDP_FIRST: Duration = Duration::from_millis(400);
/// How long `close` waits for the tasks. They end at once unless the computer is overloaded.
const CLOSE_TIME: Duration = Duration::from_secs(2);

impl TransportError {
    /// The library refused.
    pub(crate) fn webrtc(what: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::WebRtc {
            what,
            source: Box::new(source),
        }
    }
}

struct Sent {
    track: Arc<SentTrack>,
    transceiver: Arc<dyn RtpTransceiver>,
    stop: CancellationToken,
}

/// What the connection, its tasks and the library's handler share.
pub(crate) struct Core {
    /// Streams by SSRC.
    pub(crate) wire: Arc<Wire>,
    /// Where events go.
    pub(crate) events: Events,
    pc: OnceLock<Arc<dyn PeerConnection>>,
    data: DataChannels,
    connected: watch::Sender<bool>,
    sent: Mutex<HashMap<String, Sent>>,
    early: Mutex<Option<Vec<CandidateInit>>>,
    tasks: TaskTracker,
    token: CancellationToken,
}

impl Core {
    fn pc(&self) -> Result<&Arc<dyn PeerConnection>, TransportError> {
        self.pc
            .get()
            .filter(|_| !self.token.is_cancelled())
            .ok_or(TransportError::Closed)
    }

    /// Runs a task until it ends or the connection does.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let token = self.token.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = token.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Notes the state. Media goes on through an ICE restart and a short silence; only the end stops it.
    pub(crate) fn note_state(&self, state: ConnectionState) {
        match state {
            ConnectionState::Connected => {
                self.connected.send_replace(true);
                // At the start, or after an interruption in which frames may have been lost.
                for track in self.wire.sent_tracks() {
                    track.want_all_keyframes(Instant::now());
                }
            }
            ConnectionState::Failed | ConnectionState::Closed => {
                self.connected.send_replace(false);
            }
            ConnectionState::Connecting | ConnectionState::Disconnected => {}
        }
    }

    /// The m-line of a receiver.
    pub(crate) async fn mid_of(&self, receiver: RTCRtpReceiverId) -> Option<String> {
        for transceiver in self.pc().ok()?.get_transceivers().await {
            if RTCRtpReceiverId::from(transceiver.id()) == receiver {
                return transceiver.mid().await.ok().flatten();
            }
        }
        None
    }

    /// A data channel that the other side opened.
    pub(crate) async fn theirs(self: Arc<Self>, channel: Arc<dyn DataChannel>) {
        let Ok(label) = channel.label().await else { return };
        let opened = self.data.add(&label, channel.clone(), false, false);
        let events = self.events.clone();
        drop(self);
        data::read(channel, label, opened, events).await;
    }

    /// Reads the mids that the library gave to our tracks.
    async fn name_tracks(&self) {
        let sent: Vec<_> = self
            .sent
            .lock()
            .values()
            .map(|s| (s.track.clone(), s.transceiver.clone()))
            .collect();
        for (track, transceiver) in sent {
            if let Ok(Some(mid)) = transceiver.mid().await {
                track.set_mid(&mid);
            }
        }
    }

    /// Dials the server's TCP candidates: at once when there is nothing else, or when UDP found no way.
    fn dial_tcp(&self, pc: &Arc<dyn PeerConnection>, candidates: Vec<CandidateInit>, tcp: Tcp) {
        if candidates.is_empty() || tcp == Tcp::Never {
            return;
        }
        let pc = pc.clone();
        let mut connected = self.connected.subscribe();
        self.spawn(async move {
            let by_udp = connected.wait_for(|connected| *connected);
            if tcp == Tcp::AfterUdp && tokio::time::timeout(UDP_FIRST, by_udp).await.is_ok() {
                return;
            }
            for candidate in candidates {
                if let Err(error) = add_candidate(&pc, candidate).await {
                    debug!(%error, "a TCP candidate was refused");
                }
            }
        });
    }

    async fn apply_remote(&self, description: RTCSessionDescription, tcp: Tcp) -> Result<(), TransportError> {
        let pc = self.pc()?;
        let candidates = sdp::tcp_candidates(&description.sdp);
        self.name_tracks().await;
        self.wire.set_numbered(sdp::numbered_sections(&description.sdp));
        pc.set_remote_description(description)
            .await
            .map_err(|e| TransportError::webrtc("set the remote description", e))?;
        let early = self.early.lock().take().unwrap_or_default();
        self.dial_tcp(pc, candidates, tcp);
        for candidate in early {
            if let Err(error) = add_candidate(pc, candidate).await {
                debug!(%error, "a remote candidate was refused");
            }
        }
        self.name_tracks().await;
        Ok(())
    }
}

async fn add_candidate(pc: &Arc<dyn PeerConnection>, candidate: CandidateInit) -> Result<(), TransportError> {
    let init = RTCIceCandidateInit {
        candidate: candidate.candidate,
        sdp_mid: candidate.sdp_mid,
        sdp_mline_index: candidate.sdp_mline_index,
        ..Default::default()
    };
    pc.add_ice_candidate(init)
        .await
        .map_err(|e| TransportError::webrtc("add a candidate", e))
}

/// When TCP is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tcp {
    Never,
    AfterUdp,
    Only,
}

/// A peer connection on `webrtc`.
pub struct WebRtcConnection {
    core: Arc<Core>,
    passive_setup: bool,
    tcp: Tcp,
    started: Instant,
}

impl WebRtcConnection {
    /// Makes a connection that is ready for tracks, data channels and offers, and its events.
    #[allow(clippy::new_ret_no_self)] // Callers hold the trait, so that tests can put another stack in its place.
    pub async fn new(
        config: ConnectionConfig,
    ) -> Result<(Arc<dyn Connection>, mpsc::Receiver<ConnectionEvent>), TransportError> {
        let started = Instant::now();
        let tasks = TaskTracker::new();
        let token = CancellationToken::new();
        let (events, receiver) = Events::new(&tasks, &token);
        let core = Arc::new(Core {
            wire: Arc::new(Wire::new()),
            events,
            pc: OnceLock::new(),
            data: DataChannels::default(),
            connected: watch::Sender::new(false),
            sent: Mutex::default(),
            early: Mutex::new(Some(Vec::new())),
            tasks,
            token,
        });
        let addresses = vec![setup::LocalAddresses::new(config.loopback)];
        let engine = setup::media_engine().map_err(|e| TransportError::webrtc("register codecs", e))?;
        let mut builder = PeerConnectionBuilder::new()
            .with_configuration(setup::configuration(&config))
            .with_media_engine(engine)
            .with_setting_engine(setup::settings(&config))
            .with_interceptor_registry(setup::chain(&core.wire, started))
            .with_handler(Arc::new(Handler(Arc::downgrade(&core))))
            .with_runtime(Arc::new(TokioRuntime))
            .with_data_channel_send_buffer_limit(DATA_BUFFER);
        let tcp = match (config.tcp_only, config.tcp) {
            (true, _) => Tcp::Only,
            (false, true) => Tcp::AfterUdp,
            (false, false) => Tcp::Never,
        };
        if tcp != Tcp::Only {
            builder = builder.with_udp_addrs(addresses.clone());
        }
        if tcp != Tcp::Never {
            builder = builder.with_tcp_addrs(addresses);
        }
        let pc = builder
            .build()
            .await
            .map_err(|e| TransportError::webrtc("open the connection", e))?;
        let pc: Arc<dyn PeerConnection> = Arc::new(pc);
        let _ = core.pc.set(pc.clone());
        core.spawn(measure_round_trip(pc, core.wire.clone()));
        let connection = Arc::new(Self {
            core,
            passive_setup: config.passive_setup,
            tcp,
            started,
        });
        Ok((connection, receiver))
    }

    fn send_tasks(
        &self,
        config: &SendTrackConfig,
    ) -> (Arc<SentTrack>, Arc<TrackLocalStaticRTP>, TrackSender, CancellationToken) {
        let layers = publish::layers(&config.codec);
        let writer = Arc::new(TrackLocalStaticRTP::new(publish::media_track(config, &layers)));
        let audio = matches!(config.codec, SendCodec::Opus);
        let clock = publish::clock(&config.codec, self.started);
        let (track, keyframe_requests) =
            SentTrack::new(config.cid.clone(), audio, publish::most(&config.codec), layers, clock);
        self.core.wire.add_sent(&track);
        let (frames, waiting) = mpsc::channel(publish::FRAMES);
        let stop = self.core.token.child_token();
        let task = publish::run(track.clone(), writer.clone(), waiting, self.core.connected.subscribe());
        let stopped = stop.clone();
        self.core.spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = task => {}
            }
        });
        let sender = TrackSender {
            frames,
            keyframe_requests,
            cid: config.cid.clone(),
        };
        (track, writer, sender, stop)
    }
}

async fn measure_round_trip(pc: Arc<dyn PeerConnection>, wire: Arc<Wire>) {
    let mut ticks = tokio::time::interval(ROUND_TRIP_INTERVAL);
    loop {
        ticks.tick().await;
        let report = pc.get_stats(Instant::now(), StatsSelector::None).await;
        if let Some(round_trip) = stats::round_trip(&report) {
            wire.set_round_trip(round_trip);
        }
    }
}

#[async_trait]
impl Connection for WebRtcConnection {
    async fn create_offer(&self, ice_restart: bool) -> Result<String, TransportError> {
        let pc = self.core.pc()?;
        let options = ice_restart.then_some(RTCOfferOptions { ice_restart: true });
        let offer = pc
            .create_offer(options)
            .await
            .map_err(|e| TransportError::webrtc("create an offer", e))?;
        let text = offer.sdp.clone();
        pc.set_local_description(offer)
            .await
            .map_err(|e| TransportError::webrtc("set the local description", e))?;
        self.core.name_tracks().await;
        Ok(if self.passive_setup { sdp::passive(&text) } else { text })
    }

    async fn set_answer(&self, sdp: &str) -> Result<(), TransportError> {
        let answer =
            RTCSessionDescription::answer(sdp.to_owned()).map_err(|e| TransportError::webrtc("read the answer", e))?;
        self.core.apply_remote(answer, self.tcp).await
    }

    async fn answer_offer(&self, sdp: &str) -> Result<String, TransportError> {
        let offer =
            RTCSessionDescription::offer(sdp.to_owned()).map_err(|e| TransportError::webrtc("read the offer", e))?;
        self.core.apply_remote(offer, self.tcp).await?;
        let pc = self.core.pc()?;
        let answer = pc
            .create_answer(None)
            .await
            .map_err(|e| TransportError::webrtc("create an answer", e))?;
        let text = sdp::with_directions(&answer.sdp);
        pc.set_local_description(answer)
            .await
            .map_err(|e| TransportError::webrtc("set the local description", e))?;
        self.core.name_tracks().await;
        Ok(text)
    }

    async fn add_candidate(&self, candidate: CandidateInit) -> Result<(), TransportError> {
        let pc = self.core.pc()?;
        if let Some(early) = self.core.early.lock().as_mut() {
            early.push(candidate);
            return Ok(());
        }
        if sdp::is_passive_tcp(&candidate.candidate) {
            self.core.dial_tcp(pc, vec![candidate], self.tcp);
            return Ok(());
        }
        add_candidate(pc, candidate).await
    }

    async fn add_track(&self, config: SendTrackConfig) -> Result<TrackSender, TransportError> {
        let pc = self.core.pc()?;
        let (track, writer, sender, stop) = self.send_tasks(&config);
        let init = RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Sendonly,
            streams: vec![config.stream_id.clone()],
            send_encodings: vec![],
        };
        match pc.add_transceiver_from_track(writer, Some(init)).await {
            Ok(transceiver) => {
                self.core.sent.lock().insert(
                    config.cid,
                    Sent {
                        track,
                        transceiver,
                        stop,
                    },
                );
                Ok(sender)
            }
            Err(error) => {
                stop.cancel();
                self.core.wire.remove_sent(&config.cid);
                Err(TransportError::webrtc("add a track", error))
            }
        }
    }

    async fn remove_track(&self, cid: &str) -> Result<(), TransportError> {
        let pc = self.core.pc()?;
        let Some(sent) = self.core.sent.lock().remove(cid) else {
            return Err(TransportError::Unknown(format!("the track {cid:?}")));
        };
        sent.stop.cancel();
        let sender = sent
            .transceiver
            .sender()
            .await
            .map_err(|e| TransportError::webrtc("find the sender", e))?;
        if let Some(sender) = sender {
            pc.remove_track(&sender)
                .await
                .map_err(|e| TransportError::webrtc("remove a track", e))?;
        }
        self.core.wire.remove_sent(cid);
        Ok(())
    }

    async fn open_data_channel(
        &self,
        label: &str,
        ordered: bool,
        max_retransmits: Option<u16>,
    ) -> Result<(), TransportError> {
        let pc = self.core.pc()?;
        let init = RTCDataChannelInit {
            ordered,
            max_retransmits,
            ..Default::default()
        };
        let channel = pc
            .create_data_channel(label, Some(init))
            .await
            .map_err(|e| TransportError::webrtc("open a data channel", e))?;
        let opened = self.core.data.add(label, channel.clone(), true, false);
        self.core
            .spawn(data::read(channel, label.to_owned(), opened, self.core.events.clone()));
        Ok(())
    }

    async fn send_data(&self, label: &str, payload: Bytes) -> Result<(), TransportError> {
        self.core.pc()?;
        tokio::select! {
            () = self.core.token.cancelled() => Err(TransportError::Closed),
            sent = self.core.data.send(label, payload) => sent,
        }
    }

    fn target_bitrate(&self) -> watch::Receiver<Bitrate> {
        self.core.wire.targets()
    }

    async fn stats(&self) -> ConnectionStats {
        match self.core.pc() {
            Ok(pc) => stats::collect(pc.as_ref(), &self.core.wire).await,
            Err(_) => ConnectionStats::default(),
        }
    }

    async fn close(&self) {
        let Ok(pc) = self.core.pc().cloned() else { return };
        self.core.token.cancel();
        self.core.note_state(ConnectionState::Closed);
        if let Err(error) = pc.close().await {
            debug!(%error, "closing");
        }
        self.core.data.clear();
        self.core.tasks.close();
        if tokio::time::timeout(CLOSE_TIME, self.core.tasks.wait()).await.is_err() {
            debug!("tasks still end");
        }
    }
}

impl Drop for WebRtcConnection {
    /// Ends what a forgotten `close` would leave: the library's driver outlives its handle.
    fn drop(&mut self) {
        let open = self.core.pc().ok().cloned();
        self.core.token.cancel();
        if let (Some(pc), Ok(runtime)) = (open, tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move { pc.close().await });
        }
    }
}
