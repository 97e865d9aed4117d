-- The services that share these rows. A file's rows belong to one service only, so here it stays empty.

CREATE TABLE replicas (
    replica_id TEXT NOT NULL PRIMARY KEY,
    expire_time_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
