=== write
INSERT INTO users VALUES (9, 'z', 'z@x')
=== write
INSERT INTO users(id, name) VALUES (9, 'z'), (10, 'y')
=== write
INSERT OR IGNORE INTO users(id, name) VALUES (1, 'z')
=== write
INSERT INTO users(id, name) SELECT id + 100, note FROM orders
=== write
INSERT INTO users(id, name) VALUES (1, 'z') ON CONFLICT (id) DO UPDATE SET name = excluded.name
=== write
INSERT INTO users(id, name) VALUES (1, 'z') ON CONFLICT DO NOTHING
=== write
INSERT INTO orders(user_id) VALUES (1) RETURNING id
=== write
UPDATE users SET name = 'x' WHERE id = 1
=== write
UPDATE orders SET total = total + 1 FROM users WHERE users.id = orders.user_id
=== write
WITH x AS (SELECT id FROM users) UPDATE orders SET total = 0 WHERE user_id IN (SELECT id FROM x)
=== write
WITH x(a) AS (SELECT 77) INSERT INTO users(id) SELECT a FROM x
=== write
CREATE TABLE fresh(id INTEGER PRIMARY KEY, name VARCHAR(20) NOT NULL, n DECIMAL(10, 2) DEFAULT 0, CHECK (length(name) > 1))
=== write
CREATE TABLE IF NOT EXISTS fresh(id INTEGER, u INTEGER REFERENCES users(id))
=== write
CREATE TABLE fresh AS SELECT * FROM users
=== write
CREATE INDEX users_name ON users(lower(name))
=== write
CREATE VIEW v AS SELECT name FROM users
=== write
ALTER TABLE users ADD COLUMN age INTEGER
=== write
EXPLAIN INSERT INTO users VALUES (9, 'z', 'z@x')
=== write: what agents write
CREATE TABLE fresh (id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT DEFAULT CURRENT_TIMESTAMP, a REAL NOT NULL DEFAULT 0.0, b TEXT COLLATE NOCASE, UNIQUE (a, b))
=== write
CREATE TABLE fresh (id TEXT PRIMARY KEY, n INTEGER CHECK (n > 0)) WITHOUT ROWID
=== write
CREATE TABLE fresh (id INTEGER, n INTEGER GENERATED ALWAYS AS (id + 1) STORED)
=== write
CREATE TABLE fresh (id INTEGER) STRICT
=== write
CREATE UNIQUE INDEX IF NOT EXISTS i ON orders (user_id, total DESC) WHERE note IS NOT NULL
=== write
INSERT INTO users (id, name) VALUES (1, 'q') ON CONFLICT (id) DO UPDATE SET name = excluded.name WHERE excluded.name <> ''
=== write
UPDATE orders SET total = total * 2, note = coalesce(note, '') || '!' WHERE id IN (SELECT id FROM orders LIMIT 1) RETURNING *
=== write
CREATE TABLE fresh (id INTEGER, u INTEGER REFERENCES users (id) ON DELETE CASCADE ON UPDATE SET NULL)
=== write
INSERT INTO orders DEFAULT VALUES
