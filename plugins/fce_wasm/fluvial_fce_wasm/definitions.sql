-- modules
SELECT fce_modules.id, fce_modules.name, fce_modules.size, fce_modules.shape, fce_modules.added_by, fce_modules.added_ms
FROM fce_modules
-- add_module
INSERT INTO fce_modules (id, name, size, shape, added_by, added_ms) VALUES (:id, :name, :size, :shape, :added_by, :added_ms) ON CONFLICT (id) DO NOTHING
-- remove_module
DELETE FROM fce_modules WHERE fce_modules.id = :of
-- blueprints
SELECT fce_blueprints.id, fce_blueprints.body, fce_blueprints.added_ms, fce_blueprints.added_by
FROM fce_blueprints
-- add_blueprint
INSERT INTO fce_blueprints (id, body, added_ms, added_by) VALUES (:id, :body, :added_ms, :added_by) ON CONFLICT (id) DO NOTHING
-- remove_blueprint
DELETE FROM fce_blueprints WHERE fce_blueprints.id = :of
-- services
SELECT fce_services.id, fce_services.blueprint, fce_services.owner, fce_services.created_ms
FROM fce_services
-- add_service
INSERT INTO fce_services (id, blueprint, owner, created_ms) VALUES (:id, :blueprint, :owner, :created_ms)
-- replace_service
UPDATE fce_services SET blueprint=:by WHERE fce_services.id = :of
-- remove_service
DELETE FROM fce_services WHERE fce_services.id = :of
-- aliases
SELECT fce_aliases.alias, fce_aliases.service
FROM fce_aliases
-- set_alias
INSERT INTO fce_aliases (alias, service) VALUES (:alias, :service) ON CONFLICT (alias) DO UPDATE SET service = excluded.service
-- remove_alias
DELETE FROM fce_aliases WHERE fce_aliases.alias = :of
-- remove_aliases
DELETE FROM fce_aliases WHERE fce_aliases.service = :of
