-- name: count_videos_of_upload
-- Videos that an upload is a file of.
SELECT
    (SELECT count(*) FROM videos WHERE document #>> '{source,upload_id}' = :upload_id)
    + (SELECT count(*) FROM videos WHERE document #>> '{companion,upload_id}' = :upload_id) AS count;

-- name: list_videos_in_state
-- A page of a user's videos in some states, in order of creation: of each state no more is read than the page needs.
SELECT page.* FROM json_array_elements_text(:states) AS wanted (state) CROSS JOIN LATERAL (
    SELECT * FROM videos
    WHERE user_id = :user_id
        AND videos.state = wanted.state
        AND (create_time_us, video_id) > (:after_time_us, :after_video_id)
        AND video_id >= :id_from
        AND (video_id < :id_to OR :id_to IS NULL)
    ORDER BY create_time_us, video_id
    LIMIT :limit
) AS page
ORDER BY create_time_us, video_id
LIMIT :limit;

-- name: list_positions_in_state
-- Where a user's videos in some states stand, without the videos: the index has it all.
SELECT page.* FROM json_array_elements_text(:states) AS wanted (state) CROSS JOIN LATERAL (
    SELECT create_time_us, video_id FROM videos
    WHERE user_id = :user_id
        AND videos.state = wanted.state
        AND (create_time_us, video_id) > (:after_time_us, :after_video_id)
    ORDER BY create_time_us, video_id
    LIMIT :limit
) AS page
ORDER BY create_time_us, video_id
LIMIT :limit;

-- name: list_queue_head
-- A user's queued jobs that come first; the index jobs_queue holds these very expressions.
SELECT * FROM jobs
WHERE user_id = :user_id AND state = 'queued'
ORDER BY
    (CASE priority WHEN 'high' THEN 0 ELSE 1 END),
    queue_class,
    (CASE priority WHEN 'high' THEN -accept_number ELSE accept_number END),
    job_id
LIMIT :limit;

-- name: find_resume_point
-- Where that plan goes on: at its first segment that is not done, else at its end. Nothing but these few values leaves the server.
SELECT
    coalesce(
        plan #>> ARRAY['segments', next_index::text, 'start_pts'],
        plan #>> '{end_pts}'
    )::bigint AS pts,
    (plan #>> '{first_pts}')::bigint AS first_pts,
    plan #>> '{time_base}' AS time_base
FROM (
    SELECT
        document -> 'plan' AS plan,
        (
            SELECT min("index") FROM segments
            WHERE segments.plan_id = plans.plan_id AND segments.state IN ('waiting', 'leased')
        ) AS next_index
    FROM plans
    WHERE user_id = :user_id
        AND video_id = :video_id
        AND settings_fingerprint = :settings_fingerprint
        AND NOT EXISTS (
            SELECT 1 FROM jobs WHERE jobs.plan_id = plans.plan_id AND jobs.state = 'completed' AND jobs.plan_id <> ''
        )
    ORDER BY create_time_us DESC, plan_id DESC
    LIMIT 1
) AS newest;

-- name: lease_segments
-- waiting -> leased, one attempt more: all :count of them, or none.
UPDATE segments SET state = 'leased', lease_token = :lease_token, attempt_count = attempt_count + 1
WHERE plan_id = :plan_id
    AND state = 'waiting'
    AND "index" IN (SELECT value::bigint FROM json_array_elements_text(:indices))
    AND :count = (
        SELECT count(*) FROM segments
        WHERE plan_id = :plan_id
            AND state = 'waiting'
            AND "index" IN (SELECT value::bigint FROM json_array_elements_text(:indices))
    );

-- name: list_active_uploads_among
-- Which of these uploads are unfinished.
SELECT upload_id FROM uploads
WHERE upload_id IN (SELECT value FROM json_array_elements_text(:upload_ids)) AND state = 'active';

-- name: list_expired_uploads
-- Active uploads last changed before one time, and finished ones before another that no video refers to.
SELECT * FROM (
    SELECT * FROM uploads WHERE state = 'active' AND update_time_us < :active_before_us
    UNION ALL
    SELECT * FROM uploads
    WHERE state = 'finished'
        AND update_time_us < :finished_before_us
        AND NOT EXISTS (SELECT 1 FROM videos WHERE videos.document #>> '{source,upload_id}' = uploads.upload_id)
        AND NOT EXISTS (SELECT 1 FROM videos WHERE videos.document #>> '{companion,upload_id}' = uploads.upload_id)
) AS expired
ORDER BY update_time_us, upload_id
LIMIT :limit;

-- name: delete_events_before
-- Delete events older than a time, of each user from the oldest kept one on up to the first that is not: those kept have no gap.
DELETE FROM events WHERE (user_id, sequence) IN (
    SELECT user_id, sequence FROM (
        SELECT
            oldest.user_id,
            oldest.sequence,
            bool_and(oldest.create_time_us < :create_time_before_us)
                OVER (PARTITION BY oldest.user_id ORDER BY oldest.sequence) AS is_expired
        FROM user_counters CROSS JOIN LATERAL (
            SELECT user_id, sequence, create_time_us FROM events
            WHERE events.user_id = user_counters.user_id
            ORDER BY sequence
            LIMIT :limit
        ) AS oldest
        WHERE :create_time_before_us > (
            SELECT create_time_us FROM events
            WHERE events.user_id = user_counters.user_id
            ORDER BY sequence
            LIMIT 1
        )
    ) AS heads
    WHERE is_expired
    ORDER BY user_id, sequence
    LIMIT :limit
);

-- name: get_change
-- The newest change of a process that was kept.
SELECT change_number FROM writers WHERE writer_id = :writer_id;

-- name: delete_writer
-- Forget a process that ends.
DELETE FROM writers WHERE writer_id = :writer_id;

-- name: delete_old_writers
-- Forget processes that were killed long ago.
DELETE FROM writers WHERE change_time < now() - interval '30 days';

-- name: server_now_us
-- The server's clock, microseconds since 1970.
SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now_us;

-- name: notify
-- Tell who listens, at once or at the end of the transaction.
SELECT pg_notify(:channel, :payload) IS NOT NULL AS told;

-- name: begin
-- Begin a change: the first statement waits for its turn, and those that follow see all that was committed before it.
BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
SELECT pg_advisory_xact_lock(:lock);

-- name: take_snapshot
-- Begin a consistent view: its first statement takes it.
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT 1;

-- name: commit
-- Make a change durable, and note with it that it is this process's newest; where nothing was changed, nothing is written.
INSERT INTO writers (writer_id, change_number, change_time)
SELECT :writer_id, :change_number, now() WHERE pg_current_xact_id_if_assigned() IS NOT NULL
ON CONFLICT (writer_id) DO UPDATE SET change_number = excluded.change_number, change_time = excluded.change_time;
COMMIT;
