-- name: history
-- Everything on record about a release or model, newest first; a release's measurements belong to it.
SELECT * EXCLUDE (decision, mentions, prev) FROM records
WHERE ($model IS NULL OR model = $model) AND ($release IS NULL OR about = $release)
  AND ($since IS NULL OR "at" >= $since) AND ($until IS NULL OR "at" <= $until)
  AND ($before_seq IS NULL OR seq < $before_seq)
ORDER BY seq DESC LIMIT $limit OFFSET $offset

-- name: releases
-- Releases with where they stand and where they come from, newest first.
SELECT * FROM releases
WHERE ($model IS NULL OR model = $model) AND ($release IS NULL OR release = $release)
  AND ($since IS NULL OR "at" >= $since) AND ($until IS NULL OR "at" <= $until)
  AND ($before_seq IS NULL OR seq < $before_seq)
ORDER BY seq DESC LIMIT $limit OFFSET $offset

-- name: datasets
-- Data sets as they were pinned, newest first; of a release, those it was trained on.
SELECT * FROM datasets
WHERE ($model IS NULL OR model = $model)
  AND ($release IS NULL OR digest IN (SELECT dataset_digest FROM runs WHERE release = $release))
  AND ($since IS NULL OR "at" >= $since) AND ($until IS NULL OR "at" <= $until)
  AND ($before_seq IS NULL OR seq < $before_seq)
ORDER BY seq DESC LIMIT $limit OFFSET $offset

-- name: runs
-- Training runs, newest first.
SELECT * FROM runs
WHERE ($model IS NULL OR model = $model) AND ($release IS NULL OR release = $release)
  AND ($since IS NULL OR "at" >= $since) AND ($until IS NULL OR "at" <= $until)
  AND ($before_seq IS NULL OR seq < $before_seq)
ORDER BY seq DESC LIMIT $limit OFFSET $offset

-- name: checks
-- Every check of a release or model, newest first.
SELECT * FROM checks
WHERE ($model IS NULL OR model = $model) AND ($release IS NULL OR release = $release)
  AND ($since IS NULL OR "at" >= $since) AND ($until IS NULL OR "at" <= $until)
  AND ($before_seq IS NULL OR seq < $before_seq)
ORDER BY seq DESC LIMIT $limit OFFSET $offset

-- name: approvals
-- Review decisions, newest first.
SELECT * FROM approvals
WHERE ($model IS NULL OR model = $model) AND ($release IS NULL OR release = $release)
  AND ($since IS NULL OR "at" >= $since) AND ($until IS NULL OR "at" <= $until)
  AND ($before_seq IS NULL OR seq < $before_seq)
ORDER BY seq DESC LIMIT $limit OFFSET $offset

-- name: rollouts
-- What was decided about live traffic, newest first.
SELECT * FROM rollouts
WHERE ($model IS NULL OR model = $model) AND ($release IS NULL OR release = $release)
  AND ($since IS NULL OR "at" >= $since) AND ($until IS NULL OR "at" <= $until)
  AND ($before_seq IS NULL OR seq < $before_seq)
ORDER BY seq DESC LIMIT $limit OFFSET $offset

-- name: routes
-- What every replica had acknowledged, newest first; of a release, where it is champion or challenger.
SELECT * EXCLUDE (mentions) FROM routes
WHERE ($model IS NULL OR model = $model) 
  AND ($release IS NULL OR contains(mentions, ' ' || $release || ' '))
  AND ($since IS NULL OR "at" >= $since) AND ($until IS NULL OR "at" <= $until)
  AND ($before_seq IS NULL OR seq < $before_seq)
ORDER BY seq DESC LIMIT $limit OFFSET $offset

-- name: kills
-- When a person had stopped a model, newest first; of a model, also where all of them were stopped.
SELECT * FROM kills
WHERE ($model IS NULL OR model = $model OR model IS NULL) AND $release IS NULL
  AND ($since IS NULL OR "at" >= $since) AND ($until IS NULL OR "at" <= $until)
  AND ($before_seq IS NULL OR seq < $before_seq)
ORDER BY seq DESC LIMIT $limit OFFSET $offset

-- name: breakers
-- When a breaker had the baseline answer on a replica, newest first.
SELECT * FROM breakers
WHERE ($model IS NULL OR model = $model) AND ($release IS NULL OR release = $release)
  AND ($since IS NULL OR "at" >= $since) AND ($until IS NULL OR "at" <= $until)
  AND ($before_seq IS NULL OR seq < $before_seq)
ORDER BY seq DESC LIMIT $limit OFFSET $offset

-- name: shadows
-- When a release scored copies of live requests, newest first.
SELECT * FROM shadows
WHERE ($model IS NULL OR model = $model) AND ($release IS NULL OR release = $release)
  AND ($since IS NULL OR "at" >= $since) AND ($until IS NULL OR "at" <= $until)
  AND ($before_seq IS NULL OR seq < $before_seq)
ORDER BY seq DESC LIMIT $limit OFFSET $offset

-- name: segments
-- Sealed decision segments, newest first; of a release, those with decisions of it.
SELECT * EXCLUDE (mentions) FROM segments
WHERE ($model IS NULL OR model = $model)
  AND ($release IS NULL OR contains(mentions, ' ' || $release || ' '))
  AND ($since IS NULL OR "at" >= $since) AND ($until IS NULL OR "at" <= $until)
  AND ($before_seq IS NULL OR seq < $before_seq)
ORDER BY seq DESC LIMIT $limit OFFSET $offset

-- name: decisions
-- Answered requests out of the sealed segments, newest first; `since` and `until` are when they were answered.
-- An error may repeat what was sent: only its kind is shown.
SELECT * EXCLUDE (type, outcome) REPLACE (split_part(error, ':', 1) AS error) FROM decisions
WHERE type = 'decision' AND ($model IS NULL OR model = $model) AND ($release IS NULL OR release = $release)
  AND ($since IS NULL OR TRY_CAST("at" AS TIMESTAMPTZ) >= $since)
  AND ($until IS NULL OR TRY_CAST("at" AS TIMESTAMPTZ) <= $until)
  AND ($before_seq IS NULL OR seq < $before_seq) AND ($decision_id IS NULL OR decision_id = $decision_id)
ORDER BY "at" DESC, decision_id LIMIT $limit OFFSET $offset

-- name: outcomes
-- What became of decisions, out of the sealed segments, newest first.
SELECT seq, segment, decision_id, "at", model, outcome FROM decisions
WHERE type = 'outcome' AND ($model IS NULL OR model = $model) AND $release IS NULL
  AND ($since IS NULL OR TRY_CAST("at" AS TIMESTAMPTZ) >= $since)
  AND ($until IS NULL OR TRY_CAST("at" AS TIMESTAMPTZ) <= $until)
  AND ($before_seq IS NULL OR seq < $before_seq) AND ($decision_id IS NULL OR decision_id = $decision_id)
ORDER BY "at" DESC, decision_id LIMIT $limit OFFSET $offset

-- name: drift
-- Drift measurements, newest first.
SELECT * FROM drift
WHERE ($model IS NULL OR model = $model) AND ($release IS NULL OR release = $release)
  AND ($since IS NULL OR "at" >= $since) AND ($until IS NULL OR "at" <= $until)
  AND ($before_seq IS NULL OR seq < $before_seq)
ORDER BY seq DESC LIMIT $limit OFFSET $offset

-- name: fairness
-- Fairness measurements, newest first.
SELECT * FROM fairness
WHERE ($model IS NULL OR model = $model) AND ($release IS NULL OR release = $release)
  AND ($since IS NULL OR "at" >= $since) AND ($until IS NULL OR "at" <= $until)
  AND ($before_seq IS NULL OR seq < $before_seq)
ORDER BY seq DESC LIMIT $limit OFFSET $offset

-- name: alerts
-- Alerts, newest first; of a release, those about it.
SELECT * FROM alerts
WHERE ($model IS NULL OR model = $model) AND ($release IS NULL OR release = $release)
  AND ($since IS NULL OR "at" >= $since) AND ($until IS NULL OR "at" <= $until)
  AND ($before_seq IS NULL OR seq < $before_seq)
ORDER BY seq DESC LIMIT $limit OFFSET $offset

-- name: refusals
-- What a control refused to whom, newest first.
SELECT * FROM refusals
WHERE ($model IS NULL OR model = $model) AND ($release IS NULL OR attempted[-length($release) - 1:] = ' ' || $release)
  AND ($since IS NULL OR "at" >= $since) AND ($until IS NULL OR "at" <= $until)
  AND ($before_seq IS NULL OR seq < $before_seq)
ORDER BY seq DESC LIMIT $limit OFFSET $offset

-- name: lineage
-- How each release came about: data set, run, artefact, last approval, promotion.
WITH r AS (
    SELECT * FROM runs
    WHERE ($model IS NULL OR model = $model) AND ($release IS NULL OR release = $release)
      AND ($since IS NULL OR "at" >= $since) AND ($until IS NULL OR "at" <= $until)
      AND ($before_seq IS NULL OR seq < $before_seq)
    ORDER BY seq DESC LIMIT $limit OFFSET $offset
)
SELECT r.seq, r."at", r.model, r.release, r.dataset_digest, r.run_id, r.digest, r.fingerprint, r.author,
       arg_max(m.actor, m.seq) FILTER (m.decision = 'approve') AS approved_by,
       max(m."at") FILTER (m.kind = 'ReleasePromoted') AS promoted_at
FROM r LEFT JOIN (
    SELECT seq, "at", model, release, kind, actor, NULL AS decision FROM rollouts
    UNION ALL SELECT seq, "at", model, release, NULL, actor, decision FROM approvals
) m ON m.model = r.model AND m.release = r.release
GROUP BY ALL ORDER BY r.seq DESC

-- name: lead_times
-- Seconds from training to promotion, per promoted release.
SELECT p.seq, p.model, r.release, r."at" AS trained_at, p."at" AS promoted_at, epoch(p."at" - r."at") AS seconds
FROM rollouts p JOIN runs r ON p.release = r.release
WHERE p.kind = 'ReleasePromoted'
  AND ($model IS NULL OR p.model = $model) AND ($release IS NULL OR p.release = $release)
  AND ($since IS NULL OR p."at" >= $since) AND ($until IS NULL OR p."at" <= $until)
  AND ($before_seq IS NULL OR p.seq < $before_seq)
ORDER BY p.seq DESC LIMIT $limit OFFSET $offset
