-- statements
SELECT trust_statements.statement
FROM trust_statements
-- put
INSERT INTO trust_statements (issuer, subject, statement) VALUES (:issuer, :subject, :statement) ON CONFLICT (issuer, subject) DO UPDATE SET statement = excluded.statement
-- remove
DELETE FROM trust_statements WHERE trust_statements.issuer = :by AND trust_statements.subject = :about
-- roots
SELECT trust_roots.peer, trust_roots.exponent
FROM trust_roots
-- set_root
INSERT INTO trust_roots (peer, exponent) VALUES (:peer, :exponent) ON CONFLICT (peer) DO UPDATE SET exponent = excluded.exponent
