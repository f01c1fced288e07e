-- name: checks
-- Every check of a release or model, newest first.
SELECT * FROM checks
WHERE ($model IS NULL OR model = $model) AND ($release IS NULL OR release = $release)
ORDER BY seq DESC LIMIT $limit

-- name: drift
-- Drift measurements, newest first.
SELECT * FROM drift
WHERE ($model IS NULL OR model = $model) AND ($release IS NULL OR release = $release)
ORDER BY seq DESC LIMIT $limit

-- name: fairness
-- Fairness measurements, newest first.
SELECT * FROM fairness
WHERE ($model IS NULL OR model = $model) AND ($release IS NULL OR release = $release)
ORDER BY seq DESC LIMIT $limit

-- name: alerts
-- Alerts, newest first.
SELECT * FROM alerts
WHERE ($model IS NULL OR model = $model) AND $release IS NULL
ORDER BY seq DESC LIMIT $limit

-- name: runs
-- Training runs, newest first.
SELECT * FROM runs
WHERE ($model IS NULL OR model = $model) AND ($release IS NULL OR release = $release)
ORDER BY seq DESC LIMIT $limit

-- name: approvals
-- Review decisions, newest first.
SELECT * FROM approvals
WHERE ($model IS NULL OR model = $model) AND ($release IS NULL OR release = $release)
ORDER BY seq DESC LIMIT $limit

-- name: rollouts
-- What happened to live traffic, newest first.
SELECT * FROM rollouts
WHERE ($model IS NULL OR model = $model) AND ($release IS NULL OR release = $release)
ORDER BY seq DESC LIMIT $limit

-- name: segments
-- Sealed decision segments, newest first.
SELECT * FROM segments
WHERE ($model IS NULL OR model = $model) AND $release IS NULL
ORDER BY seq DESC LIMIT $limit

-- name: lineage
-- How each release came about: data set, run, artefact, approval, promotion.
SELECT r.release, r.dataset_digest, r.run_id, r.digest, r.fingerprint, r.author,
       (SELECT max(a.actor) FROM approvals a WHERE a.release = r.release AND a.decision = 'approve') AS approved_by,
       (SELECT max(p."at") FROM rollouts p WHERE p.release = r.release AND p.kind = 'ReleasePromoted') AS promoted_at
FROM runs r
WHERE ($model IS NULL OR r.model = $model) AND ($release IS NULL OR r.release = $release)
ORDER BY r.seq DESC LIMIT $limit

-- name: lead_times
-- Seconds from training to promotion, per promoted release.
SELECT r.release, r."at" AS trained_at, p."at" AS promoted_at, epoch(p."at" - r."at") AS seconds
FROM runs r JOIN rollouts p ON p.release = r.release AND p.kind = 'ReleasePromoted'
WHERE ($model IS NULL OR r.model = $model) AND ($release IS NULL OR r.release = $release)
ORDER BY p.seq DESC LIMIT $limit
