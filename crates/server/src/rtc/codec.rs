//! Signalling messages as frames: protobuf in binary frames, JSON in text frames.
//! A client is answered in the encoding it last used.

use axum::extract::ws::Message as Frame;
use confab_wire::livekit as lk;
use prost::Message as _;
use thiserror::Error;

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Encoding {
    /// Binary frames.
    #[default]
    Protobuf,
    /// Text frames.
    Json,
}

/// A frame is no message.
#[derive(Debug, Error)]
#[error("the frame holds no signalling message")]
pub(super) struct BadFrame;

/// Reads a frame. `None` in the result: a message of a kind this version does not know.
pub(super) fn decode(frame: &Frame) -> Result<(Encoding, Option<lk::signal_request::Message>), BadFrame> {
    match frame {
        Frame::Binary(bytes) => {
            let request = lk::SignalRequest::decode(bytes.clone()).map_err(|_| BadFrame)?;
            Ok((Encoding::Protobuf, request.message))
        }
        Frame::Text(text) => {
            let request: lk::SignalRequest = serde_json::from_str(text.as_str()).map_err(|_| BadFrame)?;
            Ok((Encoding::Json, request.message))
        }
        _ => Err(BadFrame),
    }
}

/// Writes a message.
pub(super) fn encode(message: lk::signal_response::Message, encoding: Encoding) -> Frame {
    let response = lk::SignalResponse { message: Some(message) };
    match encoding {
        Encoding::Protobuf => Frame::Binary(response.encode_to_vec().into()),
        Encoding::Json => match serde_json::to_string(&response) {
            Ok(text) => Frame::Text(text.into()),
            // Not reached by any message; protobuf is understood by every client.
            Err(_) => Frame::Binary(response.encode_to_vec().into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lk::signal_request::Message;

    #[test]
    fn both_encodings_are_read() {
        let request = lk::SignalRequest {
            message: Some(Message::Ping(7)),
        };
        let binary = Frame::Binary(request.encode_to_vec().into());
        assert!(matches!(
            decode(&binary),
            Ok((Encoding::Protobuf, Some(Message::Ping(7))))
        ));
        let text = Frame::Text(serde_json::to_string(&request).unwrap().into());
        assert!(matches!(decode(&text), Ok((Encoding::Json, Some(Message::Ping(7))))));
    }

    #[test]
    fn rubbish_is_no_message_and_no_panic() {
        for rubbish in [&b"\xff\xff\xff\xff"[..], b"\x0a\xff\xff\xff\xff\x7f", &[0x0a; 64]] {
            assert!(decode(&Frame::Binary(rubbish.to_vec().into())).is_err(), "{rubbish:?}");
        }
        assert!(decode(&Frame::Text("{".into())).is_err());
        // Flipping every byte of a real message never panics.
        let request = lk::SignalRequest {
            message: Some(Message::AddTrack(lk::AddTrackRequest {
                cid: "c".into(),
                name: "camera".into(),
                ..Default::default()
            })),
        };
        let good = request.encode_to_vec();
        for i in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[i] ^= 1 << bit;
                let _ = decode(&Frame::Binary(bad.into()));
            }
        }
    }

    #[test]
    fn a_message_of_a_newer_client_is_tolerated() {
        // Field 2000, a length-delimited value.
        let frame = Frame::Binary(vec![0x82, 0x7d, 0x01, 0x00].into());
        assert!(matches!(decode(&frame), Ok((_, None))));
    }
}
