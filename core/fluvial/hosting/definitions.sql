-- voter
SELECT consensus_keys.chain, consensus_keys.votes_from
FROM consensus_keys
WHERE consensus_keys.peer = :of
-- others
SELECT consensus_keys.peer
FROM consensus_keys
WHERE consensus_keys.peer != :of
-- register
INSERT INTO consensus_keys (peer, chain, votes_from) VALUES (:peer, :chain, :votes_from)
-- add_records
INSERT INTO consensus_records (number, checksum, entry) VALUES (:number, :checksum, :entry)
-- add_blocks
INSERT INTO consensus_blocks (height, checksum, entry) VALUES (:height, :checksum, :entry)
-- add_proofs
INSERT INTO consensus_proofs (height, checksum, entry) VALUES (:height, :checksum, :entry) ON CONFLICT DO NOTHING
-- add_offences
INSERT INTO consensus_offences (offender, checksum, entry) VALUES (:offender, :checksum, :entry) ON CONFLICT DO NOTHING
-- add_epochs
INSERT INTO consensus_epochs (epoch, checksum, entry) VALUES (:epoch, :checksum, :entry) ON CONFLICT DO NOTHING
-- forget
DELETE FROM consensus_records WHERE consensus_records.number < :fresh
-- epochs
SELECT consensus_epochs.epoch, consensus_epochs.checksum, consensus_epochs.entry
FROM consensus_epochs ORDER BY consensus_epochs.epoch
-- offences
SELECT consensus_offences.offender, consensus_offences.checksum, consensus_offences.entry
FROM consensus_offences
-- records
SELECT consensus_records.number, consensus_records.checksum, consensus_records.entry
FROM consensus_records ORDER BY consensus_records.number
-- blocks
SELECT consensus_blocks.height, consensus_blocks.checksum, consensus_blocks.entry
FROM consensus_blocks
WHERE consensus_blocks.height > :above AND consensus_blocks.height <= :upto ORDER BY consensus_blocks.height
-- proofs
SELECT consensus_proofs.height, consensus_proofs.checksum, consensus_proofs.entry
FROM consensus_proofs
WHERE consensus_proofs.height > :above AND consensus_proofs.height <= :upto
-- block_sizes
SELECT consensus_blocks.height, length(consensus_blocks.entry) AS length_1
FROM consensus_blocks
WHERE consensus_blocks.height > :above AND consensus_blocks.height <= :upto ORDER BY consensus_blocks.height
-- highest_block
SELECT max(consensus_blocks.height) AS max_1
FROM consensus_blocks
-- lowest_block
SELECT min(consensus_blocks.height) AS min_1
FROM consensus_blocks
-- block
SELECT consensus_blocks.height
FROM consensus_blocks
WHERE consensus_blocks.height = :at
-- drop_blocks
DELETE FROM consensus_blocks WHERE consensus_blocks.height <= :upto
-- drop_proofs
DELETE FROM consensus_proofs WHERE consensus_proofs.height <= :upto
-- newest_snapshot
SELECT max(consensus_snapshots.height) AS max_1
FROM consensus_snapshots
WHERE consensus_snapshots.last = 1
-- parts
SELECT consensus_snapshots.number, consensus_snapshots.checksum, consensus_snapshots.entry, consensus_snapshots.last
FROM consensus_snapshots
WHERE consensus_snapshots.height = :at AND consensus_snapshots.number >= :first AND consensus_snapshots.number < :end ORDER BY consensus_snapshots.number
-- add_parts
INSERT INTO consensus_snapshots (height, number, last, checksum, entry) VALUES (:height, :number, :last, :checksum, :entry)
-- other_parts
SELECT consensus_snapshots.height, consensus_snapshots.number
FROM consensus_snapshots
WHERE consensus_snapshots.height != :keep
 LIMIT :most OFFSET 0
-- drop_part
DELETE FROM consensus_snapshots WHERE consensus_snapshots.height = :at AND consensus_snapshots.number = :part
