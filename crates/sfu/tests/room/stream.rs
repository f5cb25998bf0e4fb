//! What a test camera or microphone sends, and a check of what arrives.

use std::time::Instant;

use str0m::format::Codec;
use str0m::media::{KeyframeRequest, Mid, Pt, Rid};
use str0m::rtp::{ExtensionValues, RtpPacket, RtpWrite, Vp8Descriptor};
use str0m::{Rtc, rtp::SeqNo};

/// A layer's rid and packets per frame. A packet is 1000 bytes, a frame 40 ms: 200, 400 and 1000 kbps.
pub const LAYERS: [(&str, usize); 3] = [("q", 1), ("h", 2), ("f", 5)];

const PACKET: usize = 1000;

/// One encoded layer.
pub struct Layer {
    rid: Option<Rid>,
    tag: u8,
    packets: usize,
    pub on: bool,
    seq: u64,
    time: u32,
    picture: u16,
    tl0: u8,
    keyframe: bool,
    pub keyframes: usize,
}

/// A test camera: VP8-like packets with picture ids, keyframes when asked.
pub struct Camera {
    pub mid: Mid,
    pub layers: Vec<Layer>,
}

impl Camera {
    /// Three layers with unrelated numbers, as browsers send them.
    pub fn simulcast(mid: Mid) -> Self {
        let layers = LAYERS.iter().enumerate().map(|(n, (rid, packets))| Layer {
            rid: Some(Rid::from(*rid)),
            tag: n as u8,
            packets: *packets,
            on: true,
            seq: 1000 * (n as u64 + 1),
            time: 77_000 * (n as u32 + 1),
            picture: 32_760 - n as u16 * 5000,
            tl0: 250 - n as u8,
            keyframe: true,
            keyframes: 0,
        });
        Self {
            mid,
            layers: layers.collect(),
        }
    }

    /// One layer without a rid.
    pub fn single(mid: Mid) -> Self {
        let mut camera = Self::simulcast(mid);
        camera.layers.truncate(1);
        camera.layers[0].rid = None;
        camera.layers[0].tag = 2;
        camera
    }

    /// The encoder is asked for a keyframe.
    pub fn on_request(&mut self, request: &KeyframeRequest) {
        for layer in self.layers.iter_mut().filter(|l| l.rid == request.rid) {
            layer.keyframe = true;
        }
    }

    /// Sends a frame of each layer.
    pub fn frame(&mut self, rtc: &mut Rtc, now: Instant) {
        let Some(pt) = payload_type(rtc, Codec::Vp8) else {
            return;
        };
        for layer in self.layers.iter_mut() {
            layer.time = layer.time.wrapping_add(3600);
            if !layer.on {
                layer.keyframe = true;
                continue;
            }
            let keyframe = std::mem::take(&mut layer.keyframe);
            layer.keyframes += usize::from(keyframe);
            layer.picture = (layer.picture + 1) & 0x7fff;
            layer.tl0 = layer.tl0.wrapping_add(1);
            for n in 0..layer.packets {
                let payload = vp8(layer, n == 0, keyframe);
                let mut direct = rtc.direct_api();
                let Some(stream) = direct.stream_tx_by_mid(self.mid, layer.rid) else {
                    continue;
                };
                let write = RtpWrite::new(pt, SeqNo::from(layer.seq), layer.time, now, payload)
                    .marker(n + 1 == layer.packets)
                    .nackable(true);
                layer.seq += 1;
                stream.write_rtp(write);
            }
        }
    }
}

fn vp8(layer: &Layer, first: bool, keyframe: bool) -> Vec<u8> {
    let [high, low] = layer.picture.to_be_bytes();
    let mut payload = vec![if first { 0x90 } else { 0x80 }, 0xe0, 0x80 | high, low, layer.tl0, 0];
    payload.push(u8::from(!keyframe));
    payload.push(layer.tag);
    payload.resize(PACKET, 0x55);
    payload
}

/// A test microphone: 20 ms of something at a level.
pub struct Microphone {
    pub mid: Mid,
    pub level: i8,
    seq: u64,
    time: u32,
}

impl Microphone {
    pub fn new(mid: Mid, level: i8) -> Self {
        Self {
            mid,
            level,
            seq: 65_500,
            time: u32::MAX - 4000,
        }
    }

    /// Sends 20 ms.
    pub fn packet(&mut self, rtc: &mut Rtc, now: Instant) {
        let Some(pt) = payload_type(rtc, Codec::Opus) else {
            return;
        };
        let mut direct = rtc.direct_api();
        let Some(stream) = direct.stream_tx_by_mid(self.mid, None) else {
            return;
        };
        let levels = ExtensionValues {
            audio_level: Some(self.level),
            voice_activity: Some(true),
            ..Default::default()
        };
        let write = RtpWrite::new(pt, SeqNo::from(self.seq), self.time, now, vec![0xfc; 80]).ext_vals(levels);
        self.seq += 1;
        self.time = self.time.wrapping_add(960);
        stream.write_rtp(write);
    }
}

fn payload_type(rtc: &Rtc, codec: Codec) -> Option<Pt> {
    rtc.codec_config()
        .params()
        .iter()
        .find(|p| p.spec().codec == codec)
        .map(|p| p.pt())
}

/// A packet as a subscriber got it.
#[derive(Debug, Clone)]
pub struct Got {
    pub at: Instant,
    pub mid: Mid,
    pub seq: u64,
    pub time: u32,
    pub level: Option<i8>,
    pub payload: Vec<u8>,
}

impl Got {
    pub fn new(at: Instant, mid: Mid, packet: &RtpPacket) -> Self {
        Self {
            at,
            mid,
            seq: *packet.seq_no,
            time: packet.header.timestamp,
            level: packet.header.ext_vals.audio_level,
            payload: packet.payload.to_vec(),
        }
    }

    /// Which layer it was sent on: 0 to 2.
    pub fn layer(&self) -> u8 {
        self.payload[7]
    }

    fn summary(&self) -> String {
        let (seq, layer, picture) = (self.seq, self.layer(), self.picture());
        format!(
            "packet {seq}, layer {layer}, picture {picture}, payload {:?}",
            &self.payload[..8]
        )
    }

    fn descriptor(&self) -> Vp8Descriptor {
        Vp8Descriptor::parse(&self.payload).unwrap()
    }

    pub fn starts_keyframe(&self) -> bool {
        self.descriptor().starts_keyframe(&self.payload)
    }

    fn picture(&self) -> u16 {
        self.descriptor().picture_id().unwrap()
    }

    fn tl0(&self) -> u8 {
        self.descriptor().tl0_pic_idx().unwrap()
    }
}

/// Sorts by sequence number and checks that a decoder would never notice a switch: no gap in sequence numbers, picture
/// ids and TL0PICIDX, time never going back, each change of layer at a keyframe. Gives the layers in order.
pub fn check_continuous(packets: &[Got]) -> Vec<u8> {
    let mut sorted = packets.to_vec();
    sorted.sort_by_key(|p| p.seq);
    let first = sorted.first().expect("some packets");
    assert!(
        first.starts_keyframe(),
        "does not start with a keyframe: {}",
        first.summary()
    );
    let mut layers = vec![sorted[0].layer()];
    for pair in sorted.windows(2) {
        let (a, b) = (&pair[0], &pair[1]);
        assert_eq!(b.seq, a.seq + 1, "a gap after {}", a.seq);
        let forward = b.time.wrapping_sub(a.time);
        assert!(forward < 90_000 * 60, "time went back: {} to {}", a.time, b.time);
        let new_frame = b.picture() != a.picture();
        assert_eq!(new_frame, forward > 0, "a picture is one moment");
        if new_frame {
            assert_eq!(b.picture(), (a.picture() + 1) & 0x7fff);
            assert_eq!(b.tl0(), a.tl0().wrapping_add(1));
        }
        if b.layer() != a.layer() {
            assert!(b.starts_keyframe(), "a switch without a keyframe");
            layers.push(b.layer());
        }
    }
    layers
}
