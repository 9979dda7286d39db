-- Which of the gathered lines are those that the hosts have sealed: the same answer as that of
-- "audit-logger verify --lines", for those who'd rather stay in SQL.
--
--   audit-logger digests --fleet fleet.json | clickhouse-client -q 'INSERT INTO audit_sealed (host, file, number, hex, finding) FORMAT TSV'
--   clickhouse-client -q 'SELECT * FROM audit_found_by_day'
--
-- The digests come from trees that the tool has verified. Of a host whose tree has findings it prints these instead.

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
    finding String,
    digest FixedString(32) MATERIALIZED unhex(hex)
)
ENGINE = ReplacingMergeTree ORDER BY (host, file, number, hex, finding);

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

-- What is wrong with each: missing, unknown, doubled; or not sealed yet, which nothing vouches for. And with hosts:
-- what the tool has found of a tree, or that a line has another digest than it had once, so that the log was put back.
CREATE VIEW IF NOT EXISTS audit_found AS
SELECT host, substring(file, 7, 10) AS day, 'missing' AS what, toUInt64(1) AS times, file, number, '' AS id, '' AS timestamp
FROM audit_sealed FINAL
WHERE hex != '' AND digest NOT IN (SELECT digest FROM audit_lines)
UNION ALL
SELECT host, '', splitByString(': ', finding)[1], toUInt64(1), '', toUInt64(0), finding, ''
FROM audit_sealed FINAL
WHERE finding != ''
UNION ALL
SELECT host, substring(file, 7, 10), 'rolled_back', toUInt64(1), file, number, '', ''
FROM audit_sealed
WHERE hex != ''
GROUP BY host, file, number
HAVING uniqExact(hex) > 1
UNION ALL
SELECT
    host,
    day,
    multiIf(
        is_sealed, 'doubled',
        -- Stamped behind the last sealed line of its host that has come, and not in the future.
        timestamp > if(host = '', latest_of_all, latest) AND timestamp <= formatDateTime(now('UTC') + 300, '%Y-%m-%dT%H:%i:%s.999999Z', 'UTC'), 'unsealed',
        'unknown') AS what,
    toUInt64(if(is_sealed, arrivals - 1, arrivals)) AS times,
    '' AS file,
    toUInt64(0) AS number,
    id,
    timestamp
FROM audit_arrived
LEFT JOIN (SELECT host, max(timestamp) AS latest FROM audit_arrived WHERE is_sealed GROUP BY host) AS last USING host
CROSS JOIN (SELECT max(timestamp) AS latest_of_all FROM audit_arrived WHERE is_sealed) AS last_of_all
WHERE NOT is_sealed OR arrivals > 1;

-- By host and day. A missing line and an unknown one of the same day are one that was altered.
CREATE VIEW IF NOT EXISTS audit_found_by_day AS
SELECT
    host,
    day,
    least(gone, strange) AS altered,
    gone - altered AS missing,
    strange - altered AS unknown,
    doubled,
    unsealed,
    findings
FROM
(
    SELECT
        host,
        day,
        sumIf(times, what = 'missing') AS gone,
        sumIf(times, what = 'unknown') AS strange,
        sumIf(times, what = 'doubled') AS doubled,
        sumIf(times, what = 'unsealed') AS unsealed,
        countIf(what NOT IN ('missing', 'unknown', 'doubled', 'unsealed')) AS findings
    FROM audit_found
    GROUP BY host, day
)
ORDER BY host, day;
