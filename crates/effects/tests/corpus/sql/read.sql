=== read
SELECT 1
=== read
SELECT * FROM users
=== read
select id, NAME from Users where ID = 1;
=== read
SELECT u.name, count(*) FROM users AS u LEFT JOIN orders o ON o.user_id = u.id GROUP BY u.name HAVING count(*) > 1 ORDER BY 2 DESC LIMIT 10 OFFSET 1
=== read
WITH big(id, t) AS (SELECT user_id, sum(total) FROM orders GROUP BY 1) SELECT * FROM big JOIN users USING (id)
=== read
WITH RECURSIVE c(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM c WHERE n < 10) SELECT max(n) FROM c
=== read
VALUES (1, 'a'), (2, 'b')
=== read
SELECT name FROM sqlite_master WHERE type = 'table'
=== read
SELECT sql FROM main.sqlite_schema
=== read
SELECT name, type FROM pragma_table_info('users')
=== read
SELECT value FROM json_each('[1,2,3]')
=== read
SELECT u.id, j.value FROM users u, json_each(u.name) j
=== read
SELECT json_extract(note, '$.a'), note -> 'a', note ->> 'b' FROM orders WHERE json_valid(note)
=== read
SELECT CASE WHEN total > 5 THEN 'big' ELSE 'small' END FROM orders
=== read
SELECT CAST(total AS INTEGER), CAST(note AS VARCHAR(10)) FROM orders
=== read
SELECT rank() OVER (PARTITION BY user_id ORDER BY total) FROM orders
=== read
SELECT sum(total) FILTER (WHERE user_id = 1) FROM orders
=== read
SELECT (SELECT max(id) FROM users), EXISTS (SELECT 1 FROM orders) FROM users
=== read
SELECT * FROM users WHERE id IN (SELECT user_id FROM orders) AND name LIKE 'a%' ESCAPE '!'
=== read
SELECT * FROM users WHERE name GLOB 'a*' OR name IS NULL OR id BETWEEN 1 AND 2
=== read
SELECT replace(name, 'a', 'b') FROM users
=== read
SELECT "name", [email], `id` FROM "users"
=== read
SELECT "b c", "select" FROM "odd name"
=== read
SELECT 'it''s; DROP TABLE users; --' AS a
=== read
SELECT 'back\' AS a
=== read
SELECT 1 -- a comment; DROP TABLE users
=== read
SELECT /* a comment; DROP TABLE users */ 1
=== read
SELECT x'53514c', 0x1F, 1.5e3, .5
=== read
SELECT * FROM users WHERE id = ?
=== read
SELECT * FROM users UNION ALL SELECT k, v, 1 FROM secrets EXCEPT SELECT 1, 2, 3
=== read
SELECT name FROM rich
=== read
SELECT * FROM docs WHERE docs MATCH 'hello'
=== read
EXPLAIN QUERY PLAN SELECT * FROM users
=== read
SELECT datetime('now'), date('now'), strftime('%Y', 'now'), CURRENT_TIMESTAMP
=== read
SELECT DISTINCT u.name FROM users u CROSS JOIN orders NATURAL JOIN secrets
=== read
SELECT id FROM users WHERE id IS NOT DISTINCT FROM 2
=== read
SELECT group_concat(name, ', ') FROM users
=== read
SELECT substr(name, 1, 2), trim(name), round(id / 2.0, 1), abs(-id), coalesce(email, '') FROM users
=== read
SELECT 1 AS "naïve", 'größe'
=== read
SELECT substring('abc', 2)
=== read escaped: only a line feed ends a comment
SELECT 1 -- x\u{2028}, load_extension('x') \x0d, 2
=== read: a string as an alias
SELECT id'x' FROM users
=== read: a table named only
SELECT * FROM users, ONLY secrets
=== read: a CTE hides a table where it is in scope, and only there
SELECT * FROM users, (WITH users AS (SELECT 1) SELECT * FROM users)
=== read: a schema reaches past a CTE
WITH secrets AS (SELECT 1) SELECT * FROM main.secrets
=== read
SELECT count(*) FROM (SELECT id FROM users), (SELECT id FROM orders)
=== read: every operator
SELECT id != 1, id <> 1, id == 1, id = 1, id <= 1, id >= 1, id & 1, id | 1, ~id, id % 2, -id, +id, name || 'x', NOT id, id ISNULL, id NOTNULL, id IS NOT NULL FROM users
=== read: a CTE hides nothing after its query
SELECT * FROM (WITH secrets AS (SELECT 1) SELECT * FROM secrets), secrets
=== read: every literal and variable
SELECT 1, 1.5, .5, 5., 1e3, 1E-3, 0xff, X'AB', NULL, TRUE, 'a', ?, ?1, :a, @b, $c
=== read: what agents write
SELECT count(DISTINCT user_id), group_concat(DISTINCT note) FROM orders WHERE date(note, '-1 day') < date('now', 'start of month')
=== read
SELECT name FROM users ORDER BY name COLLATE NOCASE ASC NULLS LAST LIMIT 5
=== read
SELECT user_id, lag(total, 1, 0) OVER (PARTITION BY user_id ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS p FROM orders
=== read
SELECT sum(total) OVER w FROM orders WINDOW w AS (PARTITION BY user_id)
=== read
SELECT * FROM orders WHERE (id, user_id) IN (SELECT id, user_id FROM orders)
=== read
SELECT json_group_array(json_object('id', id, 'n', name)) FROM users
=== read
SELECT u.*, o.total FROM users u INNER JOIN orders o ON o.user_id = u.id RIGHT JOIN secrets s ON s.k = u.name
=== read
SELECT name FROM users WHERE email NOT LIKE '%@x' AND id NOT IN (1, 2) AND NOT EXISTS (SELECT 1 FROM orders WHERE user_id = users.id)
=== read
EXPLAIN SELECT * FROM users
