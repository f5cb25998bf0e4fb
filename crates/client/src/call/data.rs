//! LiveKit's data packets: text streams (chat on `lk.chat`), user packets (topics), both
//! ways. Pure: bytes in, events out, bytes out. A remote side is not trusted: lengths and
//! the number of open streams are bounded.

use std::collections::HashMap;

use confab_wire::livekit::{self as lk, data_packet::Value, data_stream as stream};
use prost::Message as _;
use thiserror::Error;

/// The topic of chat messages.
pub const CHAT_TOPIC: &str = "lk.chat";
/// The most text of one chat message, in bytes. More is refused here and cut off from others.
pub const LONGEST_TEXT: usize = 64 * 1024;
/// The most bytes of one packet's payload: LiveKit's limit, below SCTP's message size.
pub const LONGEST_PAYLOAD: usize = 15 * 1024;
/// Streams that others may have open at once; further ones are passed over.
const OPEN_STREAMS: usize = 64;

/// Something a person or a program can act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A whole text of a stream.
    Text {
        /// The stream's id.
        id: String,
        /// Topic.
        topic: String,
        /// The sender's sid, as the server wrote it; may be empty.
        from_sid: String,
        /// The sender's identity, as the server wrote it.
        from_identity: String,
        /// The text.
        text: String,
    },
    /// A packet.
    Packet {
        /// Topic.
        topic: String,
        /// The sender's sid; may be empty (server).
        from_sid: String,
        /// The sender's identity.
        from_identity: String,
        /// The bytes.
        payload: Vec<u8>,
    },
}

/// What cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DataError {
    /// Over [`LONGEST_TEXT`] or [`LONGEST_PAYLOAD`].
    #[error("the message is too long ({length} bytes, at most {most})")]
    TooLong {
        /// What it has.
        length: usize,
        /// What it may have.
        most: usize,
    },
}

struct OpenStream {
    topic: String,
    from_sid: String,
    from_identity: String,
    bytes: Vec<u8>,
    next_chunk: u64,
}

/// Puts incoming streams together.
#[derive(Default)]
pub struct Assembler {
    open: HashMap<(String, String), OpenStream>,
}

impl Assembler {
    /// Takes a data channel message. Anything unknown or broken gives nothing.
    pub fn handle(&mut self, message: &[u8]) -> Option<Received> {
        let packet = lk::DataPacket::decode(message).ok()?;
        let (from_sid, from_identity) = (packet.participant_sid, packet.participant_identity);
        match packet.value? {
            Value::User(user) => Some(user_packet(user, from_sid, from_identity)),
            Value::StreamHeader(header) => {
                self.begin(header, from_sid, from_identity);
                None
            }
            Value::StreamChunk(chunk) => {
                self.add(chunk, &from_identity);
                None
            }
            Value::StreamTrailer(trailer) => self.finish(trailer.stream_id, from_identity),
            _ => None,
        }
    }

    /// A participant is gone: so are its unfinished streams.
    pub fn forget(&mut self, identity: &str) {
        self.open.retain(|(from, _), _| from != identity);
    }

    fn begin(&mut self, header: stream::Header, from_sid: String, from_identity: String) {
        let is_text = matches!(
            header.content_header,
            Some(stream::header::ContentHeader::TextHeader(_))
        );
        let too_long = header.total_length.is_some_and(|n| n > LONGEST_TEXT as u64);
        if !is_text || too_long || self.open.len() >= OPEN_STREAMS {
            return;
        }
        let bytes = header.inline_content.unwrap_or_default();
        let begun = OpenStream {
            topic: header.topic,
            from_sid,
            from_identity: from_identity.clone(),
            bytes,
            next_chunk: 0,
        };
        self.open.insert((from_identity, header.stream_id), begun);
    }

    fn add(&mut self, chunk: stream::Chunk, from_identity: &str) {
        let key = (from_identity.to_owned(), chunk.stream_id);
        let Some(open) = self.open.get_mut(&key) else { return };
        let fits = open.bytes.len() + chunk.content.len() <= LONGEST_TEXT;
        if !fits || chunk.chunk_index != open.next_chunk {
            self.open.remove(&key);
            return;
        }
        open.next_chunk += 1;
        open.bytes.extend_from_slice(&chunk.content);
    }

    fn finish(&mut self, stream_id: String, from_identity: String) -> Option<Received> {
        let open = self.open.remove(&(from_identity, stream_id.clone()))?;
        let text = String::from_utf8(open.bytes).ok()?;
        let OpenStream {
            topic,
            from_sid,
            from_identity,
            ..
        } = open;
        Some(Received::Text {
            id: stream_id,
            topic,
            from_sid,
            from_identity,
            text,
        })
    }
}

#[allow(deprecated)]
fn user_packet(user: lk::UserPacket, from_sid: String, from_identity: String) -> Received {
    // Older servers name the sender inside only.
    let or = |outer: String, inner: String| if outer.is_empty() { inner } else { outer };
    Received::Packet {
        topic: user.topic.unwrap_or_default(),
        from_sid: or(from_sid, user.participant_sid),
        from_identity: or(from_identity, user.participant_identity),
        payload: user.payload,
    }
}

/// The messages of one text stream, in order, for the reliable channel.
pub fn text_stream(id: &str, topic: &str, text: &str, timestamp_ms: i64) -> Result<Vec<Vec<u8>>, DataError> {
    if text.len() > LONGEST_TEXT {
        return Err(DataError::TooLong {
            length: text.len(),
            most: LONGEST_TEXT,
        });
    }
    let header = stream::Header {
        stream_id: id.to_owned(),
        timestamp: timestamp_ms,
        topic: topic.to_owned(),
        mime_type: "text/plain".to_owned(),
        total_length: Some(text.len() as u64),
        content_header: Some(stream::header::ContentHeader::TextHeader(stream::TextHeader::default())),
        ..Default::default()
    };
    let mut messages = vec![encode(Value::StreamHeader(header), true)];
    for (index, content) in split_text(text, LONGEST_PAYLOAD).into_iter().enumerate() {
        let chunk = stream::Chunk {
            stream_id: id.to_owned(),
            chunk_index: index as u64,
            content: content.as_bytes().to_vec(),
            ..Default::default()
        };
        messages.push(encode(Value::StreamChunk(chunk), true));
    }
    let trailer = stream::Trailer {
        stream_id: id.to_owned(),
        ..Default::default()
    };
    messages.push(encode(Value::StreamTrailer(trailer), true));
    Ok(messages)
}

/// A packet on a topic.
pub fn user_message(topic: &str, payload: Vec<u8>, reliable: bool) -> Result<Vec<u8>, DataError> {
    if payload.len() > LONGEST_PAYLOAD {
        return Err(DataError::TooLong {
            length: payload.len(),
            most: LONGEST_PAYLOAD,
        });
    }
    let user = lk::UserPacket {
        payload,
        topic: Some(topic.to_owned()),
        ..Default::default()
    };
    Ok(encode(Value::User(user), reliable))
}

#[allow(deprecated)]
fn encode(value: Value, reliable: bool) -> Vec<u8> {
    let kind = if reliable {
        lk::data_packet::Kind::Reliable
    } else {
        lk::data_packet::Kind::Lossy
    };
    lk::DataPacket {
        kind: kind as i32,
        value: Some(value),
        ..Default::default()
    }
    .encode_to_vec()
}

/// Pieces of at most `most` bytes, never inside a character.
fn split_text(mut text: &str, most: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    while !text.is_empty() {
        let mut end = text.len().min(most);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let (piece, rest) = text.split_at(end);
        pieces.push(piece);
        text = rest;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(assembler: &mut Assembler, messages: &[Vec<u8>]) -> Vec<Received> {
        messages.iter().filter_map(|m| assembler.handle(m)).collect()
    }

    #[test]
    fn a_long_chat_message_arrives_whole() {
        let text = "Grüße 你好 ".repeat(2_500);
        let messages = text_stream("s1", CHAT_TOPIC, &text, 0).unwrap();
        assert!(messages.len() > 3 && messages.iter().all(|m| m.len() < 16 * 1024));
        let got = all(&mut Assembler::default(), &messages);
        let [
            Received::Text {
                id, topic, text: heard, ..
            },
        ] = &got[..]
        else {
            panic!("{got:?}")
        };
        assert_eq!((id.as_str(), topic.as_str(), heard), ("s1", CHAT_TOPIC, &text));
    }

    #[test]
    fn two_senders_with_the_same_stream_id_do_not_mix() {
        let mut assembler = Assembler::default();
        let stamped = |identity: &str, text: &str| -> Vec<Vec<u8>> {
            let messages = text_stream("same", CHAT_TOPIC, text, 0).unwrap();
            let stamp = |m: Vec<u8>| {
                let mut packet = lk::DataPacket::decode(&m[..]).unwrap();
                packet.participant_identity = identity.to_owned();
                packet.encode_to_vec()
            };
            messages.into_iter().map(stamp).collect()
        };
        let (a, b) = (stamped("a", "from a"), stamped("b", "from b"));
        let interleaved: Vec<_> = a.into_iter().zip(b).flat_map(|(x, y)| [x, y]).collect();
        let texts: Vec<_> = all(&mut assembler, &interleaved)
            .into_iter()
            .map(|r| {
                if let Received::Text { text, .. } = r {
                    text
                } else {
                    String::new()
                }
            })
            .collect();
        assert_eq!(texts, ["from a", "from b"]);
    }

    #[test]
    fn a_megabyte_of_text_is_refused_and_never_kept() {
        let long = "x".repeat(1 << 20);
        assert!(matches!(
            text_stream("s", CHAT_TOPIC, &long, 0),
            Err(DataError::TooLong { .. })
        ));
        let mut assembler = Assembler::default();
        let header = encode(
            Value::StreamHeader(stream::Header {
                stream_id: "s".to_owned(),
                content_header: Some(stream::header::ContentHeader::TextHeader(stream::TextHeader::default())),
                ..Default::default()
            }),
            true,
        );
        assembler.handle(&header);
        for index in 0..100 {
            let content = vec![b'x'; 15_000];
            let chunk = stream::Chunk {
                stream_id: "s".to_owned(),
                chunk_index: index,
                content,
                ..Default::default()
            };
            assembler.handle(&encode(Value::StreamChunk(chunk), true));
        }
        assert!(assembler.open.is_empty());
    }

    #[test]
    fn garbage_and_endless_open_streams_are_passed_over() {
        let mut assembler = Assembler::default();
        assert_eq!(assembler.handle(&[0xff, 1, 2, 3]), None);
        for n in 0..1000 {
            assembler.handle(&text_stream(&n.to_string(), "t", "x", 0).unwrap()[0]);
        }
        assert_eq!(assembler.open.len(), OPEN_STREAMS);
        assembler.forget("");
        assert!(assembler.open.is_empty());
    }

    #[test]
    fn a_reaction_arrives_with_its_topic() {
        let message = user_message("reactions", b"thumb".to_vec(), false).unwrap();
        let got = Assembler::default().handle(&message);
        assert!(
            matches!(got, Some(Received::Packet { topic, payload, .. }) if topic == "reactions" && payload == b"thumb")
        );
        assert!(user_message("t", vec![0; LONGEST_PAYLOAD + 1], true).is_err());
    }
}
