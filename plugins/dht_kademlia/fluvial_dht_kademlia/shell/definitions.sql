-- put_contact
INSERT INTO kademlia_contacts (peer, addresses, seen_ms) VALUES (:peer, :addresses, :seen_ms) ON CONFLICT (peer) DO UPDATE SET addresses = excluded.addresses, seen_ms = excluded.seen_ms
-- drop_contact
DELETE FROM kademlia_contacts WHERE kademlia_contacts.peer = :gone
-- contacts
SELECT kademlia_contacts.peer, kademlia_contacts.addresses, kademlia_contacts.seen_ms
FROM kademlia_contacts ORDER BY kademlia_contacts.seen_ms DESC, kademlia_contacts.peer
 LIMIT :most OFFSET 0
-- put_record
INSERT INTO kademlia_records ("key", provider, challenge, record, since_ms, expires_ms, sender) VALUES (:key, :provider, :challenge, :record, :since_ms, :expires_ms, :sender) ON CONFLICT ("key", provider) DO UPDATE SET challenge = excluded.challenge, record = excluded.record, since_ms = excluded.since_ms, expires_ms = excluded.expires_ms, sender = excluded.sender
-- drop_record
DELETE FROM kademlia_records WHERE kademlia_records."key" = :of AND kademlia_records.provider = :by
-- records
SELECT kademlia_records."key", kademlia_records.provider, kademlia_records.challenge, kademlia_records.record, kademlia_records.since_ms, kademlia_records.expires_ms, kademlia_records.sender
FROM kademlia_records
WHERE kademlia_records.expires_ms > :now ORDER BY kademlia_records.since_ms
-- drop_expired
DELETE FROM kademlia_records WHERE kademlia_records.expires_ms <= :now
-- put_publication
INSERT INTO kademlia_publications ("key", challenge, record) VALUES (:key, :challenge, :record) ON CONFLICT ("key") DO UPDATE SET challenge = excluded.challenge, record = excluded.record
-- drop_publication
DELETE FROM kademlia_publications WHERE kademlia_publications."key" = :of
-- publications
SELECT kademlia_publications."key", kademlia_publications.challenge, kademlia_publications.record
FROM kademlia_publications ORDER BY kademlia_publications."key"
-- put_provided
INSERT INTO kademlia_provided ("key", challenge, value, service) VALUES (:key, :challenge, :value, :service) ON CONFLICT ("key") DO UPDATE SET value = excluded.value, service = excluded.service
-- drop_provided
DELETE FROM kademlia_provided WHERE kademlia_provided."key" = :of
-- provided
SELECT kademlia_provided."key", kademlia_provided.challenge, kademlia_provided.value, kademlia_provided.service
FROM kademlia_provided ORDER BY kademlia_provided."key"
