-- What SQLite's migrations add up to, in PostgreSQL's words. Everything is in the schema that the settings name.
-- Text is ordered by its code points; a document keeps its bytes (json, not jsonb).

CREATE TABLE installation (
    schema_version INTEGER NOT NULL,
    database_id TEXT NOT NULL -- of these rows: data directories name it
);

INSERT INTO installation VALUES (0, gen_random_uuid()::text);

-- The newest change of each process: it tells whether a COMMIT whose connection was lost was kept.
CREATE TABLE writers (
    writer_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    change_number BIGINT NOT NULL,
    change_time TIMESTAMPTZ NOT NULL
);

CREATE TABLE sessions (
    session_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    user_id BIGINT NOT NULL,
    create_time_us BIGINT NOT NULL,
    last_used_time_us BIGINT NOT NULL,
    close_time_us BIGINT,
    document JSON NOT NULL
);

CREATE INDEX sessions_open_by_user ON sessions (user_id) WHERE close_time_us IS NULL;
CREATE INDEX sessions_open_by_use ON sessions (last_used_time_us, session_id) WHERE close_time_us IS NULL;
CREATE INDEX sessions_by_closing ON sessions (close_time_us) WHERE close_time_us IS NOT NULL;

CREATE TABLE videos (
    user_id BIGINT NOT NULL,
    video_id TEXT COLLATE "C" NOT NULL CHECK (video_id <> ''),
    state TEXT COLLATE "C" NOT NULL CHECK (
        state IN ('pending', 'queued', 'running', 'paused', 'completed', 'failed', 'error', 'deleted')
    ),
    create_time_us BIGINT NOT NULL,
    update_time_us BIGINT NOT NULL,
    document JSON NOT NULL,
    last_job_id TEXT COLLATE "C" NOT NULL,
    result_job_id TEXT COLLATE "C" NOT NULL,
    expire_time_us BIGINT,
    PRIMARY KEY (user_id, video_id)
);

CREATE INDEX videos_by_time ON videos (user_id, create_time_us, video_id);
CREATE INDEX videos_by_state ON videos (user_id, state, create_time_us, video_id);
CREATE INDEX videos_by_last_job ON videos (last_job_id) WHERE last_job_id <> '';
CREATE INDEX videos_by_result_job ON videos (result_job_id) WHERE result_job_id <> '';
CREATE INDEX videos_by_expiry ON videos (expire_time_us, user_id, video_id) WHERE state = 'deleted';
CREATE INDEX videos_by_upload ON videos ((document #>> '{source,upload_id}'));
CREATE INDEX videos_by_companion_upload ON videos ((document #>> '{companion,upload_id}'));

CREATE TABLE jobs (
    job_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    user_id BIGINT NOT NULL,
    video_id TEXT COLLATE "C" NOT NULL,
    session_id TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL CHECK (state IN ('queued', 'running', 'completed', 'failed', 'aborted')),
    priority TEXT COLLATE "C" NOT NULL CHECK (priority IN ('normal', 'high')),
    queue_class BIGINT NOT NULL,
    accept_number BIGINT NOT NULL,
    create_time_us BIGINT NOT NULL,
    start_time_us BIGINT,
    end_time_us BIGINT,
    plan_id TEXT COLLATE "C" NOT NULL,
    document JSON NOT NULL
);

CREATE UNIQUE INDEX jobs_one_active_per_video ON jobs (user_id, video_id) WHERE state IN ('queued', 'running');
CREATE INDEX jobs_active_by_acceptance ON jobs (accept_number, job_id) WHERE state IN ('queued', 'running');
CREATE INDEX jobs_active_by_user ON jobs (user_id, accept_number, job_id, state) WHERE state IN ('queued', 'running');
CREATE INDEX jobs_active_by_session ON jobs (session_id, accept_number, job_id) WHERE state IN ('queued', 'running');
CREATE INDEX jobs_running ON jobs (accept_number, job_id) WHERE state = 'running';
CREATE INDEX jobs_queue ON jobs (
    user_id,
    (CASE priority WHEN 'high' THEN 0 ELSE 1 END),
    queue_class,
    (CASE priority WHEN 'high' THEN -accept_number ELSE accept_number END),
    job_id
) WHERE state = 'queued';
CREATE INDEX jobs_completed_by_plan ON jobs (plan_id) WHERE state = 'completed' AND plan_id <> '';
CREATE INDEX jobs_by_end ON jobs (end_time_us) WHERE state IN ('completed', 'failed', 'aborted');

CREATE TABLE plans (
    plan_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    user_id BIGINT NOT NULL,
    video_id TEXT COLLATE "C" NOT NULL,
    settings_fingerprint TEXT COLLATE "C" NOT NULL,
    create_time_us BIGINT NOT NULL,
    stages TEXT NOT NULL, -- JSON, apart from the document because it alone changes
    document JSON NOT NULL
);

CREATE INDEX plans_by_video ON plans (user_id, video_id, create_time_us, plan_id);

CREATE TABLE segments (
    plan_id TEXT COLLATE "C" NOT NULL REFERENCES plans (plan_id) ON DELETE CASCADE,
    "index" BIGINT NOT NULL CHECK ("index" >= 0),
    state TEXT COLLATE "C" NOT NULL CHECK (state IN ('waiting', 'leased', 'done')),
    lease_token TEXT COLLATE "C" NOT NULL CHECK ((state = 'leased') = (lease_token <> '')),
    attempt_count BIGINT NOT NULL CHECK (attempt_count >= 0),
    crash_count BIGINT NOT NULL CHECK (crash_count >= 0),
    path TEXT NOT NULL CHECK ((state = 'done') = (path <> '')),
    size_bytes BIGINT NOT NULL,
    sha256 TEXT NOT NULL,
    frame_count BIGINT NOT NULL,
    input_sha256 TEXT NOT NULL,
    parameter_sets_sha256 TEXT NOT NULL,
    cpu_seconds DOUBLE PRECISION NOT NULL,
    measures TEXT NOT NULL,
    PRIMARY KEY (plan_id, "index")
);

CREATE INDEX segments_by_state ON segments (plan_id, state, "index");

CREATE TABLE uploads (
    upload_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    user_id BIGINT NOT NULL,
    state TEXT COLLATE "C" NOT NULL CHECK (state IN ('active', 'finished')),
    create_time_us BIGINT NOT NULL,
    update_time_us BIGINT NOT NULL,
    size_bytes BIGINT NOT NULL,
    document JSON NOT NULL
);

CREATE INDEX uploads_by_change ON uploads (state, update_time_us, upload_id);

CREATE TABLE artifacts (
    artifact_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    user_id BIGINT NOT NULL,
    video_id TEXT COLLATE "C" NOT NULL,
    job_id TEXT COLLATE "C" NOT NULL,
    stream_id BIGINT NOT NULL,
    size_bytes BIGINT NOT NULL,
    create_time_us BIGINT NOT NULL,
    expire_time_us BIGINT,
    detached BOOLEAN NOT NULL,
    document JSON NOT NULL
);

CREATE INDEX artifacts_by_job ON artifacts (job_id, stream_id, artifact_id);
CREATE INDEX artifacts_by_expiry ON artifacts (expire_time_us) WHERE expire_time_us IS NOT NULL;
CREATE INDEX artifacts_by_video ON artifacts (user_id, video_id, create_time_us, artifact_id) WHERE NOT detached;

CREATE TABLE events (
    user_id BIGINT NOT NULL,
    sequence BIGINT NOT NULL CHECK (sequence >= 1),
    job_id TEXT COLLATE "C" NOT NULL,
    create_time_us BIGINT NOT NULL,
    kind TEXT COLLATE "C" NOT NULL CHECK (kind IN ('process_done', 'error')),
    document JSON NOT NULL,
    PRIMARY KEY (user_id, sequence)
);

CREATE UNIQUE INDEX events_one_per_job ON events (job_id) WHERE job_id <> '';

CREATE TABLE requests (
    user_id BIGINT NOT NULL,
    method TEXT COLLATE "C" NOT NULL,
    request_id TEXT COLLATE "C" NOT NULL,
    arguments_sha256 TEXT NOT NULL,
    answer_id TEXT COLLATE "C" NOT NULL,
    create_time_us BIGINT NOT NULL,
    PRIMARY KEY (user_id, method, request_id)
);

CREATE INDEX requests_by_time ON requests (create_time_us);
CREATE INDEX requests_by_answer ON requests (answer_id);

CREATE TABLE user_counters (
    user_id BIGINT NOT NULL PRIMARY KEY,
    last_event_sequence BIGINT NOT NULL
);

CREATE TABLE service_counters (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);

CREATE TABLE tombstones (
    kind TEXT COLLATE "C" NOT NULL,
    "key" TEXT COLLATE "C" NOT NULL,
    create_time_us BIGINT NOT NULL,
    PRIMARY KEY (kind, "key")
);

CREATE INDEX tombstones_by_time ON tombstones (create_time_us, kind, "key");

-- Sums, kept by triggers. Functions find the tables of this schema whoever calls.

CREATE TABLE stored_sizes (
    user_id BIGINT NOT NULL PRIMARY KEY,
    size_bytes BIGINT NOT NULL
);

CREATE FUNCTION add_size() RETURNS TRIGGER LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO stored_sizes VALUES (new.user_id, new.size_bytes)
    ON CONFLICT (user_id) DO UPDATE SET size_bytes = stored_sizes.size_bytes + excluded.size_bytes;
    RETURN NULL;
END $$;

CREATE FUNCTION take_size() RETURNS TRIGGER LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE stored_sizes SET size_bytes = size_bytes - old.size_bytes WHERE user_id = old.user_id;
    RETURN NULL;
END $$;

CREATE FUNCTION add_segment_size() RETURNS TRIGGER LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO stored_sizes SELECT user_id, new.size_bytes FROM plans WHERE plan_id = new.plan_id
    ON CONFLICT (user_id) DO UPDATE SET size_bytes = stored_sizes.size_bytes + excluded.size_bytes;
    RETURN NULL;
END $$;

CREATE FUNCTION take_segment_size() RETURNS TRIGGER LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE stored_sizes SET size_bytes = size_bytes - old.size_bytes
    WHERE user_id = (SELECT user_id FROM plans WHERE plan_id = old.plan_id);
    RETURN NULL;
END $$;

CREATE TRIGGER uploads_taken AFTER UPDATE OF user_id, state, size_bytes OR DELETE ON uploads
FOR EACH ROW WHEN (old.state = 'finished') EXECUTE FUNCTION take_size();

CREATE TRIGGER uploads_added AFTER INSERT OR UPDATE OF user_id, state, size_bytes ON uploads
FOR EACH ROW WHEN (new.state = 'finished') EXECUTE FUNCTION add_size();

CREATE TRIGGER artifacts_taken AFTER UPDATE OF user_id, size_bytes OR DELETE ON artifacts
FOR EACH ROW EXECUTE FUNCTION take_size();

CREATE TRIGGER artifacts_added AFTER INSERT OR UPDATE OF user_id, size_bytes ON artifacts
FOR EACH ROW EXECUTE FUNCTION add_size();

CREATE TRIGGER segments_taken AFTER UPDATE OF state, size_bytes OR DELETE ON segments
FOR EACH ROW WHEN (old.state = 'done') EXECUTE FUNCTION take_segment_size();

CREATE TRIGGER segments_added AFTER INSERT OR UPDATE OF state, size_bytes ON segments
FOR EACH ROW WHEN (new.state = 'done') EXECUTE FUNCTION add_segment_size();

-- A plan's segments go before it, while it still tells whose they are.
CREATE FUNCTION delete_segments() RETURNS TRIGGER LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    DELETE FROM segments WHERE plan_id = old.plan_id;
    RETURN old;
END $$;

CREATE TRIGGER plans_deleted BEFORE DELETE ON plans FOR EACH ROW EXECUTE FUNCTION delete_segments();

CREATE TABLE active_jobs (
    user_id BIGINT NOT NULL PRIMARY KEY,
    queued_count BIGINT NOT NULL,
    running_count BIGINT NOT NULL
);

CREATE FUNCTION add_active() RETURNS TRIGGER LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO active_jobs VALUES (new.user_id, (new.state = 'queued')::int, (new.state = 'running')::int)
    ON CONFLICT (user_id) DO UPDATE SET
        queued_count = active_jobs.queued_count + excluded.queued_count,
        running_count = active_jobs.running_count + excluded.running_count;
    RETURN NULL;
END $$;

CREATE FUNCTION take_active() RETURNS TRIGGER LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE active_jobs SET
        queued_count = queued_count - (old.state = 'queued')::int,
        running_count = running_count - (old.state = 'running')::int
    WHERE user_id = old.user_id;
    DELETE FROM active_jobs WHERE user_id = old.user_id AND queued_count = 0 AND running_count = 0;
    RETURN NULL;
END $$;

-- Triggers of one moment run in the order of their names.
CREATE TRIGGER jobs_added AFTER INSERT OR UPDATE OF user_id, state ON jobs
FOR EACH ROW WHEN (new.state IN ('queued', 'running')) EXECUTE FUNCTION add_active();

CREATE TRIGGER jobs_taken AFTER UPDATE OF user_id, state ON jobs
FOR EACH ROW WHEN (old.state IN ('queued', 'running')) EXECUTE FUNCTION take_active();

-- Notices: sent at COMMIT, to who listens at that moment.

CREATE FUNCTION tell_event() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify(tg_table_schema || '.events', new.user_id::text);
    RETURN NULL;
END $$;

CREATE FUNCTION tell_job() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify(tg_table_schema || '.jobs', new.job_id);
    RETURN NULL;
END $$;

CREATE TRIGGER events_told AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION tell_event();

CREATE TRIGGER jobs_told AFTER INSERT OR UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION tell_job();
