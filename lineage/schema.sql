-- The lineage store: a projection of the log that people query. Rebuilt from the log at any time; never the truth.
-- TRY_CAST: one odd value must not keep all others from being read.

CREATE TABLE IF NOT EXISTS records (
    seq     BIGINT PRIMARY KEY,
    "at"    TIMESTAMPTZ NOT NULL,
    kind    VARCHAR NOT NULL,
    model   VARCHAR,
    release VARCHAR,
    actor   VARCHAR NOT NULL,
    role    VARCHAR NOT NULL,
    reason  VARCHAR,
    data    JSON NOT NULL,
    prev    VARCHAR NOT NULL
);

CREATE OR REPLACE VIEW checks AS
SELECT seq, "at", model, release, data->>'check' AS "check", data->>'code' AS code, data->>'title' AS title,
       data->>'status' AS status, data->'findings' AS findings, TRY_CAST(data->>'seconds' AS DOUBLE) AS seconds
FROM records WHERE kind = 'CheckCompleted';

CREATE OR REPLACE VIEW datasets AS
SELECT seq, "at", model, data->>'dataset' AS dataset, data->>'uri' AS uri, TRY_CAST(data->>'version' AS BIGINT) AS version,
       data->>'digest' AS digest, TRY_CAST(data->>'rows' AS BIGINT) AS rows
FROM records WHERE kind = 'DatasetPinned';

CREATE OR REPLACE VIEW runs AS
SELECT seq, "at", model, release, data->>'run_id' AS run_id, data->>'author' AS author, data->>'family' AS family,
       data->>'digest' AS digest, data->>'fingerprint' AS fingerprint, data->'metrics' AS metrics,
       data->'dataset'->>'digest' AS dataset_digest, TRY_CAST(data->>'seconds' AS DOUBLE) AS seconds
FROM records WHERE kind = 'ModelTrained';

CREATE OR REPLACE VIEW approvals AS
SELECT seq, "at", model, release, actor, data->>'decision' AS decision, reason
FROM records WHERE kind = 'ReviewDecided';

CREATE OR REPLACE VIEW rollouts AS
SELECT seq, "at", model, release, kind, actor, reason, TRY_CAST(data->>'share' AS DOUBLE) AS share, data->>'why' AS why,
       data->'judgement' AS judgement
FROM records
WHERE kind IN ('CanaryStarted', 'CanaryStepped', 'CanaryHeld', 'CanaryAborted', 'RolloutStepped', 'ReleasePromoted',
               'ChampionRetired', 'RollbackOrdered', 'ReleaseRolledBack', 'ChampionReinstated');

CREATE OR REPLACE VIEW segments AS
SELECT seq, "at", model, data->>'segment' AS segment, data->>'uri' AS uri, data->>'digest' AS digest,
       TRY_CAST(data->>'rows' AS BIGINT) AS rows, TRY_CAST(data->>'outcomes' AS BIGINT) AS outcomes,
       TRY_CAST(data->>'from' AS TIMESTAMPTZ) AS first_at, TRY_CAST(data->>'to' AS TIMESTAMPTZ) AS last_at, data->'releases' AS releases
FROM records WHERE kind = 'DecisionsSealed';

CREATE OR REPLACE VIEW drift AS
SELECT seq, "at", model, data->>'release' AS release, data->'window' AS "window", data->'features' AS features,
       TRY_CAST(data->>'share_drifted' AS DOUBLE) AS share_drifted, TRY_CAST(data->>'limit' AS DOUBLE) AS "limit",
       data->>'verdict' AS verdict
FROM records WHERE kind = 'DriftMeasured';

CREATE OR REPLACE VIEW fairness AS
SELECT seq, "at", model, data->>'release' AS release, data->>'stage' AS stage, data->>'attribute' AS attribute,
       data->'groups' AS groups, TRY_CAST(data->>'ratio' AS DOUBLE) AS ratio, data->'ratio_interval' AS ratio_interval,
       TRY_CAST(data->>'limit' AS DOUBLE) AS "limit", data->>'verdict' AS verdict
FROM records WHERE kind = 'FairnessMeasured';

CREATE OR REPLACE VIEW alerts AS
SELECT seq, "at", model, data->>'alert' AS alert, data->>'severity' AS severity, data->>'summary' AS summary
FROM records WHERE kind = 'AlertRaised';
