-- The queue, retention, what waits to be deleted, and how much is stored. Facts that are searched now move from the documents to
-- columns. An artifact with an expiry belonged to no video until now: only removing its video gave it one.

ALTER TABLE videos ADD COLUMN last_job_id TEXT NOT NULL DEFAULT '';

ALTER TABLE videos ADD COLUMN result_job_id TEXT NOT NULL DEFAULT '';

ALTER TABLE videos ADD COLUMN expire_time_us INTEGER;

UPDATE videos SET
    last_job_id = coalesce(json_extract(document, '$.last_job_id'), ''),
    result_job_id = coalesce(json_extract(document, '$.result_job_id'), ''),
    document = json_remove(document, '$.last_job_id', '$.result_job_id');

DROP INDEX videos_by_time;

CREATE INDEX videos_by_time ON videos (user_id, create_time_us, video_id);

CREATE INDEX videos_by_state ON videos (user_id, state, create_time_us, video_id);

CREATE INDEX videos_by_last_job ON videos (last_job_id) WHERE last_job_id <> '';

CREATE INDEX videos_by_result_job ON videos (result_job_id) WHERE result_job_id <> '';

CREATE INDEX videos_by_expiry ON videos (expire_time_us, user_id, video_id) WHERE state = 'deleted';

ALTER TABLE jobs ADD COLUMN priority TEXT NOT NULL DEFAULT 'normal' CHECK (priority IN ('normal', 'high'));

ALTER TABLE jobs ADD COLUMN queue_class INTEGER NOT NULL DEFAULT 1;

UPDATE jobs SET
    priority = coalesce(json_extract(document, '$.priority'), 'normal'),
    document = json_remove(document, '$.priority');

-- The order in which a user's queued jobs come: HIGH first, its newest before its older ones.
CREATE INDEX jobs_queue ON jobs (
    user_id, iif(priority = 'high', 0, 1), queue_class, iif(priority = 'high', -accept_number, accept_number), job_id
) WHERE state = 'queued';

CREATE INDEX jobs_running ON jobs (accept_number, job_id) WHERE state = 'running';

-- The state is in it so that it answers who has work, and whose is oldest, alone.
CREATE INDEX jobs_active_by_user ON jobs (user_id, accept_number, job_id, state) WHERE state IN ('queued', 'running');

CREATE INDEX jobs_active_by_session ON jobs (session_id, accept_number, job_id) WHERE state IN ('queued', 'running');

CREATE INDEX jobs_by_end ON jobs (end_time_us) WHERE state IN ('completed', 'failed', 'aborted');

CREATE INDEX sessions_by_closing ON sessions (close_time_us) WHERE close_time_us IS NOT NULL;

ALTER TABLE uploads ADD COLUMN size_bytes INTEGER NOT NULL DEFAULT 0;

UPDATE uploads SET
    size_bytes = coalesce(json_extract(document, '$.size_bytes'), 0),
    document = json_remove(document, '$.size_bytes');

CREATE INDEX uploads_by_change ON uploads (state, update_time_us, upload_id);

ALTER TABLE artifacts ADD COLUMN size_bytes INTEGER NOT NULL DEFAULT 0;

ALTER TABLE artifacts ADD COLUMN detached INTEGER NOT NULL DEFAULT 0 CHECK (detached IN (0, 1));

UPDATE artifacts SET
    size_bytes = coalesce(json_extract(document, '$.size_bytes'), 0),
    detached = expire_time_us IS NOT NULL,
    document = json_remove(document, '$.size_bytes');

DROP INDEX artifacts_by_video;

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

-- Bytes of finished uploads, done segments and artifacts, kept by the triggers below: asked often, and never by adding up.
CREATE TABLE stored_sizes (
    user_id INTEGER NOT NULL PRIMARY KEY,
    size_bytes INTEGER NOT NULL
) STRICT;

INSERT INTO stored_sizes (user_id, size_bytes)
SELECT user_id, sum(size_bytes)
FROM (
    SELECT user_id, size_bytes FROM uploads WHERE state = 'finished'
    UNION ALL
    SELECT user_id, size_bytes FROM artifacts
    UNION ALL
    SELECT plans.user_id, segments.size_bytes FROM segments JOIN plans USING (plan_id) WHERE segments.state = 'done'
)
GROUP BY user_id;

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

-- The cascade deletes segments after their plan's row, which says whose they are: so they go before.
CREATE TRIGGER plans_deleted BEFORE DELETE ON plans BEGIN
    DELETE FROM segments WHERE plan_id = old.plan_id;
END;
