-- The lineage store: a projection of the log that people query. Rebuilt from the log at any time; never the truth.
-- TRY_CAST: one odd value must not keep all others from being read.

-- name: tables
-- `about` is the release a record is about, also where only its data says so. No index: a scan finds one release among
-- a million records in milliseconds (`benchmarks/lineage_store.py`), and an index is one thing more that can be damaged.
-- `decision`, and in `mentions` the releases that a route or segment names (a space before and behind each), stand
-- beside `data` because they are asked for across many records, and reading JSON takes ten times as long.
CREATE TABLE IF NOT EXISTS records (
    seq      BIGINT NOT NULL,
    "at"     TIMESTAMPTZ NOT NULL,
    kind     VARCHAR NOT NULL,
    model    VARCHAR,
    release  VARCHAR,
    about    VARCHAR,
    actor    VARCHAR NOT NULL,
    role     VARCHAR NOT NULL,
    reason   VARCHAR,
    decision VARCHAR,
    mentions VARCHAR,
    data     JSON NOT NULL,
    prev     VARCHAR NOT NULL
);

-- What 20,000 rows of `records` at a time add up to, as they were when they were put in.
CREATE TABLE IF NOT EXISTS fingerprints (block BIGINT NOT NULL, rows BIGINT NOT NULL, total HUGEINT NOT NULL);

-- name: views
-- The state is what the newest fact that moves a release leads to; `lineage.lifecycle` has the table.
CREATE OR REPLACE VIEW releases AS
SELECT t.seq, t."at", t.model, t.release, t.data->>'author' AS author, t.data->>'digest' AS digest,
       TRY_CAST(t.data->>'threshold' AS DOUBLE) AS threshold, t.data->>'policy_digest' AS policy_digest,
       t.data->'dataset'->>'digest' AS dataset_digest, coalesce(m.state, 'trained') AS state, m.moved_at, m.moved_seq,
       m.registered_at, m.promoted_at
FROM records t
LEFT JOIN (
    SELECT model, release, max("at") AS moved_at, max(seq) AS moved_seq,
           min("at") FILTER (kind = 'ReleaseRegistered') AS registered_at,
           max("at") FILTER (kind = 'ReleasePromoted') AS promoted_at,
           arg_max(CASE kind
               WHEN 'CandidateValidated' THEN 'validated'
               WHEN 'CandidateRejected'  THEN 'rejected'
               WHEN 'ReleaseRegistered'  THEN 'registered'
               WHEN 'CanaryStarted'      THEN 'canary'
               WHEN 'CanaryStepped'      THEN 'canary'
               WHEN 'CanaryAborted'      THEN 'quarantined'
               WHEN 'ReviewRequested'    THEN 'review'
               WHEN 'ReviewDecided'      THEN CASE decision WHEN 'approve' THEN 'approved' ELSE 'rejected' END
               WHEN 'RolloutStepped'     THEN 'rollout'
               WHEN 'ReleasePromoted'    THEN 'champion'
               WHEN 'ChampionReinstated' THEN 'champion'
               WHEN 'ChampionRetired'    THEN 'retired'
               WHEN 'RollbackOrdered'    THEN 'rolling_back'
               WHEN 'ReleaseRolledBack'  THEN 'rolled_back'
           END, seq) AS state
    FROM records
    WHERE kind IN ('CandidateValidated', 'CandidateRejected', 'ReleaseRegistered', 'CanaryStarted', 'CanaryStepped',
                   'CanaryAborted', 'ReviewRequested', 'ReviewDecided', 'RolloutStepped', 'ReleasePromoted',
                   'ChampionReinstated', 'ChampionRetired', 'RollbackOrdered', 'ReleaseRolledBack')
    GROUP BY model, release
) m ON m.model = t.model AND m.release = t.release
WHERE t.kind = 'ModelTrained';

CREATE OR REPLACE VIEW datasets AS
SELECT seq, "at", model, data->>'dataset' AS dataset, data->>'uri' AS uri, TRY_CAST(data->>'version' AS BIGINT) AS version,
       data->>'digest' AS digest, TRY_CAST(data->>'rows' AS BIGINT) AS rows
FROM records WHERE kind = 'DatasetPinned';

CREATE OR REPLACE VIEW runs AS
SELECT seq, "at", model, release, data->>'run_id' AS run_id, data->>'author' AS author, data->>'family' AS family,
       data->>'digest' AS digest, data->>'fingerprint' AS fingerprint, data->'metrics' AS metrics,
       data->'dataset'->>'digest' AS dataset_digest, TRY_CAST(data->>'seconds' AS DOUBLE) AS seconds
FROM records WHERE kind = 'ModelTrained';

CREATE OR REPLACE VIEW checks AS
SELECT seq, "at", model, release, data->>'check' AS "check", data->>'code' AS code, data->>'title' AS title,
       data->>'status' AS status, data->'findings' AS findings, TRY_CAST(data->>'seconds' AS DOUBLE) AS seconds
FROM records WHERE kind = 'CheckCompleted';

CREATE OR REPLACE VIEW approvals AS
SELECT seq, "at", model, release, actor, decision, reason, data->>'digest' AS digest
FROM records WHERE kind = 'ReviewDecided';

CREATE OR REPLACE VIEW rollouts AS
SELECT seq, "at", model, release, kind, actor, reason, TRY_CAST(data->>'share' AS DOUBLE) AS share, data->>'why' AS why,
       data->'judgement' AS judgement
FROM records
WHERE kind IN ('CanaryStarted', 'CanaryStepped', 'CanaryHeld', 'CanaryAborted', 'RolloutStepped', 'ReleasePromoted',
               'ChampionRetired', 'RollbackOrdered', 'ReleaseRolledBack', 'ChampionReinstated');

-- What every replica had acknowledged, as opposed to what was decided.
CREATE OR REPLACE VIEW routes AS
SELECT seq, "at", model, TRY_CAST(data->>'version' AS BIGINT) AS version, data->>'champion' AS champion,
       data->>'challenger' AS challenger, TRY_CAST(data->>'share' AS DOUBLE) AS share,
       coalesce(data->>'killed', '') AS killed, data->>'shadow' AS shadow,
       TRY_CAST(data->>'replicas' AS BIGINT) AS replicas, TRY_CAST(data->>'milliseconds' AS DOUBLE) AS milliseconds,
       mentions
FROM records WHERE kind = 'RouteApplied';

-- When a person had stopped a model, or all of them (model is NULL). A pull ends with its release by a second person,
-- or with another pull in its place.
CREATE OR REPLACE VIEW kills AS
SELECT k.seq, k."at", k.model, k.data->>'answer' AS answer, k.actor, k.reason, k.ended_at, k.ended_seq,
       CASE k.ended_kind WHEN 'KillSwitchReleased' THEN q.actor END AS asked_by,
       CASE k.ended_kind WHEN 'KillSwitchReleased' THEN k.ended_by END AS released_by,
       epoch(k.ended_at - k."at") AS seconds
FROM (
    SELECT *, lead(seq) OVER next AS ended_seq, lead("at") OVER next AS ended_at, lead(kind) OVER next AS ended_kind,
           lead(actor) OVER next AS ended_by, TRY_CAST(lead(data->>'requested') OVER next AS BIGINT) AS requested
    FROM records WHERE kind IN ('KillSwitchPulled', 'KillSwitchReleased')
    WINDOW next AS (PARTITION BY model ORDER BY seq)
) k LEFT JOIN records q ON q.seq = k.requested
WHERE k.kind = 'KillSwitchPulled';

-- When the baseline answered in place of a champion on one gateway replica, because its breaker was open.
CREATE OR REPLACE VIEW breakers AS
SELECT seq, "at", model, about AS release, data->>'replica' AS replica, data->>'cause' AS cause,
       TRY_CAST(data->>'since' AS TIMESTAMPTZ) AS opened_at, TRY_CAST(data->>'times' AS BIGINT) AS times,
       data->'evidence' AS evidence, ended_at, ended->>'cause' AS ended_by,
       TRY_CAST(ended->>'seconds' AS DOUBLE) AS seconds, TRY_CAST(ended->>'answers' AS BIGINT) AS answers
FROM (
    SELECT *, lead("at") OVER next AS ended_at,
           CASE lead(kind) OVER next WHEN 'BreakerClosed' THEN lead(data) OVER next END AS ended
    FROM records WHERE kind IN ('BreakerOpened', 'BreakerClosed')
    WINDOW next AS (PARTITION BY model, data->>'replica' ORDER BY seq)
)
WHERE kind = 'BreakerOpened';

-- When a release scored copies of live requests without being used; its canary ends that too.
CREATE OR REPLACE VIEW shadows AS
SELECT seq, "at", model, release, actor, reason, ended_at, ended_kind, ended_by
FROM (
    SELECT *, lead("at") OVER next AS ended_at, lead(kind) OVER next AS ended_kind, lead(actor) OVER next AS ended_by
    FROM records WHERE kind IN ('ShadowStarted', 'ShadowStopped', 'CanaryStarted')
    WINDOW next AS (PARTITION BY model, release ORDER BY seq)
)
WHERE kind = 'ShadowStarted';

CREATE OR REPLACE VIEW segments AS
SELECT seq, "at", model, data->>'segment' AS segment, data->>'uri' AS uri, data->>'digest' AS digest,
       TRY_CAST(data->>'rows' AS BIGINT) AS rows, TRY_CAST(data->>'outcomes' AS BIGINT) AS outcomes,
       TRY_CAST(data->>'from' AS TIMESTAMPTZ) AS first_at, TRY_CAST(data->>'to' AS TIMESTAMPTZ) AS last_at,
       data->'releases' AS releases, mentions
FROM records WHERE kind = 'DecisionsSealed';

CREATE OR REPLACE VIEW drift AS
SELECT seq, "at", model, about AS release, data->'window' AS "window", data->'features' AS features,
       TRY_CAST(data->>'share_drifted' AS DOUBLE) AS share_drifted, TRY_CAST(data->>'limit' AS DOUBLE) AS "limit",
       data->>'verdict' AS verdict
FROM records WHERE kind = 'DriftMeasured';

CREATE OR REPLACE VIEW fairness AS
SELECT seq, "at", model, about AS release, data->>'stage' AS stage, data->>'attribute' AS attribute,
       data->'groups' AS groups, TRY_CAST(data->>'ratio' AS DOUBLE) AS ratio, data->'ratio_interval' AS ratio_interval,
       TRY_CAST(data->>'limit' AS DOUBLE) AS "limit", data->>'verdict' AS verdict
FROM records WHERE kind = 'FairnessMeasured';

CREATE OR REPLACE VIEW alerts AS
SELECT seq, "at", model, about AS release, data->>'alert' AS alert, data->>'about' AS about,
       data->>'severity' AS severity, data->>'summary' AS summary
FROM records WHERE kind = 'AlertRaised';

CREATE OR REPLACE VIEW refusals AS
SELECT seq, "at", model, actor, role, data->>'attempted' AS attempted, data->>'code' AS code,
       data->>'message' AS message, reason
FROM records WHERE kind = 'ActionRefused';

-- What is shown of decision segments, whatever generation they are of: what leads to no person. The rest is asked for
-- one decision at a time, where it is checked who asks (`lineage.privacy.decisions`).
CREATE OR REPLACE VIEW no_decisions AS
SELECT CAST(NULL AS BIGINT) AS seq, CAST(NULL AS VARCHAR) AS segment, CAST(NULL AS VARCHAR) AS type,
       CAST(NULL AS VARCHAR) AS decision_id, CAST(NULL AS VARCHAR) AS "at", CAST(NULL AS VARCHAR) AS model,
       CAST(NULL AS VARCHAR) AS release, CAST(NULL AS VARCHAR) AS digest, CAST(NULL AS VARCHAR) AS role,
       CAST(NULL AS VARCHAR) AS arm, CAST(NULL AS DOUBLE) AS share, CAST(NULL AS DOUBLE) AS score,
       CAST(NULL AS DOUBLE) AS threshold, CAST(NULL AS VARCHAR) AS decision, CAST(NULL AS BOOLEAN) AS adverse,
       CAST(NULL AS VARCHAR) AS fallback, CAST(NULL AS DOUBLE) AS latency_ms, CAST(NULL AS VARCHAR) AS error,
       CAST(NULL AS VARCHAR) AS purpose, CAST(NULL AS VARCHAR) AS replica, CAST(NULL AS BIGINT) AS route_version,
       CAST(NULL AS BIGINT) AS outcome
WHERE false;

-- name: segments_to_read
-- Which segments a question about decisions has to read, the newest first.
SELECT seq, segment, uri, digest FROM segments
WHERE ($model IS NULL OR model = $model)
  AND ($release IS NULL OR contains(mentions, ' ' || $release || ' '))
  AND ($since IS NULL OR last_at IS NULL OR last_at >= $since)
  AND ($until IS NULL OR first_at IS NULL OR first_at <= $until)
  AND ($before_seq IS NULL OR seq < $before_seq)
ORDER BY seq DESC LIMIT $limit

-- name: decisions
-- Decisions where they lie: Parquet segments, read in place. The join lets in a file only if a segment of its model and
-- name is on record, and only as the record in $sealed_in says; `seq` is that record. The caller names files whose bytes
-- had the digest on record.
SELECT * FROM no_decisions
UNION ALL BY NAME
SELECT s.seq, s.segment, d.* EXCLUDE (filename)
FROM (
    SELECT COLUMNS(lambda c: c IN (
        'filename', 'type', 'decision_id', 'at', 'model', 'release', 'digest', 'role', 'arm', 'share', 'score',
        'threshold', 'decision', 'adverse', 'fallback', 'latency_ms', 'error', 'purpose', 'replica', 'route_version',
        'outcome'))
    FROM read_parquet($files, union_by_name = true, filename = true)
) d
JOIN segments s ON s.segment = parse_filename(d.filename, true) AND s.model = parse_filename(parse_dirpath(d.filename))
    AND list_contains($sealed_in, s.seq)

-- name: take
-- Put in what `incoming` holds.
INSERT INTO records
SELECT seq, CAST("at" AS TIMESTAMPTZ), kind, model, release, about, actor, role, reason, decision, mentions, data, prev FROM incoming

-- name: add_up
-- Note what the rows behind $held add up to.
MERGE INTO fingerprints f USING (
    SELECT (seq - 1) // 20000 AS block, count(*) AS rows,
           sum(CAST(hash(seq, "at", kind, model, release, about, actor, role, reason, decision, mentions, data, prev)
                    AS HUGEINT)) AS total
    FROM records WHERE seq > $held GROUP BY block
) n ON f.block = n.block
WHEN MATCHED THEN UPDATE SET rows = f.rows + n.rows, total = f.total + n.total
WHEN NOT MATCHED THEN INSERT (block, rows, total) VALUES (n.block, n.rows, n.total)

-- name: changed
-- Blocks whose rows are not those that were put in. Reads every stored byte once: about 0.1 s for a million records.
-- It tells damage and edits; whoever edits rows can also add them up anew, and then only a rebuild helps.
SELECT count(*) FROM (
    SELECT (seq - 1) // 20000 AS block, count(*) AS rows, min(seq) AS first, max(seq) AS last,
           sum(CAST(hash(seq, "at", kind, model, release, about, actor, role, reason, decision, mentions, data, prev)
                    AS HUGEINT)) AS total
    FROM records GROUP BY block
) r FULL JOIN fingerprints f ON f.block = r.block
WHERE r.rows IS DISTINCT FROM f.rows OR r.total IS DISTINCT FROM f.total
   OR r.first <> r.block * 20000 + 1 OR r.last - r.first + 1 <> r.rows

-- name: ends
-- The last row of every block, to be compared with the log.
SELECT seq, strftime("at", '%Y-%m-%dT%H:%M:%S.%fZ'), * EXCLUDE (seq, "at", data, prev), CAST(data AS VARCHAR), prev
FROM records WHERE seq IN (SELECT max(seq) FROM records GROUP BY (seq - 1) // 20000) ORDER BY seq

-- name: strangers
-- What is in the file that is not ours: a macro of its own could change what our statements mean.
SELECT function_name FROM system.main.duckdb_functions() WHERE NOT internal
UNION ALL
SELECT table_name FROM system.main.duckdb_tables() WHERE NOT internal AND table_name NOT IN ('records', 'fingerprints')
