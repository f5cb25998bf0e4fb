//! Which addresses clients are told, and which of them a packet came to.

use std::net::{IpAddr, SocketAddr};

use confab_sfu::net::{Candidate, TcpType};

use super::network::tcp_port;

/// The addresses under which the media port can be reached.
#[derive(Debug, Clone)]
pub(super) struct LocalAddresses {
    addresses: Vec<SocketAddr>,
}

impl LocalAddresses {
    /// The public address first, if there is one; then the bound one, or every address of the machine but loopback.
    pub fn new(bind: IpAddr, public: Option<IpAddr>, port: u16) -> Self {
        let mut ips: Vec<IpAddr> = public.into_iter().collect();
        if bind.is_unspecified() {
            ips.extend(
                interface_addresses()
                    .into_iter()
                    .filter(|ip| !ip.is_loopback() && ip.is_ipv4() == bind.is_ipv4()),
            );
            if ips.is_empty() {
                // A machine without a network can still talk to itself.
                ips.push(if bind.is_ipv4() {
                    [127, 0, 0, 1].into()
                } else {
                    std::net::Ipv6Addr::LOCALHOST.into()
                });
            }
        } else {
            ips.push(bind);
        }
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for ip in ips {
            let address = SocketAddr::new(ip, port);
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        Self { addresses }
    }

    /// A UDP and a passive TCP candidate (RFC 6544) for each address.
    pub fn candidates(&self) -> Vec<Candidate> {
        let udp = self.addresses.iter().filter_map(|a| Candidate::host(*a, "udp").ok());
        let next = |a: &SocketAddr| tcp_port(a.port()).map(|port| SocketAddr::new(a.ip(), port));
        let passive = |a| {
            Candidate::builder()
                .tcp()
                .host(a)
                .tcptype(TcpType::Passive)
                .build()
                .ok()
        };
        let tcp = self.addresses.iter().filter_map(next).filter_map(passive);
        udp.chain(tcp).collect()
    }

    /// The address of the candidate that a TCP connection came to.
    pub fn reached_by_tcp(&self, ip: Option<IpAddr>) -> SocketAddr {
        let udp = self.reached(ip);
        SocketAddr::new(udp.ip(), tcp_port(udp.port()).unwrap_or(udp.port()))
    }

    /// The address of the UDP candidate that a packet came to. One that came through a NAT came to the public address.
    pub fn reached(&self, ip: Option<IpAddr>) -> SocketAddr {
        let known = ip.and_then(|ip| self.addresses.iter().find(|a| a.ip() == ip));
        known.copied().unwrap_or(self.addresses[0])
    }
}

#[cfg(unix)]
fn interface_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
        return Vec::new();
    };
    interfaces
        .filter(|i| i.flags.contains(nix::net::if_::InterfaceFlags::IFF_UP))
        .filter_map(|i| {
            let address = i.address?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        // Link-local IPv6 needs a zone that SDP cannot carry.
        .filter(|ip| !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local()))
        .collect()
}

/// Without an interface list: the address that the way to the outside starts from. Nothing is sent.
#[cfg(not(unix))]
fn interface_addresses() -> Vec<IpAddr> {
    let outward = |bind: &str, to: &str| {
        let socket = std::net::UdpSocket::bind(bind).ok()?;
        socket.connect(to).ok()?;
        socket.local_addr().ok().map(|a| a.ip())
    };
    [
        outward("0.0.0.0:0", "192.0.2.1:9"),
        outward("[::]:0", "[2001:db8::1]:9"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_told_only_when_bound_to_it() {
        let local = LocalAddresses::new([127, 0, 0, 1].into(), None, 7);
        assert_eq!(local.addresses, vec![SocketAddr::from(([127, 0, 0, 1], 7))]);
        let told: Vec<u16> = local.candidates().iter().map(|c| c.addr().port()).collect();
        assert_eq!(told, vec![7, 8], "TCP is on the next port");
    }

    #[test]
    fn a_packet_through_a_nat_came_to_the_public_address() {
        let public: IpAddr = [203, 0, 113, 7].into();
        let local = LocalAddresses::new([10, 0, 0, 5].into(), Some(public), 7);
        assert_eq!(local.reached(None).ip(), public);
        assert_eq!(
            local.reached(Some([10, 0, 0, 5].into())).ip(),
            IpAddr::from([10, 0, 0, 5])
        );
        assert_eq!(local.reached(Some([10, 0, 0, 9].into())).ip(), public);
    }
}
