//! What a call was like, for the page after it.

use confab_client::api::{CallSnapshot, EndReason};

use crate::dto::{FigureView, MinuteView, SummaryView};

/// The most minutes kept: half a day.
const MAX_MINUTES: usize = 720;

/// The quality of each minute, from the levels LiveKit tells of the own connection.
#[derive(Debug, Default, Clone)]
pub struct Minutes {
    done: Vec<MinuteView>,
    seconds: u32,
    sum: f32,
    worst: f32,
}

impl Minutes {
    /// Called once a second with the own connection's quality.
    pub fn tick(&mut self, quality: Option<&str>) {
        let level = match quality {
            Some("lost") => 0.0,
            Some("poor") => 0.3,
            Some("good") => 0.8,
            _ => 1.0,
        };
        self.worst = if self.seconds == 0 {
            level
        } else {
            self.worst.min(level)
        };
        self.sum += level;
        self.seconds += 1;
        if self.seconds == 60 {
            self.close_minute();
        }
    }

    fn close_minute(&mut self) {
        if self.seconds == 0 || self.done.len() == MAX_MINUTES {
            return;
        }
        let level = self.sum / self.seconds as f32;
        let quality = match level {
            l if l < 0.45 => "poor",
            l if l < 0.75 || self.worst < 0.5 => "fair",
            _ => "good",
        };
        self.done.push(MinuteView {
            quality: quality.into(),
            level,
        });
        (self.seconds, self.sum) = (0, 0.0);
    }

    /// All minutes, the unfinished one included.
    pub fn finish(mut self) -> Vec<MinuteView> {
        self.close_minute();
        self.done
    }
}

fn verdict(minutes: &[MinuteView]) -> String {
    let poor = minutes.iter().filter(|m| m.quality == "poor").count();
    let fair = minutes.iter().filter(|m| m.quality == "fair").count();
    match (poor, fair) {
        (0, 0) => "Good throughout".into(),
        (0, 1) => "Good, with one fair minute".into(),
        (0, n) => format!("Good, with {n} fair minutes"),
        (1, _) => "Mostly good, with one poor minute".into(),
        (n, _) if n * 2 < minutes.len() => format!("Mixed, with {n} poor minutes"),
        (n, _) => format!("Poor: {n} of {} minutes", minutes.len()),
    }
}

/// The page after a call. `seconds` in it, `people` at most, `figures` measured.
pub fn summary(
    snapshot: &CallSnapshot,
    reason: &EndReason,
    seconds: u32,
    people: u32,
    minutes: Minutes,
    figures: Vec<FigureView>,
) -> SummaryView {
    let minutes = minutes.finish();
    let mut words = reason.to_string();
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    SummaryView {
        room: snapshot.room.clone(),
        reason: words,
        own: *reason == EndReason::Left,
        can_rejoin: !matches!(reason, EndReason::Removed),
        seconds,
        people,
        verdict: verdict(&minutes),
        minutes,
        figures,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poor_minute_is_told() {
        let mut minutes = Minutes::default();
        (0..60).for_each(|_| minutes.tick(Some("excellent")));
        (0..60).for_each(|_| minutes.tick(Some("poor")));
        let minutes = minutes.finish();
        assert_eq!(
            minutes.iter().map(|m| m.quality.as_str()).collect::<Vec<_>>(),
            ["good", "poor"]
        );
        assert_eq!(verdict(&minutes), "Mostly good, with one poor minute");
    }
}
