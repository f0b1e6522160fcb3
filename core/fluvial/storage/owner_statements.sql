-- find
SELECT fluvial_owner.id, fluvial_owner.token, fluvial_owner.host, fluvial_owner.process, fluvial_owner.path, fluvial_owner.lease_ms, fluvial_owner.beat
FROM fluvial_owner
-- verify
SELECT fluvial_owner.id
FROM fluvial_owner
WHERE fluvial_owner.token = :mine
-- renew
UPDATE fluvial_owner SET beat=(fluvial_owner.beat + 1) WHERE fluvial_owner.token = :mine
-- release
DELETE FROM fluvial_owner WHERE fluvial_owner.token = :mine
-- clear
DELETE FROM fluvial_owner
-- claim
INSERT INTO fluvial_owner (id, token, host, process, path, lease_ms, beat) VALUES (:id, :token, :host, :process, :path, :lease_ms, :beat)
