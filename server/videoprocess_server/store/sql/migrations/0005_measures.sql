-- Segments are measured as they are made. Those of before have no figures; no build goes on with another one's.

ALTER TABLE segments ADD COLUMN measures TEXT NOT NULL DEFAULT 'null'; -- JSON
