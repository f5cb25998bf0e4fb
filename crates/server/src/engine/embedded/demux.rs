//! Which shard, room and connection a packet belongs to. The first packet from
//! an address is a STUN request that names our ufrag, and the ufrag says where
//! to; after it was checked, the address does.

use std::collections::HashMap;
use std::net::SocketAddr;

use confab_sfu::ConnectionId;
use confab_sfu::net::{IceCreds, Protocol};
use parking_lot::RwLock;
use rand::Rng;
use rand::distr::Alphanumeric;

/// Random characters after the place: RFC 8445 section 5.3 asks for 24 bits at least.
const RANDOM: usize = 8;

/// Characters of a password: 128 bits at least, the same section.
const PASSWORD: usize = 24;

/// Addresses known at a time. A real client has at most a few.
const MAX_ADDRESSES: usize = 65_536;

/// Where a connection lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub shard: u8,
    pub room: u32,
    pub connection: ConnectionId,
}

impl Place {
    /// New credentials that lead here.
    pub fn credentials(self) -> IceCreds {
        let text = |n: usize| {
            rand::rng()
                .sample_iter(Alphanumeric)
                .take(n)
                .map(char::from)
                .collect::<String>()
        };
        IceCreds {
            ufrag: format!(
                "{:02x}{:08x}{:08x}{}",
                self.shard,
                self.room,
                self.connection.0,
                text(RANDOM)
            ),
            pass: text(PASSWORD),
        }
    }

    /// The place that a ufrag of ours names.
    pub fn from_ufrag(ufrag: &str) -> Option<Self> {
        if ufrag.len() != 18 + RANDOM || !ufrag.is_ascii() {
            return None;
        }
        Some(Self {
            shard: u8::from_str_radix(&ufrag[..2], 16).ok()?,
            room: u32::from_str_radix(&ufrag[2..10], 16).ok()?,
            connection: ConnectionId(u32::from_str_radix(&ufrag[10..18], 16).ok()?),
        })
    }
}

const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const BINDING_REQUEST: [u8; 2] = [0, 1];
const USERNAME: u16 = 6;

/// The place named by a STUN binding request (RFC 8489); none for any other packet.
pub(super) fn place_in_stun(packet: &[u8]) -> Option<Place> {
    if packet.len() < 20 || packet[..2] != BINDING_REQUEST || packet[4..8] != MAGIC_COOKIE {
        return None;
    }
    let mut rest = &packet[20..];
    while rest.len() >= 4 {
        let kind = u16::from_be_bytes([rest[0], rest[1]]);
        let length = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        let value = rest.get(4..4 + length)?;
        if kind == USERNAME {
            let name = std::str::from_utf8(value).ok()?;
            return Place::from_ufrag(name.split(':').next()?);
        }
        rest = rest.get(4 + length.next_multiple_of(4)..)?;
    }
    None
}

/// The shards of known addresses, written by shards, read by the receiver.
#[derive(Default)]
pub(super) struct AddressTable {
    shards: RwLock<HashMap<(Protocol, SocketAddr), u8>>,
}

impl AddressTable {
    /// An address proved that it belongs to a connection of this shard.
    pub fn insert(&self, protocol: Protocol, address: SocketAddr, shard: u8) {
        let mut shards = self.shards.write();
        if shards.len() < MAX_ADDRESSES || shards.contains_key(&(protocol, address)) {
            shards.insert((protocol, address), shard);
        }
    }

    /// A connection is over. Only the shard that has the address may give it up.
    pub fn remove(&self, protocol: Protocol, address: SocketAddr, shard: u8) {
        let mut shards = self.shards.write();
        if shards.get(&(protocol, address)) == Some(&shard) {
            shards.remove(&(protocol, address));
        }
    }

    /// The shard for a packet, none for strangers.
    pub fn shard_of(&self, protocol: Protocol, address: SocketAddr, packet: &[u8]) -> Option<u8> {
        match place_in_stun(packet) {
            Some(place) => Some(place.shard),
            None => self.shards.read().get(&(protocol, address)).copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place {
        shard: 3,
        room: 0xabcdef,
        connection: ConnectionId(42),
    };

    fn request(username: &str) -> Vec<u8> {
        let padded = username.len().next_multiple_of(4);
        let mut packet = vec![0, 1, 0, (padded + 4) as u8];
        packet.extend(MAGIC_COOKIE);
        packet.extend([7; 12]);
        packet.extend([0, 6, 0, username.len() as u8]);
        packet.extend(username.bytes());
        packet.resize(20 + 4 + padded, 0);
        packet
    }

    #[test]
    fn a_ufrag_leads_back_to_its_place() {
        let credentials = PLACE.credentials();
        assert_eq!(
            place_in_stun(&request(&format!("{}:theirs", credentials.ufrag))),
            Some(PLACE)
        );
        assert_ne!(PLACE.credentials(), credentials);
    }

    #[test]
    fn strangers_and_broken_packets_lead_nowhere() {
        assert_eq!(place_in_stun(&request("someone:else")), None);
        let good = request(&format!("{}:theirs", PLACE.credentials().ufrag));
        for end in 0..good.len() - 1 {
            let _ = place_in_stun(&good[..end]);
        }
        assert_eq!(place_in_stun(&[0x80; 1200]), None);
        assert_eq!(Place::from_ufrag("\u{e9}0000000000000000000000000"), None);
    }

    #[test]
    fn another_shard_cannot_remove_an_address() {
        let table = AddressTable::default();
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        table.insert(Protocol::Udp, address, 1);
        table.remove(Protocol::Udp, address, 2);
        assert_eq!(table.shard_of(Protocol::Udp, address, &[]), Some(1));
        assert_eq!(table.shard_of(Protocol::Tcp, address, &[]), None);
        table.remove(Protocol::Udp, address, 1);
        assert_eq!(table.shard_of(Protocol::Udp, address, &[]), None);
    }
}
