//! RTP time from the capture clock. Video: computed from the capture time of each frame,
//! never accumulated, so that it cannot drift from the sound. Sound: consecutive samples
//! (what receivers' jitter buffers expect), whose distance to the capture clock is
//! measured and told in sender reports.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Seconds from 1900 (NTP) to 1970 (Unix).
const NTP_OFFSET: u64 = 2_208_988_800;
/// A hole in the sound longer than this is a pause, shorter is jitter of the capture thread.
const PAUSE: Duration = Duration::from_millis(60);
/// Share of a new measurement in the sound's skew: about 0.6 s of 20 ms packets.
const SKEW_SHARE: i64 = 32;

/// Maps monotonic time to one track's RTP time.
#[derive(Debug, Clone)]
pub(crate) struct TrackClock {
    epoch: Instant,
    offset: u32,
    rate: u32,
    /// Next expected RTP time of sound.
    next: Option<u32>,
    /// RTP time minus capture time, smoothed; sound only.
    skew: i64,
}

impl TrackClock {
    /// `offset` is random (RFC 3550, 5.1).
    pub(crate) fn new(epoch: Instant, offset: u32, rate: u32) -> Self {
        Self {
            epoch,
            offset,
            rate,
            next: None,
            skew: 0,
        }
    }

    fn linear(&self, at: Instant) -> u32 {
        let ticks = |d: Duration| (d.as_nanos() * u128::from(self.rate) / 1_000_000_000) as u32;
        match at.checked_duration_since(self.epoch) {
            Some(after) => self.offset.wrapping_add(ticks(after)),
            None => self.offset.wrapping_sub(ticks(self.epoch - at)),
        }
    }

    /// The RTP time of a moment: of a video frame's capture, or for a sender report.
    pub(crate) fn at(&self, moment: Instant) -> u32 {
        self.linear(moment).wrapping_add(self.skew as u32)
    }

    /// The RTP time of a sound packet of so many samples.
    pub(crate) fn sound(&mut self, captured: Instant, samples: u32) -> u32 {
        let by_clock = self.linear(captured);
        let pause = (PAUSE.as_millis() as u32 * self.rate / 1000) as i32;
        let time = match self.next {
            None => by_clock,
            Some(next) => {
                let behind = by_clock.wrapping_add(self.skew as u32).wrapping_sub(next) as i32;
                if behind > pause {
                    next.wrapping_add(behind as u32 / samples.max(1) * samples.max(1))
                } else {
                    next
                }
            }
        };
        let measured = i64::from(time.wrapping_sub(by_clock) as i32);
        self.skew = if self.next.is_none() {
            measured
        } else {
            self.skew + (measured - self.skew) / SKEW_SHARE
        };
        self.next = Some(time.wrapping_add(samples));
        time
    }
}

/// Wall-clock time in NTP's 32.32 format (RFC 3550, 4).
pub(crate) fn ntp(wall: SystemTime) -> u64 {
    let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    ((since.as_secs() + NTP_OFFSET) << 32) | fraction
}

/// Samples at 48 kHz in an Opus packet, from its first bytes (RFC 6716, 3.1).
pub(crate) fn opus_samples(packet: &[u8]) -> u32 {
    let Some(&toc) = packet.first() else { return 960 };
    let config = toc >> 3;
    let frame = match config {
        0..=11 => [480, 960, 1920, 2880][usize::from(config % 4)],
        12..=15 => [480, 960][usize::from(config % 2)],
        _ => [120, 240, 480, 960][usize::from(config % 4)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(packet.get(1).copied().unwrap_or(1) & 0x3f),
    };
    frame * frames.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn an_hour_of_video_at_30_frames_stays_on_the_capture_clock() {
        let epoch = Instant::now();
        let clock = TrackClock::new(epoch, u32::MAX - 5, 90_000);
        let hour = epoch + Duration::from_secs(3600);
        assert_eq!(clock.at(hour).wrapping_sub(clock.at(epoch)), 324_000_000);
        assert_eq!(clock.at(epoch - 10 * MS), u32::MAX - 5 - 900);
    }

    #[test]
    fn sound_is_consecutive_although_the_capture_thread_jitters() {
        let epoch = Instant::now();
        let mut clock = TrackClock::new(epoch, 1000, 48_000);
        let first = clock.sound(epoch, 960);
        for n in 1..500u32 {
            let late = MS * (n * 7 % 25);
            assert_eq!(clock.sound(epoch + MS * 20 * n + late, 960), first + 960 * n);
        }
    }

    #[test]
    fn a_pause_in_the_sound_moves_its_time_by_whole_packets() {
        let epoch = Instant::now();
        let mut clock = TrackClock::new(epoch, 0, 48_000);
        clock.sound(epoch, 960);
        assert_eq!(clock.sound(epoch + MS * 1020, 960), 960 * 51);
        assert_eq!(clock.sound(epoch + MS * 1040, 960), 960 * 52);
    }

    #[test]
    fn reports_follow_a_sound_clock_that_runs_slow() {
        let epoch = Instant::now();
        let mut clock = TrackClock::new(epoch, 0, 48_000);
        let mut last = 0;
        // 1 % slow, far worse than any device: 300 ms in 30 s.
        for n in 0..1500u32 {
            last = clock.sound(epoch + Duration::from_micros(20_200) * n, 960);
        }
        let now = epoch + Duration::from_micros(20_200) * 1499;
        assert_eq!(last, 960 * 1499, "no jump");
        assert!(
            (clock.at(now).wrapping_sub(last) as i32).abs() < 480,
            "within 10 ms: {}",
            clock.at(now) as i64 - i64::from(last)
        );
    }

    #[test]
    fn opus_packets_tell_their_length() {
        assert_eq!(opus_samples(&[31 << 3]), 960, "CELT 20 ms");
        assert_eq!(opus_samples(&[9 << 3]), 960, "SILK wideband 20 ms");
        assert_eq!(opus_samples(&[(15 << 3) | 1]), 1920, "hybrid, two of 20 ms");
        assert_eq!(opus_samples(&[(28 << 3) | 3, 4]), 480, "four of 2.5 ms");
    }
}
