//! Arithmetic of 16-bit RTP sequence numbers.

/// How far back a packet counts as late and not as a new beginning; 2,048 numbers are over a second at any rate of ours.
const SPAN: u16 = 2048;

/// Whether `a` comes after `b` (RFC 3550, appendix A.1: half the space ahead is "after").
pub(crate) fn is_after(a: u16, b: u16) -> bool {
    a != b && a.wrapping_sub(b) < 0x8000
}

/// Finds the beginning of a new numbering: two packets in a row, far behind the newest (RFC 3550, appendix A.1).
#[derive(Default)]
pub(crate) struct Restart {
    expected: Option<u16>,
}

impl Restart {
    /// Whether the sender began anew with this packet; `newest` is the newest of the old numbering.
    pub(crate) fn found(&mut self, sequence: u16, newest: u16) -> bool {
        if newest.wrapping_sub(sequence) < SPAN || is_after(sequence, newest) {
            return false;
        }
        let second = self.expected == Some(sequence);
        self.expected = (!second).then(|| sequence.wrapping_add(1));
        second
    }
}

/// Remembers which of the last numbers were seen.
pub(crate) struct Window {
    newest: Option<u16>,
    seen: Vec<u64>,
    restart: Restart,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            newest: None,
            seen: vec![0; usize::from(SPAN) / 64],
            restart: Restart::default(),
        }
    }
}

impl Window {
    fn slot(sequence: u16) -> (usize, u64) {
        let at = usize::from(sequence % SPAN);
        (at / 64, 1 << (at % 64))
    }

    /// Whether this number is seen for the first time. Numbers older than the window count as seen: too late to be of use.
    pub(crate) fn is_new(&mut self, sequence: u16) -> bool {
        let (word, bit) = Self::slot(sequence);
        match self.newest {
            Some(newest) if self.restart.found(sequence, newest) => {
                self.seen.fill(0);
                self.newest = Some(sequence);
            }
            Some(newest) if !is_after(sequence, newest) => {
                if newest.wrapping_sub(sequence) >= SPAN || self.seen[word] & bit != 0 {
                    return false;
                }
            }
            Some(newest) => {
                let ahead = sequence.wrapping_sub(newest);
                if ahead >= SPAN {
                    self.seen.fill(0);
                } else {
                    for skipped in 1..ahead {
                        let (word, bit) = Self::slot(newest.wrapping_add(skipped));
                        self.seen[word] &= !bit;
                    }
                }
                self.newest = Some(sequence);
            }
            None => self.newest = Some(sequence),
        }
        self.seen[word] |= bit;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_new_once_across_the_wrap() {
        let mut window = Window::default();
        for sequence in [65_530, 65_534, 1, 65_535, 0] {
            assert!(window.is_new(sequence), "{sequence}");
        }
        for sequence in [65_530, 65_534, 1, 65_535, 0] {
            assert!(!window.is_new(sequence), "{sequence} again");
        }
        assert!(window.is_new(65_531));
    }

    #[test]
    fn a_number_is_new_again_after_a_whole_round() {
        let mut window = Window::default();
        for round in 0..3 {
            for sequence in 0..=u16::MAX {
                assert!(window.is_new(sequence), "{sequence} in round {round}");
            }
        }
    }

    #[test]
    fn a_sender_that_begins_anew_is_heard_from_its_second_packet() {
        let mut window = Window::default();
        assert!(window.is_new(30_000));
        assert!(!window.is_new(5), "one stray packet is none");
        assert!(window.is_new(6) && window.is_new(7));
        assert!(!window.is_new(6));
    }

    #[test]
    fn a_number_older_than_the_window_is_too_late() {
        let mut window = Window::default();
        assert!(window.is_new(10_000));
        assert!(!window.is_new(10_000 - SPAN));
        assert!(window.is_new(10_001 - SPAN));
    }
}
