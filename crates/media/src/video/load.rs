//! How much encoding the machine can do: measures and decides what to shed. Pure.

use std::time::{Duration, Instant};

/// Shares of the frame interval: above the first for a while sheds, below the second for longer restores.
const OVERLOAD: f32 = 0.85;
const EASE: f32 = 0.40;
/// Between two steps of shedding, and before one is taken back.
const SHED_EVERY: Duration = Duration::from_secs(2);
const RESTORE_AFTER: Duration = Duration::from_secs(10);

/// libvpx's speed by picture size: small layers are cheap, so they get the better search.
pub(super) fn speed_for(pixels: u32) -> i32 {
    match pixels {
        0..=130_000 => 6,
        130_001..=400_000 => 8,
        _ => 10,
    }
}

/// Measures encoding time against the frame interval and decides what to shed. Pure.
pub(super) struct Load {
    fps_wanted: u32,
    cost: Duration,
    fps: f32,
    window: (Instant, u32),
    shed: u8,
    changed: Instant,
}

impl Load {
    pub(super) fn new(fps: u32, now: Instant) -> Self {
        Self {
            fps_wanted: fps.max(1),
            cost: Duration::ZERO,
            fps: 0.0,
            window: (now, 0),
            shed: 0,
            changed: now,
        }
    }

    pub(super) fn target_fps(&self) -> u32 {
        if self.shed >= 3 {
            self.fps_wanted.div_ceil(2)
        } else {
            self.fps_wanted
        }
    }

    /// 0: none; 1: faster search; 2: no top layer; 3: half the frame rate as well.
    pub(super) fn shed(&self) -> u8 {
        self.shed
    }

    /// Pictures a second, over the last second or so.
    pub(super) fn fps(&self) -> f32 {
        self.fps
    }

    /// Mean time a picture takes, ms.
    pub(super) fn cost_ms(&self) -> f32 {
        self.cost.as_secs_f32() * 1000.0
    }

    pub(super) fn interval(&self) -> Duration {
        Duration::from_secs(1) / self.target_fps()
    }

    pub(super) fn picture(&mut self, now: Instant, took: Duration) {
        self.cost = if self.cost.is_zero() {
            took
        } else {
            self.cost.mul_f32(0.9) + took.mul_f32(0.1)
        };
        self.window.1 += 1;
        let window = now.saturating_duration_since(self.window.0);
        if window >= Duration::from_secs(1) {
            self.fps = self.window.1 as f32 / window.as_secs_f32();
            self.window = (now, 0);
        }
        let share = self.cost.as_secs_f32() / self.interval().as_secs_f32();
        let since = now.saturating_duration_since(self.changed);
        if share > OVERLOAD && self.shed < 3 && since >= SHED_EVERY {
            self.shed += 1;
            self.changed = now;
            tracing::debug!(shed = self.shed, "encoding takes too long, shedding");
        } else if share < EASE && self.shed > 0 && since >= RESTORE_AFTER {
            self.shed -= 1;
            self.changed = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overload_sheds_quality_then_the_top_layer_then_the_rate_and_recovers() {
        let mut now = Instant::now();
        let mut load = Load::new(30, now);
        let mut run = |load: &mut Load, seconds: u32, cost: u64| {
            for _ in 0..seconds * 30 {
                now += Duration::from_millis(33);
                load.picture(now, Duration::from_millis(cost));
            }
        };
        run(&mut load, 5, 10);
        assert_eq!(load.shed, 0);
        run(&mut load, 4, 40);
        assert!(load.shed >= 1);
        run(&mut load, 10, 90);
        assert_eq!((load.shed, load.target_fps()), (3, 15));
        run(&mut load, 60, 8);
        assert_eq!((load.shed, load.target_fps()), (0, 30));
        assert!((29.0..31.5).contains(&load.fps), "{}", load.fps);
    }
}
