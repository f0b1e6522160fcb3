-- held
SELECT licences_used.licence, licences_used.licensee, licences_used.service, licences_used.amount, licences_used.signature, licences_used.used, licences_used.seen
FROM licences_used
-- keep
INSERT INTO licences_used (licence, licensee, service, amount, signature, used, seen) VALUES (:licence, :licensee, :service, :amount, :signature, :used, :seen) ON CONFLICT (licence) DO UPDATE SET amount = excluded.amount, signature = excluded.signature, used = excluded.used, seen = excluded.seen
-- forget
DELETE FROM licences_used WHERE licences_used.licence = :of
