//! A received sound: its packets go into the mix; what came is counted.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use confab_media::MediaPacket;
use confab_media::audio::{Loudness, OpusError, Playout, RemoteAudio};
use confab_transport::RemoteTrack;
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use super::hearing::{Newest, Onsets, unix_ms_of};
use super::report::{AudioFigures, ms};
use super::subscribe::{Counts, Shared};

/// One received sound.
pub(super) struct RemoteSound {
    audio: Arc<RemoteAudio>,
    heard: Arc<Mutex<(Onsets, Newest)>>,
    counts: Arc<Mutex<Counts>>,
    task: AbortHandle,
}

impl RemoteSound {
    /// Puts it into the mix.
    pub(super) fn start(
        mut track: RemoteTrack,
        id: &str,
        playout: &Playout,
        record: Option<PathBuf>,
        shared: Shared,
    ) -> Result<Self, OpusError> {
        let audio = Arc::new(playout.add_stream(id)?);
        if let Some(path) = record
            && let Err(e) = audio.record(&path)
        {
            tracing::warn!("not recorded: {e}");
        }
        let heard: Arc<Mutex<(Onsets, Newest)>> = Arc::default();
        // Windows have ears of their own; bots report what they heard.
        if shared.sink.is_none() {
            let heard = heard.clone();
            audio.set_tap(Box::new(move |block, at| {
                let mut heard = heard.lock();
                let loudness = Loudness::of(block).dbov();
                heard.0.take(loudness, 1, unix_ms_of(at));
                heard.1.add(block, loudness);
            }));
        }
        let counts: Arc<Mutex<Counts>> = Arc::default();
        let (to, counted) = (audio.clone(), counts.clone());
        let task = tokio::spawn(async move {
            while let Some(packet) = track.packets.recv().await {
                {
                    let mut counts = counted.lock();
                    counts.packets += 1;
                    counts.bytes += packet.payload.len() as u64;
                    counts.newest = Some(packet.arrived);
                    if counts.first.is_none() && to.stats().samples > 0 {
                        let now = Instant::now();
                        counts.first = Some(now);
                        let since = ms(now.saturating_duration_since(shared.started));
                        shared.firsts.lock().audio.get_or_insert(since);
                    }
                }
                to.push(MediaPacket {
                    sequence: packet.sequence,
                    timestamp: packet.timestamp,
                    marker: packet.marker,
                    payload: packet.payload,
                    arrived: packet.arrived,
                });
            }
        });
        Ok(Self {
            audio,
            heard,
            counts,
            task: task.abort_handle(),
        })
    }

    /// For this listener alone.
    pub(super) fn set_volume(&self, volume: f32) {
        self.audio.set_volume(volume);
    }

    /// Packets so far.
    pub(super) fn counts(&self) -> Counts {
        *self.counts.lock()
    }

    /// Figures so far.
    pub(super) fn figures(&self) -> AudioFigures {
        let stats = self.audio.stats();
        let (onsets, newest) = {
            // Short: the mixing thread waits for this lock.
            let heard = self.heard.lock();
            (heard.0.all(), heard.1.clone())
        };
        AudioFigures {
            blocks: stats.samples / 480,
            plc: stats.plc,
            fec: stats.fec,
            concealed: stats.concealed_samples as f64 / stats.samples.max(1) as f64,
            buffer_ms: f64::from(stats.delay_ms),
            level_db: -f32::from(self.audio.loudness().dbov()),
            longest_gap_ms: stats.longest_gap_ms,
            tone_hz: newest.tone(),
            onsets,
        }
    }

    /// Ends it; finishing a recording waits for its thread.
    pub(super) fn close(self) {
        self.task.abort();
        tokio::task::spawn_blocking(move || drop(self.audio));
    }
}
