//! The decoder: whatever comes in, it answers with a picture or an error.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::ptr;
use std::time::Instant;

use vpx_sys as vpx;

use super::{Vp8Error, check, check_size, keyframe_size};
use crate::I420;
use crate::video::planes;

/// How long a frame may be: more than the worst keyframe of [`MAX_PIXELS`] that a sane encoder makes.
const MAX_FRAME_BYTES: usize = 8 << 20;

/// A VP8 decoder.
pub struct Decoder {
    context: Box<vpx::vpx_codec_ctx_t>,
    started: bool,
}

// SAFETY: as for the encoder.
unsafe impl Send for Decoder {}

impl Decoder {
    /// Makes a decoder; it takes the size from the first keyframe.
    pub fn new() -> Result<Self, Vp8Error> {
        let settings = vpx::vpx_codec_dec_cfg { threads: 1, w: 0, h: 0 };
        let mut context = Box::new(MaybeUninit::<vpx::vpx_codec_ctx_t>::zeroed());
        // SAFETY: libvpx fills the zeroed context, boxed so that it never moves; `settings` outlives the call and is copied.
        let status = unsafe {
            vpx::vpx_codec_dec_init_ver(
                context.as_mut_ptr(),
                vpx::vpx_codec_vp8_dx(),
                &settings,
                0,
                vpx::VPX_DECODER_ABI_VERSION as i32,
            )
        };
        check(status, "init of the decoder")?;
        // SAFETY: init succeeded, so the context is filled; the allocation is the same type.
        let context = unsafe { Box::from_raw(Box::into_raw(context).cast::<vpx::vpx_codec_ctx_t>()) };
        Ok(Self {
            context,
            started: false,
        })
    }

    /// Decodes one frame. After an error nothing decodes until a keyframe comes.
    /// `None`: a frame that is not to be shown.
    pub fn decode(&mut self, frame: &[u8], time: Instant) -> Result<Option<I420>, Vp8Error> {
        match keyframe_size(frame) {
            Some((width, height)) => check_size(width, height)?,
            None if !self.started || frame.len() < 3 || frame[0] & 1 == 0 => return Err(Vp8Error::Corrupt),
            None => {}
        }
        if frame.len() > MAX_FRAME_BYTES {
            return Err(Vp8Error::Corrupt);
        }
        // SAFETY: the context is initialised, pointer and length are of one slice, and libvpx keeps neither.
        let status = unsafe {
            vpx::vpx_codec_decode(
                &mut *self.context,
                frame.as_ptr(),
                frame.len() as u32,
                ptr::null_mut(),
                0,
            )
        };
        let mut corrupted: std::os::raw::c_int = 0;
        // SAFETY: this control takes a pointer to an int, which lives through the call.
        let known = unsafe {
            vpx::vpx_codec_control_(
                &mut *self.context,
                vpx::vp8_dec_control_id::VP8D_GET_FRAME_CORRUPTED as i32,
                &mut corrupted as *mut std::os::raw::c_int,
            )
        };
        let damaged = known == vpx::vpx_codec_err_t::VPX_CODEC_OK && corrupted != 0;
        if status != vpx::vpx_codec_err_t::VPX_CODEC_OK || damaged {
            self.started = false;
            return Err(Vp8Error::Corrupt);
        }
        self.started = true;
        Ok(self.take_picture(time))
    }

    fn take_picture(&mut self, time: Instant) -> Option<I420> {
        let mut iterator: vpx::vpx_codec_iter_t = ptr::null();
        // SAFETY: the context is initialised; the image is valid until the next call into libvpx.
        let image = unsafe { vpx::vpx_codec_get_frame(&mut *self.context, &mut iterator).as_ref()? };
        // Odd sizes lose their last row or column: pictures here have whole chroma samples.
        let (width, height) = (image.d_w & !1, image.d_h & !1);
        if image.fmt != vpx::vpx_img_fmt::VPX_IMG_FMT_I420 || width == 0 || height == 0 {
            return None;
        }
        let mut data = planes::blank(width, height);
        let (y, u, v) = planes::split(&mut data, width, height);
        for (plane, out, w) in [
            (0, y, width as usize),
            (1, u, width as usize / 2),
            (2, v, width as usize / 2),
        ] {
            let stride = image.stride[plane] as isize;
            for (row, out) in out.chunks_exact_mut(w).enumerate() {
                // SAFETY: libvpx promises d_h rows (half for chroma) of at least d_w (half) bytes, `stride` apart.
                let bytes = unsafe { std::slice::from_raw_parts(image.planes[plane].offset(row as isize * stride), w) };
                out.copy_from_slice(bytes);
            }
        }
        Some(I420 {
            width,
            height,
            data,
            time,
        })
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: the context is initialised and not used afterwards.
        unsafe { vpx::vpx_codec_destroy(&mut *self.context) };
    }
}
