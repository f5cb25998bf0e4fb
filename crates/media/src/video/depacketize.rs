//! The VP8 payload descriptor (RFC 7741, 4.2). Hostile payloads are errors.

use bytes::Bytes;
use thiserror::Error;

/// Why a payload is not VP8.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DescriptorError {
    /// It ends within the descriptor.
    #[error("the payload ends within its descriptor")]
    Short,
    /// A descriptor without a frame behind it.
    #[error("the payload holds no part of a frame")]
    Empty,
}

/// What a payload descriptor says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// S and PID 0: the frame begins here.
    pub start: bool,
    /// N: no other frame needs this one.
    pub non_reference: bool,
    /// PictureID, 7 or 15 bits.
    pub picture_id: Option<u16>,
    /// TL0PICIDX: counts base layer frames.
    pub tl0_index: Option<u8>,
    /// TID and Y: temporal layer, and whether it needs the base layer only.
    pub temporal: Option<(u8, bool)>,
    /// Bytes that the descriptor takes.
    pub length: usize,
}

/// Splits a payload into descriptor and the part of the frame behind it.
pub fn parse(payload: &Bytes) -> Result<(Descriptor, Bytes), DescriptorError> {
    let mut reader = Reader { bytes: payload, at: 0 };
    let first = reader.next()?;
    let mut out = Descriptor {
        start: first & 0x17 == 0x10,
        non_reference: first & 0x20 != 0,
        ..Default::default()
    };
    if first & 0x80 != 0 {
        let extension = reader.next()?;
        if extension & 0x80 != 0 {
            let high = reader.next()?;
            let id = if high & 0x80 != 0 {
                u16::from(high & 0x7f) << 8 | u16::from(reader.next()?)
            } else {
                u16::from(high)
            };
            out.picture_id = Some(id);
        }
        if extension & 0x40 != 0 {
            out.tl0_index = Some(reader.next()?);
        }
        if extension & 0x30 != 0 {
            let last = reader.next()?;
            if extension & 0x20 != 0 {
                out.temporal = Some((last >> 6, last & 0x20 != 0));
            }
        }
    }
    out.length = reader.at;
    if reader.at >= payload.len() {
        return Err(DescriptorError::Empty);
    }
    Ok((out, payload.slice(reader.at..)))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Result<u8, DescriptorError> {
        let byte = *self.bytes.get(self.at).ok_or(DescriptorError::Short)?;
        self.at += 1;
        Ok(byte)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;
    use crate::video::testing::Packetizer;

    #[test]
    fn what_a_packetizer_writes_is_read_back() {
        let mut packetizer = Packetizer::new(7, 0x7fff, 3);
        let packets = packetizer.frame(0, Some((2, true)), &[1, 2, 3, 4], Instant::now());
        let (first, data) = parse(&packets[0].payload).unwrap();
        assert!(first.start && first.picture_id == Some(0x7fff) && first.temporal == Some((2, true)));
        assert_eq!(&data[..], [1, 2, 3]);
        let (second, data) = parse(&packets[1].payload).unwrap();
        assert!(!second.start && packets[1].marker);
        assert_eq!(&data[..], [4]);
    }

    #[test]
    fn the_shortest_descriptor_is_one_byte() {
        let (descriptor, data) = parse(&Bytes::from_static(&[0x10, 9])).unwrap();
        assert_eq!(
            (descriptor.length, descriptor.picture_id, &data[..]),
            (1, None, &[9u8][..])
        );
        assert_eq!(parse(&Bytes::from_static(&[0x10])), Err(DescriptorError::Empty));
        assert_eq!(parse(&Bytes::new()), Err(DescriptorError::Short));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let bytes = Bytes::from(bytes);
            if let Ok((descriptor, data)) = parse(&bytes) {
                prop_assert_eq!(descriptor.length + data.len(), bytes.len());
                prop_assert!(descriptor.length <= 6);
            }
        }
    }
}
