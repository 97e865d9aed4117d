-- name: get_session
-- A session by its id.
SELECT * FROM sessions WHERE session_id = :session_id;

-- name: count_open_sessions
-- Open sessions of a user, or of all.
SELECT count(*) FROM sessions WHERE close_time_us IS NULL AND (user_id = :user_id OR :user_id IS NULL);

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
-- A page of a user's videos in order of creation, with ids from :id_from up to, but without, :id_to.
SELECT * FROM videos
WHERE user_id = :user_id
    AND (create_time_us, video_id) > (:after_time_us, :after_video_id)
    AND video_id >= :id_from
    AND (video_id < :id_to OR :id_to IS NULL)
ORDER BY create_time_us, video_id
LIMIT :limit;

-- name: list_videos_in_state
-- The same of those in one state.
SELECT * FROM videos
WHERE user_id = :user_id
    AND state = :state
    AND (create_time_us, video_id) > (:after_time_us, :after_video_id)
    AND video_id >= :id_from
    AND (video_id < :id_to OR :id_to IS NULL)
ORDER BY create_time_us, video_id
LIMIT :limit;

-- name: list_positions_in_state
-- Where a user's videos in one state stand, without the videos: the index has it all.
SELECT create_time_us, video_id FROM videos
WHERE user_id = :user_id
    AND state = :state
    AND (create_time_us, video_id) > (:after_time_us, :after_video_id)
ORDER BY create_time_us, video_id
LIMIT :limit;

-- name: count_videos_of_upload
-- Videos that an upload is a file of.
SELECT
    (SELECT count(*) FROM videos WHERE json_extract(document, '$.source.upload_id') = :upload_id)
    + (SELECT count(*) FROM videos WHERE json_extract(document, '$.companion.upload_id') = :upload_id);

-- name: put_video
-- Insert or replace a video.
INSERT INTO videos (
    user_id, video_id, state, create_time_us, update_time_us, last_job_id, result_job_id, expire_time_us, document
)
VALUES (
    :user_id, :video_id, :state, :create_time_us, :update_time_us, :last_job_id, :result_job_id, :expire_time_us, :document
)
ON CONFLICT (user_id, video_id) DO UPDATE SET
    state = excluded.state,
    create_time_us = excluded.create_time_us,
    update_time_us = excluded.update_time_us,
    last_job_id = excluded.last_job_id,
    result_job_id = excluded.result_job_id,
    expire_time_us = excluded.expire_time_us,
    document = excluded.document;

-- name: delete_video
-- Delete a video's row.
DELETE FROM videos WHERE user_id = :user_id AND video_id = :video_id;

-- name: list_expired_videos
-- Videos in the trash whose time has come, oldest expiry first.
SELECT * FROM videos
WHERE state = 'deleted' AND expire_time_us <= :now_us
ORDER BY expire_time_us, user_id, video_id
LIMIT :limit;

-- name: get_job
-- A job by its id.
SELECT * FROM jobs WHERE job_id = :job_id;

-- name: get_active_job
-- The queued or running job of a video.
SELECT * FROM jobs WHERE user_id = :user_id AND video_id = :video_id AND state IN ('queued', 'running');

-- name: list_active_jobs
-- Queued and running jobs in order of acceptance.
SELECT * FROM jobs WHERE state IN ('queued', 'running') ORDER BY accept_number, job_id LIMIT :limit;

-- name: list_active_jobs_of_user
-- A user's queued and running jobs in order of acceptance.
SELECT * FROM jobs
WHERE user_id = :user_id AND state IN ('queued', 'running')
ORDER BY accept_number, job_id
LIMIT :limit;

-- name: list_active_jobs_of_session
-- Queued and running jobs of a session, and of a user where given, in order of acceptance.
SELECT * FROM jobs
WHERE session_id = :session_id AND (user_id = :user_id OR :user_id IS NULL) AND state IN ('queued', 'running')
ORDER BY accept_number, job_id
LIMIT :limit;

-- name: count_active_jobs
-- Queued and running jobs.
SELECT coalesce(sum(queued_count + running_count), 0) FROM active_jobs;

-- name: count_active_jobs_of_user
-- Queued and running jobs of a user.
SELECT coalesce(sum(queued_count + running_count), 0) FROM active_jobs WHERE user_id = :user_id;

-- name: list_running_jobs
-- Running jobs in order of acceptance.
SELECT * FROM jobs WHERE state = 'running' ORDER BY accept_number, job_id;

-- name: list_active_users
-- Users with queued or running jobs, and how many.
SELECT user_id, queued_count, running_count FROM active_jobs ORDER BY user_id;

-- name: list_queue_head
-- A user's queued jobs that come first; the index jobs_queue holds these very expressions.
SELECT * FROM jobs
WHERE user_id = :user_id AND state = 'queued'
ORDER BY iif(priority = 'high', 0, 1), queue_class, iif(priority = 'high', -accept_number, accept_number), job_id
LIMIT :limit;

-- name: get_oldest_queued
-- A user's queued job that was accepted first. The first condition on the state is the index's own.
SELECT * FROM jobs
WHERE user_id = :user_id AND state IN ('queued', 'running') AND state = 'queued'
ORDER BY accept_number, job_id
LIMIT 1;

-- name: put_job
-- Insert or replace a job.
INSERT INTO jobs (
    job_id, user_id, video_id, session_id, state, priority, queue_class, accept_number, create_time_us, start_time_us,
    end_time_us, plan_id, document
)
VALUES (
    :job_id, :user_id, :video_id, :session_id, :state, :priority, :queue_class, :accept_number, :create_time_us, :start_time_us,
    :end_time_us, :plan_id, :document
)
ON CONFLICT (job_id) DO UPDATE SET
    user_id = excluded.user_id,
    video_id = excluded.video_id,
    session_id = excluded.session_id,
    state = excluded.state,
    priority = excluded.priority,
    queue_class = excluded.queue_class,
    accept_number = excluded.accept_number,
    create_time_us = excluded.create_time_us,
    start_time_us = excluded.start_time_us,
    end_time_us = excluded.end_time_us,
    plan_id = excluded.plan_id,
    document = excluded.document;

-- name: delete_ended_jobs_before
-- Delete jobs that ended before a time and that nothing kept names.
DELETE FROM jobs WHERE job_id IN (
    SELECT job_id FROM jobs
    WHERE state IN ('completed', 'failed', 'aborted')
        AND end_time_us < :end_time_before_us
        AND NOT EXISTS (SELECT 1 FROM videos WHERE last_job_id = jobs.job_id AND last_job_id <> '')
        AND NOT EXISTS (SELECT 1 FROM videos WHERE result_job_id = jobs.job_id AND result_job_id <> '')
        AND NOT EXISTS (SELECT 1 FROM artifacts WHERE artifacts.job_id = jobs.job_id)
        AND NOT EXISTS (SELECT 1 FROM events WHERE events.job_id = jobs.job_id AND events.job_id <> '')
        AND NOT EXISTS (SELECT 1 FROM requests WHERE answer_id = jobs.job_id)
        AND NOT EXISTS (SELECT 1 FROM plans WHERE plans.plan_id = jobs.plan_id AND jobs.state = 'completed')
    ORDER BY end_time_us
    LIMIT :limit
);

-- name: delete_closed_sessions_before
-- Delete sessions closed before a time that no queued or running job names.
DELETE FROM sessions WHERE session_id IN (
    SELECT session_id FROM sessions
    WHERE close_time_us < :close_time_before_us
        AND NOT EXISTS (
            SELECT 1 FROM jobs WHERE jobs.session_id = sessions.session_id AND jobs.state IN ('queued', 'running')
        )
    ORDER BY close_time_us
    LIMIT :limit
);

-- name: count_up
-- Take the next number of a service-wide counter.
INSERT INTO service_counters (name, value) VALUES (:name, 1)
ON CONFLICT (name) DO UPDATE SET value = service_counters.value + 1
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

-- name: find_resume_point
-- Where that plan goes on: at its first segment that is not done, else at its end. Nothing but these few values leaves SQLite.
SELECT
    coalesce(
        json_extract(document, '$.plan.segments[' || (
            SELECT min(first) FROM (
                SELECT min("index") AS first FROM segments WHERE plan_id = plans.plan_id AND state = 'waiting'
                UNION ALL
                SELECT min("index") FROM segments WHERE plan_id = plans.plan_id AND state = 'leased'
            )
        ) || '].start_pts'),
        json_extract(document, '$.plan.end_pts')
    ) AS pts,
    json_extract(document, '$.plan.first_pts') AS first_pts,
    json_extract(document, '$.plan.time_base') AS time_base
FROM plans
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

-- name: list_stale_plans
-- Plans of idle videos that were last changed before a time. The cross join keeps their order: of videos without a plan there
-- may be many.
SELECT plans.* FROM plans CROSS JOIN videos
WHERE videos.user_id = plans.user_id
    AND videos.video_id = plans.video_id
    AND videos.update_time_us < :before_us
    AND videos.state NOT IN ('queued', 'running', 'deleted')
ORDER BY plans.user_id, plans.video_id, plans.create_time_us, plans.plan_id
LIMIT :limit;

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
    parameter_sets_sha256, cpu_seconds, measures
)
VALUES (
    :plan_id, :index, :state, :lease_token, :attempt_count, :crash_count, :path, :size_bytes, :sha256, :frame_count,
    :input_sha256, :parameter_sets_sha256, :cpu_seconds, :measures
);

-- name: lease_segments
-- waiting -> leased, one attempt more: all :count of them, or none.
UPDATE segments SET state = 'leased', lease_token = :lease_token, attempt_count = attempt_count + 1
WHERE plan_id = :plan_id
    AND state = 'waiting'
    AND "index" IN (SELECT value FROM json_each(:indices))
    AND :count = (
        SELECT count(*) FROM segments
        WHERE plan_id = :plan_id AND state = 'waiting' AND "index" IN (SELECT value FROM json_each(:indices))
    );

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
    cpu_seconds = :cpu_seconds,
    measures = :measures
WHERE plan_id = :plan_id AND "index" = :index AND state = 'leased' AND lease_token = :expected_token;

-- name: release_segments
-- leased -> waiting, of one lease or of all; the crashed one gets one crash more.
UPDATE segments SET state = 'waiting', lease_token = '', crash_count = crash_count + CASE WHEN "index" = :crashed_index THEN 1 ELSE 0 END
WHERE plan_id = :plan_id AND state = 'leased' AND (lease_token = :lease_token OR :lease_token IS NULL);

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
    cpu_seconds = 0,
    measures = 'null'
WHERE plan_id = :plan_id AND "index" = :index AND state = 'done';

-- name: get_upload
-- An upload by its id.
SELECT * FROM uploads WHERE upload_id = :upload_id;

-- name: list_all_uploads
-- All uploads.
SELECT * FROM uploads ORDER BY upload_id;

-- name: list_active_uploads_among
-- Which of these uploads are unfinished.
SELECT upload_id FROM uploads WHERE upload_id IN (SELECT value FROM json_each(:upload_ids)) AND state = 'active';

-- name: put_upload
-- Insert or replace an upload.
INSERT INTO uploads (upload_id, user_id, state, create_time_us, update_time_us, size_bytes, document)
VALUES (:upload_id, :user_id, :state, :create_time_us, :update_time_us, :size_bytes, :document)
ON CONFLICT (upload_id) DO UPDATE SET
    user_id = excluded.user_id,
    state = excluded.state,
    create_time_us = excluded.create_time_us,
    update_time_us = excluded.update_time_us,
    size_bytes = excluded.size_bytes,
    document = excluded.document;

-- name: list_expired_uploads
-- Active uploads last changed before one time, and finished ones before another that no video refers to. The plus keeps the
-- column's type out of the comparison: else the index on the document would not be used.
SELECT * FROM (
    SELECT * FROM uploads WHERE state = 'active' AND update_time_us < :active_before_us
    UNION ALL
    SELECT * FROM uploads
    WHERE state = 'finished'
        AND update_time_us < :finished_before_us
        AND NOT EXISTS (SELECT 1 FROM videos WHERE json_extract(videos.document, '$.source.upload_id') = +uploads.upload_id)
        AND NOT EXISTS (SELECT 1 FROM videos WHERE json_extract(videos.document, '$.companion.upload_id') = +uploads.upload_id)
)
ORDER BY update_time_us, upload_id
LIMIT :limit;

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
-- Artifacts of a video that are not detached, oldest first.
SELECT * FROM artifacts
WHERE user_id = :user_id AND video_id = :video_id AND NOT detached
ORDER BY create_time_us, artifact_id;

-- name: list_expired_artifacts
-- Artifacts whose time has come, oldest first.
SELECT * FROM artifacts WHERE expire_time_us <= :now_us ORDER BY expire_time_us LIMIT :limit;

-- name: put_artifact
-- Insert or replace an artifact.
INSERT INTO artifacts (
    artifact_id, user_id, video_id, job_id, stream_id, size_bytes, create_time_us, expire_time_us, detached, document
)
VALUES (
    :artifact_id, :user_id, :video_id, :job_id, :stream_id, :size_bytes, :create_time_us, :expire_time_us, :detached, :document
)
ON CONFLICT (artifact_id) DO UPDATE SET
    user_id = excluded.user_id,
    video_id = excluded.video_id,
    job_id = excluded.job_id,
    stream_id = excluded.stream_id,
    size_bytes = excluded.size_bytes,
    create_time_us = excluded.create_time_us,
    expire_time_us = excluded.expire_time_us,
    detached = excluded.detached,
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
ON CONFLICT (user_id) DO UPDATE SET last_event_sequence = user_counters.last_event_sequence + 1
RETURNING last_event_sequence;

-- name: append_event
-- Insert an event.
INSERT INTO events (user_id, sequence, job_id, create_time_us, kind, document)
VALUES (:user_id, :sequence, :job_id, :create_time_us, :kind, :document);

-- name: delete_events_before
-- Delete events older than a time, of each user from the oldest kept one on up to the first that is not: those kept have no gap.
DELETE FROM events WHERE (user_id, sequence) IN (
    WITH RECURSIVE
        oldest (user_id, sequence) AS (
            SELECT user_id, (SELECT min(sequence) FROM events WHERE events.user_id = user_counters.user_id) FROM user_counters
        ),
        expired (user_id, sequence) AS (
            SELECT user_id, sequence FROM oldest CROSS JOIN events USING (user_id, sequence)
            WHERE create_time_us < :create_time_before_us
            UNION ALL
            SELECT events.user_id, events.sequence
            FROM expired JOIN events ON events.user_id = expired.user_id AND events.sequence = expired.sequence + 1
            WHERE events.create_time_us < :create_time_before_us
            LIMIT :limit
        )
    SELECT user_id, sequence FROM expired
);

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

-- name: delete_requests_before
-- Delete answers older than a time, the oldest first. With the key's columns the other way round SQLite looks up the user alone.
DELETE FROM requests WHERE (request_id, method, user_id) IN (
    SELECT request_id, method, user_id FROM requests
    WHERE create_time_us < :create_time_before_us
    ORDER BY create_time_us
    LIMIT :limit
);

-- name: list_tombstones
-- What is still to be deleted, oldest first.
SELECT * FROM tombstones ORDER BY create_time_us, kind, "key" LIMIT :limit;

-- name: put_tombstone
-- Insert or replace a tombstone.
INSERT INTO tombstones (kind, "key", create_time_us) VALUES (:kind, :key, :create_time_us)
ON CONFLICT (kind, "key") DO UPDATE SET create_time_us = excluded.create_time_us;

-- name: delete_tombstone
-- Delete a tombstone.
DELETE FROM tombstones WHERE kind = :kind AND "key" = :key;

-- name: list_replicas
-- The services that share these rows.
SELECT * FROM replicas ORDER BY replica_id;

-- name: put_replica
-- Insert or replace a replica.
INSERT INTO replicas (replica_id, expire_time_us) VALUES (:replica_id, :expire_time_us)
ON CONFLICT (replica_id) DO UPDATE SET expire_time_us = excluded.expire_time_us;

-- name: delete_replica
-- Delete a replica.
DELETE FROM replicas WHERE replica_id = :replica_id;

-- name: stored_bytes
-- Bytes of all users.
SELECT coalesce(sum(size_bytes), 0) FROM stored_sizes;

-- name: stored_bytes_of_user
-- Bytes of a user.
SELECT coalesce(sum(size_bytes), 0) FROM stored_sizes WHERE user_id = :user_id;
