//! Data packets: chat, reactions, text streams. The sender's name is written over,
//! whatever it claims; recipients are filtered by identity.

use confab_types::ParticipantSid;
use confab_wire::livekit as lk;
use lk::data_packet::Value;
use prost::Message as _;
use tracing::debug;

use super::actor::RoomActor;
use crate::engine::DataKind;

/// SCTP messages that clients send hold at most 64 KiB; text streams go in chunks of 15 KiB.
const MAX_PACKET: usize = 64 * 1024;

impl RoomActor {
    pub async fn on_data(&mut self, from: &ParticipantSid, kind: DataKind, payload: &[u8]) {
        let Some(member) = self.member(from) else { return };
        if !member.grants.can_publish_data || payload.len() > MAX_PACKET {
            debug!(participant = %from, bytes = payload.len(), "data packet refused");
            return;
        }
        let Ok(mut packet) = lk::DataPacket::decode(payload) else {
            debug!(participant = %from, "unreadable data packet");
            return;
        };
        let identity = if member.hidden {
            String::new()
        } else {
            member.identity.to_string()
        };
        sign_sender(&mut packet, &identity, from, kind);
        // Only the server says who speaks.
        if matches!(packet.value, Some(Value::Speaker(_)) | None) {
            return;
        }
        let wanted = destinations(&packet);
        let to = self.recipients(Some(from), &wanted, &[]);
        if !to.is_empty() {
            self.env
                .engine
                .send_data(&self.room.sid, &to, kind, packet.encode_to_vec())
                .await;
        }
    }

    /// Data from a backend.
    pub async fn on_send_data(&mut self, request: lk::SendDataRequest) {
        let kind = if request.kind == lk::data_packet::Kind::Lossy as i32 {
            DataKind::Lossy
        } else {
            DataKind::Reliable
        };
        let to = self.recipients(None, &request.destination_identities, &request.destination_sids);
        let user = lk::UserPacket {
            payload: request.data,
            topic: request.topic,
            nonce: request.nonce,
            ..lk::UserPacket::default()
        };
        let packet = lk::DataPacket {
            kind: request.kind,
            destination_identities: request.destination_identities,
            value: Some(Value::User(user)),
            ..lk::DataPacket::default()
        };
        if !to.is_empty() {
            self.env
                .engine
                .send_data(&self.room.sid, &to, kind, packet.encode_to_vec())
                .await;
        }
    }

    /// Everyone but the sender, or those named.
    fn recipients(&self, but: Option<&ParticipantSid>, identities: &[String], sids: &[String]) -> Vec<ParticipantSid> {
        let everyone = identities.is_empty() && sids.is_empty();
        self.members
            .iter()
            .filter(|m| Some(&m.sid) != but && m.grants.can_subscribe)
            .filter(|m| {
                everyone
                    || identities.iter().any(|i| i == m.identity.as_str())
                    || sids.iter().any(|s| s == m.sid.as_str())
            })
            .map(|m| m.sid.clone())
            .collect()
    }
}

#[allow(deprecated)]
fn destinations(packet: &lk::DataPacket) -> Vec<String> {
    match &packet.value {
        Some(Value::User(user)) if packet.destination_identities.is_empty() => user.destination_identities.clone(),
        _ => packet.destination_identities.clone(),
    }
}

#[allow(deprecated)]
fn sign_sender(packet: &mut lk::DataPacket, identity: &str, sid: &ParticipantSid, kind: DataKind) {
    identity.clone_into(&mut packet.participant_identity);
    packet.participant_sid = if identity.is_empty() {
        String::new()
    } else {
        sid.to_string()
    };
    packet.kind = match kind {
        DataKind::Reliable => lk::data_packet::Kind::Reliable as i32,
        DataKind::Lossy => lk::data_packet::Kind::Lossy as i32,
    };
    if let Some(Value::User(user)) = &mut packet.value {
        identity.clone_into(&mut user.participant_identity);
        user.participant_sid.clone_from(&packet.participant_sid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_cannot_claim_another_sender() {
        let user = lk::UserPacket {
            payload: b"hi".to_vec(),
            ..lk::UserPacket::default()
        };
        let mut packet = lk::DataPacket {
            participant_identity: "boss".into(),
            value: Some(Value::User(user)),
            ..lk::DataPacket::default()
        };
        let sid = ParticipantSid::from_random([1; 12]);
        sign_sender(&mut packet, "ada", &sid, DataKind::Reliable);
        assert_eq!(packet.participant_identity, "ada");
        assert_eq!(packet.participant_sid, sid.to_string());
    }
}
