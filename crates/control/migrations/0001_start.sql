-- Written for SQLite and PostgreSQL alike: times are milliseconds since 1970,
-- hashes are lower-case hex, ids are text.

CREATE TABLE users (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    -- the name in lower case: no two accounts differ in letter case alone
    name_key TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    administrator BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL
);

-- How a person proves to be a user; OIDC will add rows with its own provider.
CREATE TABLE identities (
    provider TEXT NOT NULL,
    subject TEXT NOT NULL,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    PRIMARY KEY (provider, subject)
);
CREATE INDEX identities_user ON identities (user_id);

CREATE TABLE passwords (
    user_id TEXT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    phc TEXT NOT NULL,
    changed_at BIGINT NOT NULL
);

CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    scopes TEXT NOT NULL,
    device TEXT NOT NULL,
    -- the API key that a backend proved, or null after a login
    api_key TEXT,
    -- counts refreshes: the refresh token of this generation is the good one
    generation BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    refreshed_at BIGINT NOT NULL,
    ended_at BIGINT
);
CREATE INDEX sessions_user ON sessions (user_id);

CREATE TABLE session_tokens (
    hash TEXT PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    expires_at BIGINT NOT NULL
);
CREATE INDEX session_tokens_session ON session_tokens (session_id);

CREATE TABLE refresh_tokens (
    hash TEXT PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    generation BIGINT NOT NULL,
    spent_at BIGINT
);
CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id);

CREATE TABLE api_keys (
    name TEXT PRIMARY KEY,
    secret TEXT NOT NULL,
    -- made at the first run, not by `key add`
    is_default BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL
);

-- The server's own keys: for room tokens, and for successors of refresh tokens.
CREATE TABLE secrets (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE room_settings (
    name TEXT PRIMARY KEY,
    locked BOOLEAN NOT NULL,
    size_limit BIGINT
);

-- One row for each run of a room.
CREATE TABLE rooms (
    sid TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    origin TEXT NOT NULL,
    creator TEXT,
    empty_timeout_ms BIGINT NOT NULL,
    departure_timeout_ms BIGINT NOT NULL,
    max_participants BIGINT,
    metadata TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    ended_at BIGINT,
    end_reason TEXT
);
CREATE UNIQUE INDEX rooms_open_name ON rooms (name) WHERE ended_at IS NULL;

CREATE TABLE admissions (
    -- the jti of the server's own tokens
    id TEXT PRIMARY KEY,
    room_sid TEXT NOT NULL REFERENCES rooms (sid),
    user_id TEXT REFERENCES users (id) ON DELETE SET NULL,
    user_name TEXT,
    identity TEXT NOT NULL,
    -- the API key's name; null for the server's own tokens
    api_key TEXT,
    claims TEXT NOT NULL,
    state TEXT NOT NULL,
    participant_sid TEXT,
    issued_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    departing_until BIGINT,
    voided_at BIGINT
);
CREATE UNIQUE INDEX admissions_living_identity ON admissions (room_sid, identity) WHERE state <> 'void';
CREATE INDEX admissions_room_state ON admissions (room_sid, state);
CREATE INDEX admissions_state ON admissions (state);
CREATE INDEX admissions_user ON admissions (user_id);

-- Backends' tokens that are worth nothing: those for this room and identity
-- ('' is everyone) issued at or before this second.
CREATE TABLE revocations (
    room TEXT NOT NULL,
    identity TEXT NOT NULL,
    issued_until BIGINT NOT NULL,
    PRIMARY KEY (room, identity)
);
