//! New pictures in one allocation. A `Vec` turned into a shared slice is copied, and pages touched for the first time
//! cost more than most conversions: at 720p two milliseconds a picture.

use std::sync::Arc;

/// The bytes of a black-green picture of an even size, not shared with anybody yet.
pub(super) fn blank(width: u32, height: u32) -> Arc<[u8]> {
    std::iter::repeat_n(0, width as usize * height as usize * 3 / 2).collect()
}

/// Y, U and V of bytes from [`blank`], to be written.
pub(super) fn split(data: &mut Arc<[u8]>, width: u32, height: u32) -> (&mut [u8], &mut [u8], &mut [u8]) {
    let pixels = width as usize * height as usize;
    let bytes = Arc::get_mut(data).expect("fresh bytes are not shared");
    let (y, chroma) = bytes.split_at_mut(pixels);
    let (u, v) = chroma.split_at_mut(pixels / 4);
    (y, u, v)
}
