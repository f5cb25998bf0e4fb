//! The receiving end of one video track, on a thread of its own: packets to frames to
//! pictures of the size that is shown. Decodes only what somebody looks at.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use thiserror::Error;

use crate::video::frame_buffer::{Action, BufferStats, Frame, FrameBuffer};
use crate::video::scale::{fit_cover, scale};
use crate::video::vp8::{Decoder, Vp8Error};
use crate::{FrameTransform, I420, MediaPacket};

/// Packets between network and decoder: a second of 20 Mbps; the oldest are dropped beyond.
const MAX_QUEUE: usize = 2048;
/// The thread wakes at least this often, to look whether it should end.
const IDLE: Duration = Duration::from_millis(500);

/// Why receiving cannot begin.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReceiverError {
    /// The codec refused.
    #[error(transparent)]
    Vp8(#[from] Vp8Error),
    /// No thread.
    #[error("no thread could be started")]
    Thread(#[source] std::io::Error),
}

/// A picture as it came out of the decoder, scaled to what is shown.
#[derive(Debug, Clone)]
pub struct DecodedFrame {
    /// The picture; its time is when it was decoded.
    pub picture: I420,
    /// RTP timestamp of its frame, for lip-sync.
    pub timestamp: u32,
    /// When its last packet came.
    pub complete: Instant,
    /// Size before scaling.
    pub coded_size: (u32, u32),
}

/// Figures of a received track.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ReceiverStats {
    /// Frames put together.
    pub frames_received: u64,
    /// Pictures decoded.
    pub frames_decoded: u64,
    /// Keyframes among them.
    pub keyframes: u64,
    /// Frames the decoder refused.
    pub decode_errors: u64,
    /// Gaps longer than three mean intervals, and than a mean interval plus 150 ms (webrtc-stats' freezeCount).
    pub freezes: u64,
    /// Their sum, ms.
    pub freeze_ms: u64,
    /// Mean time of decoding, ms.
    pub decode_ms: f32,
    /// Pictures a second, over the last second or so.
    pub fps: f32,
    /// Size of the newest picture before scaling.
    pub size: (u32, u32),
    /// Payload bytes pushed.
    pub bytes: u64,
    /// Packets dropped because the thread was behind.
    pub overflowed: u64,
    /// Of the frame buffer.
    pub buffer: BufferStats,
}

/// Where pictures go; called on the receiving thread, must return at once.
pub type PictureSink = Box<dyn FnMut(DecodedFrame) + Send>;
/// Sees every complete frame before it is decoded, shown or not: recording.
pub type FrameTap = Box<dyn FnMut(&Frame) + Send>;

/// Handle of a receiving thread; it ends when this is dropped.
pub struct VideoReceiver {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    inbox: Mutex<Inbox>,
    changed: Condvar,
    stats: Mutex<ReceiverStats>,
}

#[derive(Default)]
struct Inbox {
    packets: VecDeque<MediaPacket>,
    overflowed: u64,
    bytes: u64,
    shown: Option<(u32, u32)>,
    round_trip: Option<Duration>,
    tap: Option<FrameTap>,
    paused: bool,
    stop: bool,
}

impl VideoReceiver {
    /// Starts receiving; nothing is shown at first. `ask_keyframe` is called when only a keyframe helps.
    pub fn start(
        transform: Box<dyn FrameTransform>,
        out: PictureSink,
        ask_keyframe: Box<dyn FnMut() + Send>,
    ) -> Result<Self, ReceiverError> {
        let shared = Arc::new(Shared::default());
        let worker = Worker {
            shared: shared.clone(),
            buffer: FrameBuffer::new(),
            decoder: Decoder::new()?,
            transform,
            out,
            ask_keyframe,
            tap: None,
            shown: None,
            flow: Flow::default(),
            stats: ReceiverStats::default(),
        };
        let thread = std::thread::Builder::new()
            .name("video-decode".into())
            .spawn(move || worker.run())
            .map_err(ReceiverError::Thread)?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Hands a packet over; never blocks.
    pub fn push(&self, packet: MediaPacket) {
        self.with_inbox(|inbox| {
            inbox.bytes += packet.payload.len() as u64;
            if inbox.packets.len() >= MAX_QUEUE {
                inbox.packets.pop_front();
                inbox.overflowed += 1;
            }
            inbox.packets.push_back(packet);
        });
    }

    /// The pixels it is shown with: pictures are scaled down until they just cover them. `None`: not shown; then
    /// only keyframes are decoded, and becoming visible asks for one.
    pub fn set_shown(&self, size: Option<(u32, u32)>) {
        self.with_inbox(|inbox| inbox.shown = size);
    }

    /// The connection's round trip: retransmissions are waited for accordingly.
    pub fn set_round_trip(&self, round_trip: Duration) {
        self.with_inbox(|inbox| inbox.round_trip = Some(round_trip));
    }

    /// The sender turned its camera off: the gap that follows is no freeze.
    pub fn note_pause(&self) {
        self.with_inbox(|inbox| inbox.paused = true);
    }

    /// Shows every complete frame to `tap` before it is decoded.
    pub fn set_tap(&self, tap: FrameTap) {
        self.with_inbox(|inbox| inbox.tap = Some(tap));
    }

    /// Figures now.
    pub fn stats(&self) -> ReceiverStats {
        let (bytes, overflowed) = {
            let inbox = self.shared.inbox.lock();
            (inbox.bytes, inbox.overflowed)
        };
        ReceiverStats {
            bytes,
            overflowed,
            ..*self.shared.stats.lock()
        }
    }

    fn with_inbox(&self, change: impl FnOnce(&mut Inbox)) {
        change(&mut self.shared.inbox.lock());
        self.shared.changed.notify_one();
    }
}

impl Drop for VideoReceiver {
    fn drop(&mut self) {
        self.with_inbox(|inbox| inbox.stop = true);
        // Not when dropped by its own callback: a thread cannot wait for itself.
        if let Some(thread) = self
            .thread
            .take()
            .filter(|t| t.thread().id() != std::thread::current().id())
            && thread.join().is_err()
        {
            tracing::error!("the decoding thread panicked");
        }
    }
}

struct Worker {
    shared: Arc<Shared>,
    buffer: FrameBuffer,
    decoder: Decoder,
    transform: Box<dyn FrameTransform>,
    out: PictureSink,
    ask_keyframe: Box<dyn FnMut() + Send>,
    tap: Option<FrameTap>,
    shown: Option<(u32, u32)>,
    flow: Flow,
    stats: ReceiverStats,
}

impl Worker {
    fn run(mut self) {
        while let Some(packets) = self.wait() {
            for packet in packets {
                self.buffer.push(packet);
                self.drain();
            }
            self.drain();
            self.publish();
        }
    }

    /// Waits for packets, a change, or the frame buffer's time. `None`: it is over.
    fn wait(&mut self) -> Option<VecDeque<MediaPacket>> {
        let now = Instant::now();
        let deadline = self
            .buffer
            .next_timeout()
            .map_or(now + IDLE, |at| at.clamp(now, now + IDLE));
        let mut inbox = self.shared.inbox.lock();
        if inbox.packets.is_empty() && inbox.shown == self.shown && !inbox.stop {
            self.shared.changed.wait_until(&mut inbox, deadline);
        }
        if inbox.stop {
            return None;
        }
        let packets = std::mem::take(&mut inbox.packets);
        let (shown, round_trip, tap) = (inbox.shown, inbox.round_trip.take(), inbox.tap.take());
        let paused = std::mem::take(&mut inbox.paused);
        drop(inbox);
        if paused {
            self.flow.pause();
        }
        if let Some(round_trip) = round_trip {
            self.buffer.set_round_trip(round_trip);
        }
        self.tap = tap.or(self.tap.take());
        self.show(shown);
        Some(packets)
    }

    fn show(&mut self, shown: Option<(u32, u32)>) {
        if self.shown.is_none() && shown.is_some() && self.stats.frames_received > 0 {
            self.buffer.decoder_failed();
        }
        if shown.is_none() {
            self.flow.pause();
        }
        self.shown = shown;
    }

    fn drain(&mut self) {
        while let Some(action) = self.buffer.poll(Instant::now()) {
            match action {
                Action::RequestKeyframe => (self.ask_keyframe)(),
                Action::Decode(frame) => self.frame(frame),
            }
        }
    }

    fn frame(&mut self, frame: Frame) {
        self.stats.frames_received += 1;
        if let Some(tap) = &mut self.tap {
            tap(&frame);
        }
        let Some(data) = self.transform.transform(frame.data.clone()) else {
            return;
        };
        if self.shown.is_none() && !frame.keyframe {
            return;
        }
        let started = Instant::now();
        match self.decoder.decode(&data, started) {
            Ok(picture) => {
                self.stats.keyframes += u64::from(frame.keyframe);
                self.count_decode(started.elapsed());
                if let Some(picture) = picture {
                    self.picture(picture, &frame);
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a frame could not be decoded");
                self.stats.decode_errors += 1;
                self.buffer.decoder_failed();
            }
        }
    }

    fn picture(&mut self, mut picture: I420, frame: &Frame) {
        let now = Instant::now();
        let coded_size = (picture.width, picture.height);
        self.stats.size = coded_size;
        let Some(shown) = self.shown else { return };
        self.flow.picture(now, &mut self.stats);
        let (width, height) = fit_cover(coded_size, shown);
        picture = scale(&picture, width, height);
        picture.time = now;
        (self.out)(DecodedFrame {
            picture,
            timestamp: frame.timestamp,
            complete: frame.complete,
            coded_size,
        });
    }

    fn count_decode(&mut self, took: Duration) {
        self.stats.frames_decoded += 1;
        let ms = took.as_secs_f32() * 1000.0;
        let share = if self.stats.frames_decoded == 1 { 1.0 } else { 0.05 };
        self.stats.decode_ms += (ms - self.stats.decode_ms) * share;
    }

    fn publish(&mut self) {
        self.stats.buffer = self.buffer.stats();
        *self.shared.stats.lock() = self.stats;
    }
}

/// How evenly pictures come: frame rate and freezes. Pure.
#[derive(Default)]
struct Flow {
    last: Option<Instant>,
    /// Mean interval of the last 30, as webrtc-stats says.
    intervals: VecDeque<Duration>,
    window: Option<(Instant, u32)>,
}

impl Flow {
    const MEMORY: usize = 30;

    /// Not shown: what follows is no freeze.
    fn pause(&mut self) {
        self.last = None;
        self.window = None;
    }

    fn picture(&mut self, now: Instant, stats: &mut ReceiverStats) {
        if let Some(last) = self.last.replace(now) {
            let gap = now.saturating_duration_since(last);
            let mean = self.intervals.iter().sum::<Duration>() / self.intervals.len().max(1) as u32;
            if !self.intervals.is_empty() && gap > (mean * 3).max(mean + Duration::from_millis(150)) {
                stats.freezes += 1;
                stats.freeze_ms += gap.as_millis() as u64;
            }
            if self.intervals.len() == Self::MEMORY {
                self.intervals.pop_front();
            }
            self.intervals.push_back(gap);
        }
        let (since, count) = self.window.get_or_insert((now, 0));
        let window = now.saturating_duration_since(*since);
        if window >= Duration::from_secs(1) {
            stats.fps = *count as f32 / window.as_secs_f32();
            self.window = Some((now, 1));
        } else {
            *count += 1;
        }
    }
}

#[cfg(test)]
#[path = "receiver_tests.rs"]
mod tests;
