//! VP8 by libvpx: a thin safe wrapper, the one place of this crate with `unsafe`.
//! Knows frames and bits only; layers, pacing and recovery are decided elsewhere.
#![allow(unsafe_code)]

mod decoder;
mod encoder;

use thiserror::Error;
use vpx_sys as vpx;

pub use decoder::Decoder;
pub use encoder::{Encoder, EncoderConfig, Vp8Frame};

/// Largest picture that is decoded, in pixels: 4096x2304. A header may claim 16383x16383, which would take 400 MB.
pub const MAX_PIXELS: u32 = 4096 * 2304;

/// Why libvpx did not do it.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Vp8Error {
    /// The size cannot be encoded or decoded.
    #[error("{0}x{1} is not a size that can be handled")]
    Size(u32, u32),
    /// Not a VP8 frame, a damaged one, or one that needs a picture that never came.
    #[error("the frame cannot be decoded")]
    Corrupt,
    /// libvpx refused; its own words.
    #[error("libvpx, {what}: {reason}")]
    Library {
        /// What was tried.
        what: &'static str,
        /// libvpx's words.
        reason: String,
    },
}

fn check(status: vpx::vpx_codec_err_t, what: &'static str) -> Result<(), Vp8Error> {
    if status == vpx::vpx_codec_err_t::VPX_CODEC_OK {
        return Ok(());
    }
    // SAFETY: libvpx answers a static, NUL-terminated text for every code.
    let reason = unsafe { std::ffi::CStr::from_ptr(vpx::vpx_codec_err_to_string(status)) };
    Err(Vp8Error::Library {
        what,
        reason: reason.to_string_lossy().into_owned(),
    })
}

fn check_size(width: u32, height: u32) -> Result<(), Vp8Error> {
    // Two by two is the smallest with a chroma sample; 14 bits is what the header holds.
    let possible = (2..=16_383).contains(&width) && (2..=16_383).contains(&height) && width * height <= MAX_PIXELS;
    if possible {
        Ok(())
    } else {
        Err(Vp8Error::Size(width, height))
    }
}

/// Whether a decoder can start at this frame (RFC 6386, 9.1: the first bit is clear).
pub fn is_keyframe(frame: &[u8]) -> bool {
    frame.len() >= 10 && frame[0] & 1 == 0 && frame[3..6] == [0x9d, 0x01, 0x2a]
}

/// Width and height that a keyframe announces.
pub fn keyframe_size(frame: &[u8]) -> Option<(u32, u32)> {
    let word = |at: usize| u32::from(u16::from_le_bytes([frame[at], frame[at + 1]]) & 0x3fff);
    is_keyframe(frame).then(|| (word(6), word(8)))
}

#[cfg(test)]
mod tests;
