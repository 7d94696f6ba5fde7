=== destructive
DELETE FROM users
=== destructive
DELETE FROM users WHERE id = 1
=== destructive
DELETE FROM 'users'
=== destructive
delete/**/from/**/users
=== destructive
EXPLAIN DELETE FROM users
=== destructive
WITH x AS (SELECT 1) DELETE FROM users WHERE id IN (SELECT * FROM x)
=== destructive
WITH users AS (SELECT 1) DELETE FROM users
=== destructive
UPDATE users SET name = 'x'
=== destructive
UPDATE users SET name = 'x' WHERE 1
=== destructive
UPDATE users SET name = 'x' WHERE 1 = 1
=== destructive
UPDATE OR REPLACE users SET email = 'b@x' WHERE id = 1
=== destructive
REPLACE INTO users VALUES (1, 'q', 'b@x')
=== destructive
INSERT OR REPLACE INTO users VALUES (1, 'q', 'b@x')
=== destructive
INSERT INTO users VALUES (1, 'z', 'b@x') ON CONFLICT DO UPDATE SET name = 'gone'
=== destructive
DROP TABLE users
=== destructive
DROP TABLE IF EXISTS users
=== destructive
DROP VIEW rich
=== destructive
DROP INDEX orders_user
=== destructive
ALTER TABLE users RENAME TO gone
=== destructive
ALTER TABLE orders RENAME COLUMN note TO remark
=== destructive
ALTER TABLE orders DROP COLUMN note
=== destructive
DELETE FROM orders WHERE user_id = 1 RETURNING id, (SELECT v FROM secrets)
