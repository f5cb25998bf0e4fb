//! The little that is read from and written into SDP texts here; the rest is the library's.

use std::collections::HashMap;

use crate::api::CandidateInit;

/// Offers to be the DTLS server: the other side then speaks first, which saves an interval.
pub(crate) fn passive(offer: &str) -> String {
    offer.replace("a=setup:actpass", "a=setup:passive")
}

/// Gives each refused section (port 0) the direction that the library leaves out and strict readers ask for.
pub(crate) fn with_directions(answer: &str) -> String {
    const DIRECTIONS: [&str; 4] = ["a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive"];
    let mut out = String::with_capacity(answer.len() + 16);
    let mut refused = false;
    for line in answer.lines() {
        if line.starts_with("m=") {
            if refused {
                out.push_str("a=inactive\r\n");
            }
            refused = line.split_ascii_whitespace().nth(1) == Some("0");
        }
        refused &= !DIRECTIONS.contains(&line);
        out.push_str(line);
        out.push_str("\r\n");
    }
    if refused {
        out.push_str("a=inactive\r\n");
    }
    out
}

/// For each section, by mid, whether the other side takes transport-wide sequence numbers on it.
pub(crate) fn numbered_sections(sdp: &str) -> HashMap<String, bool> {
    let (session, sections) = sdp.split_once("m=").unwrap_or((sdp, ""));
    let takes = |text: &str| {
        text.lines()
            .any(|l| l.starts_with("a=extmap:") && l.contains("transport-wide-cc-extensions"))
    };
    let everywhere = takes(session);
    let named = sections.split("\nm=").filter_map(|section| {
        let mid = section.lines().find_map(|l| l.strip_prefix("a=mid:"))?;
        Some((mid.trim().to_owned(), everywhere || takes(section)))
    });
    named.collect()
}

/// The passive TCP candidates inside a description, which the library does not dial by itself.
pub(crate) fn tcp_candidates(sdp: &str) -> Vec<CandidateInit> {
    let mut mid = None;
    let mut index = None;
    let mut found: Vec<CandidateInit> = Vec::new();
    for line in sdp.lines() {
        if line.starts_with("m=") {
            index = Some(index.map_or(0, |i: u16| i + 1));
            mid = None;
        } else if let Some(name) = line.strip_prefix("a=mid:") {
            mid = Some(name.to_owned());
            // Candidates may stand before the mid of their section.
            for candidate in found.iter_mut().filter(|c| c.sdp_mline_index == index) {
                candidate.sdp_mid = mid.clone();
            }
        } else if let Some(candidate) = line.strip_prefix("a=")
            && is_passive_tcp(candidate)
            && found.iter().all(|c| c.candidate != candidate)
        {
            found.push(CandidateInit {
                candidate: candidate.to_owned(),
                sdp_mid: mid.clone(),
                sdp_mline_index: index.or(Some(0)),
            });
        }
    }
    found
}

/// Whether a candidate line is one that the other side listens on with TCP.
pub(crate) fn is_passive_tcp(candidate: &str) -> bool {
    let mut words = candidate.split_ascii_whitespace();
    candidate.starts_with("candidate:")
        && words
            .nth(2)
            .is_some_and(|transport| transport.eq_ignore_ascii_case("tcp"))
        && candidate.contains("tcptype passive")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passive_tcp_candidates_are_found_once_with_their_section() {
        let sdp = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=candidate:1 1 udp 1 10.0.0.1 7882 typ host\r\n\
                   a=candidate:2 1 TCP 1 10.0.0.1 7881 typ host tcptype passive\r\na=mid:0\r\n\
                   m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\na=candidate:2 1 TCP 1 10.0.0.1 7881 typ host tcptype passive\r\n\
                   a=candidate:3 1 tcp 1 10.0.0.1 9 typ host tcptype active\r\n";
        let found = tcp_candidates(sdp);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].sdp_mid.as_deref(), found[0].sdp_mline_index),
            (Some("0"), Some(0))
        );
    }

    #[test]
    fn refused_sections_get_a_direction_and_the_others_keep_theirs() {
        let answer = "v=0\r\nm=video 0 X 0\r\na=mid:0\r\nm=audio 9 X 1\r\na=recvonly\r\nm=video 0 X 0\r\na=inactive\r\nm=video 0 X 0\r\n";
        let whole = "v=0\r\nm=video 0 X 0\r\na=mid:0\r\na=inactive\r\nm=audio 9 X 1\r\na=recvonly\r\n\
                     m=video 0 X 0\r\na=inactive\r\nm=video 0 X 0\r\na=inactive\r\n";
        assert_eq!(with_directions(answer), whole);
        assert_eq!(with_directions(whole), whole);
    }

    #[test]
    fn sections_without_transport_wide_numbers_are_known() {
        let twcc = "a=extmap:5 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
        let sdp =
            format!("v=0\r\nm=video 9 X 96\r\na=mid:0\r\n{twcc}\r\nm=audio 9 X 111\r\na=mid:1\r\na=extmap:1 urn:x\r\n");
        let sections = numbered_sections(&sdp);
        assert_eq!((sections["0"], sections["1"]), (true, false));
    }

    #[test]
    fn only_the_offers_role_is_changed() {
        assert_eq!(
            passive("a=setup:actpass\r\na=setup:active\r\n"),
            "a=setup:passive\r\na=setup:active\r\n"
        );
    }
}
