//! Encodes the newest picture into the simulcast layers that somebody watches, on a
//! thread of its own. Sheds work when the machine is too slow, lowest value first:
//! quality of search, then the top layer, then frame rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use confab_types::Bitrate;
use parking_lot::Mutex;
use thiserror::Error;

use crate::video::load::{Load, speed_for};
use crate::video::pause::{Pause, TRIAL_RATE};
use crate::video::scale::{fit_within, scale};
use crate::video::simulcast::even;
pub use crate::video::simulcast::{LayerSpec, SimulcastConfig, share_out};
use crate::video::slot::{FrameSlot, SlotWait};
use crate::video::vp8::{Encoder, EncoderConfig, Vp8Error};
use crate::{EncodedVideo, FrameTransform, I420};

/// A keyframe is made from the last picture if no new one comes within this (a source that stands still).
const KEYFRAME_PATIENCE: Duration = Duration::from_millis(150);

/// Why encoding cannot begin.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EncoderError {
    /// No layers, or more than eight.
    #[error("a track has 1 to 8 layers, not {0}")]
    Layers(usize),
    /// The codec refused.
    #[error(transparent)]
    Vp8(#[from] Vp8Error),
    /// No thread.
    #[error("no thread could be started")]
    Thread(#[source] std::io::Error),
}

/// Figures of one layer, now.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LayerStats {
    /// Size of its newest frame.
    pub size: (u32, u32),
    /// Frames encoded.
    pub frames: u64,
    /// Keyframes among them.
    pub keyframes: u64,
    /// Bytes encoded.
    pub bytes: u64,
    /// Its share of the target; zero while it is off.
    pub target: Bitrate,
}

/// Figures of an encoder, now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EncoderStats {
    /// Pictures taken from the source.
    pub pictures: u64,
    /// Pictures a second, over the last second or so.
    pub fps: f32,
    /// Mean time one picture takes in all its layers, ms.
    pub encode_ms: f32,
    /// 0: none; 1: faster search; 2: no top layer; 3: half the frame rate as well.
    pub shed: u8,
    /// The network takes so little that no picture is sent.
    pub paused: bool,
    /// By layer.
    pub layers: Vec<LayerStats>,
}

/// Where encoded frames go.
pub type EncodedSink = Box<dyn FnMut(EncodedVideo) + Send>;

/// Handle of an encoding thread; it ends when this is dropped or the slot is closed.
pub struct SimulcastEncoder {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    wanted: AtomicU8,
    target: AtomicU64,
    keyframes: AtomicU8,
    stop: AtomicBool,
    stats: Mutex<EncoderStats>,
}

impl SimulcastEncoder {
    /// Starts encoding what comes into `slot`. All layers are wanted at first, with their full bitrates.
    pub fn start(
        config: SimulcastConfig,
        slot: FrameSlot,
        transform: Box<dyn FrameTransform>,
        out: EncodedSink,
    ) -> Result<Self, EncoderError> {
        if config.layers.is_empty() || config.layers.len() > 8 {
            return Err(EncoderError::Layers(config.layers.len()));
        }
        let all: u64 = config.layers.iter().map(|l| l.max_bitrate.as_bps()).sum();
        let stats = EncoderStats {
            layers: vec![LayerStats::default(); config.layers.len()],
            ..Default::default()
        };
        let shared = Arc::new(Shared {
            wanted: AtomicU8::new(u8::MAX),
            target: AtomicU64::new(all),
            keyframes: AtomicU8::new(0),
            stop: AtomicBool::new(false),
            stats: Mutex::new(stats),
        });
        let worker = Worker::new(config, slot, transform, out, shared.clone());
        let thread = std::thread::Builder::new()
            .name("video-encode".into())
            .spawn(move || worker.run())
            .map_err(EncoderError::Thread)?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Which layers somebody watches: bit `n` is layer `n`. Others are not encoded; one that becomes wanted starts with a keyframe.
    pub fn set_layers(&self, mask: u8) {
        self.shared.wanted.store(mask, Ordering::Relaxed);
    }

    /// What the network takes for all layers together.
    pub fn set_target(&self, target: Bitrate) {
        self.shared.target.store(target.as_bps(), Ordering::Relaxed);
    }

    /// Makes the next frame of these layers a keyframe.
    pub fn request_keyframe(&self, layers: u8) {
        self.shared.keyframes.fetch_or(layers, Ordering::Relaxed);
    }

    /// Figures now.
    pub fn stats(&self) -> EncoderStats {
        self.shared.stats.lock().clone()
    }
}

impl Drop for SimulcastEncoder {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // The thread looks at `stop` at least every KEYFRAME_PATIENCE; its end is not waited for when dropped on itself.
        if let Some(thread) = self
            .thread
            .take()
            .filter(|t| t.thread().id() != std::thread::current().id())
            && thread.join().is_err()
        {
            tracing::error!("the encoding thread panicked");
        }
    }
}

struct Layer {
    spec: LayerSpec,
    encoder: Option<Encoder>,
    /// It was off: starts with a keyframe.
    resume: bool,
}

struct Worker {
    config: SimulcastConfig,
    slot: FrameSlot,
    transform: Box<dyn FrameTransform>,
    out: EncodedSink,
    shared: Arc<Shared>,
    layers: Vec<Layer>,
    last: Option<I420>,
    next_due: Option<Instant>,
    load: Load,
    pause: Pause,
}

impl Worker {
    fn new(
        config: SimulcastConfig,
        slot: FrameSlot,
        transform: Box<dyn FrameTransform>,
        out: EncodedSink,
        shared: Arc<Shared>,
    ) -> Self {
        let layers = config
            .layers
            .iter()
            .map(|&spec| Layer {
                spec,
                encoder: None,
                resume: true,
            })
            .collect();
        let load = Load::new(config.fps, Instant::now());
        Self {
            config,
            slot,
            transform,
            out,
            shared,
            layers,
            last: None,
            next_due: None,
            load,
            pause: Pause::default(),
        }
    }

    fn run(mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            match self.slot.wait(KEYFRAME_PATIENCE) {
                SlotWait::Frame(frame) => {
                    if self.is_due(frame.time) {
                        self.picture(&frame);
                    }
                    self.last = Some(frame);
                }
                SlotWait::Timeout => self.repeat_for_keyframe(),
                SlotWait::Closed => return,
            }
        }
    }

    /// A source that stands still must not keep a new viewer waiting.
    fn repeat_for_keyframe(&mut self) {
        if self.shared.keyframes.load(Ordering::Relaxed) != 0
            && let Some(mut frame) = self.last.clone()
        {
            frame.time = Instant::now();
            self.picture(&frame);
        }
    }

    /// Keeps to the frame rate: pictures that come too early are left out, with almost half an interval of tolerance, for
    /// cameras are uneven. The grid of due times bounds the mean all the same.
    fn is_due(&mut self, time: Instant) -> bool {
        let interval = self.load.interval();
        let due = self.next_due.unwrap_or(time);
        if time + interval.mul_f32(0.45) < due {
            return false;
        }
        // After a pause the grid starts anew instead of catching up.
        self.next_due = Some(if time > due + interval {
            time + interval
        } else {
            due + interval
        });
        true
    }

    fn picture(&mut self, frame: &I420) {
        let started = Instant::now();
        let count = self.layers.len();
        let mut wanted = self.shared.wanted.load(Ordering::Relaxed) & (u8::MAX >> (8 - count));
        if self.load.shed() >= 2 && wanted.count_ones() > 1 {
            wanted &= !(1 << wanted.ilog2());
        }
        let target = Bitrate::bps(self.shared.target.load(Ordering::Relaxed));
        let specs: Vec<LayerSpec> = self.layers.iter().map(|l| l.spec).collect();
        let active = self
            .layers
            .iter()
            .enumerate()
            .fold(0, |mask, (i, l)| mask | u8::from(!l.resume) << i);
        let mut shares = share_out(target, &specs, wanted, active);
        let fits = wanted == 0 || shares.iter().any(|share| *share > Bitrate::ZERO);
        if self.pause.try_anyway(started, fits) {
            shares[wanted.trailing_zeros() as usize] = TRIAL_RATE;
        }
        let keyframes = self.shared.keyframes.swap(0, Ordering::Relaxed);
        let full = fit_within((frame.width, frame.height), (self.config.width, self.config.height));
        // The top first: each smaller layer is scaled from the one above it.
        let mut source = frame.clone();
        for index in (0..count).rev() {
            if shares[index] == Bitrate::ZERO {
                self.layers[index].resume = true;
                self.shared.stats.lock().layers[index].target = Bitrate::ZERO;
                continue;
            }
            let (width, height) = even(full, self.layers[index].spec.divide.max(1));
            source = scale(&source, width, height);
            if let Err(error) = self.encode_layer(index, &source, shares[index], keyframes >> index & 1 == 1) {
                tracing::warn!(%error, layer = index, "a layer could not be encoded");
                self.layers[index].encoder = None;
            }
        }
        self.load.picture(started, started.elapsed());
        let mut stats = self.shared.stats.lock();
        stats.pictures += 1;
        stats.paused = !fits;
        (stats.fps, stats.encode_ms, stats.shed) = (self.load.fps(), self.load.cost_ms(), self.load.shed());
    }

    fn encode_layer(&mut self, index: usize, picture: &I420, bitrate: Bitrate, keyframe: bool) -> Result<(), Vp8Error> {
        let fps = self.load.target_fps();
        let speed = if self.load.shed() >= 1 {
            12
        } else {
            speed_for(picture.width * picture.height)
        };
        let layer = &mut self.layers[index];
        let size = (picture.width, picture.height);
        let encoder = match layer
            .encoder
            .take()
            .filter(|e| (e.config().width, e.config().height) == size)
        {
            Some(encoder) => layer.encoder.insert(encoder),
            None => {
                layer.resume = true;
                let temporal_layers = self.config.temporal_layers;
                let config = EncoderConfig {
                    width: size.0,
                    height: size.1,
                    fps,
                    bitrate,
                    temporal_layers,
                    speed,
                };
                layer.encoder.insert(Encoder::new(config)?)
            }
        };
        encoder.set_rate(bitrate, fps)?;
        encoder.set_speed(speed)?;
        let Some(frame) = encoder.encode(picture, keyframe || layer.resume)? else {
            return Ok(());
        };
        layer.resume = false;
        {
            let mut stats = self.shared.stats.lock();
            let stats = &mut stats.layers[index];
            stats.size = size;
            stats.frames += 1;
            stats.keyframes += u64::from(frame.keyframe);
            stats.bytes += frame.data.len() as u64;
            stats.target = bitrate;
        }
        if let Some(data) = self.transform.transform(frame.data) {
            let (keyframe, temporal) = (frame.keyframe, frame.temporal);
            (self.out)(EncodedVideo {
                layer: index,
                captured: picture.time,
                keyframe,
                temporal,
                data,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "encoder_tests.rs"]
mod tests;
