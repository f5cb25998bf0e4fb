//! The own camera: opened beside the call, its pictures shown to the person and encoded into
//! the layers that somebody watches. Off closes the device; the track stays, muted.

use std::sync::{Arc, Weak};

use confab_media::video::{
    CaptureWish, DeviceEvent, DeviceEvents, FrameSlot, SimulcastConfig, SimulcastEncoder, VideoCapture, open, scale,
};
use confab_media::{DeviceError, EncodedVideo, I420, NoTransform, VideoSourceSpec};
use confab_transport::{EncodedFrame, KeyframeRequest, LayerConfig, Temporal, TrackSender};
use confab_types::{Bitrate, CameraQuality, TrackSource};
use confab_wire::livekit as lk;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use super::actor::Note;
use super::own::OwnNote;
use super::publication::Outlet;
use super::report::SentLayer;
use crate::api::{JoinOptions, VideoKey, VideoSink};

/// Kept free for sound out of what the network takes.
const FOR_AUDIO: u64 = 48_000;
/// Frames per second asked of cameras.
const FPS: u32 = 30;
/// LiveKit's rids, lowest layer first.
const RIDS: [&str; 3] = ["q", "h", "f"];

/// A camera that delivers.
pub(super) struct CameraOpened {
    slot: FrameSlot,
    #[expect(dead_code, reason = "kept for its Drop, which closes the device")]
    capture: VideoCapture,
    size: (u32, u32),
    fps: u32,
}

/// Pixels the own picture is shown with; `None` when it is not.
type Shown = Arc<Mutex<Option<(u32, u32)>>>;

/// The camera and its encoder.
pub(super) struct OwnVideo {
    spec: VideoSourceSpec,
    quality: CameraQuality,
    sink: Option<Arc<dyn VideoSink>>,
    shown: Shown,
    camera: Option<CameraOpened>,
    /// Layers of the present publication.
    config: Option<SimulcastConfig>,
    encoder: Option<Arc<SimulcastEncoder>>,
    steering: Option<(TrackSender, watch::Receiver<Bitrate>)>,
    watched: u8,
    opening: u64,
    pending: bool,
    notes: mpsc::Sender<Note>,
    pub(super) outlet: Arc<Outlet>,
}

impl OwnVideo {
    pub(super) fn new(options: &JoinOptions, notes: mpsc::Sender<Note>) -> Self {
        Self {
            spec: options.camera.clone(),
            quality: options.quality,
            sink: options.sink.clone(),
            shown: Arc::new(Mutex::new(Some((320, 180)))),
            camera: None,
            config: None,
            encoder: None,
            steering: None,
            watched: u8::MAX,
            opening: 0,
            pending: false,
            notes,
            outlet: Arc::default(),
        }
    }

    /// Whether there is a source at all.
    pub(super) fn exists(&self) -> bool {
        self.spec != VideoSourceSpec::None
    }

    /// The camera delivers.
    pub(super) fn is_open(&self) -> bool {
        self.camera.is_some()
    }

    /// Opens the camera in the background, unless it is open or on its way. The outcome comes as a note.
    pub(super) fn open(&mut self) {
        if self.camera.is_some() || self.pending || !self.exists() {
            return;
        }
        self.pending = true;
        self.opening += 1;
        let (opening, spec, notes) = (self.opening, self.spec.clone(), self.notes.clone());
        let (sink, shown) = (self.sink.clone(), self.shown.clone());
        let (width, height) = self.quality.size();
        tokio::task::spawn_blocking(move || {
            let opened = open_camera(
                &spec,
                CaptureWish {
                    width,
                    height,
                    fps: FPS,
                },
                opening,
                &notes,
                sink,
                shown,
            );
            let _ = notes.blocking_send(Note::Own(OwnNote::Camera(opening, opened)));
        });
    }

    /// Takes an opened camera; false if another opening counts by now.
    pub(super) fn opened(&mut self, opening: u64, camera: CameraOpened) -> bool {
        if opening != self.opening {
            aside(camera);
            return false;
        }
        self.pending = false;
        self.camera = Some(camera);
        self.start_encoder();
        true
    }

    /// It failed to open, or was lost; false if another opening counts by now. A camera that was lost is tried again
    /// by its source: the capture stays.
    pub(super) fn failed(&mut self, opening: u64) -> bool {
        let counts = opening == self.opening;
        self.pending &= !counts;
        counts
    }

    /// Closes the camera; the track stays.
    pub(super) fn close(&mut self) {
        self.opening += 1;
        self.pending = false;
        self.stop_encoder();
        if let Some(camera) = self.camera.take() {
            camera.slot.close();
            aside(camera);
            if let Some(sink) = &self.sink {
                sink.ended(&VideoKey::Own(TrackSource::Camera));
            }
        }
    }

    /// Another camera: at once if open, else with the next opening.
    pub(super) fn set_source(&mut self, spec: VideoSourceSpec) {
        self.spec = spec;
        self.close();
    }

    /// The layers to announce, computed from what the camera gives.
    fn plan(&mut self) -> &SimulcastConfig {
        let (size, fps) = self
            .camera
            .as_ref()
            .map_or((self.quality.size(), FPS), |c| (c.size, c.fps));
        let (width, height) = scale::fit_within(size, self.quality.size());
        let max = self.quality.max_bitrate();
        self.config
            .get_or_insert_with(|| SimulcastConfig::for_size(width, height, fps.min(FPS), max))
    }

    /// Pixels of the top layer.
    pub(super) fn size(&mut self) -> (u32, u32) {
        let plan = self.plan();
        (plan.width, plan.height)
    }

    /// The layers as AddTrack names them.
    pub(super) fn layers(&mut self) -> Vec<lk::VideoLayer> {
        let plan = self.plan();
        let count = plan.layers.len();
        let layer = |(index, spec): (usize, &confab_media::video::LayerSpec)| {
            let (width, height) = plan.layer_size(index);
            let bitrate = u32::try_from(spec.max_bitrate.as_bps()).unwrap_or(u32::MAX);
            lk::VideoLayer {
                quality: quality_of(index, count) as i32,
                width,
                height,
                bitrate,
                ..Default::default()
            }
        };
        plan.layers.iter().enumerate().map(layer).collect()
    }

    /// The layers as the transport sends them.
    pub(super) fn layer_configs(&mut self) -> Vec<LayerConfig> {
        let plan = self.plan();
        let several = plan.layers.len() > 1;
        let config = |(index, spec): (usize, &confab_media::video::LayerSpec)| LayerConfig {
            rid: several.then(|| RIDS.get(index).copied().unwrap_or("f").to_owned()),
            max_bitrate: spec.max_bitrate,
        };
        plan.layers.iter().enumerate().map(config).collect()
    }

    /// Encodes into a track of a connection.
    pub(super) fn connect(&mut self, sender: TrackSender, target: watch::Receiver<Bitrate>) {
        self.outlet.connect(Some(sender.clone()));
        self.steering = Some((sender, target));
        self.watched = u8::MAX;
        self.start_encoder();
    }

    /// The connection is gone: nothing is encoded, and the next publication plans its layers anew.
    pub(super) fn disconnect(&mut self) {
        self.outlet.connect(None);
        self.steering = None;
        self.config = None;
        self.stop_encoder();
    }

    /// With how many pixels the own picture is shown.
    pub(super) fn show(&mut self, size: Option<(u32, u32)>) {
        *self.shown.lock() = size;
    }

    /// Layers that nobody watches are not encoded.
    pub(super) fn qualities(&mut self, update: &lk::SubscribedQualityUpdate) {
        let count = self.config.as_ref().map_or(1, |c| c.layers.len());
        self.watched = mask_of(update, count);
        if let Some(encoder) = &self.encoder {
            encoder.set_layers(self.watched);
        }
    }

    /// Figures by layer, lowest first.
    pub(super) fn layer_reports(&self) -> Vec<SentLayer> {
        let stats = self.encoder.as_ref().map(|e| e.stats()).unwrap_or_default();
        let layer = |l: &confab_media::video::encoder::LayerStats| SentLayer {
            size: l.size,
            frames: l.frames,
            keyframes: l.keyframes,
            target_kbps: l.target.as_kbps(),
        };
        stats.layers.iter().map(layer).collect()
    }

    fn start_encoder(&mut self) {
        let (Some(camera), Some(config), Some((sender, target))) = (&self.camera, &self.config, &self.steering) else {
            return;
        };
        let outlet = self.outlet.clone();
        let out = Box::new(move |frame: EncodedVideo| outlet.send(for_transport(frame)));
        match SimulcastEncoder::start(config.clone(), camera.slot.clone(), Box::new(NoTransform), out) {
            Ok(encoder) => {
                encoder.set_layers(self.watched);
                // Before the first picture: a top layer that starts and stops at once would mislead the server.
                if let Some(target) = for_video(*target.borrow()) {
                    encoder.set_target(target);
                }
                let encoder = Arc::new(encoder);
                tokio::spawn(steer(
                    Arc::downgrade(&encoder),
                    sender.keyframe_requests.clone(),
                    target.clone(),
                ));
                self.encoder = Some(encoder);
            }
            Err(e) => {
                let reason = e.to_string();
                let error = DeviceError::Other {
                    kind: confab_media::DeviceKind::Camera,
                    reason,
                };
                let _ = self.notes.try_send(Note::Own(OwnNote::CameraLost(self.opening, error)));
            }
        }
    }

    fn stop_encoder(&mut self) {
        if let Some(encoder) = self.encoder.take() {
            aside(encoder);
        }
    }
}

/// Dropping waits for threads: not on the runtime's.
fn aside<T: Send + 'static>(thing: T) {
    tokio::task::spawn_blocking(move || drop(thing));
}

fn open_camera(
    spec: &VideoSourceSpec,
    wish: CaptureWish,
    opening: u64,
    notes: &mpsc::Sender<Note>,
    sink: Option<Arc<dyn VideoSink>>,
    shown: Shown,
) -> Result<CameraOpened, DeviceError> {
    let slot = FrameSlot::new();
    if let Some(sink) = sink {
        slot.add_tap(Box::new(move |picture: &I420| {
            let size = *shown.lock();
            if let Some(size) = size {
                let (width, height) = scale::fit_cover((picture.width, picture.height), size);
                sink.frame(
                    &VideoKey::Own(TrackSource::Camera),
                    scale::scale(picture, width, height),
                );
            }
        }));
    }
    let delivers = Arc::new(Mutex::new(None));
    let events = camera_events(opening, notes.clone(), delivers.clone());
    let capture = open(spec, wish, slot.clone(), events)?;
    let (width, height, fps) = delivers.lock().unwrap_or((wish.width, wish.height, wish.fps));
    Ok(CameraOpened {
        slot,
        capture,
        size: (width, height),
        fps,
    })
}

fn camera_events(
    opening: u64,
    notes: mpsc::Sender<Note>,
    delivers: Arc<Mutex<Option<(u32, u32, u32)>>>,
) -> DeviceEvents {
    Arc::new(move |event| match event {
        DeviceEvent::Opened { width, height, fps } => {
            let again = delivers.lock().replace((width, height, fps)).is_some();
            if again {
                let _ = notes.try_send(Note::Own(OwnNote::CameraBack(opening)));
            }
        }
        DeviceEvent::Lost(error) => {
            let _ = notes.try_send(Note::Own(OwnNote::CameraLost(opening, error)));
        }
        _ => {}
    })
}

/// Passes what receivers and network want on to the encoder, while it lives.
async fn steer(
    encoder: Weak<SimulcastEncoder>,
    mut keyframes: watch::Receiver<KeyframeRequest>,
    mut target: watch::Receiver<Bitrate>,
) {
    target.mark_changed();
    loop {
        tokio::select! {
            changed = keyframes.changed() => {
                let (Ok(()), Some(encoder)) = (changed, encoder.upgrade()) else { return };
                encoder.request_keyframe(keyframes.borrow_and_update().layers);
            }
            changed = target.changed() => {
                let (Ok(()), Some(encoder)) = (changed, encoder.upgrade()) else { return };
                if let Some(target) = for_video(*target.borrow_and_update()) {
                    encoder.set_target(target);
                }
            }
        }
    }
}

/// What is left beside sound; `None` before anything is known.
fn for_video(target: Bitrate) -> Option<Bitrate> {
    (target > Bitrate::ZERO).then(|| Bitrate::bps(target.as_bps().saturating_sub(FOR_AUDIO)))
}

fn for_transport(frame: EncodedVideo) -> EncodedFrame {
    EncodedFrame {
        layer: frame.layer,
        captured: frame.captured,
        keyframe: frame.keyframe,
        temporal: frame.temporal.map(|(id, sync)| Temporal { id, sync }),
        audio_level: None,
        data: frame.data,
    }
}

/// LiveKit's name of a layer: the lowest is LOW; a single one is HIGH.
fn quality_of(index: usize, count: usize) -> lk::VideoQuality {
    match (index, count) {
        (_, 1) | (2.., _) => lk::VideoQuality::High,
        (1, _) => lk::VideoQuality::Medium,
        _ => lk::VideoQuality::Low,
    }
}

/// Layers that somebody watches, as a bit mask. A quality above the top layer means the top layer.
fn mask_of(update: &lk::SubscribedQualityUpdate, count: usize) -> u8 {
    #[allow(deprecated, reason = "servers before codecs were simulcast write this field only")]
    let plain = &update.subscribed_qualities;
    let vp8 = update
        .subscribed_codecs
        .iter()
        .find(|c| c.codec.to_ascii_lowercase().ends_with("vp8"));
    let qualities = vp8.map_or(plain, |c| &c.qualities);
    let top = count.saturating_sub(1);
    qualities.iter().filter(|q| q.enabled).fold(0, |mask, q| {
        let index = match lk::VideoQuality::try_from(q.quality) {
            Ok(lk::VideoQuality::Low) => 0,
            Ok(lk::VideoQuality::Medium) => 1,
            Ok(lk::VideoQuality::High) => 2,
            _ => return mask,
        };
        mask | 1 << index.min(top)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(enabled: [bool; 3]) -> lk::SubscribedQualityUpdate {
        let qualities = enabled
            .iter()
            .enumerate()
            .map(|(quality, enabled)| lk::SubscribedQuality {
                quality: quality as i32,
                enabled: *enabled,
            });
        lk::SubscribedQualityUpdate {
            track_sid: "TR_1".to_owned(),
            subscribed_codecs: vec![lk::SubscribedCodec {
                codec: "vp8".to_owned(),
                qualities: qualities.collect(),
            }],
            ..Default::default()
        }
    }

    #[test]
    fn layers_nobody_watches_are_off_and_the_top_one_stands_for_all_above() {
        assert_eq!(mask_of(&update([true, false, true]), 3), 0b101);
        assert_eq!(mask_of(&update([false, false, true]), 2), 0b10);
        assert_eq!(mask_of(&update([true, true, true]), 1), 0b1);
        assert_eq!(mask_of(&update([false, false, false]), 3), 0);
    }

    #[test]
    fn layers_are_named_as_livekits_clients_name_them() {
        let names = |count| (0..count).map(|i| quality_of(i, count) as i32).collect::<Vec<_>>();
        assert_eq!(names(1), [2]);
        assert_eq!(names(2), [0, 1]);
        assert_eq!(names(3), [0, 1, 2]);
    }
}
