//! What a jitter buffer counts.

/// Totals since the stream began, and its state now.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct JitterStats {
    /// Packets that came, duplicates and late ones included.
    pub received: u64,
    /// Packets that came after their time was played.
    pub late: u64,
    /// Packets that came twice.
    pub duplicates: u64,
    /// Packets that came after one sent later.
    pub reordered: u64,
    /// Packets that are not Opus.
    pub malformed: u64,
    /// Packets thrown away because too much had gathered.
    pub discarded: u64,
    /// Packets that were missing when their time came.
    pub lost: u64,
    /// Missing packets taken from the copy in the next one.
    pub fec: u64,
    /// Times that 10 ms (or less) were invented.
    pub plc: u64,
    /// Samples invented, at 48 kHz.
    pub concealed_samples: u64,
    /// Samples given out, at 48 kHz.
    pub samples: u64,
    /// Samples taken out to shorten the delay.
    pub removed_samples: u64,
    /// Samples put in to lengthen the delay.
    pub inserted_samples: u64,
    /// The longest run of invented samples, ms.
    pub longest_gap_ms: f32,
    /// How long packets wait now against the fastest one, ms.
    pub delay_ms: f32,
    /// How long they should.
    pub target_ms: f32,
}

/// What a pulled block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulled {
    /// Received sound, errors corrected included.
    Sound,
    /// Invented sound, at least in part.
    Concealed,
    /// Nothing: not begun, paused, or given up.
    Silence,
}
