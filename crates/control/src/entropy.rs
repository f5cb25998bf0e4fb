//! Where randomness comes from. Everything in this crate asks an [`Entropy`].

use rand::TryRngCore;

/// A source of unpredictable bytes.
pub trait Entropy: Send + Sync + 'static {
    /// Fills the whole buffer.
    fn fill(&self, bytes: &mut [u8]);
}

/// The operating system's generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        rand::rngs::OsRng
            .try_fill_bytes(bytes)
            .expect("the operating system has a random number generator");
    }
}
