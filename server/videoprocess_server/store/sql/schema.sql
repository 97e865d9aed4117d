-- What all migrations add up to, to be read; a test compares. Nothing runs it.

CREATE TABLE sessions (
    session_id TEXT NOT NULL PRIMARY KEY,
    user_id INTEGER NOT NULL,
    create_time_us INTEGER NOT NULL,
    last_used_time_us INTEGER NOT NULL,
    close_time_us INTEGER,
    document TEXT NOT NULL
) STRICT;

CREATE INDEX sessions_open_by_user ON sessions (user_id) WHERE close_time_us IS NULL;

CREATE INDEX sessions_open_by_use ON sessions (last_used_time_us, session_id) WHERE close_time_us IS NULL;

CREATE TABLE videos (
    user_id INTEGER NOT NULL,
    video_id TEXT NOT NULL CHECK (video_id <> ''),
    state TEXT NOT NULL CHECK (
        state IN ('pending', 'queued', 'running', 'paused', 'completed', 'failed', 'error', 'deleted')
    ),
    create_time_us INTEGER NOT NULL,
    update_time_us INTEGER NOT NULL,
    document TEXT NOT NULL, last_job_id TEXT NOT NULL DEFAULT '', result_job_id TEXT NOT NULL DEFAULT '', expire_time_us INTEGER,
    PRIMARY KEY (user_id, video_id)
) STRICT;

CREATE INDEX videos_by_upload ON videos (json_extract(document, '$.source.upload_id'));

CREATE TABLE jobs (
    job_id TEXT NOT NULL PRIMARY KEY,
    user_id INTEGER NOT NULL,
    video_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'completed', 'failed', 'aborted')),
    accept_number INTEGER NOT NULL,
    create_time_us INTEGER NOT NULL,
    start_time_us INTEGER,
    end_time_us INTEGER,
    plan_id TEXT NOT NULL,
    document TEXT NOT NULL
, priority TEXT NOT NULL DEFAULT 'normal' CHECK (priority IN ('normal', 'high')), queue_class INTEGER NOT NULL DEFAULT 1) STRICT;

CREATE UNIQUE INDEX jobs_one_active_per_video ON jobs (user_id, video_id) WHERE state IN ('queued', 'running');

CREATE INDEX jobs_active_by_acceptance ON jobs (accept_number, job_id) WHERE state IN ('queued', 'running');

CREATE INDEX jobs_completed_by_plan ON jobs (plan_id) WHERE state = 'completed' AND plan_id <> '';

CREATE TABLE plans (
    plan_id TEXT NOT NULL PRIMARY KEY,
    user_id INTEGER NOT NULL,
    video_id TEXT NOT NULL,
    settings_fingerprint TEXT NOT NULL,
    create_time_us INTEGER NOT NULL,
    stages TEXT NOT NULL, -- JSON, apart from the document because it alone changes
    document TEXT NOT NULL
) STRICT;

CREATE INDEX plans_by_video ON plans (user_id, video_id, create_time_us, plan_id);

CREATE TABLE segments (
    plan_id TEXT NOT NULL REFERENCES plans (plan_id) ON DELETE CASCADE,
    "index" INTEGER NOT NULL CHECK ("index" >= 0),
    state TEXT NOT NULL CHECK (state IN ('waiting', 'leased', 'done')),
    lease_token TEXT NOT NULL CHECK ((state = 'leased') = (lease_token <> '')),
    attempt_count INTEGER NOT NULL CHECK (attempt_count >= 0),
    crash_count INTEGER NOT NULL CHECK (crash_count >= 0),
    path TEXT NOT NULL CHECK ((state = 'done') = (path <> '')),
    size_bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    frame_count INTEGER NOT NULL,
    input_sha256 TEXT NOT NULL,
    parameter_sets_sha256 TEXT NOT NULL,
    cpu_seconds REAL NOT NULL, measures TEXT NOT NULL DEFAULT 'null',
    PRIMARY KEY (plan_id, "index")
) STRICT, WITHOUT ROWID;

CREATE INDEX segments_by_state ON segments (plan_id, state);

CREATE TABLE uploads (
    upload_id TEXT NOT NULL PRIMARY KEY,
    user_id INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('active', 'finished')),
    create_time_us INTEGER NOT NULL,
    update_time_us INTEGER NOT NULL,
    document TEXT NOT NULL
, size_bytes INTEGER NOT NULL DEFAULT 0) STRICT;

CREATE TABLE artifacts (
    artifact_id TEXT NOT NULL PRIMARY KEY,
    user_id INTEGER NOT NULL,
    video_id TEXT NOT NULL,
    job_id TEXT NOT NULL,
    stream_id INTEGER NOT NULL,
    create_time_us INTEGER NOT NULL,
    expire_time_us INTEGER,
    document TEXT NOT NULL
, size_bytes INTEGER NOT NULL DEFAULT 0, detached INTEGER NOT NULL DEFAULT 0 CHECK (detached IN (0, 1))) STRICT;

CREATE INDEX artifacts_by_job ON artifacts (job_id, stream_id, artifact_id);

CREATE INDEX artifacts_by_expiry ON artifacts (expire_time_us) WHERE expire_time_us IS NOT NULL;

CREATE TABLE events (
    user_id INTEGER NOT NULL,
    sequence INTEGER NOT NULL CHECK (sequence >= 1),
    job_id TEXT NOT NULL,
    create_time_us INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('process_done', 'error')),
    document TEXT NOT NULL,
    PRIMARY KEY (user_id, sequence)
) STRICT;

CREATE UNIQUE INDEX events_one_per_job ON events (job_id) WHERE job_id <> '';

CREATE TABLE requests (
    user_id INTEGER NOT NULL,
    method TEXT NOT NULL,
    request_id TEXT NOT NULL,
    arguments_sha256 TEXT NOT NULL,
    answer_id TEXT NOT NULL,
    create_time_us INTEGER NOT NULL,
    PRIMARY KEY (user_id, method, request_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE user_counters (
    user_id INTEGER NOT NULL PRIMARY KEY,
    last_event_sequence INTEGER NOT NULL
) STRICT;

CREATE TABLE service_counters (
    name TEXT NOT NULL PRIMARY KEY CHECK (name IN ('accept_number', 'fence')),
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX videos_by_time ON videos (user_id, create_time_us, video_id);

CREATE INDEX videos_by_state ON videos (user_id, state, create_time_us, video_id);

CREATE INDEX videos_by_last_job ON videos (last_job_id) WHERE last_job_id <> '';

CREATE INDEX videos_by_result_job ON videos (result_job_id) WHERE result_job_id <> '';

CREATE INDEX videos_by_expiry ON videos (expire_time_us, user_id, video_id) WHERE state = 'deleted';

CREATE INDEX jobs_queue ON jobs (
    user_id, iif(priority = 'high', 0, 1), queue_class, iif(priority = 'high', -accept_number, accept_number), job_id
) WHERE state = 'queued';

CREATE INDEX jobs_running ON jobs (accept_number, job_id) WHERE state = 'running';

CREATE INDEX jobs_active_by_user ON jobs (user_id, accept_number, job_id, state) WHERE state IN ('queued', 'running');

CREATE INDEX jobs_active_by_session ON jobs (session_id, accept_number, job_id) WHERE state IN ('queued', 'running');

CREATE INDEX jobs_by_end ON jobs (end_time_us) WHERE state IN ('completed', 'failed', 'aborted');

CREATE INDEX sessions_by_closing ON sessions (close_time_us) WHERE close_time_us IS NOT NULL;

CREATE INDEX uploads_by_change ON uploads (state, update_time_us, upload_id);

CREATE INDEX artifacts_by_video ON artifacts (user_id, video_id, create_time_us, artifact_id) WHERE NOT detached;

CREATE INDEX requests_by_time ON requests (create_time_us);

CREATE INDEX requests_by_answer ON requests (answer_id);

CREATE TABLE tombstones (
    kind TEXT NOT NULL,
    "key" TEXT NOT NULL,
    create_time_us INTEGER NOT NULL,
    PRIMARY KEY (kind, "key")
) STRICT, WITHOUT ROWID;

CREATE INDEX tombstones_by_time ON tombstones (create_time_us, kind, "key");

CREATE TABLE stored_sizes (
    user_id INTEGER NOT NULL PRIMARY KEY,
    size_bytes INTEGER NOT NULL
) STRICT;

CREATE TRIGGER uploads_added AFTER INSERT ON uploads WHEN new.state = 'finished' BEGIN
    INSERT INTO stored_sizes VALUES (new.user_id, new.size_bytes)
    ON CONFLICT DO UPDATE SET size_bytes = size_bytes + excluded.size_bytes;
END;

CREATE TRIGGER uploads_changed AFTER UPDATE OF user_id, state, size_bytes ON uploads BEGIN
    UPDATE stored_sizes SET size_bytes = size_bytes - old.size_bytes
    WHERE user_id = old.user_id AND old.state = 'finished';
    INSERT INTO stored_sizes SELECT new.user_id, new.size_bytes WHERE new.state = 'finished'
    ON CONFLICT DO UPDATE SET size_bytes = size_bytes + excluded.size_bytes;
END;

CREATE TRIGGER uploads_deleted AFTER DELETE ON uploads WHEN old.state = 'finished' BEGIN
    UPDATE stored_sizes SET size_bytes = size_bytes - old.size_bytes WHERE user_id = old.user_id;
END;

CREATE TRIGGER artifacts_added AFTER INSERT ON artifacts BEGIN
    INSERT INTO stored_sizes VALUES (new.user_id, new.size_bytes)
    ON CONFLICT DO UPDATE SET size_bytes = size_bytes + excluded.size_bytes;
END;

CREATE TRIGGER artifacts_changed AFTER UPDATE OF user_id, size_bytes ON artifacts BEGIN
    UPDATE stored_sizes SET size_bytes = size_bytes - old.size_bytes WHERE user_id = old.user_id;
    INSERT INTO stored_sizes VALUES (new.user_id, new.size_bytes)
    ON CONFLICT DO UPDATE SET size_bytes = size_bytes + excluded.size_bytes;
END;

CREATE TRIGGER artifacts_deleted AFTER DELETE ON artifacts BEGIN
    UPDATE stored_sizes SET size_bytes = size_bytes - old.size_bytes WHERE user_id = old.user_id;
END;

CREATE TRIGGER segments_added AFTER INSERT ON segments WHEN new.state = 'done' BEGIN
    INSERT INTO stored_sizes SELECT user_id, new.size_bytes FROM plans WHERE plan_id = new.plan_id
    ON CONFLICT DO UPDATE SET size_bytes = size_bytes + excluded.size_bytes;
END;

CREATE TRIGGER segments_changed AFTER UPDATE OF state, size_bytes ON segments
WHEN old.state = 'done' OR new.state = 'done' BEGIN
    UPDATE stored_sizes SET size_bytes = size_bytes - old.size_bytes
    WHERE user_id = (SELECT user_id FROM plans WHERE plan_id = old.plan_id) AND old.state = 'done';
    INSERT INTO stored_sizes SELECT user_id, new.size_bytes FROM plans WHERE plan_id = new.plan_id AND new.state = 'done'
    ON CONFLICT DO UPDATE SET size_bytes = size_bytes + excluded.size_bytes;
END;

CREATE TRIGGER segments_deleted AFTER DELETE ON segments WHEN old.state = 'done' BEGIN
    UPDATE stored_sizes SET size_bytes = size_bytes - old.size_bytes
    WHERE user_id = (SELECT user_id FROM plans WHERE plan_id = old.plan_id);
END;

CREATE TRIGGER plans_deleted BEFORE DELETE ON plans BEGIN
    DELETE FROM segments WHERE plan_id = old.plan_id;
END;

CREATE TABLE active_jobs (
    user_id INTEGER NOT NULL PRIMARY KEY,
    queued_count INTEGER NOT NULL,
    running_count INTEGER NOT NULL
) STRICT;

CREATE TRIGGER jobs_added AFTER INSERT ON jobs WHEN new.state IN ('queued', 'running') BEGIN
    INSERT INTO active_jobs VALUES (new.user_id, new.state = 'queued', new.state = 'running')
    ON CONFLICT DO UPDATE SET
        queued_count = queued_count + excluded.queued_count,
        running_count = running_count + excluded.running_count;
END;

CREATE TRIGGER jobs_moved AFTER UPDATE OF user_id, state ON jobs
WHEN old.user_id <> new.user_id OR old.state <> new.state BEGIN
    UPDATE active_jobs SET
        queued_count = queued_count - (old.state = 'queued'),
        running_count = running_count - (old.state = 'running')
    WHERE user_id = old.user_id;
    INSERT INTO active_jobs SELECT new.user_id, new.state = 'queued', new.state = 'running'
    WHERE new.state IN ('queued', 'running')
    ON CONFLICT DO UPDATE SET
        queued_count = queued_count + excluded.queued_count,
        running_count = running_count + excluded.running_count;
    DELETE FROM active_jobs WHERE user_id = old.user_id AND queued_count = 0 AND running_count = 0;
END;

CREATE INDEX videos_by_companion_upload ON videos (json_extract(document, '$.companion.upload_id'))
WHERE json_extract(document, '$.companion.upload_id') IS NOT NULL;

CREATE TABLE replicas (
    replica_id TEXT NOT NULL PRIMARY KEY,
    expire_time_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
