//! Who is speaking, from the audio level header extension (RFC 6464). Pure.

use std::time::{Duration, Instant};

use confab_types::ParticipantSid;

/// How often the list may change. Less makes tiles flicker, more lets the ring lag behind the voice.
pub(crate) const INTERVAL: Duration = Duration::from_millis(300);

/// Quieter than this, in dB below full scale, is silence. LiveKit's default is 35.
const SILENCE_DB: f32 = 40.0;

/// Part of an interval's packets that must be voice. Keyboard clicks stay below.
const MIN_ACTIVE: f32 = 0.3;

/// Weight of the newest interval in the smoothed level.
const SMOOTHING: f32 = 0.6;

/// Below this smoothed level a talker is no longer listed.
const MIN_LEVEL: f32 = 0.02;

/// A level change smaller than this is no news.
const STEP: f32 = 0.08;

/// The level of one sound track, gathered over an interval.
#[derive(Debug, Default)]
pub(crate) struct LevelMeter {
    packets: u32,
    active: u32,
    sum: f32,
    smoothed: f32,
}

impl LevelMeter {
    /// Counts one packet's level: 0 is full scale, -127 silence.
    pub fn add(&mut self, level: i8) {
        let below = -f32::from(level.min(0));
        self.packets += 1;
        if below <= SILENCE_DB {
            self.active += 1;
            self.sum += 10f32.powf(-below / 20.0);
        }
    }

    /// Ends the interval and gives the smoothed level, 0 for silence.
    pub fn take(&mut self) -> f32 {
        let part = if self.packets == 0 {
            0.0
        } else {
            self.active as f32 / self.packets as f32
        };
        let level = if part >= MIN_ACTIVE {
            self.sum / self.active as f32
        } else {
            0.0
        };
        self.smoothed += (level - self.smoothed) * SMOOTHING;
        if self.smoothed < MIN_LEVEL * 0.5 {
            self.smoothed = 0.0;
        }
        self.packets = 0;
        self.active = 0;
        self.sum = 0.0;
        self.smoothed
    }
}

/// The list of speakers as last told.
#[derive(Debug, Default)]
pub(crate) struct Speakers {
    told: Vec<(ParticipantSid, f32)>,
    last: Option<Instant>,
}

impl Speakers {
    /// Whether an interval has passed.
    pub fn is_due(&self, now: Instant) -> bool {
        self.last
            .is_none_or(|last| now.saturating_duration_since(last) >= INTERVAL)
    }

    /// Takes everyone's level and gives the new list if it differs from the one told.
    pub fn update(&mut self, now: Instant, levels: Vec<(ParticipantSid, f32)>) -> Option<Vec<(ParticipantSid, f32)>> {
        self.last = Some(now);
        let mut list: Vec<(ParticipantSid, f32)> = Vec::new();
        for (who, level) in levels.into_iter().filter(|(_, level)| *level >= MIN_LEVEL) {
            match list.iter_mut().find(|(w, _)| *w == who) {
                Some(entry) => entry.1 = entry.1.max(level),
                None => list.push((who, level.min(1.0))),
            }
        }
        list.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        if self.is_same(&list) {
            return None;
        }
        self.told = list.clone();
        Some(list)
    }

    /// Whether somebody is listed as speaking.
    pub fn any(&self) -> bool {
        !self.told.is_empty()
    }

    fn is_same(&self, list: &[(ParticipantSid, f32)]) -> bool {
        list.len() == self.told.len()
            && list
                .iter()
                .all(|(who, level)| self.told.iter().any(|(w, l)| w == who && (l - level).abs() < STEP))
            && list.first().map(|s| &s.0) == self.told.first().map(|s| &s.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sid(n: u8) -> ParticipantSid {
        ParticipantSid::from_random([n; 12])
    }

    #[test]
    fn a_voice_is_listed_and_leaves_the_list_when_it_stops() {
        let mut now = Instant::now();
        let (mut meter, mut speakers) = (LevelMeter::default(), Speakers::default());
        (0..15).for_each(|_| meter.add(-12));
        let list = speakers.update(now, vec![(sid(1), meter.take())]).unwrap();
        assert!(list[0].1 > 0.1 && list[0].1 <= 0.26, "{list:?}");
        let mut last = None;
        for _ in 0..10 {
            now += INTERVAL;
            (0..15).for_each(|_| meter.add(-127));
            if let Some(list) = speakers.update(now, vec![(sid(1), meter.take())]) {
                last = Some(list);
            }
        }
        assert_eq!(last, Some(vec![]));
        assert!(!speakers.any());
    }

    #[test]
    fn a_single_click_is_no_speech() {
        let mut meter = LevelMeter::default();
        meter.add(-3);
        (0..14).for_each(|_| meter.add(-90));
        assert_eq!(meter.take(), 0.0);
    }

    #[test]
    fn an_unchanged_list_is_not_repeated_and_the_loudest_is_first() {
        let now = Instant::now();
        let mut speakers = Speakers::default();
        let list = speakers.update(now, vec![(sid(1), 0.2), (sid(2), 0.6)]).unwrap();
        assert_eq!(list[0].0, sid(2));
        assert_eq!(
            speakers.update(now + INTERVAL, vec![(sid(1), 0.21), (sid(2), 0.58)]),
            None
        );
    }
}
