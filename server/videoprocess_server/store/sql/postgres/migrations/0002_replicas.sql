-- The services that share these rows: after its time a replica counts as gone.

CREATE TABLE replicas (
    replica_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    expire_time_us BIGINT NOT NULL
);
