-- Users with queued or running jobs, and how many, kept by triggers: counting them took the longer the queue was, and every
-- ProcessVideo and every pass of the scheduler asks. Jobs are deleted only once they have ended.

CREATE TABLE active_jobs (
    user_id INTEGER NOT NULL PRIMARY KEY,
    queued_count INTEGER NOT NULL,
    running_count INTEGER NOT NULL
) STRICT;

INSERT INTO active_jobs
SELECT user_id, sum(state = 'queued'), sum(state = 'running') FROM jobs
WHERE state IN ('queued', 'running')
GROUP BY user_id;

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
