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

/// Below this even the smallest picture is not worth its bits: sound needs them. Sending begins again at twice as much.
const PAUSE_BELOW: u64 = 15_000;

/// Shares a bitrate out: the lowest wanted layer first, a higher one only if its minimum is left, and a third more than
/// that if it is not among the `active` ones: each start costs a keyframe. Zero means: not now.
pub fn share_out(target: Bitrate, layers: &[LayerSpec], wanted: u8, active: u8) -> Vec<Bitrate> {
    let mut left = target.as_bps();
    let mut lowest = true;
    let share = |(index, layer): (usize, &LayerSpec)| {
        if (wanted >> index) & 1 == 0 {
            return Bitrate::ZERO;
        }
        let running = (active >> index) & 1 == 1;
        let least = match (std::mem::take(&mut lowest), running) {
            (true, true) => PAUSE_BELOW,
            (true, false) => PAUSE_BELOW * 2,
            (false, true) => layer.min_bitrate.as_bps(),
            (false, false) => layer.min_bitrate.as_bps() * 4 / 3,
        };
        let given = if left >= least {
            left.min(layer.max_bitrate.as_bps())
        } else {
            0
        };
        left -= given;
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

    fn shares(kbps: u64, wanted: u8, active: u8) -> Vec<u64> {
        let layers = SimulcastConfig::for_camera(CameraQuality::High, 30).layers;
        let shares = share_out(Bitrate::kbps(kbps), &layers, wanted, active);
        shares.iter().map(|b| b.as_kbps()).collect()
    }

    #[test]
    fn small_layers_are_fed_first() {
        assert_eq!(shares(5000, 0b111, 0), [153, 510, 1700]);
        assert_eq!(shares(700, 0b111, 0b111), [153, 510, 0]);
        assert_eq!(shares(1700, 0b111, 0), [153, 510, 1037]);
        assert_eq!(shares(1000, 0b100, 0), [0, 0, 1000]);
        assert_eq!(shares(100, 0b100, 0), [0, 0, 100]);
        assert_eq!(shares(5000, 0, 0), [0, 0, 0]);
    }

    #[test]
    fn a_layer_does_not_flap_at_its_limit() {
        // 680 kbps is the least of the top layer.
        assert_eq!(shares(663 + 700, 0b111, 0b011), [153, 510, 0]);
        assert_eq!(shares(663 + 700, 0b111, 0b111), [153, 510, 700]);
        assert_eq!(shares(663 + 910, 0b111, 0b011), [153, 510, 910]);
    }

    #[test]
    fn pictures_pause_where_only_sound_fits() {
        assert_eq!(shares(16, 0b111, 0b001), [16, 0, 0]);
        assert_eq!(shares(14, 0b111, 0b001), [0, 0, 0]);
        assert_eq!(shares(29, 0b111, 0), [0, 0, 0]);
        assert_eq!(shares(30, 0b111, 0), [30, 0, 0]);
    }
}
