//! The little of SDP that str0m does not tell: which client track is on which
//! m-line, and our own ICE credentials after a restart. Text in, text out.

use std::fmt::Write as _;

use confab_types::TrackKind;
use str0m::IceCreds;
use str0m::media::Mid;

use crate::participant::Msid;

/// An SDP longer than this is refused unread. A browser's offer with 50 m-lines is about 200 kB.
pub(crate) const MAX_SDP_BYTES: usize = 512 * 1024;

/// An SDP with more m-lines than this is refused: each costs every later negotiation. A browser that publishes and
/// unpublishes for hours leaves dozens.
const MAX_M_LINES: usize = 256;

/// Whether a description is small enough to be read at all.
pub(crate) fn is_bounded(sdp: &str) -> bool {
    sdp.len() <= MAX_SDP_BYTES && sdp.lines().filter(|l| l.starts_with("m=")).count() <= MAX_M_LINES
}

/// An m-line of the remote side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MediaLine {
    /// `a=mid`.
    pub mid: String,
    /// Sound or picture.
    pub kind: TrackKind,
    /// The track half of `a=msid`.
    pub track_id: Option<String>,
    /// Whether the remote side may send on it.
    pub sending: bool,
}

/// The audio and video m-lines of a session description, in order.
pub(crate) fn media_lines(sdp: &str) -> Vec<MediaLine> {
    let mut lines = Vec::new();
    let mut current: Option<MediaLine> = None;
    for line in sdp.lines().map(str::trim_end) {
        if let Some(m) = line.strip_prefix("m=") {
            lines.extend(current.take().filter(|l| !l.mid.is_empty()));
            current = start_line(m);
            continue;
        }
        let Some(media) = &mut current else { continue };
        match line {
            "a=sendrecv" | "a=sendonly" => media.sending = true,
            "a=recvonly" | "a=inactive" => media.sending = false,
            _ => {
                if let Some(mid) = line.strip_prefix("a=mid:") {
                    media.mid = mid.trim().to_owned();
                } else if let Some(msid) = line.strip_prefix("a=msid:") {
                    media.track_id = msid.split_whitespace().nth(1).map(str::to_owned);
                }
            }
        }
    }
    lines.extend(current.filter(|l| !l.mid.is_empty()));
    lines
}

fn start_line(m: &str) -> Option<MediaLine> {
    let mut words = m.split_whitespace();
    let kind = match words.next()? {
        "audio" => TrackKind::Audio,
        "video" => TrackKind::Video,
        _ => return None,
    };
    // Without a direction line sendrecv is meant (RFC 8866 section 6.7).
    Some(MediaLine {
        mid: String::new(),
        kind,
        track_id: None,
        sending: true,
    })
}

/// The same description with other names for some m-lines: str0m keeps the msid that an m-line was made with.
pub(crate) fn renamed(sdp: &str, names: &[(Mid, Msid)]) -> String {
    if names.is_empty() {
        return sdp.to_owned();
    }
    let sections = sections(sdp).into_iter().map(|section| {
        let mid = section.lines().find_map(|l| l.strip_prefix("a=mid:"));
        let name = names.iter().find(|(m, _)| mid.is_some_and(|mid| **m == *mid));
        let Some((_, Msid { stream, track })) = name else {
            return section;
        };
        let rename = |line: &str| match (line.strip_prefix("a=msid:"), line.split_once(" msid:")) {
            (Some(_), _) => format!("a=msid:{stream} {track}\r\n"),
            (_, Some((ssrc, _))) if line.starts_with("a=ssrc:") => format!("{ssrc} msid:{stream} {track}\r\n"),
            _ => format!("{line}\r\n"),
        };
        section.lines().map(rename).collect()
    });
    sections.collect()
}

/// The session part and the m-lines' parts.
fn sections(sdp: &str) -> Vec<String> {
    let mut sections: Vec<String> = Vec::new();
    for line in sdp.lines() {
        if line.starts_with("m=") || sections.is_empty() {
            sections.push(String::new());
        }
        if let Some(section) = sections.last_mut() {
            section.push_str(line);
            section.push_str("\r\n");
        }
    }
    sections
}

/// A description of ours as clients get it: with our credentials, and with the candidates where all clients look.
pub(crate) fn finish(sdp: &str, credentials: &IceCreds) -> String {
    with_reachable_candidates(&with_credentials(sdp, credentials))
}

/// str0m writes its candidates into the first m-line only, and `webrtc` (0.21) does not read those of an inactive one:
/// copies them into the first active m-line then.
fn with_reachable_candidates(sdp: &str) -> String {
    let mut sections = sections(sdp);
    let is_inactive = |section: &str| section.lines().any(|l| l == "a=inactive");
    let candidates: String = match sections.get(1) {
        Some(first) if is_inactive(first) => first
            .lines()
            .filter(|l| l.starts_with("a=candidate:"))
            .map(|l| format!("{l}\r\n"))
            .collect(),
        _ => return sdp.to_owned(),
    };
    if let Some(active) = sections.iter_mut().skip(1).find(|s| !is_inactive(s)) {
        active.push_str(&candidates);
    }
    sections.concat()
}

/// The same description with our ICE credentials. str0m draws its own on a restart, and the driver needs to know
/// by the ufrag to which shard a packet belongs.
fn with_credentials(sdp: &str, credentials: &IceCreds) -> String {
    let mut out = String::with_capacity(sdp.len() + 64);
    for line in sdp.lines() {
        let _ = if line.starts_with("a=ice-ufrag:") {
            write!(out, "a=ice-ufrag:{}\r\n", credentials.ufrag)
        } else if line.starts_with("a=ice-pwd:") {
            write!(out, "a=ice-pwd:{}\r\n", credentials.pass)
        } else if let (true, Some((head, tail))) = (line.starts_with("a=candidate:"), line.split_once(" ufrag ")) {
            let rest = tail.split_once(' ').map_or("", |(_, rest)| rest);
            write!(
                out,
                "{head} ufrag {}{}{rest}\r\n",
                credentials.ufrag,
                if rest.is_empty() { "" } else { " " }
            )
        } else {
            write!(out, "{line}\r\n")
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n\
        a=msid:stream track-a\r\na=sendonly\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:1\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:2\r\na=inactive\r\na=msid:- track-v\r\n";

    #[test]
    fn each_m_line_tells_its_track_and_direction() {
        let lines = media_lines(OFFER);
        assert_eq!(lines.len(), 2);
        assert_eq!(
            (lines[0].mid.as_str(), lines[0].track_id.as_deref(), lines[0].sending),
            ("0", Some("track-a"), true)
        );
        assert_eq!(
            (lines[1].mid.as_str(), lines[1].track_id.as_deref(), lines[1].sending),
            ("2", Some("track-v"), false)
        );
    }

    #[test]
    fn credentials_are_replaced_everywhere() {
        let sdp = "a=ice-ufrag:old\r\na=ice-pwd:oldpass\r\na=candidate:1 1 udp 1 127.0.0.1 5 typ host ufrag old\r\n";
        let ours = IceCreds {
            ufrag: "new".into(),
            pass: "newpass".into(),
        };
        let out = with_credentials(sdp, &ours);
        assert!(!out.contains("old") && out.contains("ufrag new\r\n") && out.contains("a=ice-pwd:newpass\r\n"));
    }

    #[test]
    fn candidates_of_an_inactive_first_m_line_are_told_on_an_active_one() {
        let candidate = "a=candidate:1 1 udp 1 127.0.0.1 5 typ host\r\n";
        let inactive = format!("m=video 9 x 96\r\na=mid:0\r\na=inactive\r\n{candidate}");
        let active = "m=audio 9 x 111\r\na=mid:1\r\na=recvonly\r\n";
        let sdp = format!("v=0\r\n{inactive}{active}");
        assert_eq!(with_reachable_candidates(&sdp), format!("{sdp}{candidate}"));
        let other = format!("v=0\r\n{active}{candidate}{inactive}");
        assert_eq!(with_reachable_candidates(&other), other);
    }

    #[test]
    fn a_line_that_carries_another_track_is_renamed_and_no_other() {
        let sdp = "v=0\r\nm=video 9 x 96\r\na=mid:a\r\na=msid:old T1\r\na=ssrc:1 cname:T1\r\na=ssrc:1 msid:old T1\r\n\
            m=video 9 x 96\r\na=mid:b\r\na=msid:other T2\r\n";
        let name = Msid {
            stream: "new".into(),
            track: "T3".into(),
        };
        let out = renamed(sdp, &[(Mid::from("a"), name)]);
        assert!(
            out.contains("a=msid:new T3\r\na=ssrc:1 cname:T1\r\na=ssrc:1 msid:new T3\r\n"),
            "{out}"
        );
        assert!(out.contains("a=msid:other T2\r\n"));
    }

    #[test]
    fn nonsense_has_no_m_lines() {
        assert!(media_lines("m=\r\nm=audio\r\n\u{0}a=mid:\r\nm=video").is_empty());
    }
}
