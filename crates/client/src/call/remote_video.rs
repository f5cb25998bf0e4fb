//! A received picture: packets to a decoder of its own, pictures to the sink at the size they
//! are shown, figures out of what came, and out of the test pattern's timecode if there is one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use confab_media::video::receiver::ReceiverError;
use confab_media::video::timecode::{now_millis, read_timecode};
use confab_media::video::{DecodedFrame, VideoReceiver};
use confab_media::{MediaPacket, NoTransform};
use confab_transport::RemoteTrack;
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use super::record::VideoRecorder;
use super::report::{Percentiles, VideoFigures, ms};
use super::subscribe::{Counts, Shared};
use crate::api::VideoKey;

/// Until the first list of what is shown: the size of a tile.
const FIRST_SIZE: (u32, u32) = (640, 480);
/// Without a sink pictures keep their size.
const FULL_SIZE: (u32, u32) = (4096, 4096);
/// Delays kept for order statistics: two minutes at 30 frames a second.
const DELAYS: usize = 3600;
/// A picture without a timecode: the next look for one comes this many pictures later.
const LOOK_AGAIN: u32 = 30;

/// One received picture track.
pub(super) struct RemotePicture {
    receiver: Arc<VideoReceiver>,
    seen: Arc<Mutex<Seen>>,
    has_sink: bool,
    task: AbortHandle,
}

/// What the decoding thread counts.
#[derive(Default)]
struct Seen {
    counts: Counts,
    codes: Codes,
}

/// Timecodes of a test pattern.
#[derive(Default)]
struct Codes {
    skip: u32,
    last: Option<u16>,
    distinct: u64,
    delays: Vec<f64>,
    next_delay: usize,
}

impl RemotePicture {
    /// Starts receiving. `wish`: what the last list said of it, if any.
    pub(super) fn start(
        mut track: RemoteTrack,
        key: VideoKey,
        wish: Option<Option<(u32, u32)>>,
        record: Option<PathBuf>,
        shared: Shared,
    ) -> Result<Self, ReceiverError> {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let has_sink = shared.sink.is_some();
        let recorder = record.and_then(|path| VideoRecorder::create(path).ok());
        let out = picture_sink(key, seen.clone(), recorder, shared);
        let keyframes = track.keyframes.clone();
        let receiver = VideoReceiver::start(Box::new(NoTransform), out, Box::new(move || keyframes.ask()))?;
        let receiver = Arc::new(receiver);
        let picture = Self {
            receiver: receiver.clone(),
            seen: seen.clone(),
            has_sink,
            task: {
                let task = tokio::spawn(async move {
                    while let Some(packet) = track.packets.recv().await {
                        {
                            let counts = &mut seen.lock().counts;
                            counts.packets += 1;
                            counts.bytes += packet.payload.len() as u64;
                        }
                        receiver.push(MediaPacket {
                            sequence: packet.sequence,
                            timestamp: packet.timestamp,
                            marker: packet.marker,
                            payload: packet.payload,
                            arrived: packet.arrived,
                        });
                    }
                });
                task.abort_handle()
            },
        };
        picture.set_wish(wish.unwrap_or(Some(FIRST_SIZE)));
        Ok(picture)
    }

    /// The pixels it is shown with; `None`: not shown, not decoded. Without a sink everything is decoded.
    pub(super) fn set_wish(&self, wish: Option<(u32, u32)>) {
        self.receiver
            .set_shown(if self.has_sink { wish } else { Some(FULL_SIZE) });
    }

    /// The connection's round trip: retransmissions are waited for accordingly.
    pub(super) fn set_round_trip(&self, round_trip: Duration) {
        self.receiver.set_round_trip(round_trip);
    }

    /// Packets and pictures so far.
    pub(super) fn counts(&self) -> Counts {
        self.seen.lock().counts
    }

    /// Figures so far; `lived`: since the track began.
    pub(super) fn figures(&self, lived: Duration) -> VideoFigures {
        let stats = self.receiver.stats();
        let seen = self.seen.lock();
        let since_first = seen.counts.first.map_or(lived, |first| first.elapsed());
        VideoFigures {
            frames: stats.frames_decoded,
            frames_dropped: stats.frames_received.saturating_sub(stats.frames_decoded),
            size: stats.size,
            fps: (stats.frames_decoded as f64 / since_first.as_secs_f64().max(0.001) * 10.0).round() / 10.0,
            freezes: u32::try_from(stats.freezes).unwrap_or(u32::MAX),
            freeze_ms: stats.freeze_ms as f64,
            decode_ms: stats.decode_ms,
            keyframe_requests: stats.buffer.keyframe_requests,
            timecodes: seen.codes.distinct,
            glass_to_glass_ms: Percentiles::of(seen.codes.delays.iter().copied()),
        }
    }

    /// Ends it; its thread is waited for elsewhere.
    pub(super) fn close(self) {
        self.task.abort();
        tokio::task::spawn_blocking(move || drop(self.receiver));
    }
}

/// What happens to each picture, on the decoding thread.
fn picture_sink(
    key: VideoKey,
    seen: Arc<Mutex<Seen>>,
    mut recorder: Option<VideoRecorder>,
    shared: Shared,
) -> Box<dyn FnMut(DecodedFrame) + Send> {
    Box::new(move |frame| {
        let now = Instant::now();
        {
            let mut seen = seen.lock();
            seen.counts.newest = Some(now);
            if seen.counts.first.is_none() {
                seen.counts.first = Some(now);
                let since = ms(now.saturating_duration_since(shared.started));
                shared.firsts.lock().frame.get_or_insert(since);
            }
            seen.codes.look(&frame);
        }
        if let Some(recorder) = &mut recorder {
            recorder.write(&frame.picture);
        }
        if let Some(sink) = &shared.sink {
            sink.frame(&key, frame.picture);
        }
    })
}

impl Codes {
    fn look(&mut self, frame: &DecodedFrame) {
        if self.skip > 0 {
            self.skip -= 1;
            return;
        }
        let (width, height) = (frame.picture.width, frame.picture.height);
        let Some(code) = read_timecode(frame.picture.y(), width, height, width as usize) else {
            self.skip = LOOK_AGAIN;
            return;
        };
        if self.last.replace(code.frame) == Some(code.frame) {
            return;
        }
        self.distinct += 1;
        let delay = f64::from(code.age_millis(now_millis()));
        // A ring: the newest two minutes.
        if self.delays.len() < DELAYS {
            self.delays.push(delay);
        } else {
            self.delays[self.next_delay] = delay;
            self.next_delay = (self.next_delay + 1) % DELAYS;
        }
    }
}
