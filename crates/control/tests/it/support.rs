//! A `Control` in a folder of its own, and shorthands.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use confab_control::{
    Control, ControlConfig, HashCost, IssuedRoomToken, LoginError, LoginRequest, ManualClock, SignedIn, VerifiedToken,
};
use confab_types::{Claims, ParticipantSid, RoomName, Scope, Secret, UserName, VideoGrant};
use hmac::{Hmac, KeyInit, Mac};
use time::OffsetDateTime;
use time::macros::datetime;

/// When every test begins.
pub const START: OffsetDateTime = datetime!(2026-03-01 12:00 UTC);

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A server's worth of control over a throw-away folder.
pub struct World {
    pub control: Control,
    pub clock: Arc<ManualClock>,
    pub dir: tempfile::TempDir,
    pub config: ControlConfig,
}

impl World {
    /// With the demo accounts and the API key `devkey`:`secret`.
    pub async fn new() -> Self {
        Self::with(|config| {
            config.demo = true;
            config.keys = vec![("devkey".to_owned(), Secret::new("secret"))];
        })
        .await
    }

    pub async fn with(change: impl FnOnce(&mut ControlConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(START));
        let mut config = ControlConfig::new(dir.path().join("data"));
        config.hash_cost = HashCost {
            memory_kib: 8,
            passes: 1,
            ..HashCost::default()
        };
        config.clock = clock.clone();
        change(&mut config);
        let control = Control::open(config.clone()).await.unwrap();
        Self {
            control,
            clock,
            dir,
            config,
        }
    }

    /// Stops and starts the server.
    pub async fn restart(self, change: impl FnOnce(&mut ControlConfig)) -> Self {
        let Self {
            control,
            clock,
            dir,
            mut config,
        } = self;
        control.close().await;
        drop(control);
        change(&mut config);
        let control = Control::open(config.clone()).await.unwrap();
        Self {
            control,
            clock,
            dir,
            config,
        }
    }

    pub async fn try_login(&self, user: &str, password: &str) -> Result<SignedIn, LoginError> {
        self.login_as(user, password, None, home()).await
    }

    pub async fn login_as(
        &self,
        user: &str,
        password: &str,
        scopes: Option<&[Scope]>,
        address: IpAddr,
    ) -> Result<SignedIn, LoginError> {
        let password = Secret::new(password);
        let request = LoginRequest {
            user,
            password: &password,
            scopes,
            device: Some("test"),
            address,
        };
        self.control.login(request).await
    }

    pub async fn login(&self, user: &str) -> SignedIn {
        self.try_login(user, "pass").await.unwrap()
    }

    /// Signs in and fetches a room token.
    pub async fn token(&self, user: &str, room: &str) -> IssuedRoomToken {
        let session = self.login(user).await.session;
        self.control
            .issue_room_token(&session, &room_name(room), None)
            .await
            .unwrap()
    }

    /// A fresh join, as the server does it.
    pub async fn join(&self, token: &Secret) -> ParticipantSid {
        let verified = self.verify(token).await;
        let sid = participant();
        self.control.admit(&verified, &sid).await.unwrap();
        sid
    }

    pub async fn verify(&self, token: &Secret) -> VerifiedToken {
        self.control.verify_room_token(token).await.unwrap()
    }
}

pub fn home() -> IpAddr {
    Ipv4Addr::LOCALHOST.into()
}

pub fn room_name(name: &str) -> RoomName {
    name.parse().unwrap()
}

pub fn user_name(name: &str) -> UserName {
    name.parse().unwrap()
}

/// A new participant sid.
pub fn participant() -> ParticipantSid {
    ParticipantSid::from_random(rand::random())
}

/// A participant's claims as a backend's SDK writes them, good for ten minutes.
pub fn backend_claims(room: &str, identity: &str) -> Claims {
    let now = u64::try_from(START.unix_timestamp()).unwrap();
    Claims {
        iss: "devkey".to_owned(),
        sub: identity.to_owned(),
        nbf: now,
        exp: now + 600,
        video: VideoGrant {
            room_join: true,
            room: room.to_owned(),
            ..VideoGrant::default()
        },
        ..Claims::default()
    }
}

/// Signs with `devkey`'s secret.
pub fn sign(claims: &Claims) -> Secret {
    sign_raw(
        r#"{"alg":"HS256","typ":"JWT"}"#,
        &serde_json::to_string(claims).unwrap(),
        b"secret",
    )
}

/// A JWT of exactly this header and payload, with an HMAC-SHA-256 signature.
pub fn sign_raw(header: &str, payload: &str, key: &[u8]) -> Secret {
    let body = format!("{}.{}", base64url(header.as_bytes()), base64url(payload.as_bytes()));
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).unwrap();
    mac.update(body.as_bytes());
    Secret::new(format!("{body}.{}", base64url(&mac.finalize().into_bytes())))
}

/// The parts of a JWT, header and payload decoded.
pub fn parts(token: &Secret) -> (String, String, String) {
    let mut parts = token.expose().split('.');
    let mut next = || parts.next().unwrap().to_owned();
    let (header, payload, signature) = (next(), next(), next());
    (unbase64url(&header), unbase64url(&payload), signature)
}

/// The claims of a JWT, unchecked.
pub fn claims_of(token: &Secret) -> Claims {
    serde_json::from_str(&parts(token).1).unwrap()
}

pub fn base64url(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

fn unbase64url(text: &str) -> String {
    use base64::Engine;
    String::from_utf8(base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
}
