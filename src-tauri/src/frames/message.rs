//! The bytes of a frame message; the layout is described in `dto.rs`.

use confab_media::I420;

/// Bytes before the first tile.
const HEADER: usize = 6;
/// Bytes before each tile's pixels.
const TILE_HEADER: usize = 8;

/// One message with these tiles.
pub fn encode(number: u32, tiles: &[(u16, I420)]) -> Vec<u8> {
    let size = HEADER + tiles.iter().map(|(_, f)| TILE_HEADER + f.data.len()).sum::<usize>();
    let mut bytes = Vec::with_capacity(size);
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&u16::try_from(tiles.len()).unwrap_or(u16::MAX).to_le_bytes());
    for (key, frame) in tiles.iter().take(usize::from(u16::MAX)) {
        let side = |pixels: u32| u16::try_from(pixels).unwrap_or(u16::MAX).to_le_bytes();
        bytes.extend_from_slice(&key.to_le_bytes());
        bytes.extend_from_slice(&side(frame.width));
        bytes.extend_from_slice(&side(frame.height));
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&frame.data);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_holds_its_number_and_each_tile_with_its_size() {
        let frame = I420 {
            width: 4,
            height: 2,
            data: vec![7; 12].into(),
            time: std::time::Instant::now(),
        };
        let bytes = encode(258, &[(3, frame)]);
        assert_eq!(&bytes[..14], &[2, 1, 0, 0, 1, 0, 3, 0, 4, 0, 2, 0, 0, 0]);
        assert_eq!(bytes.len(), 14 + 12);
    }
}
