//! Hashing passwords with Argon2id on a bounded pool of blocking threads. Must
//! not know accounts: it is given a hash, or none, and does the same work.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use confab_types::Secret;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

use crate::{Entropy, HashCost, PasswordRule, StorageError};

/// The longest password, in bytes. Argon2 takes more; nobody types more.
const MAX_BYTES: usize = 1024;

/// Whether a password can be taken.
pub(crate) fn check(password: &Secret) -> Result<(), PasswordRule> {
    match password.expose().len() {
        0 => Err(PasswordRule::Empty),
        1..=MAX_BYTES => Ok(()),
        _ => Err(PasswordRule::TooLong),
    }
}

/// Hashes and verifies, a few at a time.
pub(crate) struct Hasher {
    cost: HashCost,
    entropy: Arc<dyn Entropy>,
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// What a password of an unknown user is compared with.
    decoy: String,
    /// How many Argon2 computations were made; the tests count them.
    runs: AtomicU64,
}

/// The right to hash one password now.
pub(crate) struct Turn(OwnedSemaphorePermit);

/// Counts one who waits, for as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Hasher {
    pub(crate) fn new(cost: HashCost, entropy: Arc<dyn Entropy>) -> Self {
        let mut nothing = Zeroizing::new([0u8; 32]);
        entropy.fill(&mut *nothing);
        let decoy = hash_now(cost, &*nothing, &salt(entropy.as_ref()));
        Self {
            cost,
            entropy,
            slots: Arc::new(Semaphore::new(cost.parallel_hashes.max(1))),
            waiting: AtomicUsize::new(0),
            decoy,
            runs: AtomicU64::new(0),
        }
    }

    /// Waits for a turn. Refused when too many wait already: memory and patience are bounded.
    pub(crate) async fn turn(&self) -> Result<Turn, StorageError> {
        if let Ok(permit) = Arc::clone(&self.slots).try_acquire_owned() {
            return Ok(Turn(permit));
        }
        let ahead = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if ahead >= self.cost.waiting_hashes {
            return Err(StorageError::Busy);
        }
        let permit = Arc::clone(&self.slots)
            .acquire_owned()
            .await
            .map_err(|_| StorageError::Busy)?;
        Ok(Turn(permit))
    }

    /// A new hash, in PHC format.
    pub(crate) async fn hash(&self, turn: Turn, password: &Secret) -> Result<String, StorageError> {
        let (cost, salt, password) = (self.cost, salt(self.entropy.as_ref()), copy(password));
        self.run(turn, move || hash_now(cost, &password, &salt)).await
    }

    /// Whether the password has this hash. Without a hash (an unknown user) the answer is no, after the same work.
    pub(crate) async fn verify(
        &self,
        turn: Turn,
        phc: Option<String>,
        password: &Secret,
    ) -> Result<bool, StorageError> {
        let known = phc.is_some();
        let phc = phc.unwrap_or_else(|| self.decoy.clone());
        let password = copy(password);
        let same = self
            .run(turn, move || {
                // The parameters are the hash's own.
                PasswordHash::new(&phc).is_ok_and(|hash| Argon2::default().verify_password(&password, &hash).is_ok())
            })
            .await?;
        Ok(same && known)
    }

    /// Whether a hash was made with other parameters than are wanted now.
    pub(crate) fn is_outdated(&self, phc: &str) -> bool {
        let Ok(hash) = PasswordHash::new(phc) else { return true };
        let Ok(params) = Params::try_from(&hash) else {
            return true;
        };
        let same = params.m_cost() == self.cost.memory_kib
            && params.t_cost() == self.cost.passes
            && params.p_cost() == self.cost.lanes;
        !same || hash.algorithm != argon2::ARGON2ID_IDENT
    }

    /// How many Argon2 computations were made so far.
    #[cfg(test)]
    pub(crate) fn runs(&self) -> u64 {
        self.runs.load(Ordering::Relaxed)
    }

    async fn run<T: Send + 'static>(
        &self,
        turn: Turn,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, StorageError> {
        self.runs.fetch_add(1, Ordering::Relaxed);
        // The turn goes into the closure: a caller that goes away frees it no sooner than the work is done.
        let task = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn.0);
            done
        });
        task.await.map_err(|_| StorageError::Busy)
    }
}

fn copy(password: &Secret) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(password.expose().as_bytes().to_vec())
}

fn salt(entropy: &dyn Entropy) -> SaltString {
    let mut bytes = [0u8; 16];
    entropy.fill(&mut bytes);
    SaltString::encode_b64(&bytes).expect("16 bytes are a valid salt")
}

fn hash_now(cost: HashCost, password: &[u8], salt: &SaltString) -> String {
    // Out-of-range parameters (only a configuration in code can name them) fall back to OWASP's.
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, None).unwrap_or_default();
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2
        .hash_password(password, salt)
        .expect("a password of bounded length can be hashed")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OsEntropy;

    fn hasher(passes: u32, parallel: usize, waiting: usize) -> Hasher {
        let cost = HashCost {
            memory_kib: 8,
            passes,
            lanes: 1,
            parallel_hashes: parallel,
            waiting_hashes: waiting,
        };
        Hasher::new(cost, Arc::new(OsEntropy))
    }

    #[test]
    fn the_default_cost_is_owasps() {
        let cost = HashCost::default();
        assert_eq!((cost.memory_kib, cost.passes, cost.lanes), (19 * 1024, 2, 1));
        let phc = hash_now(cost, b"pass", &salt(&OsEntropy));
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
    }

    #[tokio::test]
    async fn an_unknown_user_costs_one_computation_like_a_known_one() {
        let hasher = hasher(1, 1, 1);
        let phc = hasher
            .hash(hasher.turn().await.unwrap(), &Secret::new("pass"))
            .await
            .unwrap();
        let before = hasher.runs();
        assert!(
            !hasher
                .verify(hasher.turn().await.unwrap(), None, &Secret::new("pass"))
                .await
                .unwrap()
        );
        assert_eq!(hasher.runs() - before, 1);
        assert!(
            hasher
                .verify(hasher.turn().await.unwrap(), Some(phc), &Secret::new("pass"))
                .await
                .unwrap()
        );
        assert_eq!(hasher.runs() - before, 2);
        let shape = |phc: &str| phc.split('$').take(4).collect::<Vec<_>>().join("$");
        assert_eq!(shape(&hasher.decoy), "$argon2id$v=19$m=8,t=1,p=1");
    }

    #[tokio::test]
    async fn hashes_of_other_parameters_are_outdated() {
        let (old, new) = (hasher(1, 1, 1), hasher(2, 1, 1));
        let phc = old.hash(old.turn().await.unwrap(), &Secret::new("pass")).await.unwrap();
        assert!(!old.is_outdated(&phc));
        assert!(new.is_outdated(&phc) && new.is_outdated("nonsense"));
    }

    #[tokio::test]
    async fn more_than_the_queue_holds_are_refused_and_the_others_get_their_turn() {
        let hasher = hasher(1, 1, 1);
        let first = hasher.turn().await.unwrap();
        let mut second = Box::pin(hasher.turn());
        assert!(futures_poll(&mut second).await.is_none(), "waits");
        assert!(matches!(hasher.turn().await, Err(StorageError::Busy)));
        drop(first);
        second.await.unwrap();
        assert_eq!(hasher.waiting.load(Ordering::Relaxed), 0);
    }

    async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(cx) {
                std::task::Poll::Ready(out) => Some(out),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
