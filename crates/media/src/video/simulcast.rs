//! Which layers a picture is sent in, and how a bitrate is shared out among them. Pure.

use confab_types::{Bitrate, CameraQuality};

/// One simulcast layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerSpec {
    /// The top layer's size is divided by this: 1, 2 or 4.
    pub divide: u32,
    /// The most it takes.
    pub max_bitrate: Bitrate,
    /// The least it is worth sending with.
    pub min_bitrate: Bitrate,
}

/// What to encode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimulcastConfig {
    /// Larger pictures are scaled down to fit into this; smaller ones stay as they are.
    pub width: u32,
    /// As `width`.
    pub height: u32,
    /// Most frames per second.
    pub fps: u32,
    /// Lowest first.
    pub layers: Vec<LayerSpec>,
    /// Temporal layers of each: 3 with simulcast (WebRTC's default: a lost upper frame stops nothing and the server can
    /// thin the stream), else 1, which needs the fewest bits.
    pub temporal_layers: u8,
}

impl SimulcastConfig {
    /// The layers that livekit-client uses for a camera: 3 from 960 pixels, 2 from 480, else 1.
    pub fn for_camera(quality: CameraQuality, fps: u32) -> Self {
        let (width, height) = quality.size();
        Self::for_size(width, height, fps, quality.max_bitrate())
    }

    /// The same for any size.
    pub fn for_size(width: u32, height: u32, fps: u32, max: Bitrate) -> Self {
        let count = match width.max(height) {
            960.. => 3,
            480.. => 2,
            _ => 1,
        };
        let layers = (0..count).rev().map(|down| layer(max, down)).collect();
        Self {
            width,
            height,
            fps,
            layers,
            temporal_layers: if count > 1 { 3 } else { 1 },
        }
    }

    /// One layer only.
    pub fn single(width: u32, height: u32, fps: u32, max: Bitrate) -> Self {
        Self {
            width,
            height,
            fps,
            layers: vec![layer(max, 0)],
            temporal_layers: 1,
        }
    }

    /// Size of a layer of a full-size picture, for LiveKit's `VideoLayer`.
    pub fn layer_size(&self, layer: usize) -> (u32, u32) {
        let divide = self.layers.get(layer).map_or(1, |l| l.divide.max(1));
        even((self.width, self.height), divide)
    }
}

/// The layer `down` steps below the top; each step takes 30 % of the one above (livekit-client: 1700, 450, 160).
fn layer(max: Bitrate, down: u32) -> LayerSpec {
    let bps = (0..down).fold(max.as_bps(), |bps, _| bps * 3 / 10).max(60_000);
    LayerSpec {
        divide: 1 << down,
        max_bitrate: Bitrate::bps(bps),
        min_bitrate: Bitrate::bps((bps * 2 / 5).max(30_000)),
    }
}

pub(super) fn even((width, height): (u32, u32), divide: u32) -> (u32, u32) {
    (((width / divide) & !1).max(2), ((height / divide) & !1).max(2))
}

/// Shares a bitrate out: the lowest wanted layer first, a higher one only if its minimum is left.
/// Zero means: not now. The lowest wanted one always gets something.
pub fn share_out(target: Bitrate, layers: &[LayerSpec], wanted: u8) -> Vec<Bitrate> {
    let mut left = target.as_bps();
    let mut lowest = true;
    let share = |(index, layer): (usize, &LayerSpec)| {
        if wanted >> index & 1 == 0 {
            return Bitrate::ZERO;
        }
        let least = layer.min_bitrate.as_bps();
        let given = match left {
            left if left >= least => left.min(layer.max_bitrate.as_bps()),
            left if lowest => left.max(30_000),
            _ => 0,
        };
        lowest = false;
        left = left.saturating_sub(given);
        Bitrate::bps(given)
    };
    layers.iter().enumerate().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qualities_have_livekits_layers() {
        let sizes = |quality| {
            let config = SimulcastConfig::for_camera(quality, 30);
            (0..config.layers.len())
                .map(|i| config.layer_size(i))
                .collect::<Vec<_>>()
        };
        assert_eq!(sizes(CameraQuality::High), [(320, 180), (640, 360), (1280, 720)]);
        assert_eq!(sizes(CameraQuality::Medium), [(320, 240), (640, 480)]);
        assert_eq!(sizes(CameraQuality::Low), [(320, 240)]);
    }

    #[test]
    fn the_share_out_feeds_small_layers_first_and_never_starves_the_last_one() {
        let layers = SimulcastConfig::for_camera(CameraQuality::High, 30).layers;
        let shares = |kbps, wanted| -> Vec<u64> {
            share_out(Bitrate::kbps(kbps), &layers, wanted)
                .iter()
                .map(|b| b.as_kbps())
                .collect()
        };
        assert_eq!(shares(5000, 0b111), [153, 510, 1700]);
        assert_eq!(shares(700, 0b111), [153, 510, 0]);
        assert_eq!(shares(1400, 0b111), [153, 510, 737]);
        assert_eq!(shares(1000, 0b100), [0, 0, 1000]);
        assert_eq!(shares(100, 0b100), [0, 0, 100]);
        assert_eq!(shares(0, 0b111), [30, 0, 0]);
        assert_eq!(shares(5000, 0), [0, 0, 0]);
    }
}
