//! Camera formats to I420. Lengths are checked first: a driver that hands out short
//! buffers, or a damaged JPEG, is an error and never a panic.

use std::sync::Arc;
use std::time::Instant;

use thiserror::Error;
use yuv::{
    BufferStoreMut, YuvConversionMode, YuvPackedImage, YuvPlanarImage, YuvPlanarImageMut, YuvRange, YuvStandardMatrix,
};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::I420;
use crate::video::planes;
use crate::video::vp8::MAX_PIXELS;

/// A camera's pixel layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PixelFormat {
    /// Packed 4:2:2, Y U Y V.
    Yuyv,
    /// Planar Y, then interleaved U and V, 4:2:0.
    Nv12,
    /// Motion JPEG.
    Mjpeg,
    /// Three bytes, red first.
    Rgb24,
    /// Three bytes, blue first.
    Bgr24,
    /// Four bytes, red first.
    Rgba,
    /// One byte of luma.
    Grey,
}

/// Why a picture could not be converted.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConvertError {
    /// The size is zero, odd beyond repair, or too large.
    #[error("{0}x{1} is not a size that can be handled")]
    Size(u32, u32),
    /// Fewer bytes than size and format need.
    #[error("the picture has {got} bytes and needs {need}")]
    Short {
        /// How many there are.
        got: usize,
        /// How many there must be.
        need: usize,
    },
    /// Not a JPEG, a damaged one, or of another size than announced.
    #[error("the JPEG is damaged")]
    Jpeg,
    /// The converter refused.
    #[error("the picture cannot be converted")]
    Refused,
}

impl From<yuv::YuvError> for ConvertError {
    fn from(_: yuv::YuvError) -> Self {
        Self::Refused
    }
}

/// Converts one picture. `stride` is the length of a row in bytes (of the first plane); `None`: no padding.
/// Odd sizes lose their last row or column.
pub fn to_i420(
    format: PixelFormat,
    bytes: &[u8],
    (width, height): (u32, u32),
    stride: Option<usize>,
    time: Instant,
) -> Result<I420, ConvertError> {
    if format == PixelFormat::Mjpeg {
        return mjpeg(bytes, time);
    }
    let (w, h) = even_size(width, height)?;
    let row = match format {
        PixelFormat::Yuyv => (width as usize).next_multiple_of(2) * 2,
        PixelFormat::Rgb24 | PixelFormat::Bgr24 => width as usize * 3,
        PixelFormat::Rgba => width as usize * 4,
        PixelFormat::Nv12 | PixelFormat::Grey | PixelFormat::Mjpeg => width as usize,
    };
    let stride = stride.unwrap_or(row).max(row);
    let rows = height as usize;
    let need = match format {
        // Chroma rows are as long as luma rows, half as many.
        PixelFormat::Nv12 => stride * (rows + rows.div_ceil(2)),
        _ => stride * rows,
    };
    if bytes.len() < need {
        return Err(ConvertError::Short { got: bytes.len(), need });
    }
    // Buffers are often longer than the picture; the converters want exactly as many rows as they write.
    let bytes = &bytes[..if format == PixelFormat::Nv12 {
        need
    } else {
        stride * h as usize
    }];
    let mut out = Planes::new(w, h);
    match format {
        PixelFormat::Nv12 => nv12(bytes, stride, rows, &mut out),
        PixelFormat::Grey => grey(bytes, stride, &mut out),
        PixelFormat::Yuyv => {
            let packed = YuvPackedImage {
                yuy: bytes,
                yuy_stride: stride as u32,
                width: w,
                height: h,
            };
            yuv::yuyv422_to_yuv420(&mut out.as_yuv(), &packed)?;
        }
        PixelFormat::Rgb24 | PixelFormat::Bgr24 | PixelFormat::Rgba | PixelFormat::Mjpeg => {
            let convert = match format {
                PixelFormat::Bgr24 => yuv::bgr_to_yuv420,
                PixelFormat::Rgba => yuv::rgba_to_yuv420,
                _ => yuv::rgb_to_yuv420,
            };
            let (range, matrix) = (YuvRange::Limited, YuvStandardMatrix::Bt601);
            convert(
                &mut out.as_yuv(),
                bytes,
                stride as u32,
                range,
                matrix,
                YuvConversionMode::Balanced,
            )?;
        }
    }
    Ok(out.finish(time))
}

/// RGBA pixels of a picture, rows without padding: for snapshots and tests.
pub fn to_rgba(picture: &I420) -> Result<Vec<u8>, ConvertError> {
    let mut rgba = vec![0; picture.width as usize * picture.height as usize * 4];
    let planes = YuvPlanarImage {
        y_plane: picture.y(),
        y_stride: picture.width,
        u_plane: picture.u(),
        u_stride: picture.width / 2,
        v_plane: picture.v(),
        v_stride: picture.width / 2,
        width: picture.width,
        height: picture.height,
    };
    yuv::yuv420_to_rgba(
        &planes,
        &mut rgba,
        picture.width * 4,
        YuvRange::Limited,
        YuvStandardMatrix::Bt601,
    )?;
    Ok(rgba)
}

fn even_size(width: u32, height: u32) -> Result<(u32, u32), ConvertError> {
    let bounded = width.checked_mul(height).is_some_and(|pixels| pixels <= MAX_PIXELS);
    if width < 2 || height < 2 || !bounded {
        return Err(ConvertError::Size(width, height));
    }
    Ok((width & !1, height & !1))
}

/// A picture while it is filled.
struct Planes {
    width: u32,
    height: u32,
    data: Arc<[u8]>,
}

impl Planes {
    fn new(width: u32, height: u32) -> Self {
        Self {
            width,
            height,
            data: planes::blank(width, height),
        }
    }

    fn split(&mut self) -> (&mut [u8], &mut [u8], &mut [u8]) {
        planes::split(&mut self.data, self.width, self.height)
    }

    fn as_yuv(&mut self) -> YuvPlanarImageMut<'_, u8> {
        let (width, height) = (self.width, self.height);
        let (y, u, v) = self.split();
        YuvPlanarImageMut {
            y_plane: BufferStoreMut::Borrowed(y),
            y_stride: width,
            u_plane: BufferStoreMut::Borrowed(u),
            u_stride: width / 2,
            v_plane: BufferStoreMut::Borrowed(v),
            v_stride: width / 2,
            width,
            height,
        }
    }

    fn finish(self, time: Instant) -> I420 {
        I420 {
            width: self.width,
            height: self.height,
            data: self.data,
            time,
        }
    }
}

fn copy_rows(from: &[u8], stride: usize, to: &mut [u8], width: usize) {
    for (out, row) in to.chunks_exact_mut(width).zip(from.chunks(stride)) {
        out.copy_from_slice(&row[..width]);
    }
}

fn nv12(bytes: &[u8], stride: usize, rows: usize, out: &mut Planes) {
    let (luma, chroma) = bytes.split_at(stride * rows);
    let width = out.width as usize;
    let (y, u, v) = out.split();
    copy_rows(luma, stride, y, width);
    let outputs = u.chunks_exact_mut(width / 2).zip(v.chunks_exact_mut(width / 2));
    for ((us, vs), row) in outputs.zip(chroma.chunks_exact(stride)) {
        for ((u, v), pair) in us.iter_mut().zip(vs).zip(row.chunks_exact(2)) {
            (*u, *v) = (pair[0], pair[1]);
        }
    }
}

/// Luma only.
fn grey(bytes: &[u8], stride: usize, out: &mut Planes) {
    let width = out.width as usize;
    let (y, u, v) = out.split();
    copy_rows(bytes, stride, y, width);
    u.fill(128);
    v.fill(128);
}

/// Cuts what a driver left behind the end-of-image marker: buffers are longer than the picture.
fn trim_jpeg(bytes: &[u8]) -> &[u8] {
    let end = bytes.windows(2).rposition(|pair| pair == [0xff, 0xd9]);
    end.map_or(bytes, |at| &bytes[..at + 2])
}

fn mjpeg(bytes: &[u8], time: Instant) -> Result<I420, ConvertError> {
    let options = DecoderOptions::default()
        .jpeg_set_out_colorspace(ColorSpace::RGB)
        .set_max_width(4096)
        .set_max_height(4096)
        .set_strict_mode(false);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(trim_jpeg(bytes)), options);
    decoder.decode_headers().map_err(|_| ConvertError::Jpeg)?;
    let (width, height) = decoder.dimensions().ok_or(ConvertError::Jpeg)?;
    let size = (width as u32, height as u32);
    even_size(size.0, size.1)?;
    let rgb = decoder.decode().map_err(|_| ConvertError::Jpeg)?;
    to_i420(PixelFormat::Rgb24, &rgb, size, None, time)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FORMATS: [PixelFormat; 7] = [
        PixelFormat::Yuyv,
        PixelFormat::Nv12,
        PixelFormat::Mjpeg,
        PixelFormat::Rgb24,
        PixelFormat::Bgr24,
        PixelFormat::Rgba,
        PixelFormat::Grey,
    ];

    /// One row of pure red after another, in each format; Y 81, U 90, V 240 in BT.601.
    fn red(format: PixelFormat, pixels: usize) -> Vec<u8> {
        match format {
            PixelFormat::Yuyv => [81, 90, 81, 240].repeat(pixels / 2),
            PixelFormat::Nv12 => [vec![81; pixels], [90, 240].repeat(pixels / 4)].concat(),
            PixelFormat::Rgb24 => [255, 0, 0].repeat(pixels),
            PixelFormat::Bgr24 => [0, 0, 255].repeat(pixels),
            PixelFormat::Rgba => [255, 0, 0, 255].repeat(pixels),
            PixelFormat::Grey | PixelFormat::Mjpeg => vec![81; pixels],
        }
    }

    #[test]
    fn red_stays_red_in_every_format() {
        for format in FORMATS
            .into_iter()
            .filter(|f| !matches!(f, PixelFormat::Mjpeg | PixelFormat::Grey))
        {
            let picture = to_i420(format, &red(format, 64 * 48), (64, 48), None, Instant::now()).unwrap();
            assert_eq!(
                (picture.width, picture.height, picture.data.len()),
                (64, 48, 64 * 48 * 3 / 2)
            );
            for (plane, expected) in [(picture.y(), 81u8), (picture.u(), 90), (picture.v(), 240)] {
                assert!(
                    plane.iter().all(|v| v.abs_diff(expected) <= 1),
                    "{format:?}: {:?}",
                    &plane[..4]
                );
            }
            let rgba = to_rgba(&picture).unwrap();
            assert!(
                rgba[0] > 250 && rgba[1] < 5 && rgba[2] < 5,
                "{format:?}: {:?}",
                &rgba[..4]
            );
        }
    }

    #[test]
    fn buffers_that_are_longer_than_the_picture_are_read() {
        for format in FORMATS.into_iter().filter(|f| *f != PixelFormat::Mjpeg) {
            let mut bytes = red(format, 64 * 48);
            let exact = to_i420(format, &bytes, (64, 48), None, Instant::now()).unwrap();
            bytes.resize(bytes.len().next_multiple_of(4096) + 4096, 7);
            let longer = to_i420(format, &bytes, (64, 48), None, Instant::now());
            assert!(longer.is_ok_and(|picture| picture.data == exact.data), "{format:?}");
            assert!(
                to_i420(format, &bytes, (63, 47), None, Instant::now()).is_ok(),
                "{format:?} of an odd size"
            );
        }
    }

    #[test]
    fn rows_with_padding_are_read_without_it() {
        let mut padded = Vec::new();
        for _ in 0..4 {
            padded.extend_from_slice(&[50, 50, 50, 50, 9, 9]);
        }
        let picture = to_i420(PixelFormat::Grey, &padded, (4, 4), Some(6), Instant::now()).unwrap();
        assert!(picture.y().iter().all(|&y| y == 50));
    }

    #[test]
    fn buffers_that_are_too_short_are_errors() {
        for format in FORMATS {
            let bytes = red(format, 64 * 48);
            for length in [0, 1, bytes.len() - 1] {
                let answer = to_i420(format, &bytes[..length], (64, 48), None, Instant::now());
                assert!(answer.is_err(), "{format:?} with {length} bytes");
            }
            for size in [(0, 0), (1, 1), (u32::MAX, u32::MAX), (65_536, 65_536)] {
                assert!(
                    to_i420(format, &bytes, size, None, Instant::now()).is_err(),
                    "{format:?} {size:?}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn hostile_cameras_never_panic(
            format in proptest::sample::select(&FORMATS[..]),
            width in 0u32..70,
            height in 0u32..70,
            stride in proptest::option::of(0usize..300),
            bytes in proptest::collection::vec(any::<u8>(), 0..20_000),
        ) {
            if let Ok(picture) = to_i420(format, &bytes, (width, height), stride, Instant::now()) {
                prop_assert_eq!(picture.data.len(), (picture.width * picture.height) as usize * 3 / 2);
            }
        }

        #[test]
        fn damaged_jpegs_never_panic(changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..12), cut in any::<u16>()) {
            let mut bytes = include_bytes!("testing/pattern.jpg").to_vec();
            for (at, value) in changes {
                let at = usize::from(at) % bytes.len();
                bytes[at] = value;
            }
            bytes.truncate(usize::from(cut) % bytes.len() + 1);
            let _ = to_i420(PixelFormat::Mjpeg, &bytes, (64, 48), None, Instant::now());
        }
    }

    #[test]
    fn a_jpeg_with_rubbish_behind_it_is_read() {
        let mut bytes = include_bytes!("testing/pattern.jpg").to_vec();
        bytes.resize(bytes.len() + 5000, 0);
        let picture = to_i420(PixelFormat::Mjpeg, &bytes, (160, 90), None, Instant::now()).unwrap();
        assert_eq!((picture.width, picture.height), (160, 90));
        let code = crate::video::pattern::read_timecode(picture.y(), 160, 90, 160).unwrap();
        assert_eq!((code.frame, code.millis), (42, 123_456_789));
    }
}
