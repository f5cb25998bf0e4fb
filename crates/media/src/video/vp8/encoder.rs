//! The encoder: settings for real-time use, temporal layers, rates that change while it runs.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::ptr;
use std::time::Instant;

use bytes::Bytes;
use confab_types::Bitrate;
use vpx_sys as vpx;

use super::{Vp8Error, check, check_size};
use crate::I420;

/// How to encode.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EncoderConfig {
    /// Pixels across; even.
    pub width: u32,
    /// Pixels down; even.
    pub height: u32,
    /// Expected frames per second; rate control starts from it.
    pub fps: u32,
    /// Target.
    pub bitrate: Bitrate,
    /// 1, 2 or 3.
    pub temporal_layers: u8,
    /// libvpx's real-time speed, 0 to 16: higher is faster and worse.
    pub speed: i32,
}

/// An encoded frame.
#[derive(Debug, Clone)]
pub struct Vp8Frame {
    /// The bits.
    pub data: Bytes,
    /// A decoder can start here.
    pub keyframe: bool,
    /// Temporal layer and whether it can be switched up to here; `None` with one layer.
    pub temporal: Option<(u8, bool)>,
}

/// One step of the repeating temporal pattern.
struct TemporalStep {
    id: u8,
    sync: bool,
    flags: u32,
}

const ONLY_LAST: u32 = vpx::VP8_EFLAG_NO_REF_GF | vpx::VP8_EFLAG_NO_REF_ARF;
const KEEP_OTHERS: u32 = vpx::VP8_EFLAG_NO_UPD_GF | vpx::VP8_EFLAG_NO_UPD_ARF;
const DISCARDABLE: u32 = KEEP_OTHERS | vpx::VP8_EFLAG_NO_UPD_LAST | vpx::VP8_EFLAG_NO_UPD_ENTROPY;

/// Base frames use and replace `last`; the upper layer uses it and is used by none.
const TWO_LAYERS: [TemporalStep; 2] = [
    TemporalStep {
        id: 0,
        sync: false,
        flags: ONLY_LAST | KEEP_OTHERS,
    },
    TemporalStep {
        id: 1,
        sync: true,
        flags: ONLY_LAST | DISCARDABLE,
    },
];

/// WebRTC's pattern 0-2-1-2: layer 1 lives in `golden`. No upper frame changes the entropy state, so any can be missing.
const THREE_LAYERS: [TemporalStep; 4] = [
    TemporalStep {
        id: 0,
        sync: false,
        flags: ONLY_LAST | KEEP_OTHERS,
    },
    TemporalStep {
        id: 2,
        sync: true,
        flags: ONLY_LAST | DISCARDABLE,
    },
    TemporalStep {
        id: 1,
        sync: true,
        flags: ONLY_LAST | vpx::VP8_EFLAG_NO_UPD_LAST | vpx::VP8_EFLAG_NO_UPD_ARF | vpx::VP8_EFLAG_NO_UPD_ENTROPY,
    },
    TemporalStep {
        id: 2,
        sync: false,
        flags: vpx::VP8_EFLAG_NO_REF_ARF | DISCARDABLE,
    },
];

/// A VP8 encoder of one size.
pub struct Encoder {
    context: Box<vpx::vpx_codec_ctx_t>,
    settings: vpx::vpx_codec_enc_cfg_t,
    config: EncoderConfig,
    step: usize,
    last_pts: i64,
    start: Option<Instant>,
}

// SAFETY: a libvpx context has no ties to the thread that made it; `&mut self` on every call keeps it to one thread at a time.
unsafe impl Send for Encoder {}

impl Encoder {
    /// Makes an encoder for real-time use.
    pub fn new(config: EncoderConfig) -> Result<Self, Vp8Error> {
        check_size(config.width, config.height)?;
        if !config.width.is_multiple_of(2) || !config.height.is_multiple_of(2) {
            return Err(Vp8Error::Size(config.width, config.height));
        }
        let config = EncoderConfig {
            temporal_layers: config.temporal_layers.clamp(1, 3),
            ..config
        };
        let settings = settings(&config)?;
        let mut context = Box::new(MaybeUninit::<vpx::vpx_codec_ctx_t>::zeroed());
        // SAFETY: libvpx fills the zeroed context, which is boxed so that it never moves; `settings` outlives the call.
        // libvpx keeps a pointer to the configuration only until init returns, then it has copied it.
        let status = unsafe {
            vpx::vpx_codec_enc_init_ver(
                context.as_mut_ptr(),
                vpx::vpx_codec_vp8_cx(),
                &settings,
                0,
                vpx::VPX_ENCODER_ABI_VERSION as i32,
            )
        };
        check(status, "init of the encoder")?;
        // SAFETY: init succeeded, so the context is filled; the allocation is the same type.
        let context = unsafe { Box::from_raw(Box::into_raw(context).cast::<vpx::vpx_codec_ctx_t>()) };
        let mut encoder = Self {
            context,
            settings,
            config,
            step: 0,
            last_pts: -1,
            start: None,
        };
        use vpx::vp8e_enc_control_id as id;
        encoder.control(id::VP8E_SET_CPUUSED, -config.speed.clamp(0, 16))?;
        // Blocks that hardly change are skipped; noise of small sensors is smoothed a little where there is time for it.
        encoder.control(id::VP8E_SET_STATIC_THRESHOLD, 1)?;
        encoder.control(id::VP8E_SET_TOKEN_PARTITIONS, 0)?;
        // A keyframe takes at most three frames' worth of bits: bigger ones are bursts that the network drops.
        encoder.control(id::VP8E_SET_MAX_INTRA_BITRATE_PCT, 300)?;
        Ok(encoder)
    }

    /// What it was made with, as changed since.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    fn control(&mut self, id: vpx::vp8e_enc_control_id, value: i32) -> Result<(), Vp8Error> {
        // SAFETY: the context is initialised, and every control used here takes one int.
        check(
            unsafe { vpx::vpx_codec_control_(&mut *self.context, id as i32, value) },
            "control",
        )
    }

    /// Changes the target bitrate and frame rate while running.
    pub fn set_rate(&mut self, bitrate: Bitrate, fps: u32) -> Result<(), Vp8Error> {
        if bitrate == self.config.bitrate && fps == self.config.fps {
            return Ok(());
        }
        self.config.bitrate = bitrate;
        self.config.fps = fps;
        set_bitrate(&mut self.settings, &self.config);
        // SAFETY: the context is initialised and `settings` is a complete configuration of the same size.
        check(
            unsafe { vpx::vpx_codec_enc_config_set(&mut *self.context, &self.settings) },
            "new rate",
        )
    }

    /// Changes speed against quality while running.
    pub fn set_speed(&mut self, speed: i32) -> Result<(), Vp8Error> {
        if speed != self.config.speed {
            self.config.speed = speed;
            self.control(vpx::vp8e_enc_control_id::VP8E_SET_CPUUSED, -speed.clamp(0, 16))?;
        }
        Ok(())
    }

    /// Encodes one picture of the encoder's size. `None`: rate control dropped it.
    pub fn encode(&mut self, picture: &I420, keyframe: bool) -> Result<Option<Vp8Frame>, Vp8Error> {
        let (width, height) = (picture.width, picture.height);
        let length = width as usize * height as usize * 3 / 2;
        if (width, height) != (self.config.width, self.config.height) || picture.data.len() < length {
            return Err(Vp8Error::Size(width, height));
        }
        if keyframe {
            self.step = 0;
        }
        let step = self.temporal_step();
        let temporal = step.map(|s| (s.id, s.sync));
        let mut flags = step.map_or(0, |s| s.flags);
        if let Some((id, _)) = temporal {
            self.control(vpx::vp8e_enc_control_id::VP8E_SET_TEMPORAL_LAYER_ID, i32::from(id))?;
        }
        if keyframe {
            flags = vpx::VPX_EFLAG_FORCE_KF;
        }
        let (pts, duration) = self.advance_clock(picture.time);
        let mut image = MaybeUninit::<vpx::vpx_image_t>::zeroed();
        // SAFETY: the plane pointers made from `data` stay valid through this function; the length was checked above
        // against width*height*3/2, and sizes are even, so planes without padding lie as libvpx lays them out.
        // The encoder only reads the image. `wrap` fills the structure and answers null only for bad arguments.
        let status = unsafe {
            let wrapped = vpx::vpx_img_wrap(
                image.as_mut_ptr(),
                vpx::vpx_img_fmt::VPX_IMG_FMT_I420,
                width,
                height,
                1,
                picture.data.as_ptr().cast_mut(),
            );
            if wrapped.is_null() {
                return Err(Vp8Error::Size(width, height));
            }
            vpx::vpx_codec_encode(
                &mut *self.context,
                wrapped,
                pts,
                duration as _,
                flags as _,
                vpx::VPX_DL_REALTIME as _,
            )
        };
        check(status, "encode")?;
        let Some((data, keyframe)) = self.take_packets() else {
            return Ok(None);
        };
        if self.config.temporal_layers > 1 {
            // libvpx may make a keyframe unasked; the pattern starts anew after it.
            self.step = if keyframe { 1 } else { self.step + 1 };
        }
        let temporal = temporal.map(|t| if keyframe { (0, false) } else { t });
        Ok(Some(Vp8Frame {
            data,
            keyframe,
            temporal,
        }))
    }

    fn temporal_step(&self) -> Option<&'static TemporalStep> {
        match self.config.temporal_layers {
            2 => TWO_LAYERS.get(self.step % 2),
            3 => THREE_LAYERS.get(self.step % 4),
            _ => None,
        }
    }

    /// Presentation time in 1/90000 s, growing with every frame as libvpx demands.
    fn advance_clock(&mut self, captured: Instant) -> (i64, i64) {
        let start = *self.start.get_or_insert(captured);
        let pts = (captured.saturating_duration_since(start).as_micros() as i64 * 9 / 100).max(self.last_pts + 1);
        self.last_pts = pts;
        (pts, i64::from(90_000 / self.config.fps.max(1)))
    }

    fn take_packets(&mut self) -> Option<(Bytes, bool)> {
        let mut iterator: vpx::vpx_codec_iter_t = ptr::null();
        let mut out: Option<(Vec<u8>, bool)> = None;
        loop {
            // SAFETY: the context is initialised; the packet and its buffer are valid until the next call into
            // libvpx, and are copied before it. The union's `frame` is the active member of frame packets.
            let packet = unsafe { vpx::vpx_codec_get_cx_data(&mut *self.context, &mut iterator).as_ref() };
            let Some(packet) = packet else { break };
            if packet.kind != vpx::vpx_codec_cx_pkt_kind::VPX_CODEC_CX_FRAME_PKT {
                continue;
            }
            // SAFETY: as above.
            let (bytes, flags) = unsafe {
                let frame = packet.data.frame;
                (
                    std::slice::from_raw_parts(frame.buf.cast::<u8>(), frame.sz as usize),
                    frame.flags,
                )
            };
            let (data, key) = out.get_or_insert_with(|| (Vec::with_capacity(bytes.len()), false));
            data.extend_from_slice(bytes);
            *key |= flags & vpx::VPX_FRAME_IS_KEY as vpx::vpx_codec_frame_flags_t != 0;
        }
        out.map(|(data, key)| (Bytes::from(data), key))
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // SAFETY: the context is initialised and not used afterwards.
        unsafe { vpx::vpx_codec_destroy(&mut *self.context) };
    }
}

fn settings(config: &EncoderConfig) -> Result<vpx::vpx_codec_enc_cfg_t, Vp8Error> {
    let mut settings = MaybeUninit::<vpx::vpx_codec_enc_cfg_t>::uninit();
    // SAFETY: on success libvpx has filled the structure; it is not read otherwise. (A zeroed one is not valid: it holds enums without a zero.)
    let mut settings = unsafe {
        let status = vpx::vpx_codec_enc_config_default(vpx::vpx_codec_vp8_cx(), settings.as_mut_ptr(), 0);
        check(status, "defaults")?;
        settings.assume_init()
    };
    settings.g_w = config.width;
    settings.g_h = config.height;
    settings.g_timebase = vpx::vpx_rational { num: 1, den: 90_000 };
    // More threads cost more in total; calls have several encoders and decoders, which spread over the cores by themselves.
    settings.g_threads = 1;
    settings.g_pass = vpx::vpx_enc_pass::VPX_RC_ONE_PASS;
    settings.g_lag_in_frames = 0;
    settings.g_error_resilient = if config.temporal_layers > 1 {
        vpx::VPX_ERROR_RESILIENT_DEFAULT
    } else {
        0
    };
    settings.rc_end_usage = vpx::vpx_rc_mode::VPX_CBR;
    settings.rc_dropframe_thresh = 30;
    settings.rc_resize_allowed = 0;
    settings.rc_min_quantizer = 2;
    settings.rc_max_quantizer = 56;
    settings.rc_undershoot_pct = 100;
    settings.rc_overshoot_pct = 15;
    settings.rc_buf_initial_sz = 500;
    settings.rc_buf_optimal_sz = 600;
    settings.rc_buf_sz = 1000;
    // Keyframes only when somebody needs one.
    settings.kf_mode = vpx::vpx_kf_mode::VPX_KF_DISABLED;
    set_bitrate(&mut settings, config);
    Ok(settings)
}

fn set_bitrate(settings: &mut vpx::vpx_codec_enc_cfg_t, config: &EncoderConfig) {
    let kbps = config.bitrate.as_kbps().clamp(10, 50_000) as u32;
    settings.rc_target_bitrate = kbps;
    // Rates of temporal layers are cumulative; shares as in WebRTC.
    let (ids, shares, decimators): (&[u32], &[u32], &[u32]) = match config.temporal_layers {
        2 => (&[0, 1], &[60, 100], &[2, 1]),
        3 => (&[0, 2, 1, 2], &[40, 60, 100], &[4, 2, 1]),
        _ => return,
    };
    settings.ts_number_layers = shares.len() as u32;
    settings.ts_periodicity = ids.len() as u32;
    settings.ts_layer_id[..ids.len()].copy_from_slice(ids);
    settings.ts_rate_decimator[..decimators.len()].copy_from_slice(decimators);
    for (target, share) in settings.ts_target_bitrate.iter_mut().zip(shares) {
        *target = kbps * share / 100;
    }
}
