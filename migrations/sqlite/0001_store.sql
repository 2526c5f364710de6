-- Times are Unix ms (server time, UTC); durations are ms. Both engines have the same tables and the same names, and no types but
-- BIGINT and TEXT, which both have.

-- The servers that write here, and how far their journals are applied.
CREATE TABLE nodes (
    node_id TEXT PRIMARY KEY,
    boot_id BIGINT NOT NULL DEFAULT 0,
    -- index of the last journal record that is applied
    applied BIGINT NOT NULL DEFAULT 0,
    seen_at BIGINT NOT NULL
);

-- What the wire calls sessions.
CREATE TABLE rooms (
    session_id TEXT PRIMARY KEY,
    -- of the last event in the outbox: dense, from 1
    room_seq BIGINT NOT NULL DEFAULT 0,
    -- as PUT, JSON; NULL: the server's defaults
    settings TEXT,
    -- when its settings or its roster changed last; 0: never
    updated_at BIGINT NOT NULL
);

-- Who is expected.
CREATE TABLE rosters (
    session_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    user_name TEXT,
    role TEXT NOT NULL,
    PRIMARY KEY (session_id, user_id)
);

-- When a session begins, and when who is expected is late for it (ms after the start).
CREATE TABLE schedules (
    session_id TEXT PRIMARY KEY,
    starts_at BIGINT NOT NULL,
    late_after_ms BIGINT NOT NULL,
    absent_after_ms BIGINT NOT NULL,
    host_absent_after_ms BIGINT NOT NULL
);

CREATE TABLE meetings (
    meeting_id TEXT PRIMARY KEY,
    session_id TEXT NOT NULL,
    node_id TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    ended_at BIGINT,
    grace_ms BIGINT NOT NULL,
    -- of the last row in the log: dense, from 1
    last_seq BIGINT NOT NULL DEFAULT 0,
    -- the row of the log up to which it is summed up
    summary_seq BIGINT NOT NULL DEFAULT 0,
    last_left_at BIGINT,
    peak_participants BIGINT,
    total_participants BIGINT
);
CREATE INDEX meetings_by_session ON meetings (session_id, started_at);
CREATE INDEX meetings_by_node ON meetings (node_id, ended_at);

-- Append-only: everything else about attendance can be derived from it.
CREATE TABLE connection_log (
    meeting_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    kind TEXT NOT NULL,
    at BIGINT NOT NULL,
    connection_id TEXT,
    user_id TEXT,
    reason TEXT,
    -- where it comes from
    node_id TEXT NOT NULL,
    boot_id BIGINT NOT NULL,
    journal_index BIGINT NOT NULL,
    mono_ms BIGINT NOT NULL,
    wall_at BIGINT NOT NULL,
    -- the whole fact, JSON
    fact TEXT NOT NULL,
    PRIMARY KEY (meeting_id, seq)
);

-- One socket and its peer; the state that the log leads to.
CREATE TABLE connections (
    connection_id TEXT PRIMARY KEY,
    meeting_id TEXT NOT NULL,
    participant_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    user_name TEXT NOT NULL,
    role TEXT NOT NULL,
    node_id TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    alive_at BIGINT NOT NULL,
    ended_at BIGINT,
    reason TEXT,
    uncertainty_ms BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX connections_by_meeting ON connections (meeting_id);
CREATE INDEX connections_open ON connections (ended_at, node_id);
CREATE INDEX connections_by_user ON connections (user_id);

-- What open connections publish.
CREATE TABLE tracks (
    connection_id TEXT NOT NULL,
    track_id TEXT NOT NULL,
    PRIMARY KEY (connection_id, track_id)
);

-- The summary of a meeting that has ended, as its webhook says it, JSON; the highest version is current.
CREATE TABLE summaries (
    meeting_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    body TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (meeting_id, version)
);

-- One person in one meeting that has ended: what schools ask about.
CREATE TABLE attendance (
    meeting_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    user_name TEXT NOT NULL,
    role TEXT NOT NULL,
    first_join_at BIGINT NOT NULL,
    last_leave_at BIGINT NOT NULL,
    connected_ms BIGINT NOT NULL,
    speaking_ms BIGINT NOT NULL,
    camera_ms BIGINT NOT NULL,
    screen_ms BIGINT NOT NULL,
    visits BIGINT NOT NULL,
    PRIMARY KEY (meeting_id, user_id)
);
CREATE INDEX attendance_by_user ON attendance (user_id, first_join_at);
CREATE INDEX attendance_by_session ON attendance (session_id, first_join_at);

-- One unbroken stay of a person: connections joined over gaps no longer than the grace time.
CREATE TABLE visits (
    meeting_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    -- 1, 2, 3 and so on
    number BIGINT NOT NULL,
    joined_at BIGINT NOT NULL,
    left_at BIGINT NOT NULL,
    reason TEXT NOT NULL,
    gaps_ms BIGINT NOT NULL,
    uncertainty_ms BIGINT NOT NULL,
    PRIMARY KEY (meeting_id, user_id, number)
);

CREATE TABLE chat_messages (
    message_id TEXT PRIMARY KEY,
    session_id TEXT NOT NULL,
    meeting_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    user_name TEXT NOT NULL,
    message TEXT NOT NULL,
    sent_at BIGINT NOT NULL
);
CREATE INDEX chat_by_session ON chat_messages (session_id, sent_at);
CREATE INDEX chat_by_time ON chat_messages (sent_at);
CREATE INDEX chat_by_user ON chat_messages (user_id);
CREATE INDEX chat_by_meeting ON chat_messages (meeting_id);

-- Who was removed from which meeting, and which token is void until when.
CREATE TABLE revocations (
    meeting_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    -- '' where the token has no id
    token_id TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (meeting_id, user_id, token_id)
);
CREATE INDEX revocations_by_token ON revocations (token_id);

CREATE TABLE webhook_endpoints (
    endpoint_id TEXT PRIMARY KEY,
    url TEXT NOT NULL,
    -- whsec_…; the former one signs too until it expires
    secret TEXT NOT NULL,
    former_secret TEXT,
    former_until BIGINT,
    -- event types, separated by spaces; NULL: all
    events TEXT,
    -- 1 or 0
    enabled BIGINT NOT NULL,
    -- why it is not
    disabled_reason TEXT,
    created_at BIGINT NOT NULL
);

-- Events, each written in the transaction that made it true. The body is the same at every attempt.
CREATE TABLE outbox (
    event_id TEXT PRIMARY KEY,
    session_id TEXT NOT NULL,
    room_seq BIGINT NOT NULL,
    meeting_id TEXT,
    type TEXT NOT NULL,
    body TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (session_id, room_seq)
);
CREATE INDEX outbox_by_meeting ON outbox (meeting_id);
CREATE INDEX outbox_by_time ON outbox (created_at);

-- One event to one endpoint.
CREATE TABLE deliveries (
    endpoint_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    room_seq BIGINT NOT NULL,
    -- pending, delivered, dead
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    -- the node that is trying now, and until when that is believed
    claimed_by TEXT,
    claimed_until BIGINT,
    last_status BIGINT,
    last_error TEXT,
    done_at BIGINT,
    PRIMARY KEY (endpoint_id, event_id)
);
CREATE INDEX deliveries_by_event ON deliveries (event_id);
CREATE INDEX deliveries_due ON deliveries (endpoint_id, next_at) WHERE state = 'pending';
CREATE INDEX deliveries_in_order ON deliveries (endpoint_id, session_id, room_seq) WHERE state = 'pending';
CREATE INDEX deliveries_dead ON deliveries (endpoint_id, done_at) WHERE state = 'dead';

-- Events that came from another server, each taken once.
CREATE TABLE received_events (
    event_id TEXT PRIMARY KEY,
    received_at BIGINT NOT NULL
);
