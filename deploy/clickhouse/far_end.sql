-- Which of the gathered lines are those that the hosts have sealed: the same answer as that of
-- "audit-logger verify --lines", for those who'd rather stay in SQL.
--
--   audit-logger digests --fleet fleet.json | clickhouse-client -q 'INSERT INTO audit_sealed (host, file, number, hex, said) FORMAT TSV'
--   clickhouse-client -q 'SELECT * FROM audit_found_by_day'
--   clickhouse-client -q 'SELECT * FROM audit_silent'
--
-- The digests come from trees that the tool has verified. It says what it found of them as well, what a log has recorded
-- of itself, when it was sealed last, and from when on it's silent if it isn't sealed again.

-- What collectors bring: each line as it was written, to the byte, without its line feed.
CREATE TABLE IF NOT EXISTS audit_lines
(
    line String,
    digest FixedString(32) MATERIALIZED SHA256(line)
)
ENGINE = MergeTree ORDER BY digest;

-- What hosts have sealed: the output of "audit-logger digests", as often as it's inserted. What was in it once stays.
CREATE TABLE IF NOT EXISTS audit_sealed
(
    host String,
    file String,
    number UInt64,
    hex String,
    said String,
    digest FixedString(32) MATERIALIZED unhex(hex)
)
ENGINE = ReplacingMergeTree ORDER BY (host, file, number, hex, said);

-- Each line that arrived, once, and how often it did. Blank lines are none.
CREATE VIEW IF NOT EXISTS audit_arrived AS
SELECT
    digest,
    arrivals,
    is_sealed,
    if(named IN (SELECT host FROM audit_sealed), named, '') AS host,
    if(isNull(time), '', stamp) AS timestamp,
    left(timestamp, 10) AS day,
    id
FROM
(
    SELECT
        digest,
        count() AS arrivals,
        digest IN (SELECT digest FROM audit_sealed) AS is_sealed,
        any(JSONExtractString(line, 'details', 'host')) AS named,
        any(JSONExtractString(line, 'timestamp')) AS stamp,
        -- In the one form that entries have it in.
        if(match(stamp, '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{6}Z$'), parseDateTime64BestEffortOrNull(stamp, 6, 'UTC'), NULL) AS time,
        any(JSONExtractString(line, 'id')) AS id
    FROM audit_lines
    WHERE NOT match(line, '^ *$')
    GROUP BY digest
);

-- When each host was sealed last.
CREATE VIEW IF NOT EXISTS audit_last_seal AS
SELECT host, max(substring(said, 9)) AS last_seal
FROM audit_sealed
WHERE said LIKE 'sealed: %'
GROUP BY host;

-- The hosts that are silent: those that are neither sealed nor gathered any more, by the fleet's "silent_after_s", and
-- those whose tree has never given an answer.
CREATE VIEW IF NOT EXISTS audit_silent AS
SELECT
    host,
    max(if(said LIKE 'sealed: %', substring(said, 9), '')) AS last_seal,
    max(if(said LIKE 'silent from: %', substring(said, 14), '')) AS silent_from
FROM audit_sealed
WHERE said != ''
GROUP BY host
HAVING last_seal = '' OR silent_from != '' AND parseDateTime64BestEffortOrZero(silent_from, 6, 'UTC') < now64(6, 'UTC')
ORDER BY host;

-- What is wrong with each: missing, doubled, overdue, unknown. Or what nothing vouches for: unsealed, when it was stamped
-- since its log was sealed last, and recent, when it was within the minute before, in which it may have been missed by
-- that. And with hosts: what the tool has found of a tree, what the log has recorded of itself, or that a line has
-- another digest than it had once, so that the log was put back.
CREATE VIEW IF NOT EXISTS audit_found AS
SELECT host, substring(file, 7, 10) AS day, 'missing' AS what, toUInt64(1) AS times, file, number, '' AS id, '' AS timestamp
FROM audit_sealed FINAL
WHERE hex != '' AND digest NOT IN (SELECT digest FROM audit_lines)
UNION ALL
SELECT host, '', splitByString(': ', said)[1], toUInt64(1), '', toUInt64(0), said, ''
FROM audit_sealed FINAL
WHERE said != '' AND said NOT LIKE 'sealed: %' AND said NOT LIKE 'silent from: %'
UNION ALL
SELECT host, substring(file, 7, 10), 'rolled_back', toUInt64(1), file, number, '', ''
FROM audit_sealed
WHERE hex != ''
GROUP BY host, file, number
HAVING uniqExact(hex) > 1
UNION ALL
-- A line that names none of the hosts may be any host's.
WITH if(host = '', latest_of_all, latest) AS sealed_at
SELECT
    host,
    day,
    multiIf(
        is_sealed, 'doubled',
        -- Of a host whose tree has never given an answer.
        host != '' AND sealed_at = '', 'unanswered',
        -- Of no time, or of the future.
        timestamp = '' OR sealed_at = '' OR timestamp > formatDateTime(now('UTC') + 300, '%Y-%m-%dT%H:%i:%s.999999Z', 'UTC'), 'unknown',
        timestamp > sealed_at, 'unsealed',
        parseDateTime64BestEffortOrZero(timestamp, 6, 'UTC') >= parseDateTime64BestEffortOrZero(sealed_at, 6, 'UTC') - toIntervalMinute(1), 'recent',
        'overdue') AS what,
    toUInt64(if(is_sealed, arrivals - 1, arrivals)) AS times,
    '' AS file,
    toUInt64(0) AS number,
    id,
    timestamp
FROM audit_arrived
LEFT JOIN (SELECT host, last_seal AS latest FROM audit_last_seal) AS last USING host
CROSS JOIN (SELECT max(last_seal) AS latest_of_all FROM audit_last_seal) AS last_of_all
WHERE NOT is_sealed OR arrivals > 1;

-- By host and day. A missing line and one of the same day that isn't sealed are one that was altered; but those that were
-- stamped since are none.
CREATE VIEW IF NOT EXISTS audit_found_by_day AS
SELECT
    host,
    day,
    least(gone, late + strange + recent) AS altered,
    gone - altered AS missing,
    late - least(altered, late) AS overdue,
    strange - least(altered - least(altered, late), strange) AS unknown,
    doubled,
    waiting + least(recent, late + strange + recent - altered) AS unsealed,
    unanswered,
    findings
FROM
(
    SELECT
        host,
        day,
        sumIf(times, what = 'missing') AS gone,
        sumIf(times, what = 'overdue') AS late,
        sumIf(times, what = 'unknown') AS strange,
        sumIf(times, what = 'recent') AS recent,
        sumIf(times, what = 'unsealed') AS waiting,
        sumIf(times, what = 'unanswered') AS unanswered,
        sumIf(times, what = 'doubled') AS doubled,
        countIf(what NOT IN ('missing', 'overdue', 'unknown', 'recent', 'unsealed', 'unanswered', 'doubled')) AS findings
    FROM audit_found
    WHERE what != 'recorded'
    GROUP BY host, day
)
ORDER BY host, day;
