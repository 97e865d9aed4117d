-- name: get_session
-- A session by its id.
SELECT * FROM sessions WHERE session_id = :session_id;

-- name: count_open_sessions
-- Open sessions of a user, or of all.
SELECT count(*) FROM sessions WHERE close_time_us IS NULL AND (:user_id IS NULL OR user_id = :user_id);

-- name: list_idle_sessions
-- Open sessions last used before a time, oldest first.
SELECT * FROM sessions
WHERE close_time_us IS NULL AND last_used_time_us < :last_used_before_us
ORDER BY last_used_time_us, session_id
LIMIT :limit;

-- name: put_session
-- Insert or replace a session.
INSERT INTO sessions (session_id, user_id, create_time_us, last_used_time_us, close_time_us, document)
VALUES (:session_id, :user_id, :create_time_us, :last_used_time_us, :close_time_us, :document)
ON CONFLICT (session_id) DO UPDATE SET
    user_id = excluded.user_id,
    create_time_us = excluded.create_time_us,
    last_used_time_us = excluded.last_used_time_us,
    close_time_us = excluded.close_time_us,
    document = excluded.document;

-- name: get_video
-- A video of a user.
SELECT * FROM videos WHERE user_id = :user_id AND video_id = :video_id;

-- name: list_videos
-- A page of a user's videos in order of creation, in these states (all where null) and with ids from :id_from up to, but without, :id_to.
SELECT * FROM videos
WHERE user_id = :user_id
    AND (create_time_us, video_id) > (:after_time_us, :after_video_id)
    AND (:states IS NULL OR state IN (SELECT value FROM json_each(:states)))
    AND video_id >= :id_from
    AND (:id_to IS NULL OR video_id < :id_to)
ORDER BY create_time_us, video_id
LIMIT :limit;

-- name: count_videos_of_upload
-- Videos whose source is an upload.
SELECT count(*) FROM videos WHERE json_extract(document, '$.source.upload_id') = :upload_id;

-- name: put_video
-- Insert or replace a video.
INSERT INTO videos (user_id, video_id, state, create_time_us, update_time_us, document)
VALUES (:user_id, :video_id, :state, :create_time_us, :update_time_us, :document)
ON CONFLICT (user_id, video_id) DO UPDATE SET
    state = excluded.state,
    create_time_us = excluded.create_time_us,
    update_time_us = excluded.update_time_us,
    document = excluded.document;

-- name: delete_video
-- Delete a video's row.
DELETE FROM videos WHERE user_id = :user_id AND video_id = :video_id;

-- name: get_job
-- A job by its id.
SELECT * FROM jobs WHERE job_id = :job_id;

-- name: get_active_job
-- The queued or running job of a video.
SELECT * FROM jobs WHERE user_id = :user_id AND video_id = :video_id AND state IN ('queued', 'running');

-- name: list_active_jobs
-- Queued and running jobs in order of acceptance, of a user and a session where given.
SELECT * FROM jobs
WHERE state IN ('queued', 'running')
    AND (:user_id IS NULL OR user_id = :user_id)
    AND (:session_id IS NULL OR session_id = :session_id)
ORDER BY accept_number, job_id
LIMIT :limit;

-- name: count_active_jobs
-- Queued and running jobs of a user, or of all.
SELECT count(*) FROM jobs WHERE state IN ('queued', 'running') AND (:user_id IS NULL OR user_id = :user_id);

-- name: put_job
-- Insert or replace a job.
INSERT INTO jobs (
    job_id, user_id, video_id, session_id, state, accept_number, create_time_us, start_time_us, end_time_us, plan_id, document
)
VALUES (
    :job_id, :user_id, :video_id, :session_id, :state, :accept_number, :create_time_us, :start_time_us, :end_time_us, :plan_id,
    :document
)
ON CONFLICT (job_id) DO UPDATE SET
    user_id = excluded.user_id,
    video_id = excluded.video_id,
    session_id = excluded.session_id,
    state = excluded.state,
    accept_number = excluded.accept_number,
    create_time_us = excluded.create_time_us,
    start_time_us = excluded.start_time_us,
    end_time_us = excluded.end_time_us,
    plan_id = excluded.plan_id,
    document = excluded.document;

-- name: count_up
-- Take the next number of a service-wide counter.
INSERT INTO service_counters (name, value) VALUES (:name, 1)
ON CONFLICT (name) DO UPDATE SET value = value + 1
RETURNING value;

-- name: get_plan
-- A plan by its id.
SELECT * FROM plans WHERE plan_id = :plan_id;

-- name: find_plan
-- The newest plan of a video under these settings that no completed job was made by.
SELECT * FROM plans
WHERE user_id = :user_id
    AND video_id = :video_id
    AND settings_fingerprint = :settings_fingerprint
    AND NOT EXISTS (
        SELECT 1 FROM jobs WHERE jobs.plan_id = plans.plan_id AND jobs.state = 'completed' AND jobs.plan_id <> ''
    )
ORDER BY create_time_us DESC, plan_id DESC
LIMIT 1;

-- name: list_plans
-- Plans of a video, oldest first.
SELECT * FROM plans WHERE user_id = :user_id AND video_id = :video_id ORDER BY create_time_us, plan_id;

-- name: list_all_plan_ids
-- Ids of all plans.
SELECT plan_id FROM plans ORDER BY plan_id;

-- name: add_plan
-- Insert a plan.
INSERT INTO plans (plan_id, user_id, video_id, settings_fingerprint, create_time_us, stages, document)
VALUES (:plan_id, :user_id, :video_id, :settings_fingerprint, :create_time_us, :stages, :document);

-- name: put_plan
-- Replace a plan's stages.
UPDATE plans SET stages = :stages WHERE plan_id = :plan_id;

-- name: delete_plan
-- Delete a plan; its segments go with it.
DELETE FROM plans WHERE plan_id = :plan_id;

-- name: list_segments
-- Segments of a plan by index.
SELECT * FROM segments WHERE plan_id = :plan_id ORDER BY "index";

-- name: count_segments
-- Segments of a plan in a state.
SELECT count(*) FROM segments WHERE plan_id = :plan_id AND state = :state;

-- name: add_segment
-- Insert a segment.
INSERT INTO segments (
    plan_id, "index", state, lease_token, attempt_count, crash_count, path, size_bytes, sha256, frame_count, input_sha256,
    parameter_sets_sha256, cpu_seconds
)
VALUES (
    :plan_id, :index, :state, :lease_token, :attempt_count, :crash_count, :path, :size_bytes, :sha256, :frame_count,
    :input_sha256, :parameter_sets_sha256, :cpu_seconds
);

-- name: count_waiting_segments
-- How many of these segments are waiting.
SELECT count(*) FROM segments
WHERE plan_id = :plan_id AND state = 'waiting' AND "index" IN (SELECT value FROM json_each(:indices));

-- name: lease_segments
-- waiting -> leased, one attempt more.
UPDATE segments SET state = 'leased', lease_token = :lease_token, attempt_count = attempt_count + 1
WHERE plan_id = :plan_id AND state = 'waiting' AND "index" IN (SELECT value FROM json_each(:indices));

-- name: finish_segment
-- leased -> done, if the lease is still this one. The counters are the row's own.
UPDATE segments SET
    state = 'done',
    lease_token = '',
    path = :path,
    size_bytes = :size_bytes,
    sha256 = :sha256,
    frame_count = :frame_count,
    input_sha256 = :input_sha256,
    parameter_sets_sha256 = :parameter_sets_sha256,
    cpu_seconds = :cpu_seconds
WHERE plan_id = :plan_id AND "index" = :index AND state = 'leased' AND lease_token = :expected_token;

-- name: release_segments
-- leased -> waiting, of one lease or of all; the crashed one gets one crash more.
UPDATE segments SET state = 'waiting', lease_token = '', crash_count = crash_count + ("index" IS :crashed_index)
WHERE plan_id = :plan_id AND state = 'leased' AND (:lease_token IS NULL OR lease_token = :lease_token);

-- name: reset_segment
-- done -> waiting, without what its file was.
UPDATE segments SET
    state = 'waiting',
    path = '',
    size_bytes = 0,
    sha256 = '',
    frame_count = 0,
    input_sha256 = '',
    parameter_sets_sha256 = '',
    cpu_seconds = 0
WHERE plan_id = :plan_id AND "index" = :index AND state = 'done';

-- name: get_upload
-- An upload by its id.
SELECT * FROM uploads WHERE upload_id = :upload_id;

-- name: list_all_upload_ids
-- Ids of all uploads.
SELECT upload_id FROM uploads ORDER BY upload_id;

-- name: put_upload
-- Insert or replace an upload.
INSERT INTO uploads (upload_id, user_id, state, create_time_us, update_time_us, document)
VALUES (:upload_id, :user_id, :state, :create_time_us, :update_time_us, :document)
ON CONFLICT (upload_id) DO UPDATE SET
    user_id = excluded.user_id,
    state = excluded.state,
    create_time_us = excluded.create_time_us,
    update_time_us = excluded.update_time_us,
    document = excluded.document;

-- name: delete_upload
-- Delete an upload's row.
DELETE FROM uploads WHERE upload_id = :upload_id;

-- name: get_artifact
-- An artifact by its id.
SELECT * FROM artifacts WHERE artifact_id = :artifact_id;

-- name: list_artifacts_of_job
-- Artifacts of a job by stream.
SELECT * FROM artifacts WHERE job_id = :job_id ORDER BY stream_id, artifact_id;

-- name: list_all_artifact_ids
-- Ids of all artifacts.
SELECT artifact_id FROM artifacts ORDER BY artifact_id;

-- name: list_artifacts_of_video
-- Artifacts of a video that do not expire yet, oldest first.
SELECT * FROM artifacts
WHERE user_id = :user_id AND video_id = :video_id AND expire_time_us IS NULL
ORDER BY create_time_us, artifact_id;

-- name: list_expired_artifacts
-- Artifacts whose time has come, oldest first.
SELECT * FROM artifacts WHERE expire_time_us <= :now_us ORDER BY expire_time_us LIMIT :limit;

-- name: put_artifact
-- Insert or replace an artifact.
INSERT INTO artifacts (artifact_id, user_id, video_id, job_id, stream_id, create_time_us, expire_time_us, document)
VALUES (:artifact_id, :user_id, :video_id, :job_id, :stream_id, :create_time_us, :expire_time_us, :document)
ON CONFLICT (artifact_id) DO UPDATE SET
    user_id = excluded.user_id,
    video_id = excluded.video_id,
    job_id = excluded.job_id,
    stream_id = excluded.stream_id,
    create_time_us = excluded.create_time_us,
    expire_time_us = excluded.expire_time_us,
    document = excluded.document;

-- name: delete_artifact
-- Delete an artifact's row.
DELETE FROM artifacts WHERE artifact_id = :artifact_id;

-- name: event_bounds
-- The oldest number kept, null where none is, and the newest assigned.
SELECT
    (SELECT min(sequence) FROM events WHERE user_id = :user_id) AS oldest,
    coalesce((SELECT last_event_sequence FROM user_counters WHERE user_id = :user_id), 0) AS newest;

-- name: list_events
-- Events of a user after a number.
SELECT * FROM events WHERE user_id = :user_id AND sequence > :after_sequence ORDER BY sequence LIMIT :limit;

-- name: next_event_sequence
-- Take the user's next number.
INSERT INTO user_counters (user_id, last_event_sequence) VALUES (:user_id, 1)
ON CONFLICT (user_id) DO UPDATE SET last_event_sequence = last_event_sequence + 1
RETURNING last_event_sequence;

-- name: append_event
-- Insert an event.
INSERT INTO events (user_id, sequence, job_id, create_time_us, kind, document)
VALUES (:user_id, :sequence, :job_id, :create_time_us, :kind, :document);

-- name: get_request
-- The answer to a request id.
SELECT * FROM requests WHERE user_id = :user_id AND method = :method AND request_id = :request_id;

-- name: put_request
-- Insert or replace the answer to a request id.
INSERT INTO requests (user_id, method, request_id, arguments_sha256, answer_id, create_time_us)
VALUES (:user_id, :method, :request_id, :arguments_sha256, :answer_id, :create_time_us)
ON CONFLICT (user_id, method, request_id) DO UPDATE SET
    arguments_sha256 = excluded.arguments_sha256,
    answer_id = excluded.answer_id,
    create_time_us = excluded.create_time_us;
